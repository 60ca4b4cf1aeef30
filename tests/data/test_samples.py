"""Utterances in columns: what goes in comes out, whatever is chosen of it, and a million of them fit in memory."""

from __future__ import annotations

import pickle
import random
import tracemalloc

import numpy as np
import pytest

from svae.data.samples import AT_ONCE, Sample, Samples, SamplesBuilder


def utterances(count: int, seed: int = 0) -> list[Sample]:
    """Return utterances of every kind: other scripts, no text, lone surrogates, members that some have and others not."""
    draw = random.Random(seed)
    texts = ["", "Naïve 日本語 🙂.", "\ud800 half of a pair", "line\u2028separator", "t" * 300]
    found = []
    for n in range(count):
        members = {"json": (draw.randrange(2**40), draw.randrange(2**20))}
        if n % 3:
            members["flac"] = (draw.randrange(2**33), 0 if n % 7 == 0 else draw.randrange(2**31))
        found.append(
            Sample(
                key=f"{draw.choice('aé')}-{n}",
                shard=n // 5,
                duration_seconds=draw.random() * 30,
                num_samples=draw.randrange(2**33),
                speaker=f"speaker {n % 300}",
                language=draw.choice(["en", "", "zh-Hant"]),
                text=draw.choice(texts),
                members=members,
                crc32={name: draw.randrange(2**32) for name in members},
            )
        )
    return found


@pytest.mark.parametrize("count", [0, 1, 7, 400, AT_ONCE + 3])
def test_what_goes_in_comes_out(count):
    rows = utterances(count)
    samples = Samples.of(rows)
    assert list(samples) == rows and len(samples) == count and samples == rows
    assert list(samples.keys()) == [row.key for row in rows]
    assert samples.num_samples.tolist() == [row.num_samples for row in rows]
    assert samples.shards.tolist() == [row.shard for row in rows]


def test_places_slices_and_choices_are_those_of_a_list():
    rows = utterances(400)
    samples = Samples.of(rows)
    assert samples[0] == rows[0] and samples[-1] == rows[-1] and samples[np.int64(7)] == rows[7]
    for piece in (slice(3, 50), slice(None, None, -1), slice(-5, None), slice(9, 9)):
        assert list(samples[piece]) == rows[piece]
    places = random.Random(1).sample(range(400), 90)
    chosen = samples.take(places)
    assert list(chosen) == [rows[place] for place in places]
    assert list(chosen[10:].take([5, 5, -1])) == [rows[places[n]] for n in (15, 15, -1)]
    assert chosen.num_samples.tolist() == [rows[place].num_samples for place in places]
    even = chosen.where(lambda key: key.endswith(("0", "2")))
    assert list(even) == [row for row in chosen if row.key.endswith(("0", "2"))] and len(even)
    assert rows[3] in samples and random.Random(2).choice(samples) in rows
    with pytest.raises(IndexError):
        samples[400]


def test_they_are_compared_by_what_they_hold():
    rows = utterances(9)
    assert Samples.of(rows) == Samples.of(rows) != Samples.of(rows[:8])
    assert Samples.of(rows)[::-1] != rows and Samples.of(rows) != 3
    assert pickle.loads(pickle.dumps(Samples.of(rows)[2:])) == rows[2:]  # noqa: S301  # as a reader's process gets them
    with pytest.raises(TypeError, match="unhashable"):
        hash(Samples.of(rows))


@pytest.mark.parametrize(
    "changed",
    [{"speaker": None}, {"key": 3}, {"num_samples": "12"}, {"num_samples": 1.5}, {"duration_seconds": "1"},
     {"num_samples": 2**70}, {"members": {"flac": (0, 5)}, "crc32": {}}],
)  # fmt: skip
def test_a_field_that_is_no_such_thing_is_refused(changed):
    row = {name: getattr(utterances(1)[0], name) for name in Sample.__slots__}
    with pytest.raises((TypeError, ValueError, AttributeError, OverflowError, KeyError)):
        SamplesBuilder().add(Sample(**row | changed))


def test_an_utterance_takes_little_more_than_its_text():
    """355,000 utterances of LibriTTS, of 86 characters on average, must fit in 60 MB: 169 bytes each."""

    def rows():
        for n in range(20_000):
            offset = (n % 1000) * 200_000
            yield Sample(
                key=f"{n % 2456:04d}_12345_{n:06d}_000000",
                shard=n // 1000,
                duration_seconds=5.94,
                num_samples=142_560,
                speaker=f"{n % 2456}",
                language="en",
                text="x" * 86,
                members={"flac": (offset, 190_000), "json": (offset + 190_512, 400)},
                crc32={"flac": 2**32 - 1, "json": 2**31},
            )

    tracemalloc.start()
    samples = Samples.of(rows())
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(samples) == 20_000 and held / len(samples) < 169
