"""A list of a user's own: one JSON object a line with `audio` and, if known, `text`, `speaker` and `language`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.data.corpora.corpus import Corpus, Utterance, sanitize_key
from svae.errors import DataError
from svae.runtime.text_files import read_utf8


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
            _utterance(_row(line, f"{path}, line {number}"), path.parent)
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


def _utterance(row: dict[str, Any], folder: Path) -> Utterance:
    audio = Path(row["audio"])
    place = audio.as_posix()
    if audio.is_absolute() and audio.is_relative_to(folder.absolute()):
        place = audio.relative_to(folder.absolute()).as_posix()
    without_suffix = re.sub(r"(?<=[^/])\.[^./]*$", "", place)
    return Utterance(
        key=sanitize_key(without_suffix.strip("/")),
        audio=folder / audio,
        text=row.get("text"),
        speaker=row.get("speaker") or "unknown",
        language=row.get("language") or "unknown",
        source=place,
    )


def _row(line: str, place: str) -> dict[str, Any]:
    """Read and check a line; `place` names file and line for messages."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}). Expected one object a line.") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{place}: got {type(row).__name__}. Expected an object with audio, text, speaker."
        )
    if not isinstance(row.get("audio"), str) or not row["audio"]:
        raise DataError(
            f"{place}: `audio` is {row.get('audio')!r}. Expected the path of a file, from {place.split(',')[0]}."
        )
    for field in ("text", "speaker", "language"):
        if row.get(field) is not None and not isinstance(row[field], str):
            raise DataError(
                f"{place}: `{field}` is {row[field]!r}. Expected text in quotation marks."
            )
    return row


CORPORA = (JsonLines(),)
