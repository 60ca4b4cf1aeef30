"""Recipes of milliseconds, and runs of them that are killed and compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from svae import recipe
from svae.checkpoint import checkpoint_folder, open_checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig

VAE = {
    "trainer": {
        "steps": 5,
        "log_every": 2,
        "validate_every": 3,
        "checkpoint_every": 2,
        "keep_checkpoints": 9,
    },
    "loader": {"num_workers": 2},
    "vae": {
        "latent_dim": 8,
        "encoder_channels": 4,
        "attention_heads": 2,
        "decoder": {
            "upsample_rates": [5, 5, 4, 4],
            "upsample_kernel_sizes": [9, 9, 8, 8],
            "initial_channels": 16,
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1]],
        },
    },
    "discriminator": {
        "periods": [2],
        "period_channels": [4, 4],
        "fft_sizes": [256],
        "spectral_channels": 2,
    },
    "loss": {"alignment": None, "adversarial_start_step": 1},
    "ema": {"start_step": 1, "every": 1},
    "segment_seconds": 0.2,
    "batch_size": 2,
    "validation_crops": 1,
}


TTS = {
    "trainer": VAE["trainer"],
    "loader": {"num_workers": 0},
    "dit": {
        "dim": 16,
        "depth": 1,
        "heads": 2,
        "text_dim": 8,
        "text_conv_layers": 1,
        "dropout": 0.1,
    },
    "ema": {"start_step": 1, "every": 2},
    "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2, "schedule": "linear"},
    "batch_frames": 100,
    "validation_utterances": 1,
}


def vae_config(data, **changes) -> VAETrainConfig:
    return recipe.build(VAETrainConfig, {"data": {"root": str(data)}} | VAE | changes, where="test")


def tts_config(data, vae, **changes) -> TTSTrainConfig:
    return recipe.build(
        TTSTrainConfig, {"data": {"root": str(data)}, "vae": str(vae)} | TTS | changes, where="test"
    )


def killed_copy(run, step, folder):
    """Return a copy of a run as a kill after the checkpoint of `step` leaves it: later work lost, half a file there."""
    shutil.copytree(run, folder)
    for later in (folder / "checkpoints").glob("step-*"):
        if int(later.name[5:]) > step:
            shutil.rmtree(later)
    (folder / "checkpoints" / "latest").write_text(checkpoint_folder(folder, step).name)
    (folder / "checkpoints" / ".step-00000099.1.tmp").mkdir()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "split": "tr')
    return folder


def assert_equal_runs(one, other, kind):
    a, b = open_checkpoint(one, kind=kind), open_checkpoint(other, kind=kind)
    assert a.step == b.step == 5
    assert a.hash == b.hash  # EMA weights, byte for byte
    assert a.config == b.config  # latent statistics too
    flat_a, flat_b = flatten(a.training_state()), flatten(b.training_state())
    assert flat_a.keys() == flat_b.keys()
    for name, value in flat_a.items():
        equal = (
            torch.equal(value, flat_b[name])
            if isinstance(value, torch.Tensor)
            else value == flat_b[name]
        )
        assert equal, name


def flatten(tree, prefix=""):
    if isinstance(tree, dict):
        return {
            k: v for key, part in tree.items() for k, v in flatten(part, f"{prefix}/{key}").items()
        }
    if isinstance(tree, list | tuple):
        return {
            k: v for i, part in enumerate(tree) for k, v in flatten(part, f"{prefix}/{i}").items()
        }
    return {prefix: tree}


def vae_of(toy_tts: Path) -> Path:
    return open_checkpoint(toy_tts, kind="tts").folder / "vae"


def rows_of(run: Path, split: str) -> list[dict]:
    """Return the rows of a split of a run's metrics.jsonl."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]
