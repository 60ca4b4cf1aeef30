"""Words that no dictionary has: guessed by a network where its package is installed, and letters where it is not."""

from __future__ import annotations

import pytest

from svae.text import unknown_words
from svae.text.phonemes import PHONES, FramePhonemes, PhonemeVocabulary, dictionary, open_vocabulary

needs_network = pytest.mark.skipif(not unknown_words.is_available(), reason="needs espnet-g2p-en")


@needs_network
def test_words_are_guessed_about_as_the_dictionary_has_them():
    words = sorted(word for word in dictionary() if word.isalpha() and len(word) > 4)[::2500]
    right = [unknown_words.guess(word) == dictionary()[word] for word in words]
    assert sum(right) > 0.5 * len(right)


@needs_network
def test_a_guess_is_phones_and_possessives_follow_english():
    for word in ("raghunathan", "blorf", "zzyx", "x" * 60):
        assert set(unknown_words.guess(word)) <= set(PHONES)
    assert unknown_words.guess("raghunathan's") == (*unknown_words.guess("raghunathan"), "Z")
    assert unknown_words.guess("'") is None


def test_a_vocabulary_guesses_only_what_it_is_told_to():
    def guess(word):
        return ("B", "AH") if word == "blorf" else None

    vocabulary = open_vocabulary(PhonemeVocabulary().to_json(), guess=guess)
    assert vocabulary.read("the blorf") == ["DH", "AH", " ", "B", "AH"]
    assert vocabulary.read("zzyx") == ["z", "z", "y", "x"]
    assert PhonemeVocabulary().read("blorf") == [*"blorf"]


def test_times_of_a_guessed_word_are_spread_over_its_phones():
    vocabulary = FramePhonemes(guess=lambda word: ("B", "AH"))
    symbols, ends = vocabulary.timeline("blorf", [[0.0, 1.0]])
    assert (symbols, ends) == ([" ", "B", "AH", " "], [0.0, 0.5, 1.0, 1.0])


def test_without_the_package_nothing_is_guessed(monkeypatch):
    monkeypatch.setattr(unknown_words, "_weights", lambda: None)
    unknown_words.guess.cache_clear()
    assert unknown_words.guess("raghunathan") is None
    unknown_words.guess.cache_clear()
