"""What a program and a server have in common: they say an utterance into a file, or say why not."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from svae.errors import DataError

HEADER_BYTES = 44
"""Of a WAV file: what is longer has audio in it."""


class SpeechFailed(DataError):
    """A system did not say an utterance; the message is what it said instead."""


@dataclass(frozen=True)
class Request:
    """One utterance that a system is asked for."""

    id: str
    text: str
    seed: int
    language: str
    prompt: Path | None
    """Where the prompt lies, as an absolute path."""
    prompt_text: str | None
    out: Path
    """Where the recording has to be written, as an absolute path."""

    @property
    def values(self) -> dict[str, str]:
        """The values of the placeholders, as text."""
        return {
            "text": self.text,
            "ref": "" if self.prompt is None else str(self.prompt),
            "ref_text": self.prompt_text or "",
            "out": str(self.out),
            "seed": str(self.seed),
            "id": self.id,
            "language": self.language,
        }


@dataclass(frozen=True)
class Timing:
    """How long a call took."""

    seconds: float
    first_audio_seconds: float
    """Until its first audio was there."""


class System(Protocol):
    """What says utterances."""

    title: str
    """What its row is called."""
    names: set[str]
    """The placeholders that it is given: what of an utterance it hears of."""
    description: dict[str, Any]
    """What is stored with the results."""

    @property
    def stamp(self) -> dict[str, Any]:
        """What a recording depends on besides the utterance; another one is made anew."""
        ...

    def speak(self, request: Request, stop: threading.Event) -> Timing:
        """Write the recording of an utterance to `request.out`; return how long it took.

        Raises:
            SpeechFailed: it did not, or not in time, or `stop` was set.
        """
        ...
