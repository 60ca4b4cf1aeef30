"""Endless streams of batches for the training loops, read in worker processes, and the fixed batches for validation.

A stream that starts at step k gives exactly what an uninterrupted one gives from its step k on.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from svae.config import LoaderConfig
from svae.data.batches import (
    CachedTeacherFeatures,
    CropBatch,
    UtteranceBatch,
    read_crops,
    read_utterances,
)
from svae.data.index import ShardIndex
from svae.data.order import (
    Crop,
    SourceOrder,
    crop_start,
    crop_steps,
    pack,
    slot_orders,
    utterance_steps,
)
from svae.data.samples import Samples
from svae.data.select import check_some, select_utterances
from svae.data.stream import BatchStream, PieceDataset, Share
from svae.data.timings import Timings
from svae.errors import DataError
from svae.frames import num_frames
from svae.text.vocabulary import Vocabulary


def crop_loader(
    index: ShardIndex,
    *,
    batch_size: int,
    segment_samples: int,
    context_samples: int,
    seed: int,
    start_step: int,
    loader: LoaderConfig,
    slots: int = 1,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    cached_features: CachedTeacherFeatures | None = None,
    pin_memory: bool = False,
) -> BatchStream[CropBatch]:
    """Stream random crops of the training utterances for one process, one crop of each utterance an epoch.

    `batch_size` is the step's, over all processes; of it come this one's `accumulate` pieces, one after the other. Those
    of `start_step` come first. `context_samples` of real audio lie on either side of a crop. `pin_memory` is for training on
    an accelerator: copies from page-locked memory do not block.

    Raises:
        DataError: latents instead of waveforms, or nothing to read.
    """
    if index.kind != "waveforms":
        raise DataError(
            f"{index.root}: holds {index.kind}, but the VAE trains on waveforms. Use a `svae prepare` folder."
        )
    samples = index.train
    orders = source_orders(index, samples, seed, slots, loader.shuffle_shards)
    plan = partial(crop_steps, orders, batch_size, segment_samples)
    read = partial(
        read_crops,
        segment_samples=segment_samples,
        context_samples=context_samples,
        cached_features=cached_features,
    )
    share = Share(rank, world_size, accumulate)
    return BatchStream(PieceDataset(index, plan, read, start_step, share), loader, pin_memory)


def utterance_loader(
    index: ShardIndex,
    *,
    batch_frames: int,
    hop_length: int,
    vocabulary: Vocabulary,
    min_seconds: float,
    max_seconds: float,
    seed: int,
    start_step: int,
    loader: LoaderConfig,
    slots: int = 1,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    timings: Timings | None = None,
    pin_memory: bool = False,
) -> BatchStream[UtteranceBatch]:
    """Stream whole training utterances for one process, of similar length in a piece, each once an epoch.

    Latent shards give `latent_*`, waveform shards `waveform` and `lengths`. A step's batch has `slots` parts of at most
    `batch_frames` latent frames each, padding included; of them come this process's `accumulate` pieces, one after the other.
    Utterances beyond the limits are left out (`select_utterances` counts them). The pieces of `start_step` come first.
    `pin_memory` is for training on an accelerator, as in `crop_loader`.

    Raises:
        DataError: no utterance fits; from the stream also: a text with a character that the vocabulary does not have.
    """
    samples, reasons = select_utterances(
        index.train,
        batch_frames=batch_frames,
        hop_length=hop_length,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        vocabulary=vocabulary,
    )
    if reasons and not samples:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        raise DataError(
            f"{index.root}: no training utterance fits: {listed}. Raise batch_frames or widen the limits."
        )
    orders = source_orders(index, samples, seed, slots, loader.shuffle_shards)
    plan = partial(utterance_steps, orders, batch_frames, slots, hop_length)
    read = partial(read_utterances, vocabulary=vocabulary, hop_length=hop_length, timings=timings)
    share = Share(rank, world_size, accumulate)
    return BatchStream(PieceDataset(index, plan, read, start_step, share), loader, pin_memory)


def source_orders(
    index: ShardIndex, samples: Samples, seed: int, slots: int, shuffle_shards: int
) -> list[SourceOrder]:
    """Return the order of what is used of each source of an index, or of the one folder that it is.

    Raises:
        DataError: nothing is used of one.
    """
    check_some(index, samples)
    return [
        SourceOrder(
            slot_orders(own, seed=seed, slots=slots, shuffle_shards=shuffle_shards),
            index.shares[name],
        )
        for name, own in index.by_source(samples).items()
    ]


# ----------------------------------------------------------------------------------------------- validation


def validation_crops(
    index: ShardIndex,
    *,
    count: int,
    batch_size: int,
    segment_samples: int,
    context_samples: int,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    samples: Samples | None = None,
    cached_features: CachedTeacherFeatures | None = None,
) -> Iterator[CropBatch]:
    """Yield the same crops at every call, in batches: those of this rank (rank::world_size).

    There are at most `count` crops over all ranks. With fewer utterances than that, utterances longer than a segment
    are cropped more than once, elsewhere. What is cropped are `samples`, by default those the index holds out; nothing
    held out gives no batches.
    """
    chosen = list(index.validation if samples is None else samples)
    crops: list[Crop] = []
    for turn in range(count if chosen else 0):
        for sample in chosen:
            if turn == 0 or sample.num_samples > segment_samples:
                start = crop_start(seed, turn, sample.key, sample.num_samples, segment_samples)
                crops.append(Crop(sample, start, min(segment_samples, sample.num_samples)))
        if len(crops) >= count:
            break
    mine = crops[:count][rank::world_size]
    for first in range(0, len(mine), batch_size):
        yield read_crops(
            index,
            mine[first : first + batch_size],
            segment_samples=segment_samples,
            context_samples=context_samples,
            cached_features=cached_features,
        )


def validation_batches(
    index: ShardIndex,
    *,
    count: int,
    batch_frames: int,
    hop_length: int,
    vocabulary: Vocabulary,
    min_seconds: float,
    max_seconds: float,
    rank: int = 0,
    world_size: int = 1,
    samples: Samples | None = None,
    timings: Timings | None = None,
) -> Iterator[UtteranceBatch]:
    """Yield the same whole utterances at every call, sorted by length, in batches: those of this rank.

    They are the first `count` usable ones of `samples`, by default of those the index holds out, over all ranks;
    nothing usable gives no batches. A batch has at most `batch_frames` latent frames, padding included.
    """
    usable, _ = select_utterances(
        index.validation if samples is None else samples,
        batch_frames=batch_frames,
        hop_length=hop_length,
        min_seconds=min_seconds,
        max_seconds=max_seconds,
        vocabulary=vocabulary,
    )
    mine = sorted(usable[:count], key=lambda sample: (sample.num_samples, sample.key))[
        rank::world_size
    ]
    frames = [num_frames(sample.num_samples, hop_length) for sample in mine]
    for first, last in pack(frames, batch_frames):
        yield read_utterances(
            index, mine[first:last], vocabulary=vocabulary, hop_length=hop_length, timings=timings
        )
