"""A list of a user's own: one JSON object a line with `audio` and, if known, `text`, `speaker` and `language`.

`offset` and `duration`, in seconds, take a part of a recording: then `text` is what is said there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.data.corpora.corpus import Corpus, Utterance, sanitize_key
from svae.errors import DataError
from svae.runtime.text_files import check_characters, read_utf8

TEXTS = ("audio", "text", "speaker", "language")
SECONDS = ("offset", "duration")
OTHER_SEGMENT = re.compile(
    r"(?:.*_)?(?:start|begin|beginning|end|ending|stop|onset|offset|from|to|[tx]_?min|[tx]_?max|segments?)"
    r"(?:_(?:at|time|times?tamp|pos|position|s|secs?|seconds?|ms|msecs?|millis|milliseconds?|samples?|frames?))?"
)
"""What others call the beginning and end of a part of a recording, in small letters with `_` between words. Passing over
them would give all of it the text of the part."""


class JsonLines(Corpus):
    """Any recordings, in any languages."""

    name = "jsonl"
    title = "a list of your own"
    folder: Path | None = None
    how_to_get = "Write one JSON object a line."
    layout = '{"audio": "a.wav", "text": "What is said.", "speaker": "anna", "language": "en"}'

    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List the rows of the file, whose paths are relative to its folder."""
        path = self._file(root)
        # Not splitlines: it also cuts at U+2028 and its like, which JSON leaves as they are.
        lines = read_utf8(path).split("\n")
        return [
            _utterance(_row(line, f"{path}, line {number}"), path.parent, f"{path}, line {number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]

    def missing(self, root: Path, what: str) -> DataError:
        """Return the error of a list that is not there."""
        return DataError(
            f"{root}: {what}. Expected one JSON object a line with audio, text and, if known, speaker."
        )

    def _file(self, root: Path) -> Path:
        if root.is_file():
            return root
        if not root.is_dir():
            raise self.missing(root, "no such file or folder")
        lists = sorted(root.glob("*.jsonl"))
        if (root / "metadata.jsonl") in lists:
            return root / "metadata.jsonl"
        if len(lists) != 1:
            raise self.missing(
                root,
                f"{len(lists)} .jsonl files there; give one with --root, or call it metadata.jsonl",
            )
        return lists[0]


def _utterance(row: dict[str, Any], folder: Path, line: str) -> Utterance:
    audio = Path(row["audio"])
    place = audio.as_posix()
    if audio.is_absolute() and audio.is_relative_to(folder.absolute()):
        place = audio.relative_to(folder.absolute()).as_posix()
    without_suffix = re.sub(r"(?<=[^/])\.[^./]*$", "", place)
    key = sanitize_key(without_suffix.strip("/"))
    offset = float(row.get("offset") or 0)
    unused = sorted(row.keys() - {*TEXTS, *SECONDS})
    return Utterance(
        key=f"{key}-{round(1000 * offset)}" if offset > 0 else key,
        audio=folder / audio,
        text=row.get("text"),
        speaker=row.get("speaker") or "unknown",
        language=row.get("language") or "unknown",
        source=place,
        place=line,
        offset=offset,
        duration=None if row.get("duration") is None else float(row["duration"]),
        unused=tuple(sys.intern(name) for name in unused),
    )


def _row(line: str, place: str) -> dict[str, Any]:
    """Read and check a line; `place` names file and line for messages."""
    try:
        row = json.loads(line, object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}). Expected one object a line.") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{place}: got {type(row).__name__}. Expected an object with audio, text, speaker."
        )
    if not isinstance(row.get("audio"), str) or not row["audio"]:
        raise DataError(
            f"{place}: `audio` is {row.get('audio')!r}. Expected the path of a file, from {place.split(',')[0]}."
        )
    for field in TEXTS:
        value = row.get(field)
        if value is not None and not isinstance(value, str):
            raise DataError(f"{place}: `{field}` is {value!r}. Expected text in quotation marks.")
        check_characters(value or "", f"{place}: `{field}`")
    for field in row:
        check_characters(field, f"{place}: the name of a field")
    for field in SECONDS:
        if row.get(field) is not None:
            _check_seconds(row[field], field, place)
    if segment := sorted(name for name in row.keys() - {*SECONDS} if _is_segment(name)):
        raise DataError(
            f"{place}: `{segment[0]}` is unknown and looks like a part of the recording. Expected `offset` (where it "
            "begins) and `duration`, both in seconds; or leave the field out, if the whole recording is meant."
        )
    return row


def _is_segment(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return OTHER_SEGMENT.fullmatch(re.sub(r"[^a-z0-9]+", "_", words.lower())) is not None


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary of an object's fields, of which json would silently keep the last of each name."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} occurs twice")
    return fields


def _check_seconds(value: Any, field: str, place: str) -> None:
    least = "0 or more" if field == "offset" else "more than 0"
    # bool is an int to Python; a number that no float holds is as wrong as infinity.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value >= 0 if field == "offset" else value > 0) and value < 1e9:
        return
    shown = repr(value) if not isinstance(value, int) or abs(value) < 1e15 else "a huge number"
    raise DataError(f"{place}: `{field}` is {shown}. Expected seconds: a number, {least}.")


CORPORA = (JsonLines(),)
