"""Subtitles: every word once, in order, in its time; three formats; nothing of others is written over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tiny_tts import changed

from svae.assets import asset_path
from svae.audio import load_audio
from svae.errors import ConfigError
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.model import TTS
from svae.synthesis.subtitles import (
    MAX_LINE,
    Cue,
    TimedWord,
    WordTimes,
    deal_times,
    subtitles_path,
    written_words,
)
from svae.synthesis.types import Prompt
from svae.text.phonemes import Word, pieces

TEXT = 'He said: "The F-B-I & {B EY1 S} were 3 - no, four!" Then A & B left; nobody (not even she) saw them & their dog.'


def times_of(words: list[tuple[str, float, float]], breaks: set[int] | None = None) -> WordTimes:
    made = WordTimes.__new__(WordTimes)
    made.words = [TimedWord(*word) for word in words]
    made.breaks, made.sources = breaks or {0}, {"aligner": len(words)}
    return made


def test_every_word_is_dealt_its_time() -> None:
    count = sum(isinstance(piece, Word) for piece in pieces(TEXT))
    spoken = [(float(n), n + 0.5) for n in range(count)]
    found = deal_times(TEXT, spoken, count)
    assert [word.word for word in found][:7] == [
        "He",
        "said:",
        '"The',
        "F-B-I &",
        "{B EY1 S}",
        "were",
        "3 -",
    ]
    initials = found[3]
    assert initials.end - initials.start == 2.5  # three spoken words
    assert all(a.end <= b.start for a, b in zip(found, found[1:], strict=False))
    assert found[-1].end == spoken[-1][1]
    assert " ".join(word.word for word in found) == TEXT
    spread = deal_times(TEXT, None, 10.0)
    assert spread[0].start == 0 and spread[-1].end == pytest.approx(10.0)
    wrong = deal_times(
        TEXT, spoken[:-1], 10.0
    )  # other words than those of the text: no time is trusted
    assert wrong == spread


def test_scripts_without_spaces_are_words_by_character() -> None:
    assert written_words("你好，世界。") == ["你", "好，", "世", "界。"]
    assert written_words("我用iPhone。") == ["我", "用", "iPhone。"]
    found = deal_times("你好，世界。", None, 4.0)
    assert Cue(tuple(found)).text == "你好，世界。"


def test_cues_end_with_sentences_pauses_and_chunks() -> None:
    words = [
        ("One", 0.0, 0.2), ("two.", 0.3, 0.5), ("Three", 0.6, 0.7), ("four", 2.0, 2.1), ("five", 2.2, 2.3),
    ]  # fmt: skip
    assert [cue.text for cue in times_of(words).cues()] == ["One two.", "Three", "four five"]
    assert [cue.text for cue in times_of(words, {0, 4}).cues()] == [
        "One two.",
        "Three",
        "four",
        "five",
    ]
    long = [(f"word{n:02d}", 0.1 * n, 0.1 * n + 0.1) for n in range(100)]
    cues = times_of(long).cues()
    assert [word for cue in cues for word in cue.words] == [TimedWord(*word) for word in long]
    assert all(len(cue.text) <= 2 * MAX_LINE and cue.end - cue.start <= 6 for cue in cues)


def test_the_formats_are_what_players_read() -> None:
    words = [("<Hello", 0.0, 0.5), ("&", 0.5, 0.6), ("you.", 0.6, 1.0), ("Bye.", 3661.5, 3662.0)]
    times = times_of(words)
    assert times.render("srt") == (
        "1\n00:00:00,000 --> 00:00:01,000\n<Hello & you.\n\n2\n01:01:01,500 --> 01:01:02,000\nBye.\n"
    )
    assert times.render("vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n&lt;Hello<00:00:00.500> &amp;<00:00:00.600> you.\n\n"
        "01:01:01.500 --> 01:01:02.000\nBye.\n"
    )
    tree = json.loads(times.render("json"))
    assert tree["words"][0] == {"word": "<Hello", "start": 0.0, "end": 0.5}
    assert tree["cues"][1]["text"] == "Bye." and tree["word_times_from"] == {"aligner": 4}
    many = times_of([(f"word{n}", 0.01 * n, 0.01 * n) for n in range(12)])
    lines = many.render("srt").splitlines()[2:]
    assert len(lines) == 2 and max(map(len, lines)) <= MAX_LINE
    assert len(many.render("vtt").strip().splitlines()) == 5


def test_frame_level_phones_say_when_words_are_spoken() -> None:
    from svae.models.tts.durations import PhoneDurations
    from svae.synthesis.durations import PhoneRule
    from svae.text.phonemes import PAUSES, FramePhonemes

    torch.manual_seed(0)
    vocabulary = FramePhonemes()
    rule = PhoneRule(vocabulary, 40.0, PhoneDurations(len(vocabulary)).eval().requires_grad_(False))
    prompt = Prompt(torch.zeros(1, 8, 40), "hello there. ", 1.0, 1.0)
    text = "this side, the other one's xyzzy"
    total, ids = rule.lay_out(prompt, text, 1.0)
    frames = total - prompt.frames
    found = rule.word_times(prompt, text, frames)
    assert found is not None and len(found) == 6
    assert found[0][0] == 0 and found[-1][1] <= frames / 40
    # A frame in the middle of a word has one of its phones, and nothing but pauses lies between words.
    symbols = [vocabulary.symbols[i] for i in ids[prompt.frames :]]
    for number, (start, end) in enumerate(found):
        inside = symbols[round(start * 40) : round(end * 40)]
        assert not PAUSES & set(inside)
        if number:
            assert set(symbols[round(found[number - 1][1] * 40) : round(start * 40)]) <= PAUSES


def test_synthesize_writes_them_and_nobody_elses(
    options: SynthesizeOptions, tmp_path: Path
) -> None:
    out = tmp_path / "a.wav"
    asked = changed(
        options, out=out, text="Hello there, you. [pause 1s] And you.", subtitles="json"
    )
    synthesize_file(asked)
    report = json.loads((tmp_path / "a.json").read_text())
    tree = json.loads((tmp_path / "a.words.json").read_text())
    assert report["subtitles"] == "a.words.json"
    assert report["word_times_from"] == tree["word_times_from"]
    words = tree["words"]
    assert [word["word"] for word in words] == ["Hello", "there,", "you.", "and", "you."]
    assert words[3]["start"] - words[2]["start"] > 1.0  # behind the pause
    assert words[-1]["end"] <= report["generated_seconds"] + 0.001
    if "spread" in tree["word_times_from"]:
        assert "guess" in " ".join(report["warnings"])
    synthesize_file(asked)  # its own are written anew
    synthesize_file(changed(asked, subtitles="srt"))
    assert re.match(r"1\n00:00:0\d,\d{3} --> ", (tmp_path / "a.srt").read_text())
    (tmp_path / "a.vtt").write_text("mine")
    with pytest.raises(ConfigError, match="--subtitles vtt"):
        synthesize_file(changed(asked, subtitles="vtt"))
    assert (tmp_path / "a.vtt").read_text() == "mine"
    assert subtitles_path(out, "vtt") == tmp_path / "a.vtt"


def test_what_a_model_without_times_says_is_aligned() -> None:
    rows = json.loads((asset_path("references") / "references.json").read_text())
    row = next(row for row in rows if row["audio"] == "flite-rms.wav")
    waveform, rate = load_audio(asset_path("references") / "flite-rms.wav")
    tts = SimpleNamespace(
        sample_rate=rate,
        hop_length=400,
        planner=SimpleNamespace(own=SimpleNamespace(word_times=lambda *_: None)),
    )
    times = WordTimes(cast(TTS, tts), cast(Prompt, None))
    times.add(row["text"], waveform[0], 10.0)
    assert times.sources == {"aligner": len(row["text"].split())} and times.note is None
    starts = [word.start for word in times.words]
    assert (
        starts == sorted(starts)
        and 10.0 <= starts[0]
        and times.words[-1].end <= 10 + len(waveform[0]) / rate
    )
    lengths = [word.end - word.start for word in times.words]
    assert 0.05 < sum(lengths) / len(lengths) < 0.8
    times.add("你好，世界。", waveform[0], 20.0)  # the aligner knows English only
    assert times.sources["spread"] == 4 and times.note is not None and "4 of" in times.note


def test_a_ctc_recogniser_finds_words_that_the_aligner_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from svae.judges.ctc import CTC

    rows = json.loads((asset_path("references") / "references.json").read_text())
    text = next(row["text"] for row in rows if row["audio"] == "flite-rms.wav")
    waveform, rate = load_audio(asset_path("references") / "flite-rms.wav")
    tts = SimpleNamespace(
        sample_rate=rate,
        hop_length=400,
        planner=SimpleNamespace(own=SimpleNamespace(word_times=lambda *_: None)),
    )
    ctc = CTC("embedded")
    times, exact = (
        WordTimes(cast(TTS, tts), cast(Prompt, None), ctc, language) for language in ("de", "en")
    )
    for each in (times, exact):
        each.add(text, waveform[0], 0.0)
    assert times.sources == {"ctc": len(text.split())} and times.note is None
    assert list(exact.sources) == ["aligner"]
    errors = [abs(a.start - b.start) for a, b in zip(times.words, exact.words, strict=True)]
    assert sorted(errors)[len(errors) // 2] < 0.15 and max(errors) < 0.3  # a poor recogniser
    times.add("你好，世界。", waveform[0], 5.0)  # letters that it does not know
    assert times.sources["spread"] == 4


def test_the_best_path_goes_through_all_letters_in_order() -> None:
    import numpy as np

    from svae.judges.ctc_alignment import best_path

    def scores(path: str) -> np.ndarray:
        found = np.full((len(path), 4), -9.0)
        found[range(len(path)), ["-abc".index(letter) for letter in path]] = -0.1
        return found

    assert best_path(scores("-aa-b-c"), [1, 2, 3], 0) == [(1, 3), (4, 5), (6, 7)]
    assert best_path(scores("a-a"), [1, 1], 0) == [(0, 1), (2, 3)]
    assert best_path(scores("aa"), [1, 1], 0) is None  # a repeated letter needs a blank between
    assert best_path(scores("ab"), [1, 2, 3], 0) is None
    assert best_path(scores("ab"), [], 0) is None
    assert best_path(scores("a"), [1], 0) == [(0, 1)]
