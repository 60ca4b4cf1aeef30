"""Loading a text-to-speech checkpoint: the network, what turns its frames into sound, its rule of durations."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import torch

from svae.checkpoint import load_strict
from svae.config import DiTConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.representation import load_representation
from svae.models.tts.dit import DiT
from svae.synthesis.adapter import SpeakingModel, open_speaking
from svae.synthesis.model import TTS
from svae.synthesis.open_durations import DURATION_FILE, open_own_rule
from svae.synthesis.types import OWN, STUDENT, Sampling
from svae.text.phonemes import open_vocabulary
from svae.text.unknown_words import guess


def load_tts(path: str | Path, device: str | torch.device = "cpu") -> TTS:
    """Load a TTS checkpoint with the VAE inside it, ready for synthesis.

    Args:
        path: checkpoint folder, or run folder (its latest checkpoint); those of an adapter too, which names its base.
        device: where to compute.

    Raises:
        CheckpointError: missing, damaged, of another kind, or with another VAE than it was trained on.
    """
    opened = open_speaking(path)
    checkpoint = opened.checkpoint
    config = checkpoint.config
    folder = checkpoint.folder
    try:
        Sampling(
            num_steps=config.get("num_steps"),
            guidance_scale=config.get("guidance"),
            prompt_guidance=config.get("prompt_guidance"),
            temperature=config.get("temperature"),
        ).check()
        representation = load_representation(checkpoint, device)
        vocabulary = open_vocabulary(config["vocabulary"], guess=guess)
        model = DiT(checkpoint.section(DiTConfig), len(vocabulary), config["latent_dim"])
        Sampling().filled(config)
        Sampling(guidance_scale=1.0).filled(config)
    except (KeyError, ValueError, TypeError, ConfigError, DataError) as error:
        raise CheckpointError(f"{folder}/config.json: damaged: {error!r}") from None
    if config["latent_dim"] != representation.latent_dim:
        raise CheckpointError(
            f"{folder}: generates {config['latent_dim']} channels, its VAE has {representation.latent_dim}"
        )
    teacher = None
    if opened.has_student:
        load_strict(model, opened.student_weights(), folder)
        teacher = partial(_teacher, opened, model)
    else:
        load_strict(model, opened.weights(), folder)
    identity = {
        "path": str(opened.folder),
        "hash": opened.hash,
        "vae_hash": representation.identity,
        "step": checkpoint.step,
        "max_seconds": config.get("max_seconds"),
        "duration_hash": config["files"].get(DURATION_FILE),
    }
    for name in (*OWN, STUDENT, "description"):
        if config.get(name) is not None:
            identity[name] = config[name]
    identity |= opened.description
    frame_rate = representation.sample_rate / representation.hop_length
    rule = open_own_rule(checkpoint, vocabulary, frame_rate, device)
    network = model.to(device).eval().requires_grad_(False)
    return TTS(network, representation, vocabulary, identity, rule, opened.prompt_file, teacher)


def _teacher(opened: SpeakingModel, student: DiT) -> DiT:
    """Return the network of a student's teacher; raises CheckpointError where its weights are damaged."""
    teacher = copy.deepcopy(student)
    load_strict(teacher, opened.weights(), opened.folder)
    return teacher
