"""Streams of batches: right content, the same order wherever one starts, clean errors out of reader processes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_shards import HOP, corrupt, fake_latents, fake_length, fake_waveform, make_shards

from svae.config import LoaderConfig
from svae.data.batches import read_utterances, read_waveform
from svae.data.index import read_index
from svae.data.loaders import crop_loader, utterance_loader, validation_batches, validation_crops
from svae.errors import DataError
from svae.text.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
SEGMENT, CONTEXT = 4000, 500
VOCABULARY = Vocabulary.from_characters(["abc 0123456789"])


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("waveforms"), validation=(3, 17, 28, 39))


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return make_shards(
        tmp_path_factory.mktemp("latents"), kind="latents", validation=(3,), dtype=np.float16
    )


def open_stream(kind, index, *, workers=0, start_step=0, rank=0, world_size=1, **changes):
    options = {"seed": 1, "start_step": start_step, "rank": rank, "world_size": world_size}
    options["loader"] = LoaderConfig(num_workers=workers, shuffle_shards=2, prefetch=2)
    if kind == "crops":
        crops = {"batch_size": 3, "segment_samples": SEGMENT, "context_samples": CONTEXT}
        return crop_loader(index, **(crops | options | changes))
    limits = {
        "batch_frames": 120,
        "hop_length": HOP,
        "vocabulary": VOCABULARY,
        "min_seconds": 0.1,
        "max_seconds": 30.0,
    }
    return utterance_loader(index, **(limits | options | changes))


def take(stream, count):
    with stream:
        return list(itertools.islice(stream, count))


def equal(a, b) -> bool:
    """Compare two batches field by field."""
    pairs = [(getattr(a, item.name), getattr(b, item.name)) for item in dataclasses.fields(a)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def number_of(key: str) -> int:
    return int(key[1:])


def test_crops_and_their_context_are_the_utterance_s_own_samples(waveforms):
    shorter = 0
    for batch in take(open_stream("crops", waveforms), 30):
        assert batch.waveform.shape == (3, 1, CONTEXT + SEGMENT + CONTEXT)
        assert batch.waveform.dtype == torch.float32 and batch.failures == []
        for i, key in enumerate(batch.keys):
            length, start = fake_length(number_of(key)), int(batch.starts[i])
            padded = torch.zeros(1, CONTEXT + max(length, start + SEGMENT) + CONTEXT)
            padded[:, CONTEXT : CONTEXT + length] = fake_waveform(number_of(key), length)
            assert torch.equal(batch.waveform[i], padded[:, start : start + SEGMENT + 2 * CONTEXT])
            assert int(batch.lengths[i]) == min(SEGMENT, length)
            shorter += length < SEGMENT
    assert shorter > 0


def test_a_stretch_is_what_decoding_everything_and_cutting_gives(waveforms):
    sample = max(waveforms.samples, key=lambda sample: sample.num_samples)
    whole = read_waveform(waveforms, sample)
    assert torch.equal(whole, fake_waveform(number_of(sample.key), sample.num_samples))
    for start in (0, 1, 4095, 4096, 4097, sample.num_samples - 10):
        assert torch.equal(
            read_waveform(waveforms, sample, start, 10), whole[:, start : start + 10]
        )


def steps_of(kind, index, ranks, count, **options):
    """Return what every step's pieces are made of: keys, crops and audio by their place in the step's batch."""
    accumulate = options.get("accumulate", 1)
    steps = [{} for _ in range(count)]
    for rank in range(ranks):
        stream = open_stream(kind, index, rank=rank, world_size=ranks, **options)
        for number, batch in enumerate(take(stream, count * accumulate)):
            if not batch.weight:
                continue
            for row, place in enumerate(batch.places):
                assert place not in steps[number // accumulate]
                starts = getattr(batch, "starts", None)
                length = int(batch.lengths[row])
                steps[number // accumulate][place] = (
                    batch.keys[row],
                    None if starts is None else int(starts[row]),
                    batch.waveform[row, 0, :length].numpy().tobytes(),
                )
    assert all(sorted(step) == list(range(len(step))) for step in steps)
    return steps


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("kind", ["crops", "utterances"])
def test_a_step_reads_the_same_however_many_ranks_readers_and_pieces(waveforms, kind, slots):
    size = {"batch_size": 8} if kind == "crops" else {"batch_frames": 150}
    options = {"slots": slots, **size}
    whole = steps_of(kind, waveforms, 2, 12, **options)
    if slots == 1:
        assert steps_of(kind, waveforms, 1, 12, **options) == whole
    for ranks, accumulate in ((1, 2), (2, 2), (4, 1), (8, 1)):
        assert steps_of(kind, waveforms, ranks, 12, accumulate=accumulate, **options) == whole
    # Readers, and where one starts, change nothing.
    assert steps_of(kind, waveforms, 2, 12, workers=2, accumulate=3, **options) == whole
    assert steps_of(kind, waveforms, 2, 5, workers=2, start_step=7, **options) == whole[7:]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["crops", "utterances"])
def test_starting_at_a_step_gives_what_an_uninterrupted_stream_gives(waveforms, kind, workers):
    whole = take(open_stream(kind, waveforms, workers=workers), 12)
    for start in (1, 6):
        resumed = take(open_stream(kind, waveforms, workers=workers, start_step=start), 12 - start)
        assert all(equal(a, b) for a, b in zip(resumed, whole[start:], strict=True))
    other = take(open_stream(kind, waveforms, workers=workers, seed=2), 3)
    assert not any(equal(a, b) for a, b in zip(other, whole[:3], strict=True))


def test_one_reader_process_gives_what_reading_in_the_training_process_gives(waveforms):
    inside, outside = (
        take(open_stream("crops", waveforms, workers=workers), 5) for workers in (0, 1)
    )
    assert all(equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_a_stream_leaves_the_global_random_state_alone(waveforms):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    take(open_stream("crops", waveforms, workers=1), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_utterances_come_whole_with_their_text(waveforms):
    seen = set()
    for batch in take(open_stream("utterances", waveforms), 20):
        longest = int(batch.lengths.max())
        assert batch.waveform.shape == (len(batch.keys), 1, longest)
        assert -(-longest // HOP) * len(batch.keys) <= 120
        assert batch.latent_mean is None and batch.latent_lengths is None
        for i, key in enumerate(batch.keys):
            length = fake_length(number_of(key))
            assert int(batch.lengths[i]) == length
            assert torch.equal(batch.waveform[i, :, :length], fake_waveform(number_of(key), length))
            assert not batch.waveform[i, :, length:].any()
            size = int(batch.token_lengths[i])
            assert VOCABULARY.decode(batch.tokens[i, :size].tolist()) == f"abc {number_of(key)}"
            assert (batch.tokens[i, size:] == -1).all()
        seen.update(batch.keys)
    assert seen == {sample.key for sample in waveforms.train}


def test_stored_latents_come_as_mean_and_logvar(latents):
    for batch in take(open_stream("utterances", latents), 5):
        assert batch.waveform is None and batch.lengths is None
        assert batch.latent_mean.shape == (len(batch.keys), 3, int(batch.latent_lengths.max()))
        assert batch.latent_mean.dtype == batch.latent_logvar.dtype == torch.float32
        for i, key in enumerate(batch.keys):
            frames = -(-fake_length(number_of(key)) // HOP)
            assert int(batch.latent_lengths[i]) == frames
            mean, logvar = torch.from_numpy(
                fake_latents(number_of(key), frames, np.float16)
            ).float()
            assert torch.equal(batch.latent_mean[i, :, :frames], mean)
            assert torch.equal(batch.latent_logvar[i, :, :frames], logvar)
            assert not batch.latent_mean[i, :, frames:].any()


def test_latents_that_do_not_fit_the_index_are_failures(latents):
    with pytest.raises(DataError, match=r"Expected float16 or float32 of shape \(2, D, "):
        take(open_stream("utterances", latents, hop_length=HOP * 2), 1)


def test_batches_move_all_their_tensors(waveforms, latents):
    for batch in (
        *take(open_stream("crops", waveforms), 1),
        *take(open_stream("utterances", latents), 1),
    ):
        moved = batch.to("meta")
        values = [getattr(moved, item.name) for item in dataclasses.fields(moved)]
        assert {value.device.type for value in values if isinstance(value, torch.Tensor)} == {
            "meta"
        }
        assert moved.keys == batch.keys


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_left_out_and_named_once(tmp_path, workers):
    index = make_shards(tmp_path, shards=4)
    corrupt(index, "u7")
    batches = take(open_stream("crops", index, workers=workers), 8)
    with_failures = [batch for batch in batches if batch.failures]
    assert with_failures and all(
        len(batch.failures) == 1 and len(batch.keys) == 2 for batch in with_failures
    )
    assert all("shard-00001.tar: sample 'u7'" in batch.failures[0] for batch in with_failures)
    assert all(
        "u7" not in batch.keys and batch.waveform.shape[0] == len(batch.keys) for batch in batches
    )
    utterances = take(open_stream("utterances", index, workers=workers), 12)
    assert any("sample 'u7'" in batch.failures[0] for batch in utterances if batch.failures)


def test_where_a_whole_batch_is_lost_the_next_stands_in_and_nothing_moves(tmp_path):
    index = make_shards(tmp_path, shards=2)
    whole = take(open_stream("crops", index, batch_size=1), 20)
    corrupt(index, whole[2].keys[0])
    damaged = take(open_stream("crops", index, batch_size=1), 20)
    lost = [i for i in range(20) if whole[i].keys == whole[2].keys]
    assert len(lost) == 2
    for i in range(20):
        if i in lost:
            assert damaged[i].keys == whole[i + 1].keys and len(damaged[i].failures) == 1
        else:
            assert equal(damaged[i], whole[i])


def test_a_folder_of_unreadable_samples_stops_with_the_first_of_them(tmp_path):
    index = make_shards(tmp_path, shards=2, per_shard=2)
    for sample in index.samples:
        corrupt(index, sample.key)
    with pytest.raises(
        DataError, match=r"without a single readable utterance.*shard-0000\d\.tar: sample 'u\d'"
    ):
        take(open_stream("crops", index, workers=2), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unknown_character_arrives_as_a_plain_message(tmp_path, workers):
    index = make_shards(tmp_path, shards=2, texts={4: "abc ß"})
    stream = open_stream("utterances", index, workers=workers)
    with pytest.raises(DataError) as caught:
        take(stream, 20)
    assert "sample 'u4'" in str(caught.value) and "'ß'" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert list(stream) == []


def test_a_killed_reader_is_an_error_that_says_what_to_lower(waveforms):
    stream = open_stream("crops", waveforms, workers=1)
    next(stream)
    os.kill(stream._iterator._workers[0].pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"reader process died.*lower loader\.num_workers"):
        take(stream, 100)


def test_ctrl_c_and_sigterm_do_not_end_the_readers_and_closing_does(waveforms):
    stream = open_stream("crops", waveforms, workers=2)
    for _ in range(2):  # one from each: now both have set their signal handlers
        next(stream)
    processes = list(stream._iterator._workers)
    for process in processes:
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert len(list(itertools.islice(stream, 20))) == 20
    assert all(process.is_alive() for process in processes)
    stream.close()
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_program_that_fails_with_an_open_stream_ends(waveforms):
    program = (
        "import sys\n"
        "from svae.config import LoaderConfig\n"
        "from svae.data.loaders import crop_loader\n"
        "from svae.data.index import read_index\n"
        "stream = crop_loader(read_index(sys.argv[1]), batch_size=2, segment_samples=100, context_samples=0, seed=0,\n"
        "                     start_step=0, rank=0, world_size=1, loader=LoaderConfig(num_workers=2))\n"
        "next(stream)\n"
        "raise KeyboardInterrupt\n"
    )
    # Readers that ignore SIGTERM used to make the interpreter wait for them for ever.
    done = subprocess.run(
        [sys.executable, "-c", program, waveforms.root],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "KeyboardInterrupt" in done.stderr and done.returncode != 0


def test_impossible_streams_are_refused_at_the_start(waveforms, latents):
    with pytest.raises(DataError, match="the VAE trains on waveforms"):
        open_stream("crops", latents)
    with pytest.raises(
        DataError, match="no training utterance fits: 36 longer than the batch budget of 5 frames"
    ):
        open_stream("utterances", waveforms, batch_frames=5)


def crops_of(index, **changes):
    options = {"count": 10, "batch_size": 3, "segment_samples": SEGMENT, "context_samples": CONTEXT}
    return list(validation_crops(index, **(options | changes)))


def test_validation_crops_are_fixed_and_use_held_out_utterances_more_than_once_if_need_be(
    waveforms,
):
    batches = crops_of(waveforms)
    assert all(equal(a, b) for a, b in zip(batches, crops_of(waveforms), strict=True))
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == 10 and set(keys) == {"u3", "u17", "u28", "u39"}
    starts = torch.cat([batch.starts for batch in batches]).tolist()
    assert len(set(zip(keys, starts, strict=True))) == 10
    everything = crops_of(waveforms, samples=waveforms.samples, count=100, batch_size=100)
    assert len(set(everything[0].keys)) == 40
    assert crops_of(waveforms, samples=[]) == []


def test_validation_crops_are_shared_out_among_the_ranks(waveforms):
    def pairs(batches):
        return Counter(
            (key, int(start)) for b in batches for key, start in zip(b.keys, b.starts, strict=True)
        )

    parts = [crops_of(waveforms, rank=rank, world_size=3) for rank in range(3)]
    assert sum((pairs(part) for part in parts), Counter()) == pairs(crops_of(waveforms))


def test_validation_utterances_are_fixed_sorted_and_within_the_budget(waveforms):
    limits = {
        "batch_frames": 60,
        "hop_length": HOP,
        "vocabulary": VOCABULARY,
        "min_seconds": 0.1,
        "max_seconds": 30,
    }
    batches = list(validation_batches(waveforms, count=3, **limits))
    assert all(
        equal(a, b)
        for a, b in zip(batches, validation_batches(waveforms, count=3, **limits), strict=True)
    )
    lengths = torch.cat([batch.lengths for batch in batches]).tolist()
    assert lengths == sorted(lengths) and len(lengths) == 3
    assert all(-(-int(b.lengths.max()) // HOP) * len(b.keys) <= 60 for b in batches)
    parts = [
        validation_batches(waveforms, count=3, rank=r, world_size=2, **limits) for r in range(2)
    ]
    assert Counter(k for part in parts for b in part for k in b.keys) == Counter(
        k for b in batches for k in b.keys
    )


def test_a_folder_read_again_gives_the_same_stream(waveforms):
    again = read_index(waveforms.root)
    for a, b in zip(
        take(open_stream("crops", waveforms), 3), take(open_stream("crops", again), 3), strict=True
    ):
        assert equal(a, b)


def test_letters_that_a_model_knows_in_the_other_case_only_are_read_in_that(waveforms):
    index, samples = waveforms, waveforms.train[:3]
    upper = Vocabulary.from_characters(["ABC 0123456789"])
    batches = [
        read_utterances(index, samples, vocabulary=vocabulary, hop_length=HOP)
        for vocabulary in (VOCABULARY, upper)
    ]
    assert torch.equal(batches[0].tokens, batches[1].tokens)
    assert any(char in "abc" for sample in samples for char in sample.text)
