"""Chinese as syllables with tones, everything else as characters: `tokens: pinyin`, as F5-TTS has it.

Words decide how a character is read (`银行` yin2 hang2, `行人` xing2 ren2), so a text is cut into words first (rjieba, the
dictionary of jieba), and each word is read by pypinyin, with the tones that change beside others (`你好` ni2 hao3). A
syllable is one symbol, with a space before it. Letters stay letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from svae.errors import ConfigError, DataError
from svae.text.vocabulary import Vocabulary

_PLAIN = str.maketrans(";“”‘’", ",\"\"''")
_SYLLABLE = re.compile(r"[a-zêü]+[1-5]")
_GLUED = " :'\""
"""What a word in letters follows without a space."""


class _Read(NamedTuple):
    symbol: str
    place: int
    """Of the character in the text that it stands for."""


class _Libraries(NamedTuple):
    cut: Callable[[str], list[str]]
    """A text into words."""
    read: Callable[[str], list[str]]
    """A word into syllables."""


@lru_cache(maxsize=1)
def _libraries() -> _Libraries:
    """Return what cuts a text into words and what reads a word.

    Raises:
        ConfigError: they are not installed.
    """
    try:
        import rjieba
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise ConfigError(
            f"`tokens: pinyin` needs {error.name}, which is not installed; try: pip install 'svae[chinese]'"
        ) from None

    def read(word: str) -> list[str]:
        return lazy_pinyin(word, style=Style.TONE3, tone_sandhi=True)

    return _Libraries(rjieba.cut, read)


def _is_chinese(char: str) -> bool:
    return "\u3100" <= char <= "\u9fff"


def _size(char: str) -> int:
    """Return 1 for ASCII, 3 for the scripts of East Asia and their neighbours, else something else: bytes in UTF-8."""
    return len(char.encode())


def _syllables(word: str, *, whole: bool) -> list[str]:
    """Return how each character of a word is read: as a word, or one by one."""
    read = _libraries().read
    if whole:
        found = read(word)
        if len(found) == len(word):
            return found
    return [read(char)[0] if _is_chinese(char) else char for char in word]


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[_Read, ...]:
    """Return the symbols of a text, each with the place of its character."""
    found: list[_Read] = []
    place = 0
    for word in _libraries().cut(text.translate(_PLAIN)):
        sizes = {_size(char) for char in word}
        if sizes == {1} and len(word) > 1 and found and found[-1].symbol not in _GLUED:
            found.append(_Read(" ", place))
        syllables = list(word) if sizes == {1} else _syllables(word, whole=sizes == {3})
        for char, syllable in zip(word, syllables, strict=True):
            if sizes != {1} and _is_chinese(char):
                found.append(_Read(" ", place))
            found.append(_Read(syllable, place))
            place += 1
    return tuple(found)


def has_syllables(symbols: Iterable[str]) -> bool:
    """Return whether a list of symbols holds syllables with tones, as F5-TTS's published vocabulary does."""
    return any(_SYLLABLE.fullmatch(symbol) for symbol in symbols)


@lru_cache(maxsize=1)
def syllables() -> tuple[str, ...]:
    """Return every syllable of Mandarin that pypinyin knows, in each tone and without, sorted.

    Raises:
        ConfigError: pypinyin is not installed.
    """
    _libraries()
    from pypinyin.contrib.tone_convert import to_normal
    from pypinyin.pinyin_dict import pinyin_dict

    marked = {reading for readings in pinyin_dict.values() for reading in readings.split(",")}
    # As `Style.TONE3` writes them: ASCII letters, v for ü.
    plain = {to_normal(reading, v_to_u=False) for reading in marked}
    bases = {base for base in plain if re.fullmatch(r"[a-zê]+", base)}
    return tuple(sorted(f"{base}{tone}" for base in bases for tone in ("", *"1234")))


class PinyinVocabulary(Vocabulary):
    """Syllables with tones, and characters. See `Vocabulary` for the arguments.

    Punctuation that is not among the symbols is read as a space, as F5-TTS reads it; other characters are unknown.
    """

    tokens = "pinyin"

    @classmethod
    def from_characters(cls, characters: Iterable[str]) -> PinyinVocabulary:
        """Build from any iterable of strings: the space, their characters that are no syllables, and all syllables."""
        everything = {char for text in characters for char in text.translate(_PLAIN)}
        kept = {char for char in everything if _syllables(char, whole=True) == [char]}
        ours = {*kept, *syllables()} - {" "}
        return cls((" ", *sorted(ours)))

    def read(self, text: str) -> list[str]:
        """Return the symbols of a text, also those that are not in the vocabulary."""
        return [symbol for symbol, _ in _read(text)]

    def unknown(self, text: str) -> list[str]:
        """Return the distinct characters of `text` whose symbols are not in the vocabulary, in order of appearance."""
        return list(dict.fromkeys(text[place] for _, place in self._missing(text)))

    def _missing(self, text: str) -> Iterator[_Read]:
        for each in _read(text):
            if each.symbol not in self._ids and not _is_punctuation(each.symbol):
                yield each

    def places(self, text: str) -> int:
        """Return how many symbols a text is."""
        return len(_read(text))

    def fits(self, text: str, frames: int) -> bool:
        """Return whether so many frames have room for a text, one symbol a frame."""
        fitted = self.fit(text) if 2 * len(text) > frames else ""  # no character is more than two
        return self.places(fitted) <= frames

    def encode(self, text: str) -> list[int]:
        """Return one id a symbol.

        Raises:
            DataError: characters whose symbols are not in the vocabulary; the message names each.
        """
        if missing := list(self._missing(text)):
            names = ", ".join(
                dict.fromkeys(
                    repr(text[place]) if text[place] == symbol else f"{text[place]!r} ({symbol})"
                    for symbol, place in missing
                )
            )
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DataError(
                f"text {shown!r}: unknown character(s) {names}.\n"
                f"       The model knows {len(self)} syllables and characters. Use others, leave these out with "
                "--skip-unknown, or train on a corpus that has them."
            )
        return [self._ids.get(symbol, 0) for symbol, _ in _read(text)]

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint's `vocabulary` holds."""
        return {"tokens": self.tokens, "symbols": list(self.symbols)}

    def __repr__(self) -> str:
        return f"PinyinVocabulary({len(self)} symbols)"


def _is_punctuation(symbol: str) -> bool:
    return all(unicodedata.category(char).startswith("P") for char in symbol)
