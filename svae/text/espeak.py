"""Texts of a hundred languages as phonemes: `tokens: espeak`, by espeak-ng through phonemizer.

The phones are those of the International Phonetic Alphabet with the signs of stress and length, one symbol a character, as
Piper and StyleTTS 2 have them. Numbers and abbreviations are read by espeak-ng where no rules of svae have spelled them out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from svae.errors import ConfigError, DataError
from svae.text.languages import base_language, language_code
from svae.text.vocabulary import PHONES_IN_BRACES, Vocabulary

DEFAULT_LANGUAGE = "en"
"""What a text without a language is read as, where a vocabulary names no other."""
_DIALECTS = {"en": "en-us", "fr": "fr-fr", "zh": "cmn", "no": "nb"}
"""Which of several voices of espeak-ng a bare code means."""
_PUNCTUATION = " !\"'(),-.:;?[]{}¡¿…—«»“”。，！？、"
SYMBOLS = (
    " ",
    *_PUNCTUATION[1:],
    *"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ#^&*=_~|%ε",
    *"æçðøħŋœǀǁǂǃβθχᵊᵝᵻⁿˈˌːˑ˞ˠˤʰʱʲʷ˔˕˖˗˥˦˧˨˩↑↓",
    *(chr(code) for code in range(0x0250, 0x02B0)),  # extensions of the alphabet
    *(chr(code) for code in range(0x0300, 0x0370)),  # marks above and below
)
"""All that espeak-ng writes, and some more: the same whatever the corpus."""


@lru_cache(maxsize=1)
def _backend_class() -> Any:
    """Return phonemizer's interface of espeak-ng.

    Raises:
        ConfigError: the package or the library is missing.
    """
    try:
        from phonemizer.backend import EspeakBackend
    except ImportError as error:
        raise ConfigError(
            f"`tokens: espeak` needs {error.name}, which is not installed; try: pip install 'svae[espeak]'"
        ) from None
    if not EspeakBackend.is_available():
        raise ConfigError(
            "`tokens: espeak` needs the library of espeak-ng, which was not found; try: apt-get install espeak-ng (or "
            "brew install espeak-ng), or name its file in $PHONEMIZER_ESPEAK_LIBRARY"
        )
    return EspeakBackend


@lru_cache(maxsize=1)
def espeak_languages() -> tuple[str, ...]:
    """Return the languages of the installed espeak-ng, sorted. Raises as `EspeakVocabulary`."""
    return tuple(sorted(map(str, _backend_class().supported_languages())))


def espeak_language(language: str | None) -> str:
    """Return espeak-ng's name of a language.

    Raises:
        ConfigError: it has no such language, or is not installed.
    """
    code = language_code(language) or DEFAULT_LANGUAGE
    base = base_language(code) or code
    known = {name.lower(): name for name in espeak_languages()}
    for name in (code, _DIALECTS.get(base, base), base):
        if name in known:
            return known[name]
    if found := next((name for name in known if name.startswith(f"{base}-")), None):
        return known[found]
    raise ConfigError(
        f"language {language!r}: espeak-ng does not speak it. It speaks {' '.join(known.values())}"
    )


@lru_cache(maxsize=32)
def _backend(language: str) -> Any:
    import logging

    # Without a logger of its own, phonemizer warns on stderr of words that it reads by another language's rules.
    logger = logging.getLogger("svae.espeak")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return _backend_class()(
        language,
        preserve_punctuation=True,
        with_stress=True,
        language_switch="remove-flags",
        logger=logger,
    )


@lru_cache(maxsize=4096)
def _phones(text: str, language: str) -> str:
    """Return a text in phones; spaces at its ends stay, as they separate it from what comes after it."""
    said = "".join(_backend(language).phonemize([text], strip=True))
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return unicodedata.normalize("NFD", f"{start}{said.strip()}{end}") if text.strip() else text


class EspeakVocabulary(Vocabulary):
    """The phones of the International Phonetic Alphabet and punctuation, read by espeak-ng in a language.

    Args:
        symbols: see `Vocabulary`; None: `SYMBOLS`.
        language: of texts, until `in_language` says otherwise.
    """

    tokens = "espeak"
    reads_languages = True

    def __init__(
        self, symbols: Iterable[str] | None = None, language: str | None = DEFAULT_LANGUAGE
    ) -> None:
        super().__init__(tuple(SYMBOLS if symbols is None else symbols))
        self.language = language_code(language) or DEFAULT_LANGUAGE

    def in_language(self, language: str | None) -> Vocabulary:
        """Return what reads texts of a language; None: of its own.

        Raises:
            ConfigError: espeak-ng has no such language, or is not installed.
        """
        code = language_code(language)
        if code in (None, self.language):
            return self
        espeak_language(code)
        return EspeakVocabulary(self.symbols, code)

    def read(self, text: str) -> str:
        """Return a text in phones. Raises ConfigError where espeak-ng is missing, or has no such language."""
        return _phones(text, espeak_language(self.language))

    def fold(self, text: str) -> str:
        """Return the text as it is: espeak-ng reads both cases."""
        return text

    def unknown(self, text: str) -> list[str]:
        """Return the distinct characters of `text` that are read as what is not in the vocabulary, in order of appearance."""
        if not self._missing(text):
            return []
        return [char for char in dict.fromkeys(text) if self._missing(char)]

    def _missing(self, text: str) -> list[str]:
        return [char for char in dict.fromkeys(self.read(text)) if char not in self._ids]

    def places(self, text: str) -> int:
        """Return how many symbols a text is."""
        return len(self.read(text))

    def fits(self, text: str, frames: int) -> bool:
        """Return whether so many frames have room for a text, one symbol a frame."""
        # Words have at most a few phones and signs a letter, but one digit can be a dozen of them.
        digits = sum(map(str.isdigit, text))
        return 3 * len(text) + 20 * digits <= frames or self.places(self.fit(text)) <= frames

    def encode(self, text: str) -> list[int]:
        """Return one id a symbol.

        Raises:
            ConfigError: as `read`.
            DataError: phones that are not in the vocabulary; pronunciations in braces.
        """
        if PHONES_IN_BRACES.search(text):
            raise DataError(
                f"text {text[:80]!r}: phones in braces are English ones (`tokens: phonemes`); the model reads espeak-ng's"
            )
        phones = self.read(text)
        if missing := self._missing(text):
            raise DataError(
                f"text {text[:80]!r}: espeak-ng ({self.language}) reads it as {phones[:80]!r}, and the model does not know "
                f"{', '.join(map(repr, missing))}"
            )
        return [self._ids[char] for char in phones]

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint's `vocabulary` holds."""
        return {"tokens": self.tokens, "symbols": list(self.symbols), "language": self.language}

    def __repr__(self) -> str:
        return f"EspeakVocabulary(language={self.language!r})"
