"""Written text as it is spoken, and text in sentences: what happens before the model's characters.

Numbers, dates, money, times, units, abbreviations and symbols are spelled out by wetext (the grammars of
WeTextProcessing), sentences are found by sentencex (Wikimedia). Both are rule-based, work offline and make mistakes;
`svae synthesize --verbose` shows what they made of a text.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from svae.errors import ConfigError
from svae.text.vocabulary import normalize_text

SPOKEN_LANGUAGES = ("en", "zh", "ja")
"""Languages that can be spelled out. None of them: the text stays, and is split into sentences by English rules."""
_ESCAPED = {'"': "\ue000", "\\": "\ue001"}
"""Private-use characters that stand for what wetext would return escaped."""


def spoken_form(text: str, language: str | None) -> str:
    """Return the text with everything spelled out that is not read letter by letter, in `normalize_text`'s spelling.

    Args:
        text: one sentence or many.
        language: one of `SPOKEN_LANGUAGES`; None leaves numbers and symbols as they are.

    Raises:
        ConfigError: the language has no rules.
    """
    plain = normalize_text(text)
    if language is None or not plain:
        return plain
    if language not in SPOKEN_LANGUAGES:
        raise ConfigError(
            f"--language {language!r}: no rules to spell out numbers; use one of {', '.join(SPOKEN_LANGUAGES)}, or none"
        )
    if language == "en":
        plain = _prepare_english(plain)
    for char, stand_in in _ESCAPED.items():
        plain = plain.replace(char, stand_in)
    spelled = _spell(plain, language)
    for char, stand_in in _ESCAPED.items():
        spelled = spelled.replace(stand_in, char)
    spelled = normalize_text(spelled.replace(" ,", ",").replace(" .", "."))
    # The grammar takes the full stop of "World War II." for part of an abbreviation.
    return spelled + "." if plain[-1:] == "." and spelled[-1:].isalnum() else spelled


_TITLES = {
    "Mrs.": "Missus", "Ms.": "Miz", "Prof.": "Professor", "St.": "Saint", "vs.": "versus", "etc.": "et cetera",
    "e.g.": "for example", "E.g.": "For example", "i.e.": "that is", "I.e.": "That is", "approx.": "approximately",
}  # fmt: skip
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
}
_MULTIPLES = {"k": "thousand", "m": "million", "b": "billion"}
_DECADES = {
    "0": "hundreds", "1": "tens", "2": "twenties", "3": "thirties", "4": "forties", "5": "fifties", "6": "sixties",
    "7": "seventies", "8": "eighties", "9": "nineties",
}  # fmt: skip
_ENGLISH = (
    (
        re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, _TITLES)) + r")(?=[\s,)]|$)"),
        lambda m: _TITLES[m[0]],
    ),
    (re.compile(r"\bNo\.\s?(?=\d)"), lambda m: "number "),
    (re.compile(r"\b([Nn]o)\."), lambda m: f"{m[1]} ."),  # an answer; the space is taken out again
    (re.compile(r"\b([ap])\.m\."), lambda m: m[1] + "m"),
    (re.compile(r"(?<![$€£\d.,])([\d.,]*\d)\s?m\b"), lambda m: m[1] + " meters"),
    (re.compile(r"\b(\d{3})-(\d{4})\b"), lambda m: f"{' '.join(m[1])}, {' '.join(m[2])}"),
    (re.compile(r"(\d)\s?\^\s?(?=\d)"), lambda m: m[1] + " to the power of "),
    (re.compile(r"\b(1[1-9]|20)(\d)0s\b"), lambda m: f"{m[1]} {_DECADES[m[2]]}"),
    (
        re.compile(r"([$€£])\s?([\d,]*\d)\.(\d\d)\b(?!\s?(?:million|billion|trillion))"),
        lambda m: (
            f"{_amount(m[2], *_CURRENCIES[m[1]][:2])} and {_amount(m[3].lstrip('0'), *_CURRENCIES[m[1]][2:])}"
        ),
    ),
    (
        re.compile(r"([$€£])\s?([\d,.]*\d)\s?(k|m|mn|bn|M|B|K)\b"),
        lambda m: f"{m[2]} {_MULTIPLES[m[3][0].lower()]} {_CURRENCIES[m[1]][1]}",
    ),
    (
        re.compile(r"([$€£])\s?(\d[\d,]*,\d{3}|\d{4,})\b(?!\.?\d|\s?\w*illion)"),
        lambda m: f"{m[2]} {_CURRENCIES[m[1]][1]}",
    ),
    (re.compile(r"\b1000\s?-\s?(?=\d)"), lambda m: "1000 to "),
    (re.compile(r"(?<![\d,.])1,?000(?=[A-Za-z])"), lambda m: "1000 "),
    (
        re.compile(r"(?<![\d,.])1(?:,(\d{3})|(000))(?!,?\d|\.\d|\s?(?:kg|km|cm|mm|g|mph|km/h)\b)"),
        lambda m: "one thousand" + (f" {int(m[1])}" if int(m[1] or 0) else ""),
    ),
    (re.compile(r"#\s?(?=\d)"), lambda m: "number "),
)
"""What wetext's English grammar leaves alone or gets wrong: titles, metres (read as minutes), decades, cents."""


def _amount(number: str, singular: str, plural: str) -> str:
    return f"{number or '0'} {singular if number == '1' else plural}"


def _spell(text: str, language: str) -> str:
    """Run the grammar on the whole text, or word by word where it has no reading of the whole; keep what has none."""
    if not text.strip():
        return text
    try:
        return _normalizer(language).normalize(text)
    except AssertionError:  # what wetext raises then
        words = text.split()
        return text if len(words) == 1 else " ".join(_spell(word, language) for word in words)


def _prepare_english(text: str) -> str:
    for pattern, replacement in _ENGLISH:
        text = pattern.sub(replacement, text)
    return text


@functools.lru_cache(maxsize=4)
def _normalizer(language: str) -> Any:
    from wetext import Normalizer  # loads grammars of some megabytes

    return Normalizer(lang=language, operator="tn")


# ----------------------------------------------------------------------------------------------- text in
