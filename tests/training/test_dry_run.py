"""`--dry-run` refuses what training would refuse."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import write_tone_shards
from tiny_runs import VAE, tts_config, vae_config, vae_of

from svae.checkpoint import open_checkpoint
from svae.errors import CheckpointError, ConfigError, DataError
from svae.runtime.files import folder_lock
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
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
