"""What a corpus is, and what the readers of all layouts need."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from svae.errors import DataError
from svae.runtime.text_files import read_utf8


@dataclass(frozen=True)
class Utterance:
    """One recording and its transcript."""

    key: str
    """Unique in the corpus; letters, digits, `-` and `_` only; short enough to name files."""
    audio: Path
    text: str | None
    """As the corpus has it; None where the corpus has no transcript of it at all."""
    speaker: str
    language: str
    source: str
    """The audio file relative to the corpus folder, as stored in the shards."""
    place: str = ""
    """`FILE, line N` of the list that names it, for messages; empty where there is no list."""
    offset: float = 0.0
    """Where in the recording it begins, in seconds."""
    duration: float | None = None
    """Seconds of the recording that are meant; None: to its end."""
    channel: int | None = None
    """Which channel of the recording is meant, from 0; None: all, mixed."""
    unused: tuple[str, ...] = ()
    """Fields of its row in the list that mean nothing to svae."""

    @property
    def is_segment(self) -> bool:
        """Whether only a part of the recording is meant."""
        return self.offset > 0 or self.duration is not None

    @property
    def identity(self) -> str:
        """What tells a recording, or a part of one, from all others of its corpus."""
        source = self.source if self.channel is None else f"{self.source}\n{self.channel}"
        return f"{source}\n{self.offset!r} {self.duration!r}" if self.is_segment else source

    @property
    def segment(self) -> str:
        """What is meant of the recording: its `source`, and the seconds where that is a part."""
        source = self.source if self.channel is None else f"{self.source}, channel {self.channel},"
        if not self.is_segment:
            return source.rstrip(",")
        end = "the end" if self.duration is None else f"{self.offset + self.duration:.3f} s"
        return f"{source} from {self.offset:.3f} s to {end}"


class Corpus(ABC):
    """A corpus that `svae prepare` knows: what a person needs to know to get it, and how its layout is read."""

    name: str
    """What `svae prepare` calls it."""
    title: str
    folder: Path | None
    """Where it is looked for by default; None: the user must say."""
    how_to_get: str
    layout: str
    has_subsets: bool = False
    argument: str | None = None
    """What `svae prepare` calls its source where that is an argument; None: --root says where it is."""

    @abstractmethod
    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List what is in `root`, in any order; `subsets` is empty where the corpus has none.

        Raises:
            DataError: the corpus is not there (`missing`), or its lists are malformed.
        """

    def missing(self, root: Path, what: str) -> DataError:
        """Return the error of a corpus that is not where it was looked for."""
        return DataError(
            f"{self.title} was not found in {root.absolute()}: {what}.\n{self.how_to_get}\n"
            f"Expected layout: {self.layout}.\nThen run: svae prepare {self.name} --root {self.folder}"
        )


def sanitize_key(name: str) -> str:
    """Replace everything but letters, digits, `-` and `_` by `_`: a key must survive in a webdataset member's name."""
    return re.sub(r"[^\w-]", "_", name)


def possible_folders(root: Path, *names: str) -> list[Path]:
    """Return where a corpus may begin: at the root, or in a folder of its own name below."""
    return [folder for folder in (root, *(root / name for name in names)) if folder.is_dir()]


def read_text(path: Path) -> str | None:
    """Read a UTF-8 text file; None where there is none.

    Raises:
        DataError: it cannot be read, or is not UTF-8; a text is never altered to fit.
    """
    return read_utf8(path) if path.exists() else None


def read_texts(paths: list[Path]) -> list[str | None]:
    """Read many small files; on a network disk each one waits, so many wait at once."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(read_text, paths))
