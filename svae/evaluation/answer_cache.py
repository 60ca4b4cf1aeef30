"""What judges said before, by the hash of what they heard: a second run, or an added metric, costs only what is new."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from svae.runtime.files import writable_folder


class AnswerCache:
    """The answers of one judge, a JSON line each, appended as they come; an interrupted run leaves what it had.

    Args:
        folder: may be shared by evaluations, and by the ranks of one: each appends to a file of its own.
        kind: of the judge, for a person who looks into the folder.
        identity: all that may change an answer: model, weights, decoding, versions, device. Another one, another file.
        rank: of this process.
    """

    def __init__(self, folder: Path, kind: str, identity: dict[str, Any], rank: int = 0) -> None:
        text = json.dumps(identity, sort_keys=True)
        stem = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self._folder = writable_folder(folder, option="--cache")
        self._path = self._folder / f"{stem}.{rank}.jsonl"
        self._identity = identity
        self._answers: dict[str, Any] = {}
        for path in sorted(self._folder.glob(f"{stem}.*.jsonl")):
            for line in path.read_bytes().split(b"\n"):  # one may break off within a character
                if row := _parse(line):
                    self._answers[row["key"]] = row["answer"]

    def get(self, key: str) -> Any:
        """Return the answer about a content; None where there is none."""
        return self._answers.get(key)

    def add(self, answers: dict[str, Any]) -> None:
        """Keep answers by key, on disk when this returns."""
        self._answers |= answers
        lines = "".join(
            json.dumps({"key": k, "answer": a}, ensure_ascii=False) + "\n"
            for k, a in answers.items()
        )
        new = not self._path.exists() or self._path.stat().st_size == 0
        with self._path.open("a", encoding="utf-8") as file:
            # The newline ends a line that an interrupted run may have left torn.
            file.write((json.dumps({"judge": self._identity}) if new else "") + "\n" + lines)


def _parse(line: bytes) -> dict[str, Any]:
    """Return the answer in a line; nothing where it is torn, or names the judge."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and {"key", "answer"} <= row.keys() else {}
