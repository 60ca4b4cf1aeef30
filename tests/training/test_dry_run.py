"""`--dry-run` refuses what training would refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import vae_config, vae_of

from svae.errors import CheckpointError, ConfigError
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions


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
    def three_ranks(device: str):  # noqa: ANN202
        yield World(rank=0, world_size=3, device=torch.device("cpu"))

    monkeypatch.setattr("svae.training.dry_run.open_world", three_ranks)
    with pytest.raises(ConfigError, match="batch_size 2 is over all ranks"):
        dry_run(TrainOptions(vae_config(tone_shards), tmp_path / "run", device="cpu"))
