"""Which utterance is read when: pure functions of (seed, epoch, slot) and the index, without reading any audio.

A slot is one reader: slot = rank * num_workers + worker. In every epoch the shards are permuted and dealt to the
slots, and each slot shuffles the utterances of its shards within windows of a few shards. A slot runs through its
epochs endlessly and independently of the others, so that no rank ever waits for data that another one has. The
batch for step i of a rank comes from its worker i % num_workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from svae.data.index import Sample
from svae.frames import num_frames

BUCKET_RATIO = 1.12
"""Utterances whose lengths differ by less than about this factor are in one bucket, in random order."""


@dataclass(frozen=True)
class Position:
    """Where a step's batch comes from."""

    slot: int
    batch: int
    """How many batches the slot gave before."""


def position_of(step: int, *, rank: int, num_workers: int) -> Position:
    """Return the reader and its batch for a step (0 = the first of the run) of a rank."""
    workers = max(num_workers, 1)
    return Position(slot=rank * workers + step % workers, batch=step // workers)


@dataclass(frozen=True)
class Crop:
    """A stretch of an utterance, in samples."""

    sample: Sample
    start: int
    length: int
    """At most the segment; less where the utterance is shorter."""


def crop_start(seed: int, epoch: int, key: str, num_samples: int, segment_samples: int) -> int:
    """Draw the first sample of an utterance's crop, uniform, from (seed, epoch, key) and nothing else."""
    room = max(num_samples - segment_samples, 0)
    digest = hashlib.blake2b(f"{seed}/{epoch}/{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (room + 1)


class SlotOrder:
    """The endless order of the utterances of one slot out of `slots`; `samples` are those of the whole run."""

    def __init__(
        self, samples: Sequence[Sample], *, seed: int, slot: int, slots: int, shuffle_shards: int
    ) -> None:
        self.samples = samples
        self.seed = seed
        self.slot = slot
        self.slots = slots
        self.shuffle_shards = max(shuffle_shards, 1)
        # Shards without a usable utterance do not take part: a slot that got only such would have nothing to give.
        shard_of = np.fromiter(
            (sample.shard for sample in samples), dtype=np.int64, count=len(samples)
        )
        by_shard = np.argsort(shard_of, kind="stable")
        bounds = np.flatnonzero(np.diff(shard_of[by_shard])) + 1
        self._members = np.split(by_shard, bounds) if len(samples) else []
        self._counts = np.array([len(members) for members in self._members], dtype=np.int64)
        if len(self._members) < slots:  # check_slots says it to the user
            raise ValueError(f"{len(self._members)} shards for {slots} slots")

    def _shards(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self._members))
        return order[self.slot :: self.slots]

    def count(self, epoch: int) -> int:
        """Return how many utterances the slot has in an epoch."""
        return int(self._counts[self._shards(epoch)].sum())

    def windows(self, epoch: int) -> list[np.ndarray]:
        """Return the slot's utterances in an epoch, as indices into `samples`, shuffled in each window."""
        shards = self._shards(epoch)
        rng = np.random.default_rng([self.seed, 1, epoch, self.slot])
        windows = []
        for first in range(0, len(shards), self.shuffle_shards):
            together = shards[first : first + self.shuffle_shards]
            windows.append(rng.permutation(np.concatenate([self._members[n] for n in together])))
        return windows


def crop_batches(
    order: SlotOrder, *, batch_size: int, segment_samples: int, start: int = 0
) -> Iterator[list[Crop]]:
    """Yield the slot's batches of crops from batch `start` on, endlessly; every utterance once an epoch.

    Batches are full: one may hold the end of an epoch and the beginning of the next.
    """
    skip, epoch = start * batch_size, 0
    while skip >= (count := order.count(epoch)):
        skip, epoch = skip - count, epoch + 1
    batch: list[Crop] = []
    while True:
        for i in np.concatenate(order.windows(epoch))[skip:]:
            sample = order.samples[i]
            first = crop_start(order.seed, epoch, sample.key, sample.num_samples, segment_samples)
            batch.append(Crop(sample, first, min(segment_samples, sample.num_samples)))
            if len(batch) == batch_size:
                yield batch
                batch = []
        skip, epoch = 0, epoch + 1


def utterance_batches(
    order: SlotOrder, *, batch_frames: int, hop_length: int, start: int = 0
) -> Iterator[list[Sample]]:
    """Yield the slot's batches of whole utterances of similar length from batch `start` on, endlessly.

    In a batch, the longest utterance's frames times the number of utterances is at most `batch_frames`. What is
    together in a batch, and the order of the batches, change with the epoch.
    """
    frames = np.array(
        [num_frames(sample.num_samples, hop_length) for sample in order.samples], dtype=np.int64
    )
    skip, epoch = start, 0
    while True:
        rng = np.random.default_rng([order.seed, 2, epoch, order.slot])
        batches: list[list[int]] = []
        for window in order.windows(epoch):
            # The buckets' borders move too, so that utterances near one do not always meet the same company.
            bucket = np.floor(np.log(frames[window]) / math.log(BUCKET_RATIO) + rng.random())
            packed = pack(window[np.argsort(bucket, kind="stable")].tolist(), frames, batch_frames)
            batches.extend(packed[i] for i in rng.permutation(len(packed)))
        for batch in batches[skip:]:
            yield [order.samples[i] for i in batch]
        skip, epoch = max(skip - len(batches), 0), epoch + 1


def pack(
    ordered: Sequence[int], frames: Sequence[int] | np.ndarray, batch_frames: int
) -> list[list[int]]:
    """Cut a sequence of utterances into batches whose padded frames (longest times count) stay in the budget."""
    batches: list[list[int]] = []
    longest = 0
    for i in ordered:
        longest = max(longest, int(frames[i]))
        if not batches or longest * (len(batches[-1]) + 1) > batch_frames:
            batches.append([])
            longest = int(frames[i])
        batches[-1].append(i)
    return batches


def shards_of_batch(batch: Sequence[Crop | Sample]) -> list[int]:
    """Return which shards a planned batch of crops or of utterances is read from."""
    return [item.sample.shard if isinstance(item, Crop) else item.shard for item in batch]
