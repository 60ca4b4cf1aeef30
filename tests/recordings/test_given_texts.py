"""Subtitles as they are met in the wild, and long texts found in what a recogniser heard."""

from __future__ import annotations

import random

import pytest

from svae.errors import DataError
from svae.recordings.find import find_recordings
from svae.recordings.given import on_pauses, read_subtitles
from svae.recordings.match import agreement, deal_text
from svae.recordings.speech import Stretch


@pytest.mark.parametrize(
    ("content", "cues"),
    [
        ("1\n00:00:01,500 --> 00:00:04,000\nGood\nmorning.\n", [(1.5, 4, "Good morning.")]),
        # Without empty lines, with numbers that are said, in any order.
        (
            "1\n00:00:05,0 --> 00:00:06,0\nTwo\n2\n00:00:01,0 --> 00:00:02,0\n1984\nis a book\n",
            [(1, 2, "1984 is a book"), (5, 6, "Two")],
        ),
        (
            "WEBVTT - x\nKind: captions\n\nNOTE a\nb\n\nSTYLE\n::cue {}\n\nintro\n00:01.000 --> 00:02.5 align:start\n"
            "<v Anna>Hi &amp; <b>hello</b>\n\n01:00:00.000 --> 01:00:01.000\n- [Music]\n",
            [(1, 2.5, "Hi & hello")],
        ),
        ("1\n00:00:01,000 --> 00:00:02,000\n{\\an8}Up (there)\n", [(1, 2, "Up (there)")]),
        # What is heard goes beside words too, over lines too; in round brackets people also speak.
        (
            "1\n00:00:01,000 --> 00:00:02,000\n- [laughs] Yes [door\nslams], I do.[sighs]\n- No.\n",
            [(1, 2, "- Yes, I do. - No.")],
        ),
        (
            "1\n00:00:01,000 --> 00:00:02,000\n♪ la la ♪\n\n2\n00:00:03,000 --> 00:00:03,000\nx\n",
            [],
        ),
        # Automatic captions roll: every line comes twice or three times.
        (
            "WEBVTT\n\n00:00.000 --> 00:02.000\n \ngood<00:00:00.500><c> morning</c>\n\n"
            "00:00.000 --> 00:02.000\n \ngood<00:00:00.500><c> morning</c>\n\n"
            "00:02.000 --> 00:02.010\ngood morning\n \n\n"
            "00:02.010 --> 00:04.000\ngood morning\nto<00:00:02.500><c> you</c>\n",
            [(0, 2, "good morning"), (2.01, 4, "to you")],
        ),
    ],
)
def test_subtitles(content, cues):
    found = read_subtitles(content, "x.srt")
    assert [(cue.start, cue.end, cue.text) for cue in found] == cues


@pytest.mark.parametrize("line", ["00:00:01 --> 00:00:02", "a --> b", "00:00:01,000 -->"])
def test_times_that_are_none_are_named(line):
    with pytest.raises(DataError, match=r"x\.srt, line 2: .*Expected 00:00:01,500"):
        read_subtitles(f"1\n{line}\nGood\n", "x.srt")


def test_subtitles_are_cut_where_people_pause_only():
    cues = [Stretch(1, 3, "a b"), Stretch(3, 5, "c d"), Stretch(5, 7, "e f"), Stretch(20, 21, "g")]
    speech = [Stretch(1.3, 2.9), Stretch(3.2, 5.9), Stretch(6.0, 7.2), Stretch(10, 12)]
    found, unsaid = on_pauses(cues, speech)
    assert [(each.start, each.end, each.text) for each in found] == [
        (1.3, 2.9, "a b"),
        (3.2, 7.2, "c d e f"),
        (20, 21, "g"),
    ]
    assert unsaid == 2


def test_a_book_is_dealt_to_an_hour_of_it_that_is_heard_badly():
    random.seed(0)
    words = [f"w{random.randrange(2000)}" for _ in range(20_000)]
    sentences = [" ".join(words[n : n + 20]).capitalize() + "." for n in range(0, len(words), 20)]
    read = sentences[300:750]  # 9,000 words, of a book twice as long

    def misheard(sentence: str) -> str:
        heard = []
        for word in sentence.rstrip(".").split():
            kind = random.random()
            heard += [] if kind < 0.06 else [random.choice(words)] if kind < 0.3 else [word]
            heard += [random.choice(words)] if kind > 0.95 else []
        return " ".join(heard)

    heard = ["this is a recording for everybody", *map(misheard, read), "end of the chapter"]
    found = deal_text(" ".join(sentences), heard)
    right = sum(a == b for a, b in zip(found[1:-1], read, strict=True))
    assert right >= 0.97 * len(read)
    for text, said in ((found[0], heard[0]), (found[-1], heard[-1])):
        assert text is None or agreement(text, said) < 0.3


def test_a_text_in_a_script_without_spaces_is_dealt_by_its_signs():
    assert deal_text("今天天气很好。我们去公园玩。", ["今天天汽很好", "我们去公圆玩"]) == [
        "今天天气很好。",
        "我们去公园玩。",
    ]


def test_numbers_are_found_however_they_are_written():
    text = "Chapter thirty-five. He was 21 in 1805. Chapter 36."
    heard = ["Chapter 35.", "he was twenty one in 1805", "chapter thirty six"]
    parts = ["Chapter thirty-five.", "He was 21 in 1805.", "Chapter 36."]
    assert deal_text(text, heard, "en") == parts
    assert [agreement(part, said, "en") for part, said in zip(parts, heard, strict=True)] == [1] * 3
    assert (
        deal_text(text, heard)[0] is None
    )  # of an unknown language nothing is known of its numbers


def test_words_misheard_at_the_ends_are_the_texts_own():
    text = "Preface. Let us have faith that right makes might. Hold on, hold fast! And so on."
    heard = ["let's have faith the right makes night", "hold on hold vast", "and then"]
    assert deal_text(text, heard) == [
        "Let us have faith that right makes might.",
        "Hold on, hold fast!",
        None,  # one word of two is not enough
    ]


def test_signs_go_with_the_words_they_are_written_onto():
    text = 'He said: "Come in," and--well, she didn\'t.'
    assert deal_text(text, ["he said", "come in", "and", "well she didn't"]) == [
        "He said:",
        '"Come in,"',
        "and--",
        "well, she didn't.",
    ]


def test_texts_are_found_by_the_names_that_tools_give_them(tmp_path):
    names = (
        "a.MP3 a.en-US.vtt b.wav b.part1.wav b.part1.srt c.m4a c.m4a.txt d.wav d.TXT e.ogg".split()
    )
    for name in names:
        (tmp_path / name).touch()
    found = find_recordings(tmp_path, tmp_path / "out", "x")
    assert {each.source: each.text and each.text.name for each in found.recordings} == {
        "a.MP3": "a.en-US.vtt", "b.wav": None, "b.part1.wav": "b.part1.srt", "c.m4a": "c.m4a.txt", "d.wav": "d.TXT", "e.ogg": None,
    }  # fmt: skip
    assert len({each.key for each in found.recordings}) == 6 and not found.notes


def test_times_go_before_a_plain_text_and_that_is_said(tmp_path):
    for name in ("a.wav", "a.txt", "a.srt", "notes.md"):
        (tmp_path / name).touch()
    found = find_recordings(tmp_path, tmp_path / "out", "x")
    assert found.recordings[0].text == tmp_path / "a.srt"
    assert "a.srt is taken, which has times, and a.txt not" in found.notes[0]
    assert "notes.md" in found.notes[1] and len(found.notes) == 2
