"""Stored times of phones, as `svae align` writes them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from svae.data.index import MIXTURE, ShardIndex
from svae.data.samples import Sample
from svae.data.shard_source import read_text
from svae.errors import DataError
from svae.frames import num_frames
from svae.runtime.remote import place_of
from svae.text.phonemes import FramePhonemes

DESCRIPTION = "timings.json"


def timings_name(number: int) -> str:
    """Return the name of a shard's file of times."""
    return f"timings-{number:05d}.jsonl"


class Timings:
    """When, in each utterance, every word starts and each of its phones ends, in seconds; read from a folder of `svae align`.

    Raises:
        DataError: missing or damaged.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = place_of(root)
        self.left_out = 0
        self._words: dict[str, list[array[float]]] = {}
        try:
            self.source = json.loads(read_text(self.root / DESCRIPTION))["source"]
            for number in range(len(self.source)):
                path = self.root / timings_name(number)
                # Not splitlines: it also ends a line at separators that JSON leaves as they are.
                for line in read_text(path).split("\n")[:-1]:
                    row = json.loads(line)
                    if "words" in row:
                        self._words[row["key"]] = [array("f", word) for word in row["words"]]
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename}: not there; data.timings is a finished folder of `svae align`"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.root}: damaged times of phones ({error}); make them again with `svae align`"
            ) from None

    @classmethod
    def of_sources(cls, sources: Mapping[str, Timings]) -> Timings:
        """Return the times of a mixture, by the names of its sources."""
        mixture = cls.__new__(cls)  # nothing is read
        mixture.root = MIXTURE
        mixture.left_out = sum(each.left_out for each in sources.values())
        mixture.source = []
        mixture._words = {
            f"{name}/{key}": words
            for name, each in sources.items()
            for key, words in each._words.items()
        }
        return mixture

    def __contains__(self, key: object) -> bool:
        return key in self._words

    def timeline(
        self, sample: Sample, vocabulary: FramePhonemes, sample_rate: int, hop_length: int
    ) -> tuple[list[str], list[float]]:
        """Return the symbols of an utterance, and when each ends, in frames."""
        symbols, ends = vocabulary.timeline(sample.text, self._words[sample.key])
        rate = sample_rate / hop_length
        return symbols, [*(end * rate for end in ends[:-1]), sample.num_samples / hop_length]

    def frames(
        self, sample: Sample, vocabulary: FramePhonemes, sample_rate: int, hop_length: int
    ) -> list[int]:
        """Return which symbol is spoken in each frame of an utterance."""
        symbols, ends = self.timeline(sample, vocabulary, sample_rate, hop_length)
        return vocabulary.frames(symbols, ends, num_frames(sample.num_samples, hop_length))

    def select(self, index: ShardIndex) -> ShardIndex:
        """Return an index with only the utterances whose times are known; `left_out` counts the others.

        Raises:
            DataError: the times are those of other shards, or none is left.
        """
        if index.source_hashes != self.source:
            raise DataError(
                f"{self.root}: holds the times of other shards than {index.root}; run `svae align` on those"
            )
        samples = index.samples.where(self.__contains__)
        if not samples:
            raise DataError(f"{self.root}: no utterance could be aligned")
        validation = [key for key in index.metadata["validation"] if key in self]
        self.left_out = len(index.samples) - len(samples)
        return replace(index, samples=samples, metadata=index.metadata | {"validation": validation})
