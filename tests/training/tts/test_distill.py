"""`svae distill`: what a student learns, how it is trained, and how it speaks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import write_tone_shards
from tiny_flow import CFG, D, batch
from tiny_runs import TTS, assert_equal_runs, killed_copy, tts_config, vae_of
from torch import Tensor, nn
from typer.testing import CliRunner

from svae import recipe
from svae.checkpoint import open_checkpoint
from svae.cli import app
from svae.config import DistillConfig, TTSTrainConfig
from svae.errors import CheckpointError, ConfigError
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import guided_velocity, integrate, sample_latents, time_grid
from svae.synthesis.load import load_tts
from svae.synthesis.types import Sampling
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.distill import Distillation, Way, recipe_of
from svae.training.tts.train import train_tts

SMALL = TTS | {"batch_frames": 200, "flow": {"mask_ratio": [0.3, 0.9]}}


def student_config(data: Path, teacher: Path, **changes: object) -> TTSTrainConfig:
    tree = {"data": {"root": str(data)}, "distill": {"steps": [2, 1], "teacher_steps": 3}}
    tree |= {name: value for name, value in SMALL.items() if name != "dit"}
    for place, value in recipe_of(open_checkpoint(teacher, kind="tts")).items():
        section, _, name = place.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = value
    return recipe.build(TTSTrainConfig, tree | changes, where="test")


@pytest.fixture(scope="module")
def student(tone_shards: Path, toy_tts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student") / "run"
    return train_tts(TrainOptions(student_config(tone_shards, toy_tts), out, device="cpu"))
