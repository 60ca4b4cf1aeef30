"""English text as phonemes: an option (`tokens: phonemes`) that lets small models read after little data.

Words are looked up in the CMU Pronouncing Dictionary as pocketsphinx carries it (134,000 entries, no stress). What is not in
it is given in letters, which a model learns to read because in training some of the known words are given in letters too
(representation mixing, arXiv 1811.07240).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from svae.errors import DataError
from svae.text import Vocabulary, normalize_text

PHONES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()
"""ARPABET without stress."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
READ_AS = {
    **dict.fromkeys(",;:()[]", ","), **dict.fromkeys(".!", "."), "?": "?", **dict.fromkeys('-"/*_', " "),
}  # fmt: skip
"""Punctuation and what is left of it; apostrophes belong to words."""
_WORD = re.compile(r"[A-Za-z']+|.", re.DOTALL)
_VOICELESS, _SIBILANT = frozenset("P T K F TH".split()), frozenset("S Z SH ZH CH JH".split())


@lru_cache(maxsize=1)
def dictionary() -> dict[str, tuple[str, ...]]:
    """Return word → phones, the first pronunciation of each.

    Raises:
        DataError: pocketsphinx has no such dictionary any more.
    """
    import pocketsphinx  # its library is large, and only phonemes and the offline judge need it

    path = Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; `tokens: phonemes` reads pocketsphinx's dictionary, tested with pocketsphinx 5"
        )
    entries = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {word: tuple(phones) for word, *phones in entries if "(" not in word}


@lru_cache(maxsize=65536)
def pronounce(word: str) -> tuple[str, ...] | None:
    """Return the phones of a word as written, or None where the dictionary does not help.

    Capitals of two to five letters that are no word are read letter by letter; 's follows English's rule.
    """
    known, stripped = dictionary(), word.strip("'")
    for candidate in (word.lower(), stripped.lower()):
        if candidate in known:
            return known[candidate]
    if stripped.lower().endswith("'s") and (stem := pronounce(stripped[:-2])):
        ending = ("AH", "Z") if stem[-1] in _SIBILANT else ("S",) if stem[-1] in _VOICELESS else ("Z",)
        return (*stem, *ending)
    if stripped.isupper() and 2 <= len(stripped) <= 5 and stripped.isalpha():
        return tuple(phone for letter in stripped.lower() for phone in known[f"{letter}."])
    return None


class PhonemeVocabulary(Vocabulary):
    """A fixed set of symbols: space, comma, full stop, question mark, letters (with the apostrophe), phones.

    Args:
        spelled: share of known words that `encode` gives in letters, chosen by the text itself. For training.
    """

    def __init__(self, spelled: float = 0.0) -> None:
        super().__init__((" ", ",", ".", "?", "'", *LETTERS, *PHONES))
        self.spelled = spelled

    def unknown(self, text: str) -> list[str]:
        """Return the distinct characters that no rule reads, in order of appearance."""
        readable = {" ", "'", *LETTERS, *LETTERS.upper(), *READ_AS}
        return [char for char in dict.fromkeys(normalize_text(text)) if not set(_without_accents(char)) <= readable]

    def fold(self, text: str) -> str:
        """Return the text as it is: case makes no difference."""
        return text

    def read(self, text: str) -> list[str]:
        """Return the symbols of a text, words separated by single spaces.

        Raises:
            DataError: characters that no rule reads; the message names each.
        """
        if missing := self.unknown(text):
            names = ", ".join(f"{char!r} (U+{ord(char):04X} {unicodedata.name(char, '?')})" for char in missing)
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DataError(
                f"text {shown!r}: unknown character(s) {names}.\n"
                "       The model reads English letters, spaces and punctuation. Spell the text with these."
            )
        symbols: list[str] = []
        for number, piece in enumerate(_WORD.findall(_without_accents(normalize_text(text)))):
            if piece.strip("'") and piece[0] in "'" + LETTERS + LETTERS.upper():
                phones = None if self._spells(text, number) else pronounce(piece)
                symbols += phones or piece.lower().strip("'")
            elif (mark := READ_AS.get(piece, " ")) != " " or (symbols and symbols[-1] != " "):
                symbols.append(mark)
        return symbols

    def encode(self, text: str) -> list[int]:
        """Return one id per symbol; see `read`."""
        return [self._ids[symbol] for symbol in self.read(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the symbols of `ids`, separated by spaces, words by two; negative ids are left out."""
        return " ".join("" if self.symbols[i] == " " else self.symbols[i] for i in ids if i >= 0)

    def _spells(self, text: str, number: int) -> bool:
        if self.spelled == 0:
            return False
        digest = hashlib.sha256(f"{number}/{text}".encode()).digest()
        return int.from_bytes(digest[:4], "big") < self.spelled * 2**32

    def to_json(self) -> dict[str, object]:
        """Return what a checkpoint's `vocabulary` holds."""
        return {"tokens": "phonemes", "symbols": list(self.symbols)}

    def __repr__(self) -> str:
        return f"PhonemeVocabulary(spelled={self.spelled})"


def open_vocabulary(stored: object) -> Vocabulary:
    """Rebuild a vocabulary from a checkpoint: a list of characters, or what PhonemeVocabulary.to_json returned.

    Raises:
        DataError: neither, or phonemes of another version.
    """
    if not isinstance(stored, dict):
        return Vocabulary.from_json(stored)
    vocabulary = PhonemeVocabulary()
    if stored != vocabulary.to_json():
        raise DataError("vocabulary: these are not the phonemes of this version of svae")
    return vocabulary


def _without_accents(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
