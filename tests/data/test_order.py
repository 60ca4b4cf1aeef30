"""The order of the data: everything once an epoch, shuffled, the same wherever one starts, within the budget."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from svae.data.index import ShardIndex
from svae.data.order import (
    SlotOrder,
    SourceOrder,
    crop_start,
    crop_steps,
    mixed,
    pack,
    piece_of,
    slot_orders,
    utterance_steps,
    worst_frames,
)
from svae.data.samples import Sample, Samples
from svae.data.select import check_some, select_utterances
from svae.data.shard_source import LocalShards
from svae.errors import DataError
from svae.frames import num_frames
from svae.text.phonemes import FramePhonemes, PhonemeVocabulary
from svae.text.vocabulary import Vocabulary

SLOTS = 6


def make_samples(shards: int = 14, per_shard: int = 7) -> Samples:
    return Samples.of(
        Sample(f"u{n}", n // per_shard, s / 16000, s, "a", "en", "t", {}, {})
        for n, s in ((n, 4000 + n * 7919 % 60000) for n in range(shards * per_shard))
    )


def make_index(samples: Samples, held_out: tuple[str, ...] = ()) -> ShardIndex:
    shards = [
        {"name": f"shard-{i:05d}.tar"} for i in range(max(sample.shard for sample in samples) + 1)
    ]
    return ShardIndex(
        Path("data/x"),
        "waveforms",
        16000,
        {"validation": list(held_out)},
        shards,
        samples,
        LocalShards(Path("data/x")),
    )


def order(
    samples: Samples, slot: int, *, seed: int = 5, slots: int = SLOTS, window: int = 2
) -> SlotOrder:
    return SlotOrder(samples, seed=seed, slot=slot, slots=slots, shuffle_shards=window)


def test_over_all_slots_every_utterance_comes_once_an_epoch():
    samples = make_samples()
    for epoch in range(4):
        seen = Counter(
            samples[i].key
            for slot in range(SLOTS)
            for window in order(samples, slot).windows(epoch)
            for i in window
        )
        assert seen == Counter(sample.key for sample in samples)


def test_a_slot_counts_what_it_gives():
    samples = make_samples()
    for slot, epoch in itertools.product(range(SLOTS), range(3)):
        assert order(samples, slot).count(epoch) == sum(
            map(len, order(samples, slot).windows(epoch))
        )


def test_shards_change_hands_and_order_changes_with_epoch_and_seed():
    samples = make_samples()
    windows = [
        [list(window) for window in order(samples, 0, seed=seed).windows(epoch)]
        for seed in (5, 6)
        for epoch in (0, 1)
    ]
    assert all(a != b for a, b in itertools.combinations(windows, 2))
    assert [list(w) for w in order(samples, 0).windows(1)] == windows[1]


def test_utterances_are_shuffled_within_windows_of_shards():
    samples = make_samples()
    for window in list(order(samples, 0, slots=1, window=3).windows(0))[:-1]:
        shards = [samples[i].shard for i in window]
        assert len(set(shards)) == 3
        assert shards != sorted(shards, key=shards.index)


def test_crops_cover_every_utterance_once_an_epoch_in_full_batches():
    samples = make_samples()
    for slot in range(SLOTS):
        one = order(samples, slot)
        epochs = one.count(0) + one.count(1)
        batches = [
            parts[0]
            for parts in itertools.islice(
                crop_steps([SourceOrder([one])], 4, 8000), -(-epochs // 4)
            )
        ]
        assert {len(batch) for batch in batches} == {4}
        crops = [crop for batch in batches for crop in batch]
        expected = [
            samples[i].key for epoch in range(2) for window in one.windows(epoch) for i in window
        ]
        assert [crop.sample.key for crop in crops[:epochs]] == expected


def test_a_step_takes_from_the_slots_in_turn():
    orders = slot_orders(make_samples(), seed=5, slots=4, shuffle_shards=2)
    alone = [
        itertools.chain.from_iterable(p[0] for p in crop_steps([SourceOrder([o])], 1, 8000))
        for o in orders
    ]
    together = itertools.chain.from_iterable(
        p[0] for p in crop_steps([SourceOrder(orders)], 6, 8000)
    )
    assert all(next(together) == next(alone[n % 4]) for n in range(50))


def test_there_are_never_more_slots_than_shards_with_something_to_read():
    samples = Samples.of(s for s in make_samples(shards=6) if s.shard not in (1, 4))
    orders = slot_orders(samples, seed=5, slots=64, shuffle_shards=2)
    assert len(orders) == 4
    seen = Counter(samples[i].key for o in orders for w in o.windows(0) for i in w)
    assert seen == Counter(sample.key for sample in samples)


def test_crops_lie_inside_their_utterance_and_move_from_epoch_to_epoch():
    samples = make_samples(shards=1, per_shard=20)
    one = order(samples, 0, slots=1)
    by_epoch = []
    stream = crop_steps([SourceOrder([one])], 20, 8000)
    for _ in range(3):
        crops = {crop.sample.key: crop for crop in next(stream)[0]}
        by_epoch.append(crops)
        for crop in crops.values():
            assert crop.length == min(8000, crop.sample.num_samples)
            assert 0 <= crop.start <= crop.sample.num_samples - crop.length
    long = [sample.key for sample in samples if sample.num_samples > 12000]
    assert len(long) > 5
    assert all(len({crops[key].start for crops in by_epoch}) > 1 for key in long)


def test_crop_starts_are_uniform_and_depend_on_seed_epoch_and_key_alone():
    starts = [crop_start(0, epoch, "key", 1009, 1000) for epoch in range(5000)]
    counts = Counter(starts)
    assert sorted(counts) == list(range(10))
    # 500 expected of each, standard deviation 21.
    assert all(abs(count - 500) < 110 for count in counts.values())
    assert crop_start(3, 4, "a", 10**6, 10) == crop_start(3, 4, "a", 10**6, 10)
    assert len({crop_start(s, e, k, 10**9, 1) for s in (0, 1) for e in (0, 1) for k in "ab"}) == 8
    assert crop_start(0, 0, "short", 5, 10) == 0


def steps_of(kind: str, slots: int, start: int = 0):
    orders = slot_orders(make_samples(), seed=5, slots=slots, shuffle_shards=2)
    if kind == "crops":
        return crop_steps([SourceOrder(orders)], 5, 8000, start)
    return utterance_steps([SourceOrder(orders)], 500, 3, 400, start)


@pytest.mark.parametrize("kind", ["crops", "utterances"])
@pytest.mark.parametrize("slots", [1, 2, 3, 6])
def test_starting_at_a_step_gives_what_comes_there_without_stopping(kind, slots):
    whole = list(itertools.islice(steps_of(kind, slots), 46))
    for start in (1, 4, 9, 40):
        assert list(itertools.islice(steps_of(kind, slots, start), 6)) == whole[start : start + 6]


def sources_of(shares: list[float], slots: int = 2) -> list[SourceOrder]:
    """Return sources of different sizes and lengths; a key begins with its source's number."""
    return [
        SourceOrder(
            slot_orders(
                Samples.of(dataclasses.replace(s, key=f"{n}/{s.key}", num_samples=(s.num_samples >> n) + 400)
                 for s in make_samples(shards=3 + 2 * n, per_shard=9)),
                seed=5, slots=slots, shuffle_shards=2,
            ),
            share,
        )
        for n, share in enumerate(shares)
    ]  # fmt: skip


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.63, 0.3, 0.07], [0.5] + 10 * [0.05]])
@pytest.mark.parametrize("kind", ["crops", "utterances"])
def test_every_source_has_its_share_of_the_frames_to_less_than_a_batch_all_the_time(kind, shares):
    sources = sources_of(shares)
    given, steps = [0] * len(shares), []
    if kind == "crops":
        stream, largest = crop_steps(sources, 5, 8000), 8000
        frames_of = lambda crop: (crop.sample.key, crop.length)  # noqa: E731
    else:
        stream, largest = utterance_steps(sources, 500, 2, 400), 500
        frames_of = lambda sample: (sample.key, num_frames(sample.num_samples, 400))  # noqa: E731
    for parts in itertools.islice(stream, 300):
        steps.append(parts)
        for part in parts:
            for key, frames in map(frames_of, part):
                given[int(key.split("/")[0])] += frames
        off = [had - share * sum(given) for had, share in zip(given, shares, strict=True)]
        assert max(map(abs, off)) < 1.5 * largest
    # Each source is read as if it were alone, and a start in the middle knows what came before.
    for n, source in enumerate(sources):
        alone = SourceOrder(source.slots)
        mine = [
            x
            for parts in steps
            for part in parts
            for x in part
            if frames_of(x)[0].startswith(f"{n}/")
        ]
        if kind == "crops":
            whole = (x for parts in crop_steps([alone], 1, 8000) for x in parts[0])
        else:
            whole = (x for parts in utterance_steps([alone], 500, 1, 400) for x in parts[0])
        assert list(itertools.islice(whole, len(mine))) == mine
    later = crop_steps(sources, 5, 8000, 41) if kind == "crops" else utterance_steps(sources, 500, 2, 400, 41)  # fmt: skip
    assert list(itertools.islice(later, 9)) == steps[41:50]


def test_random_mixtures_are_exact_over_any_stretch():
    rng = np.random.default_rng(0)
    for _ in range(30):
        count = int(rng.integers(2, 7))
        shares = rng.dirichlet(np.ones(count)).tolist()
        largest = int(rng.integers(1, 1000))
        sizes = rng.integers(1, largest + 1, size=(count, 401)).tolist()
        given = np.zeros(count)
        history = [given.copy()]
        for n, frames in itertools.islice(
            mixed([iter(s) for s in sizes], shares, lambda _, size: size), 400
        ):
            given[n] += frames
            history.append(given.copy())
        totals = np.array(history)
        off = totals - totals.sum(1, keepdims=True) * shares
        assert off.max() < largest and off.min() > -1.6 * largest


def epoch_batches(one: SlotOrder, epochs: int, batch_frames: int) -> list[list[list[Sample]]]:
    stream = (parts[0] for parts in utterance_steps([SourceOrder([one])], batch_frames, 1, 400))
    result = []
    for epoch in range(epochs):
        batches, left = [], one.count(epoch)
        while left:
            batches.append(next(stream))
            left -= len(batches[-1])
        result.append(batches)
    return result


def test_utterances_come_once_an_epoch_within_the_budget_with_little_padding():
    samples = make_samples(shards=14, per_shard=30)
    used = padded = 0
    for slot in range(SLOTS):
        one = order(samples, slot, window=16)
        for epoch, batches in enumerate(epoch_batches(one, 2, 1000)):
            keys = Counter(sample.key for batch in batches for sample in batch)
            assert keys == Counter(samples[i].key for window in one.windows(epoch) for i in window)
            for batch in batches:
                frames = [num_frames(sample.num_samples, 400) for sample in batch]
                assert max(frames) * len(frames) <= 1000
                used, padded = used + sum(frames), padded + max(frames) * len(frames)
    # Without bucketing, batches of uniform lengths between 10 and 160 frames waste about 40 %.
    assert used / padded > 0.85


def test_batches_are_made_anew_every_epoch():
    one = order(make_samples(shards=4, per_shard=30), 0, slots=1, window=4)
    compositions = [
        {frozenset(sample.key for sample in batch) for batch in batches}
        for batches in epoch_batches(one, 2, 1000)
    ]
    assert len(compositions[0] & compositions[1]) <= len(compositions[0]) // 5
    longest = [
        max(sample.num_samples for sample in batch) for batch in epoch_batches(one, 1, 1000)[0]
    ]
    assert longest != sorted(longest)


def test_pack_counts_the_padding():
    assert pack([2, 5, 5, 9], 10) == [(0, 2), (2, 3), (3, 4)]
    assert pack([3, 3, 3], 9) == [(0, 3)]
    assert pack([], 9) == []


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
@pytest.mark.parametrize("pieces", [1, 2, 3, 4, 8, 16])
def test_however_many_pieces_there_are_they_make_the_same_batch(parts, pieces):
    batch = [[10 * part + i for i in range(1 + part)] for part in range(parts)]
    flat = [item for part in batch for item in part]
    if pieces < parts:
        with pytest.raises(ValueError, match="pieces of"):
            piece_of(batch, 0, pieces)
        return
    found = [piece_of(batch, piece, pieces) for piece in range(pieces)]
    counted = [(place, item) for piece in found if piece.weight == 1
               for place, item in zip(piece.places, piece.items, strict=True)]  # fmt: skip
    assert sorted(counted) == list(enumerate(flat))
    for piece in found:
        assert piece.weight in (0, 1) and [flat[place] for place in piece.places] == piece.items
        assert len({item // 10 for item in piece.items}) == 1  # of one length
    for part in range(parts):
        sizes = [len(p.items) * p.weight for p in found if p.items[0] // 10 == part]
        assert max(sizes) - min(sizes) <= 1


def test_no_piece_is_larger_than_the_worst_that_is_foretold():
    samples = make_samples(shards=14, per_shard=30)
    frames = np.array([num_frames(sample.num_samples, 400) for sample in samples])
    orders = slot_orders(samples, seed=5, slots=2, shuffle_shards=3)
    steps = list(itertools.islice(utterance_steps([SourceOrder(orders)], 1000, 2, 400), 100))
    for pieces in (2, 4, 8):
        largest = 0
        for parts in steps:
            for number in range(pieces):
                lengths = [
                    num_frames(s.num_samples, 400) for s in piece_of(parts, number, pieces).items
                ]
                largest = max(largest, max(lengths) * len(lengths))
        worst = worst_frames(frames, 1000, pieces // 2)
        assert worst * 0.7 < largest <= worst


def test_utterances_that_fit_no_batch_are_counted_by_reason():
    lengths = {"short": 1600, "good": 32000, "budget": 320000, "long": 640000, "mute": 32000}
    samples = Samples.of(
        Sample(key, 0, s / 16000, s, "a", "en", "" if key == "mute" else "t", {}, {})
        for key, s in lengths.items()
    )
    limits = {"batch_frames": 700, "hop_length": 400, "min_seconds": 0.3, "max_seconds": 30}
    usable, reasons = select_utterances(samples, **limits)
    assert [sample.key for sample in usable] == ["good"]
    assert reasons == {
        "longer than 30 s": 1,
        "longer than the batch budget of 700 frames": 1,
        "shorter than 0.3 s": 1,
        "without text": 1,
    }
    kept = make_index(samples, ("long",)).train
    assert select_utterances(kept, **limits)[1] == {
        key: count for key, count in reasons.items() if key != "longer than 30 s"
    }


@pytest.mark.parametrize(
    ("vocabulary", "fitting", "beyond"),
    [
        (Vocabulary.from_characters("ab "), "ab " * 26 + "ab", "ab " * 26 + "abb"),
        (Vocabulary.from_characters("AB "), "ab " * 26 + "ab", "ab " * 26 + "abb"),
        (PhonemeVocabulary(), "be " * 26 + "be", "be " * 27 + "a"),
        (PhonemeVocabulary(), "WWW " * 3, "WWW " * 4),
        (PhonemeVocabulary(spelled=1.0), "thought " * 10, "thought " * 11),
        (PhonemeVocabulary(), "{B IY} " * 26 + "{B IY}", "{B IY} " * 28),
    ],
)  # fmt: skip
def test_utterances_with_more_text_than_frames_are_left_out_and_counted(
    vocabulary, fitting, beyond
):
    frames = 80
    assert len(vocabulary.encode(vocabulary.fit(fitting))) <= frames
    assert len(vocabulary.encode(vocabulary.fit(beyond))) > frames
    texts = [beyond, fitting, "a"]
    samples = Samples.of(
        Sample(str(i), 0, 2.0, 400 * frames, "a", "en", text, {}, {})
        for i, text in enumerate(texts)
    )
    limits = {"batch_frames": 700, "hop_length": 400, "min_seconds": 0.3, "max_seconds": 30}
    usable, reasons = select_utterances(samples, **limits, vocabulary=vocabulary)
    assert [sample.text for sample in usable] == texts[1:]
    assert reasons == {"with more text than frames": 1}


def test_one_symbol_a_frame_always_fits_and_unknown_characters_are_refused_where_they_are_read():
    assert FramePhonemes().fits("thought " * 100, 1)
    assert PhonemeVocabulary().fits("я" * 100, 1)


def test_nothing_to_read_is_an_error():
    samples = make_samples(shards=6)
    check_some(make_index(samples), samples)
    with pytest.raises(DataError, match="none of its 42 utterances"):
        check_some(make_index(samples), samples[:0])
