"""A run folder belongs to one job at a time, and a full disk does not harm what is in it."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tiny_runs import TTS, VAE, rows_of, tts_config, vae_config, vae_of
from tone_shards import write_tone_shards

from svae.checkpoint import checkpoint_folder, open_checkpoint, write_checkpoint
from svae.config import TTSTrainConfig
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


def test_an_attempt_without_a_checkpoint_leaves_nothing_to_the_next_one(
    toy_tts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may have other data: durations, statistics and rows must be of those."""
    sizes = {"shards": 2, "per_shard": 10}
    first = write_tone_shards(tmp_path / "first", seconds=0.6, **sizes)
    other = write_tone_shards(tmp_path / "other", seconds=1.6, **sizes)
    # A VAE whose training was cut short: the run measures its latents.
    vae = shutil.copytree(vae_of(toy_tts), tmp_path / "vae")
    stored = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps(stored | {"latent_mean": None, "latent_std": None}))

    def options(data: Path, out: str) -> TrainOptions[TTSTrainConfig]:
        trainer = TTS["trainer"] | {"steps": 1, "log_every": 1, "checkpoint_every": 1}
        config = tts_config(data, vae, trainer=trainer, batch_frames=200)
        return TrainOptions(config, tmp_path / out, device="cpu")

    def full(*arguments: object, **more: object) -> None:
        raise CheckpointError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("svae.training.loop.write_checkpoint", full)
        with pytest.raises(CheckpointError, match="disk full"):
            train_tts(options(first, "run"))
    runs = [train_tts(options(other, out)) for out in ("run", "fresh")]
    made = [open_checkpoint(run, kind="tts") for run in runs]
    assert made[0].config["files"] == made[1].config["files"]
    assert "duration.safetensors" in made[0].config["files"]
    kept = [open_checkpoint(each.folder / "vae", kind="vae").config for each in made]
    assert kept[0] == kept[1] and kept[0]["latent_mean"] is not None
    assert [len(rows_of(run, "validation")) for run in runs] == [2, 2]
    assert rows_of(runs[0], "validation")[0]["loss/flow"] == pytest.approx(
        rows_of(runs[1], "validation")[0]["loss/flow"]
    )


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
