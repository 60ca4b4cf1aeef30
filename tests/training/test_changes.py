"""A resumed run may change what keeps its weights meaningful, and the run remembers that it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TTS, VAE, killed_copy, tts_config, vae_config, vae_of

from svae import recipe
from svae.checkpoint import checkpoint_folder, open_checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.errors import ConfigError
from svae.training.changes import changes_since
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae


@pytest.fixture(scope="module")
def vae_run(tone_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vae") / "run"
    return train_vae(TrainOptions(vae_config(tone_shards), out, device="cpu"))


def test_a_resumed_run_takes_new_settings_and_records_them(
    vae_run: Path, tone_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = killed_copy(vae_run, 2, tmp_path / "run")
    changed = vae_config(
        tone_shards,
        optimizer={"learning_rate": 1e-5, "max_grad_norm": 1.0, "weight_decay": 0.5},
        trainer=VAE["trainer"] | {"seed": 7, "precision": "bf16"},
        batch_size=3,
    )
    train_vae(TrainOptions(changed, run, device="cpu"))
    fields = ["batch_size", "optimizer.learning_rate", "optimizer.max_grad_norm"]
    fields += ["optimizer.weight_decay", "trainer.precision", "trainer.seed"]

    history = recipe.read_history(run / "recipe.yaml")
    assert [(entry["step"], sorted(entry["changes"])) for entry in history] == [(2, fields)]
    assert history[0]["changes"]["trainer.seed"] == {"before": 0, "now": 7}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    [row] = [row for row in rows if row["split"] == "recipe"]
    assert row["step"] == 2 and row["changes"] == history[0]["changes"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Changed from step 2 on: trainer.seed: 0 became 7" in printed

    # The file is still a recipe, that of the end; and the optimizer has the new settings, not those that it was saved with.
    assert recipe.load(VAETrainConfig, str(run / "recipe.yaml")) == changed
    groups = open_checkpoint(run, kind="vae").training_state()["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5]

    # A second resumption adds to the history.
    again = killed_copy(run, 4, tmp_path / "again")
    train_vae(TrainOptions(vae_config(tone_shards), again, device="cpu"))
    steps = [entry["step"] for entry in recipe.read_history(again / "recipe.yaml")]
    assert steps == [2, 4]


def test_a_resumed_run_without_changes_has_no_history(
    vae_run: Path, tone_shards: Path, tmp_path: Path
) -> None:
    run = killed_copy(vae_run, 4, tmp_path / "run")
    train_vae(TrainOptions(vae_config(tone_shards), run, device="cpu"))
    assert (run / "recipe.yaml").read_bytes() == (vae_run / "recipe.yaml").read_bytes()


def test_where_nothing_says_what_the_recipe_was_a_note_does(
    vae_run: Path, tone_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that was copied alone; another length of crops would else be refused."""
    alone = shutil.copytree(checkpoint_folder(vae_run, 2), tmp_path / "step-00000002")
    other = vae_config(tone_shards, segment_seconds=0.25)
    with pytest.raises(ConfigError, match="segment_seconds"):
        dry_run(TrainOptions(other, tmp_path / "run", checkpoint_folder(vae_run, 2), "cpu"))
    capsys.readouterr()
    options = TrainOptions(other, tmp_path / "run", resume=str(alone), device="cpu")
    for command in (dry_run, train_vae):
        command(options)
        printed = " ".join(capsys.readouterr().out.split())
        assert printed.count("cannot be compared") == 1 and "recipe.yaml" in printed


def test_what_cannot_change_says_why(vae_run: Path, tone_shards: Path) -> None:
    vae = VAE["vae"] | {"latent_dim": 16}
    other = vae_config(tone_shards, vae=vae, optimizer={"learning_rate": 1e-5})
    with pytest.raises(ConfigError) as got:
        train_vae(TrainOptions(other, vae_run, device="cpu"))
    assert "vae.latent_dim: 8 in the run, 16 now: it decides which weights" in str(got.value)
    assert "learning_rate" not in str(got.value)


VAE_CHANGES = [
    "trainer.steps=9", "trainer.precision=bf16", "trainer.compile=true", "trainer.collective_minutes=5", "loader.num_workers=0",
    "optimizer.betas=[0.9,0.99]", "optimizer.schedule=constant", "ema.decay=0.5", "data.root=/moved", "init=/moved",
    "teacher.cache=/moved", "teacher.context_seconds=0.2", "batch_size=3", "validation_crops=2",
    "loss.kl=0.1", "loss.mel=1", "loss.adversarial_start_step=7", "loss.pitch=2", "discriminator.window_seconds=0.1",
]  # fmt: skip
TTS_CHANGES = [
    "data.timings=/moved", "data.waveform_root=/moved", "vae=/moved", "vocoder=griffin-lim", "batch_frames=64",
    "max_seconds=9", "min_seconds=0.1", "dit.dropout=0", "flow.mask_ratio=[0.5,1]", "flow.drop_audio=0.1",
    "flow.weighting=variance", "trainer.synthesize_every=2", "spelled_words=0.2", "optimizer.warmup_steps=5",
]  # fmt: skip


@pytest.mark.parametrize("change", [*VAE_CHANGES, *TTS_CHANGES])
def test_what_leaves_the_weights_their_meaning_may_change(change: str, tmp_path: Path) -> None:
    kind: type = VAETrainConfig if change in VAE_CHANGES else TTSTrainConfig
    tree: dict[str, Any] = {"data": {"root": "/data"}, "trainer": {"steps": 5}}
    if "timings" in change:
        tree |= {"tokens": "frame-phonemes", "data": {"root": "/data", "timings": "/before"}}
    config = recipe.build(kind, tree, where="test")
    (tmp_path / "recipe.yaml").write_text(recipe.dump(config))
    changed = recipe.build(kind, tree, where="test", overrides=[change])
    field, _, _ = change.partition("=")
    assert list(changes_since(changed, tmp_path / "recipe.yaml")) == [field]


@pytest.mark.parametrize(
    "change",
    [
        "vae.latent_dim=8", "vae.sample_rate=24000", "teacher.model=embedded", "teacher.layer=3", "loss.alignment=null",
        "discriminator.periods=[2]", "dit.depth=2", "dit.qk_norm=true", "tokens=phonemes", "representation=mel",
        "flow.posterior=sample",
    ],
)  # fmt: skip
def test_what_decides_the_meaning_of_the_weights_may_not_change(
    change: str, tmp_path: Path
) -> None:
    of_tts = change.startswith(("dit", "tokens", "repr", "flow"))
    kind: type = TTSTrainConfig if of_tts else VAETrainConfig
    tree = {"data": {"root": "/data"}, "trainer": {"steps": 5}}
    config = recipe.build(kind, tree, where="test")
    (tmp_path / "recipe.yaml").write_text(recipe.dump(config))
    changed = recipe.build(kind, tree, where="test", overrides=[change])
    with pytest.raises(ConfigError, match=change.partition("=")[0]) as caught:
        changes_since(changed, tmp_path / "recipe.yaml")
    assert " now: " in str(caught.value) and "another --out" in str(caught.value)


def test_a_vae_run_with_a_checkpoint_does_not_need_its_start(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    start = shutil.copytree(vae_of(toy_tts), tmp_path / "start")
    config = vae_config(tone_shards, init=str(start))
    whole = train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    run = killed_copy(whole, 2, tmp_path / "killed")
    shutil.rmtree(start)
    train_vae(TrainOptions(config, run, device="cpu"))
    assert open_checkpoint(run, kind="vae").hash == open_checkpoint(whole, kind="vae").hash


def test_a_tts_run_with_a_checkpoint_needs_neither_its_start_nor_its_vae(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    start = shutil.copytree(toy_tts, tmp_path / "start")
    vae = shutil.copytree(vae_of(toy_tts), tmp_path / "vae")
    trainer = TTS["trainer"] | {"steps": 4}
    config = tts_config(tone_shards, vae, init=str(start), trainer=trainer)
    whole = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    run = killed_copy(whole, 2, tmp_path / "killed")
    shutil.rmtree(start)
    shutil.rmtree(vae)
    train_tts(TrainOptions(config, run, device="cpu"))
    assert checkpoint_folder(run, 4).is_dir()
    assert open_checkpoint(run, kind="tts").hash == open_checkpoint(whole, kind="tts").hash


@pytest.mark.parametrize(("processes", "readers"), [(1, 0), (1, 1), (1, 2), (2, 1)])
def test_a_run_begun_with_the_order_of_its_machine_goes_on_and_records_the_new_one(
    vae_run: Path,
    tone_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    processes: int,
    readers: int,
) -> None:
    """With one reader the order was that of one slot."""
    run = killed_copy(vae_run, 4, tmp_path / "run")
    file = checkpoint_folder(run, 4) / "training" / "state.pt"
    state = torch.load(file, weights_only=True)
    state["layout"] = {"world_size": processes, "num_workers": readers}
    assert state.pop("order") == 2
    torch.save(state, file)
    dry_run(TrainOptions(vae_config(tone_shards), run, device="cpu"))
    train_vae(TrainOptions(vae_config(tone_shards), run, device="cpu"))
    printed = " ".join(capsys.readouterr().out.split())
    before = f"of {processes} process(es) with {readers} reader(s) each"
    changed = [entry["changes"] for entry in recipe.read_history(run / "recipe.yaml")]
    if processes * max(readers, 1) == 1:
        assert changed == [] and "order of the data" not in printed
        return
    now = "of the recipe alone, with 1 slot(s)"
    assert changed == [{"order of the data": {"before": before, "now": now}}]
    for when in ("Would change", "Changed from step 4 on"):
        assert f"{when}: order of the data: {before!r} became {now!r}" in printed
