"""A run folder belongs to one job at a time, and a full disk does not harm what is in it."""

from __future__ import annotations

import json
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_runs import VAE, tts_config, vae_config, vae_of

from svae.checkpoint import checkpoint_folder, open_checkpoint, write_checkpoint
from svae.errors import CheckpointError, ConfigError
from svae.runtime.files import LOCK_NAME, folder_lock, leftovers
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae


def two_steps(tone_shards: Path):  # noqa: ANN201
    return vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 2})


@pytest.mark.parametrize("kind", ["vae", "tts"])
def test_a_second_job_in_a_folder_is_refused(
    kind: str, tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with folder_lock(run), pytest.raises(ConfigError, match="is working in this folder"):
        if kind == "vae":
            train_vae(TrainOptions(two_steps(tone_shards), run, device="cpu"))
        else:
            train_tts(TrainOptions(tts_config(tone_shards, vae_of(toy_tts)), run, device="cpu"))
    assert not (run / "metrics.jsonl").exists()


def test_the_lock_of_a_dead_job_is_taken_over_and_gone_at_the_end(
    tone_shards: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": "1", "since": "then"}
    (run / LOCK_NAME).write_text(json.dumps(dead) + "\n")
    train_vae(TrainOptions(two_steps(tone_shards), run, device="cpu"))
    assert not (run / LOCK_NAME).exists()


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as the kernel would on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("full", ["model.safetensors", "state.pt"])
def test_a_full_disk_is_a_clear_error_and_leaves_earlier_checkpoints_alone(
    full: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    small, large = {"a": torch.zeros(4)}, {"a": torch.zeros(100_000)}
    config = {"kind": "vae", "step": 1, "model": {}, "teacher_dim": None}
    config |= {"sample_rate": 1, "hop_length": 1, "latent_mean": None}
    write_checkpoint(checkpoint_folder(run, 1), config=config, model_state=small)
    (run / "checkpoints" / "latest").write_text("step-00000001\n")
    with no_room_beyond(100_000), pytest.raises(CheckpointError, match="cannot be written") as got:
        write_checkpoint(
            checkpoint_folder(run, 2),
            config=config,
            model_state=large if full == "model.safetensors" else small,
            training_state=large,
        )
    assert "GiB are free" in str(got.value)
    assert not leftovers(run / "checkpoints")
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-00000001"]
    assert torch.equal(open_checkpoint(run, kind="vae").model_state()["a"], small["a"])
