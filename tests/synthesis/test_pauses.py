"""Pauses that a text asks for stand in the audio, as long as asked and where they were asked for."""

from __future__ import annotations

import json

import pytest
import soundfile
from tiny_tts import changed

from svae.errors import DataError
from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import synthesize_file
from svae.text.sentences import Sentence, _without_empty

RATE = 16000
PAUSED = "[pause 0.25s] Hello there. Here we go. [pause 0.5s] Here you are, [pause 200 ms] there."


def spoken(options, **changes):
    out = synthesize_file(changed(options, num_steps=1, **changes))
    samples, rate = soundfile.read(out, dtype="int16")
    assert rate == RATE
    return samples, json.loads(out.with_suffix(".json").read_text())


def check_silences(samples, row) -> None:
    """Walk through the file: every chunk is sounding where it stands, and between chunks nothing does."""
    position = 0
    for chunk in row["chunks"]:
        for kind in ("pause_before", None, "pause_after"):
            seconds = chunk["generated_seconds"] if kind is None else chunk.get(kind, 0.0)
            size = round(seconds * RATE)
            part = samples[position : position + size]
            assert len(part) == size
            if kind is None:
                assert (part != 0).mean() > 0.9 and part[:50].any() and part[-50:].any()
            else:
                assert not part.any()
            position += size
    assert position == len(samples)


def test_silence_of_the_asked_length_stands_where_it_was_asked_for(options):
    samples, row = spoken(options, text=PAUSED)
    assert [chunk["text"] for chunk in row["chunks"]] == [
        "Hello there. Here we go.",
        "Here you are,",
        "there.",
    ]
    assert row["chunks"][0]["pause_before"] == 0.25
    assert [chunk.get("pause_after") for chunk in row["chunks"]] == [0.5, 0.2, None]
    check_silences(samples, row)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("text", "seconds"), [("---", 1.0), ("...", 1.0), ("[pause 0.5s]", 0.5)])
def test_a_text_of_a_pause_alone_is_silence(options, text, seconds, stream):
    samples, row = spoken(options, text=text, stream=stream)
    assert len(samples) == seconds * RATE and not samples.any()
    assert row["generated_seconds"] == seconds and row["chunks"][0]["pause_after"] == seconds


def test_a_pause_alone_lasts_for_a_duration_that_is_given(options):
    samples, _ = spoken(options, text="...", duration_seconds=2.0)
    assert len(samples) == 2 * RATE and not samples.any()


def test_a_pause_alone_is_a_row_of_a_list(options, tmp_path):
    listed = tmp_path / "list.jsonl"
    rows = [("Hello there.", "a.wav"), ("---", "b.wav"), ("[pause 0.5s]", "c.wav")]
    listed.write_text("".join(json.dumps({"text": t, "out": o}) + "\n" for t, o in rows))
    assert synthesize_batch(listed, changed(options, num_steps=1), tmp_path / "out") == 3
    assert [soundfile.info(tmp_path / "out" / f"{name}.wav").duration for name in "bc"] == [1, 0.5]


def test_paragraphs_and_pauses_at_the_end_are_heard(options):
    samples, row = spoken(options, text="Hello there.\n\nHere you are. [pause 1s]")
    assert [chunk["pause_after"] for chunk in row["chunks"]] == [0.5, 1.0]
    check_silences(samples, row)


def test_streaming_has_the_same_pauses(options):
    samples, row = spoken(options, text=PAUSED, stream=True)
    assert len(row["chunks"]) == 4
    assert [chunk.get("pause_after") for chunk in row["chunks"]] == [None, 0.5, 0.2, None]
    start = round(0.25 * RATE)
    assert not samples[:start].any() and samples[start : start + 50].any()
    overlap = round(0.03 * RATE)  # of the two sentences between which no pause stands
    sizes = [round(chunk["generated_seconds"] * RATE) for chunk in row["chunks"]]
    position = start + sizes[0] + sizes[1] - overlap
    assert not samples[position : position + RATE // 2].any()
    assert samples[position - 50 : position].any() and samples[position + RATE // 2 :][:50].any()
    assert len(samples) == start + sum(sizes) - overlap + RATE // 2 + RATE // 5


def test_a_sentence_too_long_for_a_chunk_keeps_its_pauses(options):
    long = " ".join(["hello there you are,"] * 30) + " here. [pause 0.3s] Hello."
    _, row = spoken(options, text="[pause 0.1s] " + long)
    assert len(row["chunks"]) > 2
    assert [chunk.get("pause_before", 0.0) for chunk in row["chunks"]][:2] == [0.1, 0.0]
    pauses = [chunk.get("pause_after", 0.0) for chunk in row["chunks"]]
    assert pauses == [0.0] * (len(pauses) - 2) + [0.3, 0.0]


def test_a_duration_holds_the_pauses(options):
    samples, row = spoken(
        options, text="Hello there. [pause 0.5s] Here you are.", duration_seconds=4.0
    )
    assert len(row["chunks"]) == 2 and len(samples) / RATE == pytest.approx(4.0, abs=0.06)
    check_silences(samples, row)
    with pytest.raises(DataError, match=r"pauses take 5 s, the duration asked for is 4 s"):
        spoken(options, text="Hello. [pause 5s] Here.", duration_seconds=4.0)


def test_texts_without_pauses_say_nothing_of_them(options):
    _, row = spoken(options)
    assert not any("pause" in name for name in row["chunks"][0])


def test_a_first_sentence_that_is_left_out_leaves_its_pause():
    kept = _without_empty([Sentence(".", 0.0, 0.7), Sentence("Here.")])
    assert kept == ["Here."] and kept[0].pause_before == 0.7
