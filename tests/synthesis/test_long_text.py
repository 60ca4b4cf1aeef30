"""Long texts: every word once and in order, joined without steps, in bounded memory."""

from __future__ import annotations

import math
import random

import pytest
import torch

from svae.errors import DataError
from svae.synthesis.chunks import chunk_text
from svae.synthesis.long_text import CROSSFADE_SECONDS, ChunkJoiner, speech_level
from svae.synthesis.loudness import Leveller
from svae.synthesis.trim import find_cut, trim_silence
from svae.text.sentences import Sentence

RATE = 16000


def seconds_of(text: str) -> float:
    return len(text) / 10


MIXED = ("{B EY1 S}", "{B EY1 S}.", "3,5", "10:30", "1,250,000", "http://x", "今天，天气：好、")
"""What has blanks or marks inside."""


def check_chunks(chunks: list[str], sentences: list[str]) -> None:
    """Check that chunks are the sentences, character by character, cut where there is white space or a mark."""
    left = " ".join(sentences)
    for number, chunk in enumerate(chunks):
        assert chunk == chunk.strip() and left.startswith(chunk), (chunk, left[:80])
        rest = left[len(chunk) :]
        left = rest.lstrip()
        if left and rest == left:
            assert chunk[-1] in ",:，：、" and not (chunk[-2] + left[0]).isdigit(), (
                chunk,
                left[:9],
            )
        assert chunk.count("{") == chunk.count("}"), (number, chunk)
    assert not left


@pytest.mark.parametrize("limit", [1.5, 3.0, 8.0, 1000.0])
def test_chunks_fit_and_lose_no_character(limit):
    random.seed(0)
    words = ["".join(random.choices("abcdef", k=random.randint(1, 12))) for _ in range(400)]
    words = [random.choice(MIXED) if random.random() < 0.2 else word for word in words]
    text = "".join(
        word + random.choice([" ", " ", ", ", ". ", "; ", " - "]) for word in words
    ).strip()
    sentences = [part + "." for part in text.split(". ")]
    chunks = list(chunk_text(sentences, seconds_of, limit))
    assert all(seconds_of(chunk) <= limit for chunk in chunks)
    check_chunks(chunks, sentences)
    if limit == 1000.0:
        assert len(chunks) == 1


@pytest.mark.parametrize("mark", ",:;，；：、")
def test_a_list_of_numbers_without_blanks_is_cut_behind_its_marks(mark):
    text = mark.join(map(str, range(1, 150)))
    chunks = list(chunk_text([text], seconds_of, 20.0))
    assert "".join(chunks) == text and len(chunks) == 3
    assert all(seconds_of(chunk) <= 20.0 and chunk[-1] == mark for chunk in chunks[:-1])


def test_marks_in_a_number_divide_only_a_word_that_does_not_fit():
    expected = ["um 3,5 und", "1,2,3,4,5,", "6,7 um"]
    assert list(chunk_text(["um 3,5 und 1,2,3,4,5,6,7 um"], seconds_of, 1.0)) == expected


@pytest.mark.parametrize(
    ("sentence", "limit", "expected"),
    [
        ("今天天气很好，我们去公园，回家吃饭。", 1.3, ["今天天气很好，我们去公园，", "回家吃饭。"]),
        ("um 3,5 Prozent bis 10:30 Uhr", 1.0, ["um 3,5", "Prozent", "bis 10:30", "Uhr"]),
        ("2000；2001；2002", 1.2, ["2000；2001；", "2002"]),
        ("a {B EY1 S}, {B EY1 S} is", 1.1, ["a", "{B EY1 S},", "{B EY1 S}", "is"]),
    ],
)
def test_a_sentence_is_cut_neither_in_phones_nor_in_numbers(sentence, limit, expected):
    assert list(chunk_text([sentence], seconds_of, limit)) == expected


def test_chunks_break_at_sentences_then_clauses():
    sentences = ["One two three.", "Four five, six seven; eight nine ten eleven.", "Twelve."]
    assert list(chunk_text(sentences, seconds_of, 3.0)) == [
        "One two three.", "Four five, six seven;", "eight nine ten eleven. Twelve.",
    ]  # fmt: skip
    with pytest.raises(DataError, match="the word 'aaaa"):
        list(chunk_text(["a" * 50], seconds_of, 3.0))


def test_chunks_come_as_they_are_asked_for():
    def endless():
        while True:
            yield "A sentence of some length."

    chunks = chunk_text(endless(), seconds_of, 5.0)
    assert [next(chunks) for _ in range(3)] == ["A sentence of some length."] * 3


def tone(seconds: float, level: float) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * 200 * torch.arange(int(seconds * RATE)) / RATE)


def join(chunks: list[torch.Tensor]) -> torch.Tensor:
    joiner = ChunkJoiner(RATE)
    return torch.cat([*(joiner.add(chunk) for chunk in chunks), joiner.rest()])


def test_joined_chunks_have_one_loudness_and_no_steps():
    chunks = [tone(1.0, 0.2), tone(0.7, 0.1), tone(0.5, 0.35)]
    joined = join(chunks)
    overlap = round(CROSSFADE_SECONDS * RATE)
    assert len(joined) == sum(map(len, chunks)) - 2 * overlap
    assert speech_level(joined[-4000:], RATE) == pytest.approx(
        speech_level(joined[:4000], RATE), rel=0.02
    )
    assert (joined[1:] - joined[:-1]).abs().max() < 0.2 * 2 * math.pi * 200 / RATE * 1.5
    whole = join([tone(1.0, 0.2)])
    assert torch.equal(whole, tone(1.0, 0.2))


def test_loudness_is_matched_within_bounds_and_without_clipping():
    quiet = join([tone(0.5, 0.2), tone(0.5, 0.01)])
    assert speech_level(quiet[-4000:], RATE) == pytest.approx(
        0.01 * 10 ** (6 / 20) / math.sqrt(2), rel=0.02
    )
    spiky = tone(0.5, 0.05)
    spiky[4000] = 0.9
    assert join([tone(0.5, 0.3), spiky]).abs().max() <= 1.0
    silent = join([torch.zeros(8000), tone(0.5, 0.2), torch.zeros(100)])
    assert silent.isfinite().all()


def test_silence_at_the_ends_goes_but_for_a_margin():
    waveform = torch.cat([torch.zeros(RATE), tone(1.0, 0.2), torch.zeros(2 * RATE)])[None]
    trimmed = trim_silence(waveform, RATE)
    assert 1.0 <= trimmed.shape[1] / RATE <= 1.3
    torch.testing.assert_close(trim_silence(tone(1.0, 0.2)[None], RATE), tone(1.0, 0.2)[None])
    assert trim_silence(torch.zeros(1, 100), RATE).shape == (1, 100)


def test_a_long_reference_is_cut_in_its_last_pause():
    waveform = torch.cat(
        [
            tone(3.0, 0.2),
            torch.zeros(RATE // 2),
            tone(2.0, 0.2),
            torch.zeros(RATE // 2),
            tone(9, 0.2),
        ]
    )
    cut = find_cut(waveform[None], RATE, 8.0)
    assert cut is not None and cut.place == "pause"
    assert cut.seconds == pytest.approx(5.75, abs=0.1)
    assert find_cut(waveform[None, : 8 * RATE], RATE, 8.0) is None


def test_pieces_of_a_chunk_are_joined_without_a_seam_and_fall_where_they_would_clip():
    joiner = ChunkJoiner(RATE, Leveller(-23.0, None, RATE))
    quiet = 0.05 * torch.sin(torch.arange(RATE) * 0.1)
    loud = 0.9 * torch.sin(torch.arange(RATE, 2 * RATE) * 0.1)
    text = Sentence("a", 0.5, 0.25)
    before, *pieces, after = joiner.join_pieces(text, iter([quiet, quiet, loud, quiet]))
    assert len(before) == RATE // 4 and not before.any()
    spoken = torch.cat([*pieces, after])
    assert len(spoken) == 4 * RATE + RATE // 2 and not spoken[4 * RATE :].any()
    gain = spoken[: 2 * RATE] / torch.cat([quiet, quiet]).where(quiet.repeat(2) != 0, 1.0)
    known = gain[gain != 0]
    assert (
        float(known.max() - known.min()) < 1e-4 and known[0] > 1.5
    )  # one gain, of the first piece
    fallen = RATE // 100  # it falls in 10 ms, then all is below the ceiling
    assert float(spoken[2 * RATE + fallen :].abs().max()) <= 0.99 + 1e-6
    lower = spoken[3 * RATE : 4 * RATE].abs().max() / quiet.abs().max()
    assert float(lower) == pytest.approx(0.99 / 0.9, rel=1e-3)  # and stays
