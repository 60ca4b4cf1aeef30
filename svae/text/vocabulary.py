"""Text as the models see it: normalised, then one id a character.

No phonemes and no language-specific rules: characters are case-sensitive, and one that the model has never seen is
an error that names it (F5-TTS reads such characters as spaces, silently).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from svae.errors import DataError

PADDING_ID = -1
"""Fills token batches after the end of an utterance. Inside the model, ids move up by one and 0 is the filler."""

PHONES_IN_BRACES = re.compile(r"\{[ ]*[A-Z]{1,2}[0-2]?(?:[ ]+[A-Z]{1,2}[0-2]?)*[ ]*\}")
"""A pronunciation given in a text: ARPABET in braces, as in `{B EY1 S}`."""

_PLAIN = str.maketrans(
    {
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "`": "'", "´": "'",
        "“": '"', "”": '"', "„": '"', "‟": '"', "″": '"', "«": '"', "»": '"',
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-",
        "…": "...",
        # Invisible: zero-width space, joiners, word joiner, byte-order mark, soft hyphen.
        "\u200b": None, "\u200c": None, "\u200d": None, "\u2060": None, "\ufeff": None, "\u00ad": None,
    }
)  # fmt: skip


def normalize_text(text: str) -> str:
    """Return the text in the one spelling used for training and synthesis.

    Unicode NFC, typographic quotes, dashes and ellipses in ASCII, invisible characters removed, every run of white
    space one space, none at the ends. Letters, case and other punctuation stay. Idempotent.
    """
    # Removing an invisible character can bring a letter and its accent together, hence compose last.
    plain = unicodedata.normalize("NFC", text).translate(_PLAIN)
    return unicodedata.normalize("NFC", " ".join(plain.split()))


class Vocabulary:
    """The characters a model knows, in the order of their ids. Immutable.

    Args:
        symbols: distinct, non-empty strings; the space comes first (id 0).

    Raises:
        DataError: a symbol occurs twice or is empty, or the first is not the space.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols: tuple[str, ...] = tuple(symbols)
        if not self.symbols or self.symbols[0] != " ":
            first = repr(self.symbols[0]) if self.symbols else "nothing"
            raise DataError(f"vocabulary: the first symbol must be the space, got {first}")
        self._ids = {symbol: i for i, symbol in enumerate(self.symbols)}
        if len(self._ids) != len(self.symbols) or "" in self._ids:
            raise DataError(
                f"vocabulary: {len(self.symbols)} symbols, {len(self._ids)} of them distinct; "
                "every symbol must occur once and be non-empty"
            )

    @classmethod
    def from_characters(cls, characters: Iterable[str]) -> Vocabulary:
        """Build from any iterable of strings: the space, then every other character in code-point order."""
        return cls((" ", *sorted({char for text in characters for char in text} - {" "})))

    tokens = "characters"
    """The recipe's word for what it makes of a text."""
    reads_phones = False
    """Whether a pronunciation in braces (`{B EY1 S}`) is read as such."""
    reads_languages = False
    """Whether the same text has other symbols in another language."""
    language: str | None = None
    """The code of the language that it reads texts in, where that decides their symbols."""

    def in_language(self, language: str | None) -> Vocabulary:
        """Return what reads texts of a language; the same symbols for each.

        Raises:
            ConfigError: nobody can read that language.
        """
        return self

    def places(self, text: str) -> int:
        """Return how many symbols a text is at most: so many frames it needs."""
        return len(text)

    def unknown(self, text: str) -> list[str]:
        """Return the distinct characters of `text` that are not in the vocabulary, in order of appearance."""
        return [char for char in dict.fromkeys(text) if char not in self._ids]

    def fold(self, text: str) -> str:
        """Return `text` with every unknown letter whose other case is known in that case; the length stays."""
        other: dict[str, str | int | None] = {
            char: char.swapcase() for char in self.unknown(text) if char.swapcase() in self._ids
        }
        return text.translate(str.maketrans(other))

    def fit(self, text: str) -> str:
        """Return a text in `normalize_text`'s spelling, letters that are known in the other case only in that case."""
        return self.fold(normalize_text(text))

    def encode(self, text: str) -> list[int]:
        """Return one id per character; `text` should have gone through `normalize_text`.

        Raises:
            DataError: characters are not in the vocabulary; the message names each.
        """
        missing = self.unknown(text)
        if missing:
            names = ", ".join(
                f"{char!r} (U+{ord(char):04X} {unicodedata.name(char, '?')})" for char in missing
            )
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DataError(
                f"text {shown!r}: unknown character(s) {names}.\n"
                f"       The model knows {len(self)} characters: {''.join(self.symbols)!r}. Spell the text with these, "
                "leave the others out with --skip-unknown, or train on a corpus that has them."
            )
        return [self._ids[char] for char in text]

    def fits(self, text: str, frames: int) -> bool:
        """Return whether so many frames have room for a text, one symbol a frame; what is beyond them no model reads."""
        return len(self.fit(text)) <= frames

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; negative ids (padding) are left out."""
        return "".join(self.symbols[i] for i in ids if i >= 0)

    def to_json(self) -> list[str] | dict[str, object]:
        """Return what a checkpoint's `vocabulary` holds: the symbols in id order."""
        return list(self.symbols)

    @classmethod
    def from_json(cls, symbols: object) -> Vocabulary:
        """Rebuild from what `to_json` returned.

        Raises:
            DataError: not a list of strings, or not a valid vocabulary.
        """
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise DataError(f"vocabulary: expected a list of strings, got {type(symbols).__name__}")
        return cls(symbols)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.symbols == other.symbols

    def __hash__(self) -> int:
        return hash(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({''.join(self.symbols)!r})"
