"""Word errors against cases computed by hand."""

from __future__ import annotations

import pytest

from svae.judges.wer import normalize_for_wer, word_errors


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello,  World!", "hello world"),
        ("don't well-known", "dont wellknown"),
        ("“Curly” ‘quotes’", "curly quotes"),
        (" \t a \n b ", "a b"),
        ("...", ""),
    ],
)
def test_text_is_normalised_as_f5_does(text, normal):
    assert normalize_for_wer(text) == normal


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "The cat sat.", (0, 0, 0, 3)),
        ("the cat sat", "the bat sat", (1, 0, 0, 3)),
        ("the cat sat", "the sat", (0, 1, 0, 3)),
        ("the cat sat", "the big cat sat", (0, 0, 1, 3)),
        ("the cat sat", "", (0, 3, 0, 3)),
        ("one", "one two three", (0, 0, 2, 1)),
    ],
)
def test_word_errors_by_hand(reference, hypothesis, expected):
    found = word_errors(reference, hypothesis)
    assert (found.substitutions, found.deletions, found.insertions, found.words) == expected


def test_a_reference_without_words_is_refused():
    with pytest.raises(ValueError, match="no word"):
        word_errors("?!", "hello")


def test_every_ascii_punctuation_character_is_deleted():
    import string

    assert normalize_for_wer("a" + string.punctuation + "b") == "ab"
