"""LJSpeech: metadata.csv and wavs/."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from svae.data.corpora.corpus import Corpus, Utterance, possible_folders, sanitize_key
from svae.errors import DataError
from svae.runtime.text_files import read_utf8

_ADVICE = (
    "Expected ID|text|normalised text with wavs/ID.wav, the last field optional. Mend the line, or say what each field "
    'means in a list of your own: `svae prepare jsonl`, lines like {"audio": "a.wav", "text": "…", "speaker": "…"}.'
)
_AUDIO_SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aiff"}

TELLING_LETTERS = 10
"""A text of so many letters shows by itself whether another is its normalised form; of shorter ones ("XIV", "lb."), and
single ones, nothing can be said."""

_PHONETIC = re.compile(r"[\u0250-\u02ba\u02bd-\u02df\u1d00-\u1dbf]")
"""Letters and marks of the phonetic alphabet; without the apostrophes among them, which texts have."""
_ARPABET = re.compile(
    r"(?:(?:A[AEHOWXY]|B|CH|DH?|E[HRY]|F|G|HH|I[HY]|JH|K|L|M|NG?|O[WY]|P|R|SH?|TH?|U[HW]|V|W|Y|ZH?)[012]?(?: |$)){2,}"
)
"""Phones of the CMU dictionary and nothing else."""
_NUMBER = re.compile(
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twel|teen|fif|twent|thirt|fort|ty|hundred|thousand|million"
    "|first|second|half|quarter"
)
"""What of the words of an English number there is always something."""


class LJSpeech(Corpus):
    """24 hours of one speaker at 22.05 kHz."""

    name = "ljspeech"
    title = "LJSpeech"
    folder = Path("data/LJSpeech-1.1")
    how_to_get = (
        "Download LJSpeech-1.1.tar.bz2 from https://keithito.com/LJ-Speech-Dataset/ (public domain, 2.6 GB, one "
        "speaker, 24 hours, 22.05 kHz). Unpack with `tar -xjf LJSpeech-1.1.tar.bz2 -C data`."
    )
    layout = "metadata.csv (ID|text|normalised text) and wavs/ID.wav"

    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List the rows of metadata.csv, with the normalised text where there is one."""
        for base in possible_folders(root, "LJSpeech-1.1"):
            if (base / "metadata.csv").is_file():
                return _read_list(base)
        raise self.missing(root, "no metadata.csv")


def _read_list(base: Path) -> list[Utterance]:
    path = base / "metadata.csv"
    rows: list[tuple[str, list[str]]] = []
    # Not the csv module: the texts hold quotation marks that mean nothing to the format. Not splitlines: it also cuts
    # at U+2028 and its like, and a text would lose its end.
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if line.strip():
            place = f"{path}, line {number}"
            fields = line.split("|")
            if len(fields) not in (2, 3):
                count = f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
                raise DataError(
                    f"{place}: expected ID|text|normalised text, got {count} in {line[:80]!r}.\n{_ADVICE}"
                )
            problem = _wrong_id(fields[0].strip())
            if problem:
                raise DataError(f"{place}: the id {fields[0].strip()[:80]!r} {problem}.\n{_ADVICE}")
            rows.append((place, fields))
    _check_texts(rows)
    return [
        Utterance(
            key=sanitize_key(PurePosixPath(f"{name}.wav").stem),
            audio=base / "wavs" / f"{name}.wav",
            text=fields[2] if len(fields) > 2 and fields[2].strip() else fields[1],
            speaker="LJ",
            language="en",
            source=PurePosixPath("wavs", f"{name}.wav").as_posix(),
            place=place,
        )
        for place, fields in rows
        for name in [fields[0].strip()]
    ]


def _wrong_id(name: str) -> str | None:
    """Return what keeps an id from naming wavs/ID.wav; None: nothing."""
    path = PurePosixPath(name)
    if not name:
        return "is empty"
    if path.is_absolute() or name[1:3] in (":\\", ":/"):
        return "is an absolute path"
    if ".." in path.parts or path.parts[0] == "wavs" or name.endswith("/"):
        return "is a path; it is looked for in wavs/"
    if path.suffix.lower() in _AUDIO_SUFFIXES:
        return f"ends in {path.suffix}, which is not part of an id"
    return None


# ----------------------------------------------------------------------------------------------- is it a text?


def _check_texts(rows: list[tuple[str, list[str]]]) -> None:
    """Refuse a list whose second field is no text, or whose third is no normalised form of the second.

    Lists in this layout are met with durations, speakers or paths there, which would silently become what is said.

    Raises:
        DataError: names the first such line.
    """
    both = [
        (place, fields[1].strip(), fields[2].strip())
        for place, fields in rows
        if len(fields) == 3 and fields[1].strip() and fields[2].strip()
    ]
    for place, text, normal in both:
        if _is_other(text, normal):
            raise _no_normal_form(place, text, normal)
    doubtful = [(place, text, normal) for place, text, normal in both if _is_doubtful(text, normal)]
    # Of different texts the normalised forms differ, but for a few ("5", "five").
    meant = {normal: {_content(row[1]) for row in both if row[2] == normal} for *_, normal in both}
    shared = [row for row in both if len(meant[row[2]]) > 2]
    for wrong in (doubtful, shared):
        if 2 * len(wrong) > len(both):
            raise _no_normal_form(*wrong[0])
    # A normalised text is a function of the text, and hardly ever the same for two: names of speakers are few.
    texts, normals = ({row[column] for row in both} for column in (1, 2))
    if len(both) >= 4 and 2 * len(normals) < len(texts):
        [(common, _)] = Counter(normal for *_, normal in both).most_common(1)
        raise _no_normal_form(*next(row for row in both if row[2] == common))
    _check_second(rows, few=len(both) >= 4 and 2 * len(texts) < len(normals))


def _check_second(rows: list[tuple[str, list[str]]], *, few: bool) -> None:
    """Refuse a list whose second fields are no texts, or `few` different ones for many third ones."""
    given = [(place, fields[0].strip(), fields[1].strip()) for place, fields in rows]
    given = [row for row in given if row[2]]
    # With a third field beside it a number is a text: that was found to be its normalised form.
    alone = {place for place, fields in rows if not _letters("".join(fields[2:]))}
    bare = [row for row in given if row[0] in alone and _is_no_text(row[1], row[2])]
    if len(given) >= 4 and len({row[2] for row in given}) == 1 and " " not in given[0][2]:
        bare = given  # a speaker, a language
    if few or 2 * len(bare) > len(given):
        place, _, text = given[0] if few else bare[0]
        raise DataError(
            f"{place}: the second field, {text[:60]!r}, is no text, and neither are most of this list.\n{_ADVICE}"
        )


def _is_no_text(name: str, text: str) -> bool:
    """Tell whether a second field is a number, the id, a path, or the name of something, as `p225` or `speaker_1`."""
    if not _letters(text) or text == name or PurePosixPath(text).suffix.lower() in _AUDIO_SUFFIXES:
        return True
    one_word = not re.search(r"\s", text)
    return one_word and bool(_figures(text) or re.search(r"[_\\]|^/|/.*/", text))


def _no_normal_form(place: str, text: str, normal: str) -> DataError:
    return DataError(
        f"{place}: the third field, {normal[:60]!r}, is no normalised form of the text {text[:60]!r}; is it a duration, a "
        f"speaker or a path?\n{_ADVICE}"
    )


def _is_other(text: str, normal: str) -> bool:
    """Tell whether a third field is certainly not the second in words."""
    if text == normal:
        return False
    # Normalising makes words of figures: what has figures of its own is a duration, a speaker's number, or phones.
    if not _figures(normal) <= _figures(text) or (
        _PHONETIC.search(normal) and not _PHONETIC.search(text)
    ):
        return True
    if _letters(text) != _letters(normal) and (
        _ARPABET.fullmatch(normal)
        or re.search(r"\w_\w", normal)
        or PurePosixPath(normal).suffix.lower() in _AUDIO_SUFFIXES
    ):
        return True
    if not _letters(normal):
        return bool(_letters(text)) or _figures(text) != _figures(normal)
    return len(_letters(text)) >= TELLING_LETTERS and _is_unlike(text, normal)


def _is_unlike(text: str, normal: str) -> bool:
    """Tell whether most letters of a text are missing in its normalised form, or that is longer than words make it."""
    wanted, found = Counter(_letters(text)), Counter(_letters(normal))
    if 2 * (wanted & found).total() < wanted.total():
        return True
    # A figure or a sign becomes a word ("seventeen"), an abbreviation about three times its letters.
    others = sum(not char.isspace() and not _is_letter(char) for char in text)
    return found.total() > 3 * wanted.total() + 12 * others + 10


def _is_doubtful(text: str, normal: str) -> bool:
    """Tell whether a third field does not look like the normalised form of a text, which may be a short one."""
    letters = "".join(_letters(normal))
    if letters == "".join(_letters(text)):
        return False
    if _is_unlike(text, normal) and len(_letters(text)) >= TELLING_LETTERS:
        return True
    if _figures(text) and not _figures(normal) and _NUMBER.search(letters):
        return False
    # Words stay as they are, but for abbreviations and what is spelled in capitals.
    words = [(match[0], match[1]) for match in re.finditer(r"([^\W\d_]+)(?!\w)\.?", text)]
    kept = [word for whole, word in words if whole == word and not word.isupper()]
    kept = kept or [word for _, word in words if not word.isupper()]
    found = [word for word in kept if "".join(_letters(word)) in letters]
    return 2 * len(found) <= len(kept) or 2 * len(letters) < sum(map(len, kept))


def _content(text: str) -> tuple[str, ...]:
    """Return what tells a text from others: its letters and figures, in order."""
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return tuple(char for char in decomposed if unicodedata.category(char)[0] in "LN")


def _figures(text: str) -> Counter[str]:
    return Counter(
        c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c)[0] == "N"
    )


def _letters(text: str) -> list[str]:
    # Decomposed, so that an accent that normalising takes away does not count.
    return [char for char in unicodedata.normalize("NFKD", text).casefold() if _is_letter(char)]


def _is_letter(char: str) -> bool:
    return unicodedata.category(char)[0] == "L"


CORPORA = (LJSpeech(),)
