"""When phones are spoken: the aligner, its files, durations of phones, and a model of frame-level phonemes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_runs import TTS, vae_of
from tone_shards import write_tone_shards

from svae import recipe
from svae.assets import asset_path
from svae.audio import load_audio
from svae.config import TTSTrainConfig
from svae.data.index import read_index
from svae.data.samples import Sample
from svae.data.timings import DESCRIPTION, Timings, timings_name
from svae.errors import ConfigError, DataError
from svae.models.tts.durations import PhoneDurations
from svae.precompute.phone_times import align_shards
from svae.synthesis.durations import PhoneRule, Planner, Timeline
from svae.synthesis.load import load_tts
from svae.synthesis.types import Prompt, Sampling
from svae.text.phone_aligner import AlignmentError, PhoneAligner
from svae.text.phonemes import FramePhonemes, pronounce
from svae.training.loop import TrainOptions
from svae.training.tts.fit_durations import fit_phone_durations
from svae.training.tts.train import train_tts

RATE = 16000


@pytest.fixture(scope="module")
def aligner():
    return PhoneAligner()


@pytest.fixture(scope="module")
def clips():
    """Two synthetic recordings of the package, (S,) each, with their texts."""
    root = asset_path("references")
    rows = json.loads((root / "references.json").read_text())
    return [(load_audio(root / row["audio"], sample_rate=RATE)[0][0], row["text"]) for row in rows]


def test_words_follow_each_other_and_have_an_end_for_each_phone(aligner, clips):
    for waveform, text in clips:
        times = aligner.align(waveform, text)
        words = [w.strip(",.").lower() for w in text.split()]
        assert [len(word) - 1 for word in times] == [len(pronounce(word)) for word in words]
        flat = [t for word in times for t in word]
        assert flat == sorted(flat) and flat[0] >= 0 and flat[-1] <= waveform.numel() / RATE
        assert flat[-1] > 0.85 * waveform.numel() / RATE  # both clips are trimmed


def test_times_do_not_depend_on_what_was_aligned_before(aligner, clips):
    first = aligner.align(*clips[0])
    aligner.align(*clips[1])
    assert aligner.align(*clips[0]) == first == PhoneAligner().align(*clips[0])


def test_what_is_said_later_is_found_later(aligner, clips):
    """Two recordings with a second of silence between: the words of each lie where they lie in it alone."""
    (a, text_a), (b, text_b) = clips[:2]
    together = aligner.align(torch.cat([a, torch.zeros(RATE), b]), f"{text_a} {text_b}")
    alone = aligner.align(a, text_a), aligner.align(b, text_b)
    offset = a.numel() / RATE + 1
    expected = [*alone[0], *([t + offset for t in word] for word in alone[1])]
    for word, wanted in zip(together, expected, strict=True):
        assert word == pytest.approx(wanted, abs=0.12)


def test_words_without_a_pronunciation_have_a_place(aligner, clips):
    waveform, text = clips[0]
    times = aligner.align(waveform, text.replace("waves", "wayvz"))
    assert len(times[1]) == 2 and times[1] == pytest.approx(
        np.array(aligner.align(waveform, text)[1])[[0, -1]], abs=0.1
    )


def test_a_recording_of_something_else_is_refused(aligner, clips):
    with pytest.raises(AlignmentError, match="does not fit"):
        aligner.align(clips[0][0][:4000], clips[0][1])
    with pytest.raises(AlignmentError, match="no words"):
        aligner.align(clips[0][0], "...")


# ----------------------------------------------------------------------------------------------- symbols in time


def test_a_timeline_has_every_symbol_and_pauses_between_the_words():
    vocabulary = FramePhonemes()
    words = [[0.1, 0.2, 0.25, 0.3, 0.4], [0.7, 0.8, 0.85, 0.9, 1.0]]
    symbols, ends = vocabulary.timeline("Hello, world!", words)
    assert symbols == [" ", "HH", "AH", "L", "OW", ",", "W", "ER", "L", "D", "."]
    assert ends == [0.1, 0.2, 0.25, 0.3, 0.4, 0.7, 0.8, 0.85, 0.9, 1.0, 1.0]
    ids = vocabulary.frames(symbols, [end * 10 for end in ends], 10)
    assert [vocabulary.symbols[i] for i in ids] == [
        " ",
        "HH",
        "L",
        "OW",
        ",",
        ",",
        ",",
        "W",
        "L",
        "D",
    ]
    assert [s for s in symbols if s not in " ,."] == [
        s for s in vocabulary.read("Hello, world!") if s not in " ,."
    ]


def test_spelled_words_share_their_time_evenly():
    symbols, ends = FramePhonemes(spelled=1.0).timeline("Hello", [[0.0, 0.1, 0.15, 0.2, 0.5]])
    assert symbols == [" ", *"hello", " "] and ends[1:-1] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5]
    )


@pytest.mark.parametrize("words", [[], [[0.0, 1.0]], [[0.0, 0.1, 0.2, 0.3, 0.4], [1.0, 1.1]]])
def test_times_of_other_words_are_refused(words):
    with pytest.raises(DataError, match="align it again"):
        FramePhonemes().timeline("Hello", words)


# ----------------------------------------------------------------------------------------------- durations


class MadeUp:
    """Timings in which a phone lasts what its vocabulary number says, times the speaker's rate."""

    def timeline(self, sample, vocabulary, sample_rate, hop_length):
        symbols, _ = vocabulary.timeline(sample.text)
        return symbols, list(
            np.cumsum([self.frames(vocabulary, s, sample.speaker) for s in symbols])
        )

    @staticmethod
    def frames(vocabulary, symbol, speaker):
        rate = 0.7 + 0.1 * int(speaker[1:])
        return rate * (2 + vocabulary.ids([symbol])[0] % 7) if symbol.isupper() else 0.0


def test_durations_depend_on_the_phone_and_on_how_the_prompt_is_spoken():
    vocabulary, made_up = FramePhonemes(), MadeUp()
    words = (
        "window garden morning paper silver river table summer letter doctor basket yellow".split()
    )
    samples = [
        Sample(
            key=f"k{i}",
            shard=0,
            duration_seconds=1,
            num_samples=RATE,
            speaker=f"s{i % 7}",
            language="en",
            text=" ".join(words[(i * j) % 12] for j in (1, 3, 5, 7)),
            members={},
            crc32={},
        )  # fmt: skip
        for i in range(84)
    ]
    model = fit_phone_durations(
        samples, vocabulary, made_up, sample_rate=RATE, hop_length=400, steps=300
    )
    alone = [
        replace(sample, key=f"{sample.key}-alone", speaker=f"s{i}00")
        for i, sample in enumerate(samples)
    ]
    with_singles = fit_phone_durations(
        samples + alone, vocabulary, made_up, sample_rate=RATE, hop_length=400, steps=3
    )
    totals = {}
    for speaker in (
        "s0",
        "s6",
        "s13",
    ):  # rates 0.7 and 1.3, between which all speakers are, and 2.0
        symbols, ends = made_up.timeline(
            replace(samples[1], speaker=speaker), vocabulary, RATE, 400
        )
        prompt = Timeline(symbols, np.diff([0.0, *ends]).tolist())
        found, frames = PhoneRule(vocabulary, 40.0, model).new_timeline(prompt, "silver window")
        wanted = [made_up.frames(vocabulary, s, speaker) for s in found]
        assert np.abs(np.array(frames) - wanted).mean() < 0.2 * np.mean(wanted)
        totals[speaker] = sum(frames)
    assert totals["s6"] > 1.5 * totals["s0"]
    assert totals["s13"] == pytest.approx(20 / 13 * totals["s6"], rel=0.06)
    again = fit_phone_durations(
        samples, vocabulary, made_up, sample_rate=RATE, hop_length=400, steps=3
    )
    other = fit_phone_durations(
        samples, vocabulary, made_up, sample_rate=RATE, hop_length=400, steps=3
    )
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True)
    )
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.parameters(), with_singles.parameters(), strict=True)
    )


def test_a_prompt_that_cannot_be_aligned_is_spread_over_its_length():
    vocabulary = FramePhonemes()
    rule = PhoneRule(vocabulary, 40.0, PhoneDurations(len(vocabulary)))
    symbols, frames = rule.prompt_timeline(
        Prompt(torch.zeros(1, 4, 90), "Hello, world.", 1.0, 2.25)
    )
    assert sum(frames) == pytest.approx(90) and len(symbols) == len(frames)


@pytest.mark.parametrize(
    "text", ["Hello there", 'She said "hello there"', "Hello there,", "Oh!", "Well, wait -"]
)
def test_a_text_without_a_full_stop_ends_as_one_with_it(text):
    vocabulary = FramePhonemes()
    planner = Planner(PhoneRule(vocabulary, 40.0, PhoneDurations(len(vocabulary))))
    prompt = Prompt(torch.zeros(1, 4, 90), "Hello, world. ", 1.0, 2.25)
    asked, ended = (planner.plan(prompt, words, Sampling()) for words in (text, text + "."))
    assert asked == ended


# ----------------------------------------------------------------------------------------------- from shards to speech


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_tone_shards(tmp_path_factory.mktemp("aligned") / "shards", seconds=1.2)


@pytest.fixture(scope="module")
def timings(shards, tmp_path_factory):
    return align_shards(shards, tmp_path_factory.mktemp("timings"), workers=2)


def test_the_times_of_shards_are_kept_and_only_missing_ones_made_again(shards, timings, capsys):
    index, stored = read_index(shards), Timings(timings)
    assert sum(sample.key in stored for sample in index.samples) >= 6
    sample = next(s for s in index.train if s.key in stored)
    ids = stored.frames(sample, FramePhonemes(), RATE, 400)
    assert len(ids) == -(-sample.num_samples // 400)
    first = {n: (timings / timings_name(n)).read_bytes() for n in range(2)}
    (timings / timings_name(1)).unlink()
    align_shards(shards, timings, workers=1)
    assert {n: (timings / timings_name(n)).read_bytes() for n in range(2)} == first


def test_times_of_other_shards_are_refused(timings, tone_shards, tmp_path):
    with pytest.raises(DataError, match="other shards"):
        Timings(timings).select(read_index(tone_shards))
    with pytest.raises(DataError, match="other shards"):
        align_shards(tone_shards, timings)
    with pytest.raises(DataError, match="finished folder of `svae align`"):
        Timings(tmp_path)
    (tmp_path / DESCRIPTION).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        Timings(tmp_path)


def test_frame_phonemes_need_their_times_and_times_need_frame_phonemes():
    for overrides in (["tokens=frame-phonemes"], ["data.timings=x"]):
        with pytest.raises(ConfigError, match="data.timings"):
            recipe.load(TTSTrainConfig, "tiny/tts", overrides)


def test_a_model_of_frame_phonemes_is_trained_resumed_and_speaks(
    shards, timings, toy_tts, clips, tmp_path
):
    data = {"root": str(shards), "timings": str(timings)}
    changes = {"data": data, "vae": str(vae_of(toy_tts)), "tokens": "frame-phonemes"}
    config = recipe.build(
        TTSTrainConfig, TTS | changes | {"trainer": TTS["trainer"] | {"steps": 2}}, where="test"
    )
    train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    tts = load_tts(tmp_path / "run")
    assert isinstance(tts.vocabulary, FramePhonemes) and isinstance(tts.planner.own, PhoneRule)
    waveform, text = clips[0]
    prompt = tts.encode_prompt(waveform, text)
    assert prompt.note is None and len(prompt.words) == 15
    first = tts.generate("Two tones.", waveform, text, num_steps=2)
    again = tts.generate("Two tones.", waveform, text, num_steps=2)
    assert torch.equal(first.waveform, again.waveform) and first.generated_seconds > 0
    slow = tts.generate("Two tones.", waveform, text, num_steps=2, speed=0.5)
    assert slow.generated_seconds == pytest.approx(2 * first.generated_seconds, rel=0.1)
    total, ids = tts.planner.plan(
        prompt, "Two tones.", replace(first.sampling, duration_seconds=1.0)
    )
    assert total == len(ids) == prompt.frames + round(tts.sample_rate / tts.hop_length)
    unfit = tts.encode_prompt(
        waveform[:RATE], "This text is far too long for one second of speech, " * 3
    )
    assert unfit.words is None and "not aligned" in unfit.note
