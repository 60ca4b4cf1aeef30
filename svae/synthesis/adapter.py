"""Opening a TTS model that may be an adapter or have a student: base and what is added become one set of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from svae.checkpoint import EMBEDDED, Checkpoint, open_checkpoint
from svae.errors import CheckpointError
from svae.models.tts.adapter import melted
from svae.synthesis.types import STUDENT

PROMPT_FILE = "prompt.safetensors"
"""The file of a checkpoint with the voice that it speaks in where no other is given; in the form of a saved voice."""
STUDENT_FILE = "student.safetensors"
"""The file of a checkpoint of `svae distill` with what is added to its weights for one pass a step, as an adapter's."""


@dataclass(frozen=True)
class SpeakingModel:
    """A TTS checkpoint, whole or made whole."""

    checkpoint: Checkpoint
    """Of kind tts: sizes, vocabulary, VAE and durations."""
    adapter: Checkpoint | None = None
    """What is added to its weights."""

    @property
    def folder(self) -> Path:
        """What the user named, or what that led to."""
        return (self.adapter or self.checkpoint).folder

    @property
    def hash(self) -> str:
        """The identity of the weights that speak."""
        parts = [self.checkpoint.hash]
        if self.adapter is not None:
            parts.append(self.adapter.hash)
        if self.has_student:
            parts.append(self.checkpoint.config["files"][STUDENT_FILE])
        return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @property
    def description(self) -> dict[str, Any]:
        """What results say of an adapter; empty where there is none."""
        if self.adapter is None:
            return {}
        return {
            "adapter": {"hash": self.adapter.hash, "base": self.adapter.config["base"]},
            "step": self.adapter.step,
        }

    @property
    def prompt_file(self) -> Path | None:
        """The model's own voice, where it has one."""
        own = self.adapter or self.checkpoint
        return own.folder / PROMPT_FILE if PROMPT_FILE in own.config["files"] else None

    @property
    def has_student(self) -> bool:
        """Whether it speaks in one pass a step."""
        return self.checkpoint.config.get(STUDENT) is not None

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that take guidance. Raises CheckpointError where they are damaged or do not fit each other."""
        weights = self.checkpoint.model_state()
        if self.adapter is None:
            return weights
        return melted(
            weights, self.adapter.model_state(), self.adapter.config["scale"], self.adapter.folder
        )

    def student_weights(self) -> dict[str, Tensor]:
        """Return the weights with the guidance inside, of a model that has a student; raises as `weights`.

        What an adapter and a student add is added up: both were learned beside the same weights (LCM-LoRA, arXiv 2311.05556).
        """
        return with_student(self.checkpoint, self.weights())


def with_student(checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with what a checkpoint's student adds to them. Raises CheckpointError where that is damaged."""
    try:
        scale = float(checkpoint.config[STUDENT]["scale"])
        added = checkpoint.state(STUDENT_FILE)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}/config.json: damaged: {error!r}") from None
    return melted(weights, added, scale, checkpoint.folder)


def open_speaking(path: str | Path) -> SpeakingModel:
    """Open a TTS checkpoint or run, or an adapter with its base.

    Raises:
        CheckpointError: as `open_checkpoint`; the base is not where it was, or has other weights now.
    """
    opened = open_checkpoint(path, kind="tts", or_adapter=True)
    if opened.kind == "tts":
        return SpeakingModel(opened)
    return SpeakingModel(_open_base(opened), opened)


def _open_base(adapter: Checkpoint) -> Checkpoint:
    where = adapter.folder / "config.json"
    try:
        named, wanted = adapter.config["base"]["model"], adapter.config["base"]["hash"]
        float(adapter.config["scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: damaged: {error!r}") from None
    try:
        base = open_checkpoint(named, kind="tts")
    except CheckpointError as error:
        raise CheckpointError(
            f"{adapter.folder}: an adapter, whose base model is not to be had: {error}\n"
            f"Put the base back, or write its new place as base.model into {where}."
        ) from None
    if base.hash != wanted:
        advice = (
            "the svae that made it carried another embedded model: install that version, or run `svae adapt` again"
            if named == EMBEDDED
            else f"put the right model back, or write its place as base.model into {where}"
        )
        raise CheckpointError(
            f"{adapter.folder}: was made for the weights {wanted[:12]}…, but {named} has {base.hash[:12]}…;\n{advice}"
        )
    return base
