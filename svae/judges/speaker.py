"""Speaker embeddings that judge whether two recordings are of one voice. Scores of different models do not compare.

Each model is a file of this folder and an entry of `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from svae.assets import asset_path
from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.ecapa import EmbeddedECAPA, SpeechBrainECAPA
from svae.judges.wavlm_speaker import WavLMSpeaker

FORMS = (
    "embedded (offline, small), ecapa:ID_OR_FOLDER, e.g. ecapa:speechbrain/spkrec-ecapa-voxceleb, "
    "wavlm-ecapa:FILE (wavlm_large_finetune.pth)"
)


class SpeakerModel(Protocol):
    """What turns speech into a voice embedding."""

    description: dict[str, Any]
    """Class, model and what is known about its quality, as stored with results."""

    def embed(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> Tensor:
        """Return unit-length embeddings (N, E) of waveforms (S,), each independent of the others."""
        ...


MODELS: dict[str, Callable[[str, str | torch.device], SpeakerModel]] = {
    "embedded": lambda source, device: EmbeddedECAPA(asset_path("speaker"), device),
    "ecapa:": SpeechBrainECAPA,
    "wavlm-ecapa:": lambda source, device: WavLMSpeaker(Path(source), device),
}
"""What `--speaker` begins with; a colon says that a source follows."""


def load_speaker_model(spec: str, device: str | torch.device = "cpu") -> SpeakerModel:
    """Load a speaker model.

    Args:
        spec: `embedded`, `wavlm-ecapa:FILE` (SIM-o), or `ecapa:ID_OR_FOLDER` (an id may end in `@REVISION`) in the layout of
            speechbrain/spkrec-ecapa-voxceleb. Nothing in such a folder is run.
        device: where it runs.

    Raises:
        ConfigError: unknown spec, or the model cannot be loaded (what works offline is named).
    """
    kind, colon, source = spec.partition(":")
    load = MODELS.get(kind + colon)
    if load is None or (colon and not source):
        raise ConfigError(f"--speaker {spec!r}: unknown; use one of: {FORMS}")
    return load(source, device)
