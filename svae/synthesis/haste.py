"""How short speech can be before words get lost: the least durations of its phones."""

from __future__ import annotations

from svae.text.phonemes import LETTERS, Word, pieces
from svae.text.unknown_words import guess

LEAST_MS = {
    "AA": 100, "AE": 80, "AH": 60, "AO": 100, "AW": 100, "AY": 150, "EH": 70, "ER": 80, "EY": 100, "IH": 40, "IY": 55,
    "OW": 80, "OY": 150, "UH": 60, "UW": 70,
    "B": 60, "CH": 50, "D": 50, "DH": 30, "F": 80, "G": 60, "HH": 20, "JH": 50, "K": 60, "L": 40, "M": 60, "N": 50,
    "NG": 60, "P": 50, "R": 30, "S": 60, "SH": 80, "T": 50, "TH": 60, "V": 40, "W": 60, "Y": 40, "Z": 40, "ZH": 40,
}  # fmt: skip
"""Milliseconds below which a phone is not shortened: the minimum durations of D. Klatt's rules (Allen, Hunnicutt and Klatt,
From Text to Speech: The MITalk System, 1987, chapter 9) as Festival's lib/klatt_durs.scm lists them. Its phones are
British; UH and UW have those of its `uh` and `u`, and AO that of AA, 100, where Festival's `oo` has 130."""
MARGIN = 1.1
"""Speech ends in a little silence, and no voice has all its phones at their least: of 96 LibriSpeech utterances the most
hurried one takes 1.28 times the sum of the least durations, half of them 1.75 times (2026-11-28)."""
LETTER_MS = 50
"""A letter of a word that nothing pronounces."""
SYLLABLE_MS = 100
"""A character that is a syllable: Chinese, Japanese, Korean."""


def least_seconds(text: str) -> float:
    """Return how long a text, spelled out, takes at least to be said so that all of it can be heard; pauses take nothing."""
    milliseconds = 0
    for piece in pieces(text):
        if isinstance(piece, Word):
            phones = piece.phones or guess(piece.letters)
            if phones:
                milliseconds += sum(LEAST_MS[phone] for phone in phones)
            else:
                milliseconds += LETTER_MS * sum(letter in LETTERS for letter in piece.letters)
    milliseconds += SYLLABLE_MS * sum("぀" <= c <= "鿿" or "가" <= c <= "힣" for c in text)
    return MARGIN * milliseconds / 1000
