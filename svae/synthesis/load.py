"""TODO."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from svae.checkpoint import Checkpoint, load_strict, open_checkpoint
from svae.config import DiTConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.mel import MelFrames
from svae.models.tts.dit import DiT
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.recipe import from_tree
from svae.synthesis.model import DURATION_FILE, TTS
from svae.synthesis.types import OWN, Sampling
from svae.text.phonemes import FramePhonemes, open_vocabulary
from svae.text.unknown_words import guess
from svae.text.vocabulary import Vocabulary


def load_tts(path: str | Path, device: str | torch.device = "cpu") -> TTS:
    """Load a TTS checkpoint with the VAE inside it, ready for synthesis.

    Args:
        path: checkpoint folder, or run folder (its latest checkpoint).
        device: where to compute.

    Raises:
        CheckpointError: missing, damaged, of another kind, or with another VAE than it was trained on.
    """
    checkpoint = open_checkpoint(path, kind="tts")
    config, folder = checkpoint.config, checkpoint.folder
    try:
        Sampling(**{name: config.get(name) for name in OWN}).check()
        vae, vae_hash = load_representation(checkpoint, device)
        vocabulary = open_vocabulary(config["vocabulary"], guess=guess)
        model = DiT(from_tree(DiTConfig, config["model"]), len(vocabulary), config["latent_dim"])
    except (KeyError, ValueError, TypeError, ConfigError, DataError) as error:
        raise CheckpointError(f"{folder}/config.json: damaged: {error!r}") from None
    if config["latent_dim"] != vae.latent_dim:
        raise CheckpointError(
            f"{folder}: generates {config['latent_dim']} channels, its VAE has {vae.latent_dim}"
        )
    load_strict(model, checkpoint.model_state(), folder)
    identity = {
        "path": str(folder),
        "hash": checkpoint.hash,
        "vae_hash": vae_hash,
        "step": checkpoint.step,
    }
    identity |= {
        "max_seconds": config.get("max_seconds"),
        "duration_hash": config["files"].get(DURATION_FILE),
    }
    identity |= {
        name: config[name] for name in (*OWN, "description") if config.get(name) is not None
    }
    predictor = load_predictor(checkpoint, vocabulary, device)
    return TTS(model.to(device).eval().requires_grad_(False), vae, vocabulary, identity, predictor)


def load_representation(
    checkpoint: Checkpoint, device: str | torch.device
) -> tuple[SpeechVAE | MelFrames, str]:
    """Return what turns a TTS checkpoint's frames into a waveform, and its identity: the VAE inside it, or mel frames.

    Raises:
        CheckpointError: the VAE is unusable, or not the one that the model was trained on.
    """
    config, folder = checkpoint.config, checkpoint.folder
    if config.get("representation", "latents") == "mel":
        return MelFrames(config["vocoder"], config["latent_dim"]).to(
            device
        ), f"mel-{config['latent_dim']}"
    inner = open_checkpoint(folder / "vae", kind="vae")
    if inner.hash != config["vae_hash"]:
        raise CheckpointError(
            f"{folder}: was trained on VAE {config['vae_hash']}, but {inner.folder} is VAE {inner.hash}.\n"
            "Latents of another VAE mean something else; put the right VAE back, or copy the checkpoint again."
        )
    return load_vae(inner.folder, device), inner.hash


def load_predictor(
    checkpoint: Checkpoint, vocabulary: Vocabulary, device: str | torch.device
) -> DurationPredictor | PhoneDurations | None:
    """Return the checkpoint's duration predictor, or None where it has none."""
    if DURATION_FILE not in checkpoint.config["files"]:
        return None
    return predictor_from(checkpoint.state(DURATION_FILE), vocabulary, checkpoint.folder).to(device)


def predictor_from(
    weights: dict[str, Tensor], vocabulary: Vocabulary, where: Path = Path(DURATION_FILE)
) -> DurationPredictor | PhoneDurations:
    """Return a duration predictor with these weights: of phones where the vocabulary is one a frame, else of texts."""
    cls = PhoneDurations if isinstance(vocabulary, FramePhonemes) else DurationPredictor
    predictor = cls(len(vocabulary))
    load_strict(predictor, weights, where)
    return predictor.eval().requires_grad_(False)
