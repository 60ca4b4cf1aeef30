"""Speech recognisers that judge intelligibility. Which one was used belongs to every word error rate.

Each engine is a file of this folder and an entry of `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError
from svae.judges.ctc import CTC
from svae.judges.faster_whisper import FasterWhisper
from svae.judges.omnilingual import Omnilingual
from svae.judges.paraformer import Paraformer
from svae.judges.pocketsphinx import PocketSphinx
from svae.judges.whisper import Whisper


class Recognizer(Protocol):
    """What turns speech into text."""

    description: dict[str, Any]
    """Class, model, versions and decoding settings, as stored with results."""

    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int = SPEECH_RATE) -> list[str]:
        """Return the text of each waveform (S,), independent of the others."""
        ...


@dataclass(frozen=True)
class Settings:
    """What `load_asr` was asked for besides the model."""

    device: str | torch.device
    language: str
    num_beams: int | None
    batch_size: int


@dataclass(frozen=True)
class Engine:
    """A kind of recogniser."""

    form: str
    """How `--asr` names it, for messages."""
    load: Callable[[str, Settings], Recognizer]
    """From what follows the colon."""


def _by_whisper(
    engine: type[Whisper] | type[FasterWhisper], *, int8: bool = False
) -> Callable[[str, Settings], Recognizer]:
    def load(source: str, use: Settings) -> Recognizer:
        return engine(
            source,
            use.device,
            language=use.language,
            num_beams=use.num_beams,
            batch_size=use.batch_size,
            int8=int8,
        )

    return load


ENGINES = {
    "pocketsphinx": Engine("pocketsphinx (offline)", lambda source, use: PocketSphinx()),
    "ctc:": Engine(
        "ctc:embedded (offline, small), ctc:ID_OR_FOLDER",
        lambda source, use: CTC(source, use.device, batch_size=use.batch_size),
    ),
    "whisper:": Engine("whisper:ID_OR_FOLDER", _by_whisper(Whisper)),
    "whisper-int8:": Engine("whisper-int8:ID_OR_FOLDER (a CPU)", _by_whisper(Whisper, int8=True)),
    "faster-whisper:": Engine("faster-whisper:ID_OR_FOLDER", _by_whisper(FasterWhisper)),
    "faster-whisper-int8:": Engine(
        "faster-whisper-int8:ID_OR_FOLDER", _by_whisper(FasterWhisper, int8=True)
    ),
    "paraformer:": Engine(
        "paraformer:ID_OR_FOLDER", lambda source, use: Paraformer(source, use.device)
    ),
    "omnilingual:": Engine(
        "omnilingual:CARD (an environment of its own)",
        lambda source, use: Omnilingual(
            source, use.device, language=use.language, batch_size=use.batch_size
        ),
    ),
}
"""What `--asr` begins with; a colon says that a source follows."""


def load_asr(
    spec: str,
    device: str | torch.device = "cpu",
    *,
    language: str = "en",
    num_beams: int | None = None,
    batch_size: int = 1,
) -> Recognizer:
    """Load a recogniser.

    Args:
        spec: `pocketsphinx`, `whisper:ID_OR_FOLDER`, `faster-whisper:ID_OR_FOLDER` (or with 8-bit weights, `whisper-int8:`,
            `faster-whisper-int8:`), `ctc:ID_OR_FOLDER`, `ctc:embedded`, `paraformer:ID_OR_FOLDER` or `omnilingual:CARD`; a hub id
            may be followed by `@REVISION`.
        device: where the neural ones run.
        language: what a multilingual recogniser is told.
        num_beams: the width of Whisper's search; None is 5.
        batch_size: clips decoded together. With 1 a transcript depends on nothing but its clip, to the last bit.

    Raises:
        ConfigError: unknown spec, or the model cannot be loaded (what works offline is named).
    """
    kind, colon, source = spec.partition(":")
    engine = ENGINES.get(kind + colon)
    if engine is None or (colon and not source):
        forms = ", ".join(engine.form for engine in ENGINES.values())
        raise ConfigError(
            f"--asr {spec!r}: unknown; use one of: {forms}; an ID may end in @REVISION"
        )
    return engine.load(source, Settings(device, language, num_beams, batch_size))
