"""Written text as it is spoken, and text in sentences: what happens before the model's characters.

Numbers, dates, money, times, units, abbreviations and symbols are spelled out by wetext (the grammars of
WeTextProcessing), sentences are found by sentencex (Wikimedia). Both are rule-based, work offline and make mistakes;
`svae synthesize --verbose` shows what they made of a text.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from svae.errors import ConfigError, DataError
from svae.text import Vocabulary, normalize_text

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
    (re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, _TITLES)) + r")(?=[\s,)]|$)"), lambda m: _TITLES[m[0]]),
    (re.compile(r"\bNo\.\s?(?=\d)"), lambda m: "number "),
    (re.compile(r"\b([Nn]o)\."), lambda m: f"{m[1]} ."),  # an answer; the space is taken out again
    (re.compile(r"\b([ap])\.m\."), lambda m: m[1] + "m"),
    (re.compile(r"(?<![$€£\d.,])([\d.,]*\d)\s?m\b"), lambda m: m[1] + " meters"),
    (re.compile(r"\b(\d{3})-(\d{4})\b"), lambda m: f"{' '.join(m[1])}, {' '.join(m[2])}"),
    (re.compile(r"(\d)\s?\^\s?(?=\d)"), lambda m: m[1] + " to the power of "),
    (re.compile(r"\b(1[1-9]|20)(\d)0s\b"), lambda m: f"{m[1]} {_DECADES[m[2]]}"),
    (
        re.compile(r"([$€£])\s?([\d,]*\d)\.(\d\d)\b(?!\s?(?:million|billion|trillion))"),
        lambda m: f"{_amount(m[2], *_CURRENCIES[m[1]][:2])} and {_amount(m[3].lstrip('0'), *_CURRENCIES[m[1]][2:])}",
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


def split_sentences(text: str, language: str | None) -> list[str]:
    """Return the sentences of a text, in order, each stripped; joined with spaces they are `normalize_text(text)`.

    Line breaks end a sentence too: a heading is not read into the paragraph after it.
    """
    from sentencex import segment

    found = []
    for line in text.splitlines():
        for sentence in segment(language or "en", normalize_text(line)):
            if sentence.strip():
                found.append(sentence.strip())
    return found


# ----------------------------------------------------------------------------------------------- text in


def read_text(text: str | None, file: Path | None) -> str:
    """Return a text given as such, or the content of a UTF-8 file (`-`: of standard input).

    Raises:
        ConfigError: none or two of them were given.
        DataError: it is empty, or the file cannot be read as UTF-8.
    """
    if (text is None) == (file is None):
        raise ConfigError("pass either --text or --text-file FILE (- for standard input)")
    name = "--text"
    if file is not None:
        name = "standard input" if str(file) == "-" else str(file)
        try:
            data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise DataError(f"{name}: {error.strerror}. Expected a UTF-8 text file.") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{name}: not UTF-8 at byte {error.start}; convert it to UTF-8.") from None
    assert text is not None
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise DataError(f"{name}: not valid Unicode (half a character); write it in UTF-8.")
    if not normalize_text(text):
        raise DataError(f"{name}: empty. Expected at least one character that is not white space.")
    return text


def prepare_sentences(
    text: str,
    vocabulary: Vocabulary,
    *,
    language: str | None,
    skip_unknown: bool = False,
    show: Callable[[str], object] | None = None,
) -> tuple[list[str], list[str]]:
    """Split a text into sentences as they are spoken, in characters a model knows.

    Args:
        text: any length.
        vocabulary: of the model.
        language: see `spoken_form`.
        skip_unknown: leave unknown characters out instead of refusing.
        show: called with a line for each sentence: what became of it.

    Returns:
        The sentences, and a note for each way in which unknown characters changed them: letters the model knows in
        the other case only are spoken in that case, and with `skip_unknown` others are left out.

    Raises:
        DataError: unknown characters that are not to be skipped, or nothing else is left.
    """
    written = split_sentences(text, language)
    spoken = [spoken_form(sentence, language) for sentence in written]
    for before, after in zip(written, spoken, strict=True) if show is not None else ():
        show(f"  {before}" if after == before else f"  {before}\n  → {after}")
    notes = []
    folded = [vocabulary.fold(sentence) for sentence in spoken]
    if folded != spoken:
        changed = sorted({a for before, after in zip(spoken, folded, strict=True) for a in set(before) - set(after)})
        notes.append(f"In the other case, since the model knows only that: {', '.join(map(repr, changed))}")
    unknown = vocabulary.unknown(" ".join(folded))
    if unknown and skip_unknown:
        gone = str.maketrans(dict.fromkeys(unknown, " "))
        folded = [plain for sentence in folded if (plain := normalize_text(sentence.translate(gone)))]
        if not folded:
            raise DataError("text: nothing is left of it without the characters that the model does not know")
        notes.append(f"Left out: {', '.join(map(repr, unknown))} (the model does not know them)")
    vocabulary.encode(" ".join(folded))  # names unknown characters before anything slow happens
    return folded, notes
