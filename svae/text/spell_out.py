"""Written text as it is spoken: what happens before the model's characters.

English goes through the table of rules_en.py; the numbers and signs that are left, and other languages, are spelled out by
wetext (the grammars of WeTextProcessing). Both are rule-based, work offline and make mistakes; `svae synthesize --verbose`
shows what they made of a text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

from svae.errors import ConfigError
from svae.text.code_en import read_code_and_formulas
from svae.text.languages import base_language
from svae.text.markup import without_marks
from svae.text.numbers_en import digits, quantity
from svae.text.phonemes import dictionary, is_spelled_in_dictionary
from svae.text.readings_en import letters
from svae.text.rules_en import LEFT_OVER, RULES
from svae.text.vocabulary import PHONES_IN_BRACES, normalize_text
from svae.text.words_en import ACRONYMS, COMMON_CAPITALS, INITIALISMS, SOUNDS, WORDS_TOO

SPOKEN_LANGUAGES = ("en", "zh", "ja")
"""Languages that can be spelled out. None of them: the text stays, and is split into sentences by English rules."""
_ESCAPED = {'"': "\ue000", "\\": "\ue001"}
"""Private-use characters that stand for what wetext would return escaped."""
_FIRST_STAND_IN = 0xF0000
"""From here on private characters stand for what no rule may touch."""
_STRETCH = re.compile(r"(?:\S+\s*){1,40}|\s+")
"""What the grammar is given at a time: its time grows with the square of the length."""
_LONGEST = 2000
"""Characters that are read at a time."""
_SENTENCE_END = re.compile(r"(?<=[a-z]{3}[.!?])\s+(?=[A-Z][a-z])")
_LONG_NUMBER = re.compile(r"(?<![\w.,])\d{31,}(?![\w.,]\d)")
"""No one says these otherwise than digit by digit."""
_PLAIN_NUMBER = re.compile(
    r"(?<![\w.,/:-])\d{1,3}(?:,\d{3})*(?:\.\d+)?(?![\w/:-]|[.,]\d)|(?<![\w.,/:-])\d+(?:\.\d+)?(?![\w/:-]|[.,]\d)"
)
_DASH = re.compile(r"\s*[—―]+\s*(?=\S)|(?<=[A-Za-z,.!?])\s+–\s+(?=\S)")


def check_language(language: str | None) -> None:
    """Raise ConfigError where a language has no rules."""
    if language is not None and base_language(language) not in SPOKEN_LANGUAGES:
        raise ConfigError(
            f"--language {language!r}: no rules to spell out numbers; use one of {', '.join(SPOKEN_LANGUAGES)}, or none"
        )


def spelled_text(text: str, language: str | None) -> str:
    """Return a transcript with its numbers and signs as words; as it is where its language is unknown or has no rules."""
    known = base_language(language) in SPOKEN_LANGUAGES
    return spoken_form(text, language) if known else text


def spoken_form(text: str, language: str | None) -> str:
    """Return the text with everything spelled out that is not read letter by letter, in `normalize_text`'s spelling.

    A text with anything in it is never returned empty, and phones in braces (`{B EY1 S}`) stay as they are.

    Args:
        text: one sentence or many.
        language: one of `SPOKEN_LANGUAGES`, in any of their names (`en-US`, `eng`); None leaves numbers and symbols as they are.

    Raises:
        ConfigError: the language has no rules.
    """
    check_language(language)
    language = base_language(language)
    plain = normalize_text(without_marks(text))
    if language is None or not plain:
        return plain
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return chr(_FIRST_STAND_IN + len(kept) - 1)

    spoken = PHONES_IN_BRACES.sub(keep, text)
    if language == "en":
        spoken = _english(spoken)
    else:
        spoken = _grammar(normalize_text(without_marks(spoken)), language)
    for number, braces in enumerate(kept):
        spoken = spoken.replace(chr(_FIRST_STAND_IN + number), braces)
    spoken = normalize_text(spoken)
    return spoken if any(map(str.isalnum, spoken)) else plain


def _english(text: str) -> str:
    """Read a text stretch by stretch, as the time of some patterns grows with the square of the length."""
    return normalize_text(" ".join(map(_english_stretch, _stretches(text))))


def _stretches(text: str) -> Iterator[str]:
    """Yield a text in pieces of at most `_LONGEST` characters, between sentences where possible, else between words."""
    text = _LONG_NUMBER.sub(lambda m: f" {digits(m[0])} ", text)
    start = 0
    while len(text) - start > _LONGEST:
        window = text[start : start + _LONGEST]
        ends = [match.end() for match in _SENTENCE_END.finditer(window)]
        end = ends[-1] if ends else window.rfind(" ") + 1
        end = end or max(window.rfind(sign) for sign in ",;:-/.") + 1 or _LONGEST
        yield text[start : start + end]
        start += end
    yield text[start:]


def _english_stretch(text: str) -> str:
    text = read_code_and_formulas(text)
    plain = normalize_text(_DASH.sub(", ", re.sub(r"(?<=\d)[—―](?=\d)", "-", text)))
    for rule in RULES:
        plain = rule.pattern.sub(rule.reading, plain)
    plain = _spell_capitals(plain)
    if re.search(r"\d", plain):
        plain = "".join(
            _grammar(part, "en") if re.search(r"\d", part) else part
            for stretch in re.split(r"([\"\[\]{}<>\\\ue000-\uf8ff]+)", plain)
            for part in _STRETCH.findall(stretch)
        )
    for pattern, reading in LEFT_OVER:
        plain = pattern.sub(reading, plain)
    plain = re.sub(r"\s+(?=[,.;:!?)\]](?!\w))", "", normalize_text(plain))
    return re.sub(r"(?<=[([])\s+", "", re.sub(r",(?:\s*,)+", ",", plain))


# ----------------------------------------------------------------------------------------------- capitals

_CAPITALS = re.compile(r"(?<![\w'-])([A-Z]{2,})(?:(?=\d)|(s|'[sS])?(?!\w|'[A-Za-z]))")
_LONGEST_INITIALISM = 8
_MIXED = re.compile(r"(?<![\w'])([a-z]|[A-Z]?[a-z]{2,}|[MB](?=Sc\b))([A-Z]{2,4}|Sc)\b(?!-[A-Z]\b)")
"""Words that end in letters that are spelled: `iOS`, `OpenGL`, `MSc`."""


def _spell_capitals(text: str) -> str:
    """Return a text in which initialisms are spelled (`F-B-I`) and words in capitals stay."""

    def spell(match: re.Match[str]) -> str:
        word, ending = match[1], match[2]
        if not _is_initialism(word, match):
            return match[0]
        return letters(word) + ("'s" if ending else "") + after_digit(match)

    def spell_end(match: re.Match[str]) -> str:
        start = letters(match[1]) + "-" if len(match[1]) == 1 else match[1] + " "
        return start + letters(match[2])

    def after_digit(match: re.Match[str]) -> str:
        return " " if match.string[match.end() : match.end() + 1].isdigit() else ""

    return _MIXED.sub(spell_end, _CAPITALS.sub(spell, text))


def _is_initialism(word: str, match: re.Match[str]) -> bool:
    if word in COMMON_CAPITALS or word in ACRONYMS:
        return False
    if word == "AM" and re.search(r"\bI $|^ I\b", match.string[: match.start()] or _after(match)):
        return False
    known, spelled = word.lower() in dictionary(), is_spelled_in_dictionary(word.lower())
    is_word = known and not spelled and (word in WORDS_TOO or word not in INITIALISMS)
    if is_word and _is_shouted(match):
        return False
    if word in INITIALISMS:
        return word != "IT" or not re.match(
            r"'S|\s+(?:is|was|will|has|does|can|must)\b", _after(match)
        )
    if known:
        if not set(word) & set("AEIOUY") and word not in SOUNDS:
            return True
        return len(word) == 2 or spelled
    # What no dictionary has is a word if it can be said and is long, or stands among words in capitals.
    if len(word) <= 4 and not _is_shouted(match):
        return True
    return len(word) <= _LONGEST_INITIALISM and not _can_be_said(word)


def _after(match: re.Match[str]) -> str:
    return match.string[match.end(1) :]


def _can_be_said(word: str) -> bool:
    """Return whether the dictionary has every three letters of a word in one of its own."""
    return _threes(word.lower()) <= _threes_of_words()


def _threes(word: str) -> set[str]:
    return {f"^{word}$"[i : i + 3] for i in range(len(word))}


@functools.lru_cache(maxsize=1)
def _threes_of_words() -> frozenset[str]:
    return frozenset(three for word in dictionary() for three in _threes(word))


def _is_shouted(match: re.Match[str]) -> bool:
    """Return whether the words around are in capitals as well: those beside it, or all of its text."""

    def is_word_in_capitals(word: str) -> bool:
        return (
            len(word) > 1
            and word.isupper()
            and word not in INITIALISMS
            and word.lower().strip("'") in dictionary()
        )

    if not any(char.islower() for char in match.string):
        rest = f"{match.string[: match.start()]} {match.string[match.end() :]}"
        return any(map(is_word_in_capitals, re.findall(r"[A-Z']+", rest)))
    before = re.search(r"([A-Za-z']+)[^A-Za-z']+$", match.string[: match.start()])
    after = re.match(r"[^A-Za-z'.!?]+([A-Za-z']+)", match.string[match.end() :])
    neighbours = [found[1] for found in (before, after) if found is not None]
    return bool(neighbours) and all(map(is_word_in_capitals, neighbours))


# ----------------------------------------------------------------------------------------------- wetext


def _grammar(text: str, language: str) -> str:
    """Run wetext's grammar on a text; word by word where it has no reading of the whole, or loses words of it."""
    if not text.strip():
        return text
    found = _spell(text, language)
    if language == "en" and not _keeps_words(text, found):
        found = " ".join(_spell(word, language) or word for word in text.split())
    elif not found.strip():
        return text
    start = " " if text[:1] == " " else ""
    return start + found.strip() + (" " if text[-1:] == " " else "")


def _keeps_words(before: str, after: str) -> bool:
    """Return whether the words of a text are all, and in order, in what became of it.

    Words beside a number may have changed: a unit, a month, an abbreviation.
    """
    tokens = before.split()
    has_digit = [any(map(str.isdigit, token)) for token in tokens]
    left = iter(re.findall(r"[^\W\d_]+", after.lower()))
    for i, token in enumerate(tokens):
        if any(has_digit[max(i - 1, 0) : i + 2]):
            continue
        if any(word not in left for word in re.findall(r"[^\W\d_]+", token.lower())):
            return False
    return bool(after.strip())


def _spell(text: str, language: str) -> str:
    """Run the grammar on the whole text, or word by word where it has no reading of the whole; keep what has none."""
    if not text.strip():
        return text
    # An answer, where the grammar reads "number"; the space is taken out again.
    escaped = re.sub(r"\b([Nn]o)\.", r"\1 .", text) if language == "en" else text
    for char, stand_in in _ESCAPED.items():
        escaped = escaped.replace(char, stand_in)
    try:
        spelled = str(_normalizer(language).normalize(escaped))
    except AssertionError:  # what wetext raises then
        words = text.split()
        return text if len(words) == 1 else " ".join(_spell(word, language) for word in words)
    for char, stand_in in _ESCAPED.items():
        spelled = spelled.replace(stand_in, char)
    spelled = spelled.replace(" ,", ",").replace(" .", ".")
    # The grammar takes the full stop of "World War 2." for part of an abbreviation.
    return spelled + "." if text.rstrip()[-1:] == "." and spelled[-1:].isalnum() else spelled


@functools.lru_cache(maxsize=4)
def _normalizer(language: str) -> Any:
    try:
        from wetext import Normalizer  # loads grammars of some megabytes
    except ModuleNotFoundError:
        return PlainNumbers(
            language
        )  # in the runtime package, whose only packages are those of its networks
    return Normalizer(lang=language, operator="tn")


class PlainNumbers:
    """Reads whole and decimal numbers of English as the grammar does, and refuses all else that has digits."""

    def __init__(self, language: str) -> None:
        self.language = language

    def normalize(self, text: str) -> str:
        """Return the text with its numbers as words.

        Raises:
            ConfigError: it needs the grammar.
        """
        spelled = text
        if self.language == "en":
            spelled = _PLAIN_NUMBER.sub(lambda match: quantity(match[0]), text)
        if self.language != "en" or re.search(r"\d", spelled):
            raise ConfigError(
                f"text: {text.strip()[:60]!r}: nothing here reads its numbers; write them as words, or `pip install wetext`"
            )
        return spelled
