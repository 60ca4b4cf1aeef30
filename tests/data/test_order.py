"""The order of the data: everything once an epoch, shuffled, the same wherever one starts, within the budget."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from svae.data.index import Sample, ShardIndex
from svae.data.order import (
    SlotOrder,
    crop_batches,
    crop_start,
    pack,
    position_of,
    utterance_batches,
)
from svae.data.select import check_slots, select_utterances
from svae.data.shard_source import LocalShards
from svae.errors import DataError
from svae.frames import num_frames
from svae.text.phonemes import FramePhonemes, PhonemeVocabulary
from svae.text.vocabulary import Vocabulary

RANKS, WORKERS = 2, 3
SLOTS = RANKS * WORKERS


def make_samples(shards: int = 14, per_shard: int = 7) -> list[Sample]:
    return [
        Sample(f"u{n}", n // per_shard, s / 16000, s, "a", "en", "t", {}, {})
        for n, s in ((n, 4000 + n * 7919 % 60000) for n in range(shards * per_shard))
    ]


def make_index(samples: list[Sample], held_out: tuple[str, ...] = ()) -> ShardIndex:
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
    samples: list[Sample], slot: int, *, seed: int = 5, slots: int = SLOTS, window: int = 2
) -> SlotOrder:
    return SlotOrder(samples, seed=seed, slot=slot, slots=slots, shuffle_shards=window)


def test_over_all_ranks_and_workers_every_utterance_comes_once_an_epoch():
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
    for window in order(samples, 0, slots=1, window=3).windows(0)[:-1]:
        shards = [samples[i].shard for i in window]
        assert len(set(shards)) == 3
        assert shards != sorted(shards, key=shards.index)


def test_batches_of_a_rank_come_from_its_workers_in_turn():
    positions = [position_of(step, rank=1, num_workers=3) for step in range(7)]
    assert [p.slot for p in positions] == [3, 4, 5, 3, 4, 5, 3]
    assert [p.batch for p in positions] == [0, 0, 0, 1, 1, 1, 2]
    assert position_of(7, rank=2, num_workers=0) == position_of(7, rank=2, num_workers=1)


def test_crops_cover_every_utterance_once_an_epoch_in_full_batches():
    samples = make_samples()
    for slot in range(SLOTS):
        one = order(samples, slot)
        epochs = one.count(0) + one.count(1)
        batches = list(
            itertools.islice(crop_batches(one, batch_size=4, segment_samples=8000), -(-epochs // 4))
        )
        assert {len(batch) for batch in batches} == {4}
        crops = [crop for batch in batches for crop in batch]
        expected = [
            samples[i].key for epoch in range(2) for window in one.windows(epoch) for i in window
        ]
        assert [crop.sample.key for crop in crops[:epochs]] == expected


def test_crops_lie_inside_their_utterance_and_move_from_epoch_to_epoch():
    samples = make_samples(shards=1, per_shard=20)
    one = order(samples, 0, slots=1)
    by_epoch = []
    stream = itertools.chain.from_iterable(crop_batches(one, batch_size=20, segment_samples=8000))
    for _ in range(3):
        crops = {crop.sample.key: crop for crop in itertools.islice(stream, 20)}
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


def batches_of(kind: str, one: SlotOrder, start: int):
    if kind == "crops":
        return crop_batches(one, batch_size=4, segment_samples=8000, start=start)
    return utterance_batches(one, batch_frames=500, hop_length=400, start=start)


@pytest.mark.parametrize("kind", ["crops", "utterances"])
@pytest.mark.parametrize("start", [1, 4, 9, 40])
def test_starting_at_a_batch_gives_what_comes_there_without_stopping(kind, start):
    samples = make_samples()
    whole = list(itertools.islice(batches_of(kind, order(samples, 2), 0), start + 6))
    assert list(itertools.islice(batches_of(kind, order(samples, 2), start), 6)) == whole[start:]


def epoch_batches(one: SlotOrder, epochs: int, batch_frames: int) -> list[list[list[Sample]]]:
    stream = utterance_batches(one, batch_frames=batch_frames, hop_length=400)
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
    assert pack([0, 1, 2, 3], [2, 5, 5, 9], 10) == [[0, 1], [2], [3]]
    assert pack([0, 1, 2], [3, 3, 3], 9) == [[0, 1, 2]]
    assert pack([], [], 9) == []


def test_utterances_that_fit_no_batch_are_counted_by_reason():
    lengths = {"short": 1600, "good": 32000, "budget": 320000, "long": 640000, "mute": 32000}
    samples = [
        Sample(key, 0, s / 16000, s, "a", "en", "" if key == "mute" else "t", {}, {})
        for key, s in lengths.items()
    ]
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
    samples = [
        Sample(str(i), 0, 2.0, 400 * frames, "a", "en", text, {}, {})
        for i, text in enumerate(texts)
    ]
    limits = {"batch_frames": 700, "hop_length": 400, "min_seconds": 0.3, "max_seconds": 30}
    usable, reasons = select_utterances(samples, **limits, vocabulary=vocabulary)
    assert [sample.text for sample in usable] == texts[1:]
    assert reasons == {"with more text than frames": 1}


def test_one_symbol_a_frame_always_fits_and_unknown_characters_are_refused_where_they_are_read():
    assert FramePhonemes().fits("thought " * 100, 1)
    assert PhonemeVocabulary().fits("я" * 100, 1)


def test_too_few_shards_is_an_error_that_says_how_many_are_needed():
    samples = make_samples(shards=12)
    check_slots(make_index(samples), samples, world_size=4, num_workers=3)
    check_slots(make_index(samples), samples, world_size=12, num_workers=0)
    with pytest.raises(DataError) as caught:
        check_slots(make_index(samples), samples, world_size=16, num_workers=4)
    assert str(caught.value) == (
        "data/x: 12 shards, but world_size 16 × num_workers 4 needs at least 64.\n"
        "Re-run `svae prepare … --shards 64` or lower loader.num_workers."
    )


def test_shards_without_usable_utterances_do_not_count_and_do_not_take_part():
    samples = make_samples(shards=6)
    usable = [sample for sample in samples if sample.shard not in (1, 4)]
    with pytest.raises(DataError, match=r"4 shards with utterances to train on \(of 6\)"):
        check_slots(make_index(samples), usable, world_size=5, num_workers=1)
    seen = Counter(
        usable[i].key for s in range(4) for w in order(usable, s, slots=4).windows(0) for i in w
    )
    assert seen == Counter(sample.key for sample in usable)
    with pytest.raises(DataError, match="none of its 42 utterances"):
        check_slots(make_index(samples), [], world_size=1, num_workers=0)
