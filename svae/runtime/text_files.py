"""Reading texts that people wrote: UTF-8 or an error that says where it is not, and what it looks like instead."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from svae.errors import DataError

_CANDIDATES = (
    "utf_16", "utf_16_le", "utf_16_be", "utf_32", "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254",
    "cp1255", "cp1256", "cp932", "euc_jp", "gb18030", "big5", "cp949",
)  # fmt: skip
"""Encodings that texts are met in; of all that Python knows a short text may look like any."""


def read_utf8(path: Path, name: str | None = None, *, as_is: bool = False) -> str:
    """Return the content of a UTF-8 text file; `name` and `as_is` are those of `decode_utf8`.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    label = str(path) if name is None else name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{label}: {error.strerror} (looked from {Path.cwd()}). Expected a UTF-8 text file."
        ) from None
    return decode_utf8(data, label, as_is=as_is)


def decode_utf8(data: bytes, name: str, *, as_is: bool = False) -> str:
    r"""Return a UTF-8 text with `\n` at the end of its lines, whatever system it comes from.

    Byte-order marks are left out, at the beginning and where files were joined.

    Messages call it `name`. `as_is` leaves everything behind a mark at the beginning as it is: every character counts.

    Raises:
        DataError: it is not UTF-8, or holds zero bytes, as UTF-16 does.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With a mark at the beginning it counts from behind that.
        mark = len(data) - len(error.object)
        raise _not_utf8(data, mark + error.start, name) from None
    if "\0" in text:
        raise _not_utf8(data, data.index(0), name)
    if as_is:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n\ufeff", "\n")


def check_characters(text: str, name: str) -> None:
    """Refuse what JSON and file names can hold and UTF-8 cannot: halves of surrogate pairs, and zeros.

    Raises:
        DataError: the text holds one; `name` says which text it is.
    """
    for place, char in enumerate(text):
        if char == "\0" or "\ud800" <= char <= "\udfff":
            what = "a zero" if char == "\0" else "half of a surrogate pair"
            raise DataError(
                f"{name} is not valid Unicode: {what} (U+{ord(char):04X}) at character {place + 1} of {text[:60]!r}. "
                "Expected whole characters; write the character itself, or leave it out."
            )


def likely_encoding(data: bytes) -> tuple[str, str] | None:
    """Guess the encoding of bytes that are not UTF-8; return its name and how the first line in question reads in it."""
    from charset_normalizer import from_bytes  # only an error pays for it

    sample = data[:100_000]
    if b"\0" not in sample:  # lines in ASCII or UTF-8 say nothing
        sample = b"\n".join(line for line in re.split(rb"[\r\n]+", data) if not _is_utf8(line))
        sample = sample[:100_000]
    best = from_bytes(sample, cp_isolation=list(_CANDIDATES), enable_fallback=False).best()
    if best is not None and b"\0" in sample:
        return best.encoding, _first_line(str(best))
    if (best is not None and "cp1252" in best.could_be_from_charset) or _looks_western(sample):
        return "cp1252", _first_line(sample.decode("cp1252", errors="replace"))
    return None if best is None else (best.encoding, _first_line(str(best)))


def _not_utf8(data: bytes, place: int, name: str) -> DataError:
    line = len(re.findall(rb"\r\n|\r|\n", data[:place])) + 1
    guess = likely_encoding(data)
    if guess is None:
        looks, convert = "It looks like no encoding known here; is it a text?", "Expected UTF-8."
    else:
        encoding, reads = guess
        looks = f"It looks like {encoding}, in which it reads {reads!r}."
        others = data.split(b"\n") if b"\0" not in data else []
        if any(not line.isascii() and _is_utf8(line) for line in others):
            convert = "Expected UTF-8, as in other lines; mend those that are not."
        else:
            convert = (
                f"Expected UTF-8; if that reads right, convert it: "
                f"iconv -f {encoding.upper().replace('_', '-')} -t UTF-8 OLD > NEW"
            )
    return DataError(f"{name}: not UTF-8 at byte {place} (0x{data[place]:02x}, line {line}). {looks}\n{convert}")  # fmt: skip


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _first_line(text: str) -> str:
    line = next((line for line in text.split("\n") if line.strip()), "").strip("\ufeff\r ")
    return line if len(line) <= 60 else line[:59] + "…"


def _looks_western(sample: bytes) -> bool:
    """Tell whether few bytes are not ASCII, and these are Western letters or typographic signs.

    A short text in a Western language has too few of them for a statistical guess, which then often says Chinese.
    """
    foreign = [char for char in sample.decode("cp1252", errors="replace") if ord(char) > 127]
    letters = all(char in "ªº¿¡°§£€" or unicodedata.category(char)[0] in "LPZ" for char in foreign)
    return letters and len(foreign) <= 0.4 * len(sample) and "ÿ" not in foreign
