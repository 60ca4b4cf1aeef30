"""The kinds of frames that a TTS model can generate, behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch

from svae.checkpoint import open_checkpoint
from svae.config import TTSTrainConfig
from svae.models.mel import GRIFFIN_LIM, MelFrames
from svae.models.representation import KINDS, Representation, VAELatents


@pytest.fixture(params=["latents", "mel"])
def representation(request: pytest.FixtureRequest, toy_tts: Path) -> Representation:
    if request.param == "mel":
        return MelFrames(GRIFFIN_LIM).load("cpu")
    vae = open_checkpoint(open_checkpoint(toy_tts, kind="tts").folder / "vae", kind="vae")
    return VAELatents(vae).load("cpu")


def test_recipes_name_every_kind_and_no_other() -> None:
    assert set(get_args(get_type_hints(TTSTrainConfig)["representation"])) == set(KINDS)


def test_speech_becomes_frames_and_frames_speech(representation: Representation) -> None:
    hop = representation.hop_length
    waveform = 0.1 * torch.randn(1, 1, 20 * hop)
    frames = representation.encode(waveform).mean
    assert frames.shape == (1, representation.latent_dim, 20)
    learned = representation.normalize(frames)
    torch.testing.assert_close(representation.denormalize(learned), frames)
    decoded = representation.decode(frames)
    assert decoded.shape == waveform.shape and float(decoded.abs().max()) <= 1
    assert representation.decoder_context > 0


def test_a_checkpoint_says_which_kind_it_was_trained_on(representation: Representation) -> None:
    config = representation.to_config()
    assert isinstance(representation, KINDS[config["representation"]])
    again = KINDS[config["representation"]].make(
        representation.checkpoint, config["vocoder"], representation.latent_dim
    )
    assert again.identity == representation.identity and again.to_config() == config
    assert again.sample_rate == representation.sample_rate
