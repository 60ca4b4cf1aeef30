"""`--dry-run` refuses what training would refuse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TTS, VAE, tts_config, vae_config, vae_of
from tone_shards import write_tone_shards

from svae.checkpoint import open_checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.errors import CheckpointError, ConfigError, DataError, SvaeError
from svae.runtime.files import folder_lock
from svae.text.vocabulary import Vocabulary
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae


def test_a_start_of_another_structure_is_refused_by_a_dry_run_too(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    config = vae_config(tone_shards)
    other = replace(config, init=str(vae_of(toy_tts)), vae=replace(config.vae, attention_heads=4))
    with pytest.raises(CheckpointError, match=r"vae.attention_heads: 2 there, 4 in the recipe"):
        dry_run(TrainOptions(other, tmp_path / "run", device="cpu"))


def test_a_batch_that_ranks_cannot_share_is_refused_by_a_dry_run_too(
    tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    import torch

    from svae.runtime.distributed import World

    @contextmanager
    def three_ranks(device: str, **limit: float):  # noqa: ANN202
        yield World(rank=0, world_size=3, device=torch.device("cpu"))

    monkeypatch.setattr("svae.training.dry_run.open_world", three_ranks)
    with pytest.raises(ConfigError, match="batch_size 2: it is over all ranks"):
        dry_run(TrainOptions(vae_config(tone_shards), tmp_path / "run", device="cpu"))


def test_a_dry_run_refuses_a_folder_in_use_and_one_that_cannot_be(
    tone_shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        dry_run(TrainOptions(vae_config(tone_shards), tmp_path / "file" / "run", device="cpu"))
    run = tmp_path / "run"
    run.mkdir()
    with folder_lock(run), pytest.raises(ConfigError, match="is working in this folder"):
        dry_run(TrainOptions(vae_config(tone_shards), run, device="cpu"))


def test_a_dry_run_refuses_other_data_and_a_damaged_training_state(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(toy_tts, tmp_path / "run")
    config = tts_config(tone_shards, vae_of(toy_tts))
    dry_run(TrainOptions(config, run, device="cpu"))
    other = tts_config(write_tone_shards(tmp_path / "data", seconds=0.7), vae_of(toy_tts))
    with pytest.raises(CheckpointError, match="other shards"):
        dry_run(TrainOptions(other, run, device="cpu"))
    state = open_checkpoint(run, kind="tts").folder / "training" / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged, cannot resume"):
        dry_run(TrainOptions(config, run, device="cpu"))


def test_a_dry_run_refuses_another_vae_and_a_damaged_start(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 1, "seed": 5})
    other = train_vae(TrainOptions(config, tmp_path / "other", device="cpu"))
    run = shutil.copytree(toy_tts, tmp_path / "run")
    with pytest.raises(CheckpointError, match="was trained on VAE"):
        dry_run(TrainOptions(tts_config(tone_shards, other), run, device="cpu"))
    weights = open_checkpoint(other, kind="vae").folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    started = vae_config(tone_shards, init=str(other))
    with pytest.raises(CheckpointError, match="damaged"):
        dry_run(TrainOptions(started, tmp_path / "new", device="cpu"))
    with pytest.raises(CheckpointError, match="damaged"):
        dry_run(TrainOptions(tts_config(tone_shards, other), tmp_path / "new", device="cpu"))
    assert not (tmp_path / "new").exists()


def test_a_dry_run_refuses_limits_that_leave_nothing(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    config = tts_config(tone_shards, vae_of(toy_tts), min_seconds=20.0)
    with pytest.raises(DataError, match="every utterance is left out"):
        dry_run(TrainOptions(config, tmp_path / "run", device="cpu"))


def refused_alike(config: Any, out: Path, message: str, **more: Any) -> None:
    """Check that a dry run, and then the training itself, refuse with the same words."""
    options = TrainOptions(config, out, device="cpu", **more)
    train: Any = train_vae if isinstance(config, VAETrainConfig) else train_tts
    said = []
    for command in (dry_run, train):
        with pytest.raises(SvaeError, match=message) as caught:
            command(options)
        said.append(str(caught.value))
    assert said[0] == said[1]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def test_more_parts_of_a_batch_than_processes_are_refused_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    config = tts_config(tone_shards, vae_of(toy_tts))
    config = replace(config, data=replace(config.data, slots=2))
    refused_alike(config, tmp_path / "run", "data.slots 2: .* there are 1 process")


def test_a_start_whose_training_state_is_damaged_is_refused_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    start = shutil.copytree(toy_tts.parent / "vae", tmp_path / "start")
    damage(open_checkpoint(start, kind="vae").folder / "training" / "state.pt")
    started = vae_config(tone_shards, init=str(start))
    refused_alike(started, tmp_path / "run", "damaged, cannot resume")


def test_a_start_whose_weights_do_not_fit_its_config_is_refused_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    start = shutil.copytree(toy_tts, tmp_path / "start")
    path = open_checkpoint(start, kind="tts").folder / "config.json"
    stored = json.loads(path.read_text())
    stored["vocabulary"] = Vocabulary.from_characters("abc").to_json()
    path.write_text(json.dumps(stored))
    config = tts_config(tone_shards, vae_of(toy_tts), init=str(start))
    refused_alike(config, tmp_path / "run", "text_tower.embedding.weight is")


@pytest.mark.parametrize("kind", ["vae", "tts"])
def test_a_checkpoint_of_other_sizes_without_its_recipe_is_refused_by_both(
    kind: str, tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    """`--resume CHECKPOINT` takes one that was copied alone: nothing says what its recipe was."""
    if kind == "vae":
        made = toy_tts.parent / "vae"
        vae = VAE["vae"] | {"encoder_channels": 8}
        other: Any = vae_config(tone_shards, vae=vae)
    else:
        made = toy_tts
        other = tts_config(tone_shards, vae_of(toy_tts), dit=TTS["dit"] | {"text_dim": 16})
    alone = shutil.copytree(
        open_checkpoint(made, kind=kind).folder, tmp_path / "x" / "checkpoints" / "step-00000002"
    )
    refused_alike(other, tmp_path / "run", "the weights do not fit", resume=str(alone))


def test_a_training_state_that_lacks_something_is_refused_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(toy_tts, tmp_path / "run")
    path = open_checkpoint(run, kind="tts").folder / "training" / "state.pt"
    for name in ("optimizer", "layout", "data"):
        state = torch.load(path, weights_only=True)
        kept = dict(state)
        del state[name]
        torch.save(state, path)
        refused_alike(tts_config(tone_shards, vae_of(toy_tts)), run, f"lacks .*{name}")
        torch.save(kept, path)


def test_the_vae_kept_in_a_run_is_looked_at_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(toy_tts, tmp_path / "run")
    damage(run / "vae" / "model.safetensors")
    refused_alike(tts_config(tone_shards, vae_of(toy_tts)), run, "vae/model.safetensors: damaged")


def test_validation_data_that_do_not_fit_are_refused_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    fast = write_tone_shards(tmp_path / "fast", shards=1, rate=24000)
    strange = write_tone_shards(tmp_path / "strange", shards=1, mark="ß")

    def on(root: Path) -> TTSTrainConfig:
        config = tts_config(tone_shards, vae_of(toy_tts))
        return replace(config, data=replace(config.data, validation_root=str(root)))

    refused_alike(on(fast), tmp_path / "run", "audio at 24000 Hz")
    refused_alike(on(strange), tmp_path / "run", "ß")


def test_a_damaged_teacher_is_refused_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    teacher = shutil.copytree(open_checkpoint(toy_tts, kind="tts").folder, tmp_path / "teacher")
    dit = TTS["dit"] | {"dropout": 0.0}
    config = tts_config(tone_shards, vae_of(toy_tts), dit=dit, distill={"teacher": str(teacher)},
                        trainer=TTS["trainer"] | {"steps": 1})  # fmt: skip
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    damage(teacher / "model.safetensors")
    refused_alike(config, tmp_path / "new", "teacher/model.safetensors: damaged")
    longer = replace(config, trainer=replace(config.trainer, steps=2))
    refused_alike(longer, run, "teacher/model.safetensors: damaged")


def test_the_longest_batch_is_tried_by_both(
    tone_shards: Path, toy_tts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("svae.training.tts.memory._future_moments", full)
    trainer = TTS["trainer"] | {"try_longest_batch": "always"}
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=trainer)
    refused_alike(config, tmp_path / "run", "the longest batch .* does not fit")
