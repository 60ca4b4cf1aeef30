"""The utterances of a folder of shards, in columns: as Python objects a million of them would take a gigabyte."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import eq
from typing import overload

import numpy as np

AT_ONCE = 4096
"""Utterances that a loop over all of them makes together: one by one takes several times as long."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One utterance in a shard. Durations and sample counts are those of the waveform, also for latents."""

    key: str
    shard: int
    """Index into `ShardIndex.shards`."""
    duration_seconds: float
    num_samples: int
    speaker: str
    language: str
    text: str
    """Normalised; empty where the corpus has none."""
    members: dict[str, tuple[int, int]] = field(hash=False)
    """Extension → (byte offset, size) in the tar."""
    crc32: dict[str, int] = field(hash=False)
    """Extension → checksum, compared at each read."""


class Samples(Sequence[Sample]):
    """A sequence of utterances, each made when it is asked for: two that are asked for are equal and not identical.

    `SamplesBuilder` makes one, `take` and slices choose from it without copying a column.
    """

    def __init__(self, table: Table, places: np.ndarray) -> None:
        """`places` says which rows of the table these are, in their order."""
        self._table = table
        self._places = places

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """Put utterances, which are looked at one by one, into columns."""
        builder = SamplesBuilder()
        for sample in samples:
            builder.add(sample)
        return builder.samples()

    def take(self, places: Sequence[int] | np.ndarray) -> Samples:
        """Return those at these places, in the order of the places."""
        return Samples(self._table, self._places[np.asarray(places, dtype=np.int64)])

    def where(self, wanted: Callable[[str], bool]) -> Samples:
        """Return those whose keys are wanted, in their order."""
        return self.take([place for place, key in enumerate(self.keys()) if wanted(key)])

    def keys(self) -> Iterator[str]:
        """Yield the key of each."""
        for first in range(0, len(self), AT_ONCE):
            yield from self._table.keys.at(self._places[first : first + AT_ONCE])

    @property
    def shards(self) -> np.ndarray:
        """The shard of each (N,)."""
        return self._table.shards[self._places]

    @property
    def num_samples(self) -> np.ndarray:
        """How many samples the waveform of each has (N,), int64."""
        return self._table.num_samples[self._places].astype(np.int64)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> Samples: ...
    def __getitem__(self, place: int | slice) -> Sample | Samples:
        if isinstance(place, slice):
            return Samples(self._table, self._places[place])
        return next(self._table.rows(self._places[[place]]))

    def __iter__(self) -> Iterator[Sample]:
        for first in range(0, len(self), AT_ONCE):
            yield from self._table.rows(self._places[first : first + AT_ONCE])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        raise TypeError("unhashable type: 'Samples'")

    def __repr__(self) -> str:
        return f"Samples({list(self)!r})"


# ----------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True, eq=False)
class Strings:
    """Many strings, one behind the other."""

    content: bytes
    """UTF-8."""
    bounds: np.ndarray
    """Where each begins, and where the last ends (N + 1,)."""

    def at(self, places: np.ndarray) -> list[str]:
        """Return some of them."""
        bounds = zip(self.bounds[places].tolist(), self.bounds[places + 1].tolist(), strict=True)
        return [self.content[start:end].decode(errors="surrogatepass") for start, end in bounds]


@dataclass(frozen=True, eq=False)
class Names:
    """Strings of which most stand many times."""

    known: list[str]
    numbers: np.ndarray
    """Which of them each is (N,)."""

    def at(self, places: np.ndarray) -> list[str]:
        """Return some of them."""
        return [self.known[number] for number in self.numbers[places].tolist()]


@dataclass(frozen=True, eq=False)
class Members:
    """The files of one extension (N,)."""

    offsets: np.ndarray
    sizes: np.ndarray
    """-1 where an utterance has none."""
    crc32: np.ndarray


@dataclass(frozen=True, eq=False)
class Table:
    """The fields of `Sample`, each for all utterances."""

    keys: Strings
    shards: np.ndarray
    durations: np.ndarray
    num_samples: np.ndarray
    speakers: Names
    languages: Names
    texts: Strings
    members: dict[str, Members]

    def rows(self, places: np.ndarray) -> Iterator[Sample]:
        """Yield the utterances at some places."""
        files: list[dict[str, tuple[int, int]]] = [{} for _ in places]
        sums: list[dict[str, int]] = [{} for _ in places]
        for name, member in self.members.items():
            columns = (member.offsets, member.sizes, member.crc32)
            found = zip(*(column[places].tolist() for column in columns), strict=True)
            for row, (offset, size, checksum) in enumerate(found):
                if size >= 0:
                    files[row][name] = (offset, size)
                    sums[row][name] = checksum
        return map(
            Sample,
            self.keys.at(places),
            self.shards[places].tolist(),
            self.durations[places].tolist(),
            self.num_samples[places].tolist(),
            self.speakers.at(places),
            self.languages.at(places),
            self.texts.at(places),
            files,
            sums,
        )


# ----------------------------------------------------------------------------------------------- filling them


class SamplesBuilder:
    """Utterances on their way into columns."""

    def __init__(self) -> None:
        self._count = 0
        self._keys, self._texts = _Strings(), _Strings()
        self._speakers, self._languages = _Names(), _Names()
        self._shards, self._num_samples, self._durations = array("q"), array("q"), array("d")
        self._members: dict[str, tuple[array[int], array[int], array[int]]] = {}

    def add(self, sample: Sample) -> None:
        """Put one behind the others.

        Raises:
            TypeError, ValueError, OverflowError: a field is not what `Sample` says.
            KeyError: a member has no checksum.
        """
        self._keys.add(sample.key)
        self._shards.append(sample.shard)
        self._durations.append(sample.duration_seconds)
        self._num_samples.append(sample.num_samples)
        self._speakers.add(sample.speaker)
        self._languages.add(sample.language)
        self._texts.add(sample.text)
        for name, (offset, size) in sample.members.items():
            columns = self._members.setdefault(name, (array("q"), array("q"), array("q")))
            self._fill(columns)
            for column, value in zip(columns, (offset, size, sample.crc32[name]), strict=True):
                column.append(value)
        self._count += 1

    def samples(self) -> Samples:
        """Return what was added."""
        members = {}
        for name, columns in self._members.items():
            self._fill(columns)
            members[name] = Members(*map(_narrow, columns))
        table = Table(
            self._keys.finished(),
            _narrow(self._shards),
            np.array(self._durations),
            _narrow(self._num_samples),
            self._speakers.finished(),
            self._languages.finished(),
            self._texts.finished(),
            members,
        )
        return Samples(table, np.arange(self._count, dtype=np.int32))

    def _fill(self, columns: tuple[array[int], ...]) -> None:
        """Say of the utterances since the last one that had such a member that they have none."""
        for column, absent in zip(columns, (0, -1, 0), strict=True):
            column.extend([absent] * (self._count - len(column)))


class _Strings:
    def __init__(self) -> None:
        self._content = bytearray()
        self._bounds = array("q", [0])

    def add(self, string: str) -> None:
        self._content += string.encode(errors="surrogatepass")
        self._bounds.append(len(self._content))

    def finished(self) -> Strings:
        return Strings(bytes(self._content), _narrow(self._bounds))


class _Names:
    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._column = array("q")

    def add(self, name: str) -> None:
        # `intern` refuses what is not a string.
        self._column.append(self._numbers.setdefault(sys.intern(name), len(self._numbers)))

    def finished(self) -> Names:
        return Names(list(self._numbers), _narrow(self._column))


def _narrow(column: array[int]) -> np.ndarray:
    """Return whole numbers in the smallest type that holds them all."""
    values = np.array(column, dtype=np.int64)
    if not len(values):
        return values
    ends = (np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
    return values.astype(np.result_type(*ends))
