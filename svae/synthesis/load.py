"""TODO."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from svae.checkpoint import Checkpoint, load_strict, open_checkpoint
from svae.config import DiTConfig
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.representation import load_representation
from svae.models.tts.dit import DiT
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.recipe import from_tree
from svae.synthesis.model import DURATION_FILE, TTS
from svae.synthesis.types import OWN, Sampling
from svae.text.phonemes import FramePhonemes, open_vocabulary
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
        representation = load_representation(checkpoint, device)
        vocabulary = open_vocabulary(config["vocabulary"])
        model = DiT(from_tree(DiTConfig, config["model"]), len(vocabulary), config["latent_dim"])
    except (KeyError, ValueError, TypeError, ConfigError, DataError) as error:
        raise CheckpointError(f"{folder}/config.json: damaged: {error!r}") from None
    if config["latent_dim"] != representation.latent_dim:
        raise CheckpointError(
            f"{folder}: generates {config['latent_dim']} channels, its VAE has {representation.latent_dim}"
        )
    load_strict(model, checkpoint.model_state(), folder)
    identity = {
        "path": str(folder),
        "hash": checkpoint.hash,
        "vae_hash": representation.identity,
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
    network = model.to(device).eval().requires_grad_(False)
    return TTS(network, representation, vocabulary, identity, predictor)


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
