"""Runs with other bottlenecks: they train, resume exactly, and their latents can be stored."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import VAE, assert_equal_runs, killed_copy, rows_of, vae_config

from svae.checkpoint import latest_checkpoint
from svae.models.vae.vae import load_vae
from svae.training.loop import TrainOptions
from svae.training.vae.train import train_vae

TRAINER = VAE["trainer"] | {"validate_every": 5}


def config(tone_shards, which: str):
    vae, loss = dict(VAE["vae"]), dict(VAE["loss"])
    changes = {"trainer": TRAINER}
    if which == "noise":
        vae["latent_noise"], loss["kl"] = 0.3, 0.0
    else:
        vae["anchored_latents"] = 3
        loss |= {"alignment": 1.0, "alignment_form": "mse"}
        changes["teacher"] = {"model": "embedded", "layer": 1, "context_seconds": 0.1}
    return vae_config(tone_shards, vae=vae, loss=loss, **changes)


@pytest.mark.parametrize("which", ["noise", "anchored"])
def test_it_trains_and_resumes_exactly(which, tone_shards, tmp_path):
    options = config(tone_shards, which)
    whole = train_vae(TrainOptions(options, tmp_path / "whole", "auto", "cpu"))
    resumed = killed_copy(whole, 2, tmp_path / "resumed")
    train_vae(TrainOptions(options, resumed, "auto", "cpu"))
    assert_equal_runs(whole, resumed, "vae")
    vae = load_vae(latest_checkpoint(whole))
    assert vae.cfg.latent_noise == (0.3 if which == "noise" else None)
    assert torch.isfinite(vae.latent_std).all()
    assert ("loss/alignment" in rows_of(whole, "train")[0]) == (which == "anchored")
