"""What a source of recordings is that cannot be listed cheaply: parts that are each read from front to back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from svae.runtime.http import RemoteError

MAX_PARTS = 1024
"""Parts are what processes share out and what a resumed run skips; thousands of small files make fewer, longer ones."""


class SourceError(RemoteError):
    """A part of a source that cannot be read to its end; the message names it and the cause."""


@dataclass(frozen=True)
class Recording:
    """One recording as a source has it, or why it has none."""

    key: str
    """Unique over all parts; letters, digits, `-` and `_` only; short enough to name files."""
    source: str
    """Where it comes from, for people: `train-0001.tar/a/b.mp3`."""
    audio: bytes
    """An audio file, whole; empty where `problem` says why."""
    text: str | None = None
    """As the source has it; None where it has none."""
    speaker: str = "unknown"
    language: str = "unknown"
    metadata: dict[str, Any] = field(default_factory=dict)
    """Further fields that are kept beside it."""
    problem: tuple[str, str] | None = None
    """Reason and detail for rejecting it, where that shows before its audio is read."""


class Source(ABC):
    """A source, opened and understood: its parts are known, and which fields of it are taken."""

    parts: Sequence[str]
    """What each part is called, in their order."""
    identity: dict[str, Any]
    """What decides the recordings, as JSON: a run is continued only with the same."""
    notes: Sequence[str]
    """What is taken and what is not, for printing."""
    has_text: bool
    """Whether it has transcripts at all."""

    @abstractmethod
    def read(self, part: int) -> Iterator[Recording]:
        """Read a part, the same recordings in the same order each time.

        Raises:
            SourceError: it cannot be read to its end.
        """


def grouped(names: Sequence[str]) -> list[range]:
    """Deal files to parts, in order: one each, or several neighbours where there are more than `MAX_PARTS`."""
    parts = min(len(names), MAX_PARTS)
    bounds = [len(names) * part // parts for part in range(parts + 1)] if parts else []
    return [range(first, last) for first, last in zip(bounds, bounds[1:], strict=False)]
