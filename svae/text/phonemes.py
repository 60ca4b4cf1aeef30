"""English text as phonemes: an option (`tokens: phonemes`) that lets small models read after little data.

Words are looked up in the CMU Pronouncing Dictionary as pocketsphinx carries it (134,000 entries, no stress). What is not in
it is given in letters, which a model learns to read because in training some of the known words are given in letters too
(representation mixing, arXiv 1811.07240).
"""

from __future__ import annotations

import bisect
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from svae.errors import DataError
from svae.text.espeak import EspeakVocabulary
from svae.text.pinyin import PinyinVocabulary
from svae.text.vocabulary import PHONES_IN_BRACES, Vocabulary, normalize_text

PHONES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()
"""ARPABET without stress."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
READ_AS = {
    **dict.fromkeys(",;:()[]", ","), **dict.fromkeys(".!", "."), "?": "?", **dict.fromkeys('-"/*_', " "),
}  # fmt: skip
"""Punctuation and what is left of it; apostrophes belong to words."""
PAUSES = frozenset(" ,.?")
"""The symbols between words."""
FRAME_TOKENS = "frame-phonemes"
_WORD = re.compile(
    rf"(?P<written>[A-Za-z'-]+)?(?P<phones>{PHONES_IN_BRACES.pattern})|[A-Za-z']+|.", re.DOTALL
)
_LETTER_A = re.compile(
    r"(?<![\w'])(?:(?<=[A-Z]-)A|A(?=-[A-Z]\b)|(?<=[a-z] )A(?![\w'])(?! [A-Z0-9]))"
)
"""An A that is spelled, beside other letters (`A-I`) or within a sentence (`vitamin A`), and no article."""
_VOICELESS, _SIBILANT = frozenset("P T K F TH".split()), frozenset("S Z SH ZH CH JH".split())


def dictionary_file() -> Path:
    """Return the file that `dictionary` reads: CMU's, as pocketsphinx carries it."""
    import pocketsphinx  # its library is large, and only phonemes and the offline judge need it

    return Path(pocketsphinx.get_model_path()) / "en-us" / "cmudict-en-us.dict"


@lru_cache(maxsize=1)
def dictionary() -> dict[str, tuple[str, ...]]:
    """Return word → phones, the first pronunciation of each.

    Raises:
        DataError: pocketsphinx has no such dictionary any more.
    """
    path = dictionary_file()
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
        return with_s(stem)
    if stripped.isupper() and 2 <= len(stripped) <= 5 and stripped.isalpha():
        return tuple(phone for letter in stripped.lower() for phone in known[f"{letter}."])
    return None


def with_s(stem: tuple[str, ...]) -> tuple[str, ...]:
    """Return the phones of a word with 's, by English's rule."""
    if stem[-1] in _SIBILANT:
        return (*stem, "AH", "Z")
    return (*stem, "S" if stem[-1] in _VOICELESS else "Z")


def is_spelled_in_dictionary(word: str) -> bool:
    """Return whether the dictionary reads a word letter by letter, as it does `ibm`."""
    known = dictionary()
    spelled = tuple(phone for letter in word for phone in known.get(f"{letter}.", ("?",)))
    return known.get(word) == spelled


class Word(NamedTuple):
    """A word of a text."""

    letters: str
    phones: tuple[str, ...] | None
    """None where no rule pronounces it."""
    number: int
    """Which piece of text it is, counted from 0."""


def pieces(text: str) -> Iterator[Word | str]:
    """Yield the words of a text and the symbols between them: `,`, `.`, `?` or a space."""
    plain = _without_accents(normalize_text(text))
    spelled = {match.start() for match in _LETTER_A.finditer(plain)}
    for number, match in enumerate(_WORD.finditer(plain)):
        piece = match[0]
        if match["phones"]:
            phones = tuple(phone.rstrip("012") for phone in match["phones"].strip("{} ").split())
            yield Word((match["written"] or "").lower().strip("'"), phones, number)
        elif match.start() in spelled:
            yield Word("a", dictionary()["a."], number)
        elif piece.strip("'") and piece[0] in "'" + LETTERS + LETTERS.upper():
            yield Word(piece.lower().strip("'"), pronounce(piece), number)
        else:
            yield READ_AS.get(piece, " ")


class PhonemeVocabulary(Vocabulary):
    """A fixed set of symbols: space, comma, full stop, question mark, letters (with the apostrophe), phones.

    Args:
        spelled: share of known words that `encode` gives in letters, chosen by the text itself. For training.
        guess: pronounces words that the dictionary lacks (`unknown_words.guess`), for synthesis. None: they stay letters.
    """

    tokens = "phonemes"
    reads_phones = True

    def __init__(
        self, spelled: float = 0.0, guess: Callable[[str], tuple[str, ...] | None] | None = None
    ) -> None:
        super().__init__((" ", ",", ".", "?", "'", *LETTERS, *PHONES))
        self.spelled = spelled
        self.guess = guess

    def unknown(self, text: str) -> list[str]:
        """Return the distinct characters that no rule reads, in order of appearance."""
        readable = {" ", "'", *LETTERS, *LETTERS.upper(), *READ_AS}
        plain = normalize_text(text)
        given = {
            phone.rstrip("012")
            for braces in PHONES_IN_BRACES.findall(plain)
            for phone in braces.strip("{} ").split()
        }
        if given <= set(PHONES):
            plain = PHONES_IN_BRACES.sub("", plain)
        return [
            char for char in dict.fromkeys(plain) if not set(_without_accents(char)) <= readable
        ]

    def fold(self, text: str) -> str:
        """Return the text as it is: case makes no difference."""
        return text

    def read(self, text: str) -> list[str]:
        """Return the symbols of a text, words separated by single spaces.

        Raises:
            DataError: characters that no rule reads; the message names each.
        """
        if missing := self.unknown(text):
            names = ", ".join(
                f"{char!r} (U+{ord(char):04X} {unicodedata.name(char, '?')})" for char in missing
            )
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DataError(
                f"text {shown!r}: unknown character(s) {names}.\n"
                "       The model reads English letters, spaces and punctuation. Spell the text with these, or leave the "
                "others out with --skip-unknown."
            )
        symbols: list[str] = []
        for piece in pieces(text):
            if isinstance(piece, Word):
                symbols += self.spell(piece, text)
            elif piece != " " or (symbols and symbols[-1] != " "):
                symbols.append(piece)
        return symbols

    def encode(self, text: str) -> list[int]:
        """Return one id per symbol; see `read`."""
        return self.ids(self.read(text))

    def fits(self, text: str, frames: int) -> bool:
        """Return whether so many frames have room for a text; one that no rule reads is refused where it is read."""
        # Words have about as many phones as letters, initialisms up to seven a letter; few texts are near the limit.
        if 2 * len(text) + 6 * sum(map(str.isupper, text)) <= frames:
            return True
        return bool(self.unknown(text)) or len(self.read(text)) <= frames

    def ids(self, symbols: Sequence[str]) -> list[int]:
        """Return the id of each symbol."""
        return [self._ids[symbol] for symbol in symbols]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the symbols of `ids`, separated by spaces, words by two; negative ids are left out."""
        return " ".join("" if self.symbols[i] == " " else self.symbols[i] for i in ids if i >= 0)

    def spell(self, word: Word, text: str) -> Sequence[str]:
        """Return a word's phones; its letters where it has none, or where the share `spelled` of this text says so."""
        if word.phones is None and self.guess is not None:
            return self.guess(word.letters) or word.letters
        if not word.letters and word.phones is not None:
            return word.phones  # a pronunciation in braces, without a word
        digest = hashlib.sha256(f"{word.number}/{text}".encode()).digest() if self.spelled else b""
        if word.phones is None or (
            digest and int.from_bytes(digest[:4], "big") < self.spelled * 2**32
        ):
            return word.letters
        return word.phones

    def to_json(self) -> dict[str, object]:
        """Return what a checkpoint's `vocabulary` holds."""
        return {"tokens": self.tokens, "symbols": list(self.symbols)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(spelled={self.spelled})"


class FramePhonemes(PhonemeVocabulary):
    """One symbol a frame: which phone is spoken when is known, by forced alignment or by predicted durations.

    Source: Voicebox (arXiv 2306.15687) learns on frame-level phones; the model need not find the alignment itself.
    """

    tokens = FRAME_TOKENS

    def fits(self, text: str, frames: int) -> bool:
        """Return True: whatever is said, there is one symbol a frame."""
        return True

    def timeline(
        self, text: str, words: Sequence[Sequence[float]] | None = None
    ) -> tuple[list[str], list[float]]:
        """Return the symbols of a text as they follow each other in time, and when each ends.

        Pauses stand before, between and after all words, as the punctuation there or a space; they may take no time.

        Args:
            text: what is said.
            words: of each word the start, and the end of each phone, in any unit; a word without a known
                pronunciation may have any number of ends. None: the symbols alone.

        Raises:
            DataError: other words than those of the text.
        """
        symbols, ends = [" "], [0.0]
        count = 0
        for piece in pieces(text):
            if not isinstance(piece, Word):
                symbols[-1] = piece if symbols[-1] == " " else symbols[-1]
                continue
            spelled = self.spell(piece, text)
            if words is not None:
                times = words[count] if count < len(words) else []
                if len(times) < 2 or (
                    piece.phones is not None and len(times) != len(piece.phones) + 1
                ):
                    raise DataError(
                        f"text {text[:80]!r}: the times are not those of its words; align it again"
                    )
                start, *until = times
                if spelled != piece.phones:
                    until = [
                        start + (until[-1] - start) * (i + 1) / len(spelled)
                        for i in range(len(spelled))
                    ]
                ends[-1] = start
                ends += [*until, until[-1]]
            symbols += [*spelled, " "]
            count += 1
        if words is not None and count != len(words):
            raise DataError(
                f"text {text[:80]!r}: has {count} words, the times {len(words)}; align it again"
            )
        return symbols, ends

    def frames(self, symbols: Sequence[str], ends: Sequence[float], num_frames: int) -> list[int]:
        """Return the id of what is said in the middle of each frame; `ends` in frames."""
        return [
            self._ids[symbols[min(bisect.bisect_right(ends, i + 0.5), len(symbols) - 1)]]
            for i in range(num_frames)
        ]


def open_vocabulary(
    stored: object, *, guess: Callable[[str], tuple[str, ...] | None] | None = None
) -> Vocabulary:
    """Rebuild a vocabulary from a checkpoint: a list of characters, or what the `to_json` of another vocabulary returned.

    Args:
        stored: what the checkpoint holds.
        guess: see `PhonemeVocabulary`; models of characters need none.

    Raises:
        DataError: neither, or phonemes of another version.
    """
    if not isinstance(stored, dict):
        return Vocabulary.from_json(stored)
    if (tokens := stored.get("tokens")) in (PinyinVocabulary.tokens, EspeakVocabulary.tokens):
        symbols = Vocabulary.from_json(stored.get("symbols")).symbols
        if tokens == PinyinVocabulary.tokens:
            return PinyinVocabulary(symbols)
        return EspeakVocabulary(symbols, stored.get("language"))
    kind = FramePhonemes if stored.get("tokens") == FRAME_TOKENS else PhonemeVocabulary
    vocabulary = kind(guess=guess)
    if stored != vocabulary.to_json():
        raise DataError("vocabulary: these are not the phonemes of this version of svae")
    return vocabulary


def without_phones(text: str) -> str:
    """Return a text without pronunciations in braces, as what is written: `bass{B EY S}` becomes `bass`.

    A text that has none stays as it is.
    """
    if PHONES_IN_BRACES.search(text) is None:
        return text
    return " ".join(PHONES_IN_BRACES.sub("", text).split())


def as_heard(text: str, heard: str) -> str:
    """Return a text to compare with what was heard: each pronunciation in braces as the words that sound like it.

    These are words that were heard, if any sound so (`{B EY S}`: bass or base); else the word that the pronunciation
    belongs to, or one that the dictionary says in this way; else the phones themselves, which match nothing.
    """
    words = re.findall(r"[a-z']+", heard.lower())

    def say(match: re.Match[str]) -> str:
        phones = [phone.rstrip("012") for phone in match[2].strip("{} ").split()]
        candidates = [words[i : i + n] for n in (1, 2, 3) for i in range(len(words) - n + 1)]
        best = min(candidates, key=lambda found: _difference(found, phones), default=[])
        if _difference(best, phones) <= 2 * (len(phones) // 4):  # a phone in four may be another
            return " ".join(best)
        if match[1]:
            return match[1]
        known = dictionary()
        return next((w for w, said in known.items() if said == (*phones,)), "".join(phones))

    return re.sub(rf"([A-Za-z'-]+)?({PHONES_IN_BRACES.pattern})", say, text)


def _difference(words: Sequence[str], phones: Sequence[str]) -> float:
    """Return how many phones words have and lack in comparison: 2 where one phone is another."""
    said = [phone for word in words for phone in pronounce(word) or ()]
    if not said:
        return float("inf")
    blocks = SequenceMatcher(None, said, list(phones), autojunk=False).get_matching_blocks()
    return len(said) + len(phones) - 2 * sum(block.size for block in blocks)


def _without_accents(text: str) -> str:
    return "".join(
        char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)
    )
