"""Which rule of durations a checkpoint has, and the weights of its predictor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from svae.checkpoint import Checkpoint, load_strict
from svae.errors import CheckpointError
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.synthesis.durations import ByteRule, DurationRule, PhoneRule, TextRule
from svae.text.phonemes import FramePhonemes
from svae.text.vocabulary import Vocabulary

DURATION_FILE = "duration.safetensors"
"""The file of a checkpoint that holds the weights of its duration predictor."""

Predictor = TypeVar("Predictor", bound=nn.Module)


def open_rule(
    vocabulary: Vocabulary,
    frame_rate: float,
    weights: Mapping[str, Tensor] | None = None,
    *,
    where: Path = Path(DURATION_FILE),
    device: str | torch.device = "cpu",
) -> DurationRule:
    """Choose the rule of a model.

    Args:
        vocabulary: of the model.
        frame_rate: of the model, in Hz.
        weights: of its duration predictor; None: it has none.
        where: what messages call the file of the weights.
        device: where the predictor computes.

    Raises:
        CheckpointError: frame-level phones without a predictor, or weights of another one.
    """

    def loaded(predictor: Predictor) -> Predictor:
        load_strict(predictor, dict(weights or {}), where)
        return predictor.to(device).eval().requires_grad_(False)

    if isinstance(vocabulary, FramePhonemes):
        if weights is None:
            raise CheckpointError(
                "frame-level phones need durations of phones; was the checkpoint copied whole?"
            )
        return PhoneRule(vocabulary, frame_rate, loaded(PhoneDurations(len(vocabulary))))
    if weights is None:
        return ByteRule(vocabulary, frame_rate)
    return TextRule(vocabulary, frame_rate, loaded(DurationPredictor(len(vocabulary))))


def stored_durations(checkpoint: Checkpoint) -> dict[str, Tensor] | None:
    """Return the weights of a TTS checkpoint's duration predictor; None where it has none. Raises as `Checkpoint.state`."""
    found = DURATION_FILE in checkpoint.config["files"]
    return checkpoint.state(DURATION_FILE) if found else None


def open_own_rule(
    checkpoint: Checkpoint,
    vocabulary: Vocabulary,
    frame_rate: float,
    device: str | torch.device = "cpu",
) -> DurationRule:
    """Choose the rule of a TTS checkpoint. Raises as `open_rule`."""
    weights = stored_durations(checkpoint)
    return open_rule(vocabulary, frame_rate, weights, where=checkpoint.folder, device=device)
