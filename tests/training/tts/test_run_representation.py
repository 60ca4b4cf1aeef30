"""train-tts on mel frames, and from the weights of another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_runs import TTS, assert_equal_runs, killed_copy, tts_config
from tone_shards import write_tone_shards

from svae import recipe
from svae.checkpoint import open_checkpoint
from svae.config import TTSTrainConfig
from svae.errors import CheckpointError, ConfigError
from svae.models.mel import MelFrames
from svae.synthesis.load import load_tts
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.build import channel_weights
from svae.training.tts.train import train_tts

EMBEDDING = "text_tower.embedding.weight"


def mel_config(data: Path, **changes: object) -> TTSTrainConfig:
    tree = (
        {"data": {"root": str(data)}, "representation": "mel", "vocoder": "griffin-lim"}
        | TTS
        | changes
    )
    return recipe.build(TTSTrainConfig, tree, where="test")


def run(config: TTSTrainConfig, out: Path) -> Path:
    return train_tts(TrainOptions(config, out, device="cpu"))


@pytest.fixture(scope="module")
def tones24(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tone_shards(tmp_path_factory.mktemp("tones24"), rate=24000)


@pytest.fixture(scope="module")
def mel_run(tones24: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(mel_config(tones24), tmp_path_factory.mktemp("mel") / "run")


# ------------------------------------------------------------------------------------------- mel frames


def test_a_mel_run_learns_speaks_and_carries_no_vae(mel_run: Path) -> None:
    checkpoint = open_checkpoint(mel_run, kind="tts")
    assert checkpoint.config["representation"] == "mel" and checkpoint.config["vae_hash"] is None
    assert not (checkpoint.folder / "vae").exists() and not (mel_run / "vae").exists()
    rows = [json.loads(line) for line in (mel_run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss/flow"] for row in rows if row["split"] == "validation"]
    assert losses[-1] < losses[0]
    tts = load_tts(mel_run)
    assert isinstance(tts.representation, MelFrames) and (tts.sample_rate, tts.hop_length) == (
        24000,
        256,
    )
    result = tts.generate(
        "one tone a", 0.1 * torch.randn(24000), "two tone b", num_steps=2, duration_seconds=0.5
    )
    assert result.waveform.shape == (1, 1, round(0.5 * 24000 / 256) * 256) and bool(
        result.waveform.isfinite().all()
    )


def test_a_resumed_mel_run_equals_an_uninterrupted_one(
    mel_run: Path, tones24: Path, tmp_path: Path
) -> None:
    resumed = killed_copy(mel_run, 2, tmp_path / "run")
    run(mel_config(tones24), resumed)
    assert_equal_runs(mel_run, resumed, "tts")


def test_what_mel_frames_cannot_be_made_of_is_refused(
    tones24: Path, tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="16000 Hz, but mel frames are made at 24000 Hz"):
        run(mel_config(tone_shards), tmp_path / "run")
    with pytest.raises(ConfigError, match="vae: mel frames come from no VAE"):
        mel_config(tones24, vae="runs/vae")
    with pytest.raises(ConfigError, match="flow.posterior: mel frames have no posterior"):
        mel_config(tones24, flow={"posterior": "sample"})
    with pytest.raises(
        CheckpointError, match="generates latents, but the recipe says representation: mel"
    ):
        run(mel_config(tones24, init=str(toy_tts)), tmp_path / "run")


def test_a_dry_run_on_mel_frames_counts_their_frames(tones24: Path, tmp_path: Path, capsys) -> None:  # noqa: ANN001
    dry_run(TrainOptions(mel_config(tones24), tmp_path / "run", device="cpu"))
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "mel frames, 100 bins, decoded by griffin-lim" in text
        and "longest utterance is 0.8 s (75 frames" in text
    )


# ------------------------------------------------------------------------------------------- starting weights


@pytest.mark.parametrize("stored", [False, True])
def test_weights_are_taken_over_and_new_symbols_get_rows_of_their_own(
    toy_tts: Path, tmp_path: Path, capsys: pytest.CaptureFixture, stored: bool
) -> None:
    data = write_tone_shards(tmp_path / "more", mark=" zzé")
    if stored:
        from svae.precompute.latents import EncodeOptions, encode_shards

        vae = open_checkpoint(toy_tts, kind="tts").folder / "vae"
        data = encode_shards(
            EncodeOptions(data=data, vae=vae, out=tmp_path / "latents", device="cpu")
        )
    config = tts_config(data, None, init=str(toy_tts), trainer=TTS["trainer"] | {"steps": 1})
    config = recipe.build(TTSTrainConfig, recipe.to_tree(config) | {"vae": None}, where="test")
    tuned = run(config, tmp_path / "tuned")
    text = " ".join(capsys.readouterr().out.split())
    start, end = open_checkpoint(toy_tts, kind="tts"), open_checkpoint(tuned, kind="tts")
    old, new = start.config["vocabulary"], end.config["vocabulary"]
    assert new[: len(old)] == old and sorted(new[len(old) :]) == ["z", "é"]
    assert f"{len(old)} symbols copied, 2 new: 'z' 'é'" in text
    before, after = start.model_state(), end.model_state()
    for (
        name,
        value,
    ) in before.items():  # one step with a tiny learning rate: the same weights, nearly
        found = after[name][: len(value)] if name == EMBEDDING else after[name]
        torch.testing.assert_close(found, value, atol=2e-3, rtol=0)
    assert after[EMBEDDING][len(old) + 1 :].std() > 0.1
    again = run(config, tuned)  # the same command resumes, or here finds nothing to do
    assert open_checkpoint(again, kind="tts").hash == end.hash
    tts = load_tts(tuned)
    assert torch.equal(
        tts.representation.vae.latent_mean, load_tts(toy_tts).representation.vae.latent_mean
    )


def test_rows_follow_their_symbols_whatever_the_order(toy_tts: Path) -> None:
    from rich.console import Console

    from svae.config import DiTConfig
    from svae.models.tts.dit import DiT
    from svae.text.vocabulary import Vocabulary
    from svae.training.warm_start import take_weights

    start = open_checkpoint(toy_tts, kind="tts")
    old = start.config["vocabulary"]
    vocabulary = Vocabulary([" ", "é", *reversed(old[1:])])
    cfg: DiTConfig = recipe.from_tree(DiTConfig, start.config["model"])
    model = DiT(cfg, len(vocabulary), start.config["latent_dim"])
    fresh = model.state_dict()[EMBEDDING].clone()
    take_weights(model, start, cfg, vocabulary, Console(quiet=True))
    stored, found = start.model_state()[EMBEDDING], model.state_dict()[EMBEDDING]
    assert torch.equal(found[[0, 1]], stored[[0, 1]]) and torch.equal(found[2], fresh[2])
    assert torch.equal(found[3:], stored[2:].flip(0))


def test_a_start_that_does_not_fit_is_refused(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    from tiny_runs import VAE, vae_config

    from svae.training.vae.train import train_vae

    vae = open_checkpoint(toy_tts, kind="tts").folder / "vae"
    other = tts_config(
        tone_shards,
        vae,
        init=str(toy_tts),
        dit=TTS["dit"] | {"depth": 2, "heads": 1, "dropout": 0.3},
    )
    with pytest.raises(
        CheckpointError, match=r"(?s)dit.depth: 1 there, 2 .*dit.heads: 2 there.*--set dit.depth=1"
    ):
        run(other, tmp_path / "run")
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 1, "seed": 5})
    another = train_vae(TrainOptions(config, tmp_path / "vae", device="cpu"))
    with pytest.raises(
        CheckpointError, match="was trained on VAE .*pass the VAE of the start|of the start"
    ):
        run(tts_config(tone_shards, another, init=str(toy_tts)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Scaled:
    """Frames whose channels had these deviations and some means before normalising."""

    latent_dim = 3

    def denormalize(self, latents: torch.Tensor) -> torch.Tensor:
        return latents * torch.tensor([3.0, 1.0, 0.5])[:, None] + torch.tensor([7.0, 0.0, -1.0])[:, None]  # fmt: skip


def test_errors_weigh_as_before_normalising_where_the_recipe_says_so():
    cpu = torch.device("cpu")
    assert channel_weights(Scaled(), mel_config(Path("x")), cpu) is None
    config = mel_config(Path("x"), flow={"weighting": "variance"})
    weights = channel_weights(Scaled(), config, cpu)
    assert weights is not None
    assert weights.shape == (3, 1)
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    torch.testing.assert_close(weights / weights[1], torch.tensor([[9.0], [1.0], [0.25]]))
