"""Recordings: audio that is read when it is needed, known by the hash of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from svae.audio import load_audio, resample
from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.data.samples import Sample
from svae.errors import DataError
from svae.runtime.files import file_sha256


@dataclass(frozen=True)
class Recording:
    """Audio that is read when it is needed."""

    name: str
    """Where it lies, for messages and results."""
    path: Path
    """The file, or the shard, that must exist."""
    size: int
    """Bytes or samples: only for putting recordings of one kind in order of length."""
    _read: Callable[[int | None], tuple[Tensor, int]] = field(repr=False, compare=False)
    _hash: Callable[[], str] = field(repr=False, compare=False)

    def load(self, sample_rate: int) -> Tensor:
        """Return the samples (S,) at a sample rate. Raises DataError where that is impossible."""
        return self._read(sample_rate)[0]

    def load_native(self) -> tuple[Tensor, int]:
        """Return the samples (S,) at the recording's own rate, and that rate. Raises DataError."""
        return self._read(None)

    def sha256(self) -> str:
        """Return the hash of the content. Raises DataError where there is none."""
        return self._hash()


def recording_from_file(path: Path) -> Recording:
    """Return a recording that lies in a file of its own, whether or not it exists."""
    size = path.stat().st_size if path.is_file() else 0
    return Recording(str(path), path, size, partial(_read_file, path), partial(_hash_file, path))


def recording_that_failed(path: Path, reason: str) -> Recording:
    """Return a recording that was not made; whoever reads it gets the reason."""

    def fail(*_: Any) -> NoReturn:
        raise DataError(reason)

    return Recording(str(path), path, 0, fail, fail)


def _read_file(path: Path, sample_rate: int | None) -> tuple[Tensor, int]:
    waveform, rate = load_audio(path, sample_rate=sample_rate)
    return waveform[0], rate


def _hash_file(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return file_sha256(path)


def recording_from_shards(index: ShardIndex, sample: Sample) -> Recording:
    """Return an utterance of a folder of shards."""
    shard = index.root / index.shards[sample.shard]["name"]
    read, content = partial(_read_sample, index, sample), partial(_hash_sample, index, sample)
    return Recording(index.describe(sample), shard, sample.num_samples, read, content)


def _read_sample(index: ShardIndex, sample: Sample, sample_rate: int | None) -> tuple[Tensor, int]:
    rate = sample_rate or index.sample_rate
    return resample(read_waveform(index, sample), index.sample_rate, rate)[0], rate


def _hash_sample(index: ShardIndex, sample: Sample) -> str:
    waveform = read_waveform(index, sample).contiguous().numpy()
    return hashlib.sha256(f"{index.sample_rate}\n".encode() + waveform.tobytes()).hexdigest()
