"""Which utterance is read when: pure functions of the recipe, the index and the step, without reading any audio.

The shards are dealt to `data.slots` slots. In every epoch a slot gets other shards, whose utterances it shuffles within
windows of a few shards; it runs through its epochs endlessly and independently of the other slots. A step's batch takes
from the slots in turn. No process is in this: however many there are, and however many readers each has, the batch of a
step is the same, and they share it out as pieces.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from svae.data.samples import Sample, Samples
from svae.frames import ceil_div, num_frames

BUCKET_RATIO = 1.12
"""Utterances whose lengths differ by less than about this factor are in one bucket, in random order."""

ORDER = 2
"""Stored with a checkpoint. 1, or nothing: the order of a run depended on the number of its processes and readers."""

Item = TypeVar("Item")


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


# ----------------------------------------------------------------------------------------------- one slot


def members_of_shards(samples: Samples) -> list[np.ndarray]:
    """Return the indices of the samples of every shard that has any.

    Shards without a usable utterance do not take part: a slot that got only such would have nothing to give.
    """
    shard_of = samples.shards
    by_shard = np.argsort(shard_of, kind="stable")
    bounds = np.flatnonzero(np.diff(shard_of[by_shard])) + 1
    return np.split(by_shard, bounds) if len(samples) else []


class SlotOrder:
    """The endless order of the utterances of one slot out of `slots`; `samples` are those of the whole run."""

    def __init__(
        self,
        samples: Samples,
        *,
        seed: int,
        slot: int,
        slots: int,
        shuffle_shards: int,
        members: list[np.ndarray] | None = None,
    ) -> None:
        """`members` are those of `members_of_shards`, which slots of the same samples share."""
        self.samples = samples
        self.seed = seed
        self.slot = slot
        self.slots = slots
        self.shuffle_shards = max(shuffle_shards, 1)
        self._members = members_of_shards(samples) if members is None else members
        self._counts = np.array([len(members) for members in self._members], dtype=np.int64)
        if len(self._members) < slots:
            raise ValueError(f"{len(self._members)} shards for {slots} slots")

    def _shards(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self._members))
        return order[self.slot :: self.slots]

    def count(self, epoch: int) -> int:
        """Return how many utterances the slot has in an epoch."""
        return int(self._counts[self._shards(epoch)].sum())

    def windows(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the slot's utterances in an epoch, as indices into `samples`, shuffled in each window."""
        shards = self._shards(epoch)
        rng = np.random.default_rng([self.seed, 1, epoch, self.slot])
        for first in range(0, len(shards), self.shuffle_shards):
            together = shards[first : first + self.shuffle_shards]
            yield rng.permutation(np.concatenate([self._members[n] for n in together]))


def slot_orders(samples: Samples, *, seed: int, slots: int, shuffle_shards: int) -> list[SlotOrder]:
    """Return the order of every slot: `slots` of them, or one a shard where there are fewer with something to read."""
    members = members_of_shards(samples)
    slots = min(slots, len(members))
    return [
        SlotOrder(
            samples,
            seed=seed,
            slot=slot,
            slots=slots,
            shuffle_shards=shuffle_shards,
            members=members,
        )
        for slot in range(slots)
    ]


def slot_utterances(order: SlotOrder, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the epoch and the index into `samples` of a slot's utterances from the `start`-th on, endlessly."""
    skip, epoch = start, 0
    while skip >= (count := order.count(epoch)):
        skip, epoch = skip - count, epoch + 1
    while True:
        for window in order.windows(epoch):
            for i in window[skip:].tolist():
                yield epoch, i
            skip = max(skip - len(window), 0)
        epoch += 1


def slot_parts(
    order: SlotOrder, frames: np.ndarray, batch_frames: int, start: int = 0
) -> Iterator[np.ndarray]:
    """Yield a slot's groups of whole utterances of similar length from group `start` on, endlessly.

    Utterances are indices into `samples`, `frames` their lengths. In a group, the longest utterance's frames times the
    number of utterances is at most `batch_frames`. What is together in a group, and the order of the groups, change with
    the epoch.
    """
    skip = start
    log_frames = np.log(frames) / math.log(BUCKET_RATIO)
    for epoch in itertools.count():
        rng = np.random.default_rng([order.seed, 2, epoch, order.slot])
        for window in order.windows(epoch):
            # The buckets' borders move too, so that utterances near one do not always meet the same company.
            bucket = np.floor(log_frames[window] + rng.random())
            # Small integers are sorted several times faster, which all epochs before `start` wait for.
            ordered = window[np.argsort(bucket.astype(np.int16), kind="stable")]
            packed = pack(frames[ordered].tolist(), batch_frames)
            for i in rng.permutation(len(packed))[skip:]:
                yield ordered[slice(*packed[i])]
            skip = max(skip - len(packed), 0)


def pack(frames: Sequence[int], batch_frames: int) -> list[tuple[int, int]]:
    """Cut a sequence of lengths where the padded frames (longest times count) would leave the budget.

    Returns:
        First and last place (exclusive) of each batch.
    """
    cuts = [0]
    longest = first = 0
    for i, length in enumerate(frames):
        if length > longest:
            longest = length
        if longest * (i - first + 1) > batch_frames and i > first:
            cuts.append(i)
            longest, first = length, i
    return list(itertools.pairwise([*cuts, len(frames)])) if frames else []


# ----------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True)
class SourceOrder:
    """The slots of one folder of shards, and what part of all frames comes from it."""

    slots: list[SlotOrder]
    share: float = 1.0

    @property
    def samples(self) -> Samples:
        """What is read of it."""
        return self.slots[0].samples


def in_turn(slots: int, stream: Callable[[int, int], Iterator[Item]], start: int) -> Iterator[Item]:
    """Yield what the slots give in turn, from number `start` on: number n comes from slot n % slots.

    `stream` takes a slot and how much it gave before.
    """
    streams = [stream(slot, ceil_div(max(start - slot, 0), slots)) for slot in range(slots)]
    for number in itertools.count(start):
        yield next(streams[number % slots])


def mixed(
    streams: Sequence[Iterator[Item]],
    shares: Sequence[float],
    frames_of: Callable[[int, Item], int],
) -> Iterator[tuple[int, Item]]:
    """Yield a source's number and what comes next of it: of that source which then lacks most of its share.

    So a source is ahead of its share by less than what it gave last, and behind by hardly more. `frames_of` says of a
    source and what it gives how many frames it is.
    """
    numbers = range(len(streams))
    ahead = [next(stream) for stream in streams]
    sizes = [frames_of(n, ahead[n]) for n in numbers]
    given, total = [0] * len(streams), 0
    while True:
        # With as much of it as comes at once: else large groups of a source would weigh more than small ones.
        lacking = [shares[n] * (total + sizes[n]) - given[n] for n in numbers]
        n = lacking.index(max(lacking))
        yield n, ahead[n]
        given[n] += sizes[n]
        total += sizes[n]
        ahead[n] = next(streams[n])
        sizes[n] = frames_of(n, ahead[n])


def _from_sources(
    sources: Sequence[SourceOrder],
    stream: Callable[[int, SlotOrder, int], Iterator[Item]],
    frames_of: Callable[[int, Item], int],
    start: int,
) -> Iterator[tuple[int, Item]]:
    """Yield a source's number and what its slots give in turn, from number `start` of all sources together on.

    `stream` takes a source's number, one of its slots, and how much that gave before.
    """

    def of(n: int, start: int) -> Iterator[Item]:
        slots = sources[n].slots
        return in_turn(len(slots), lambda slot, first: stream(n, slots[slot], first), start)

    if len(sources) == 1:
        return ((0, item) for item in of(0, start))
    # Which source comes when depends on all that came before.
    streams = [of(n, 0) for n in range(len(sources))]
    everything = mixed(streams, [source.share for source in sources], frames_of)
    return itertools.islice(everything, start, None)


# ----------------------------------------------------------------------------------------------- steps


def crop_steps(
    sources: Sequence[SourceOrder], batch_size: int, segment_samples: int, start: int = 0
) -> Iterator[list[list[Crop]]]:
    """Yield the parts of every step's batch from step `start` on: one, of `batch_size` crops."""
    lengths = [np.minimum(source.samples.num_samples, segment_samples) for source in sources]
    utterances = _from_sources(
        sources,
        lambda _, slot, first: slot_utterances(slot, first),
        lambda n, found: int(lengths[n][found[1]]),
        start * batch_size,
    )
    while True:
        crops = []
        for n, (epoch, i) in itertools.islice(utterances, batch_size):
            sample, seed = sources[n].samples[i], sources[n].slots[0].seed
            first = crop_start(seed, epoch, sample.key, sample.num_samples, segment_samples)
            crops.append(Crop(sample, first, int(lengths[n][i])))
        yield [crops]


def utterance_steps(
    sources: Sequence[SourceOrder], batch_frames: int, parts: int, hop_length: int, start: int = 0
) -> Iterator[list[list[Sample]]]:
    """Yield the parts of every step's batch from step `start` on: so many groups of utterances of similar length.

    A part is of one source and has at most `batch_frames` frames, padding included.
    """
    frames = [num_frames(source.samples.num_samples, hop_length) for source in sources]
    groups = _from_sources(
        sources,
        lambda n, slot, first: slot_parts(slot, frames[n], batch_frames, first),
        lambda n, group: int(frames[n][group].sum()),
        start * parts,
    )
    while True:
        yield [
            [sources[n].samples[i] for i in group] for n, group in itertools.islice(groups, parts)
        ]


# ----------------------------------------------------------------------------------------------- pieces


@dataclass(frozen=True)
class Piece(Generic[Item]):
    """What one process computes at once of a step's batch."""

    items: list[Item]
    places: list[int]
    """Where each stands in the step's batch; the same for any number of pieces."""
    weight: float = 1.0
    """0 where nothing of the step's batch was left for this piece: its items are then also another's."""


def piece_of(parts: Sequence[list[Item]], piece: int, pieces: int) -> Piece[Item]:
    """Return one of so many pieces of a step's batch: a part, or its share of one, never of two.

    Pieces that share a part have equal numbers of its items, or one more.

    Raises:
        ValueError: fewer pieces than parts.
    """
    if pieces < len(parts):
        raise ValueError(f"{pieces} pieces of {len(parts)} parts")
    number, share = piece % len(parts), piece // len(parts)
    part = parts[number]
    before = sum(map(len, parts[:number]))
    mine = range(share, len(part), len(range(number, pieces, len(parts))))
    if not mine:
        return Piece([part[0]], [before], weight=0.0)
    return Piece([part[i] for i in mine], [before + i for i in mine])


def worst_frames(frames: np.ndarray, batch_frames: int, sharers: int) -> int:
    """Return how many frames, padding included, the largest piece can have that utterances of these lengths make.

    `sharers` pieces share a part of `batch_frames`; every utterance must fit into it.
    """
    lengths = np.unique(frames)
    together = np.minimum(batch_frames // lengths, len(frames))
    return int((-(-together // sharers) * lengths).max())


def shards_of(piece: Piece[Crop] | Piece[Sample]) -> list[int]:
    """Return which shards a piece is read from."""
    return [item.sample.shard if isinstance(item, Crop) else item.shard for item in piece.items]
