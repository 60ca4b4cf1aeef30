"""key.json of a listening test, and other JSON that people hand back: whole and sensible, or an error that says what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svae.data.corpora.jsonl import without_repeats
from svae.errors import DataError
from svae.evaluation.listening.design import CHECKS, KINDS, PREFERENCE

FORMAT = 1


def read_key(folder: Path) -> dict[str, Any]:
    """Return what FOLDER/key.json holds: `test`, `systems` (name → folder), `trials` and how the test was made.

    Raises:
        DataError: it is not there, or damaged; names the first thing that is wrong.
    """
    path = folder / "key.json"
    key = read_object(path, "the key that `svae listen` wrote")
    if key.get("format") != FORMAT:
        raise DataError(f"{path}: a key of format {key.get('format')!r}, expected {FORMAT}")
    problem = next(_problems(key), None)
    if problem is not None:
        raise DataError(
            f"{path}: damaged: {problem}. Put the key back as `svae listen` wrote it; the same systems and options "
            "make the same one again."
        )
    return key


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object in a file; `what` it should be is for messages.

    Raises:
        DataError: it cannot be read, is no JSON or no object, or a field stands twice in it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=without_repeats)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected {what}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected {what}, got {type(found).__name__}")
    return found


def _problems(key: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a key, in the order in which it is read."""
    test, systems, trials = key.get("test"), key.get("systems"), key.get("trials")
    if not isinstance(test, str) or not test:
        yield f"`test` is {test!r}, expected the name of the test"
    if not isinstance(systems, dict) or not systems:
        yield f"`systems` is {systems!r}, expected the folder of each system"
        return
    for name, folder in systems.items():
        if not isinstance(folder, str):
            yield f"the folder of system {name!r} is {folder!r}, expected its path"
    if not isinstance(trials, list) or not trials:
        yield f"`trials` is {type(trials).__name__}, expected the list of the questions"
        return
    seen: set[str] = set()
    for number, trial in enumerate(trials, 1):
        if not isinstance(trial, dict):
            yield f"question {number} is {trial!r}, expected an object"
            continue
        for problem in _problems_of(trial, set(systems)):
            yield f"question {number} ({trial.get('trial')!r}): {problem}"
        name = str(trial.get("trial"))
        if name in seen:
            yield f"question {name!r} stands twice"
        seen.add(name)


def _problems_of(trial: dict[str, Any], known: set[str]) -> Iterator[str]:
    """Yield what is wrong with one question of a key."""
    for field in ("trial", "item"):
        if not isinstance(trial.get(field), str) or not trial[field]:
            yield f"`{field}` is {trial.get(field)!r}, expected a name"
    sheet = trial.get("sheet")
    if type(sheet) is not int or sheet < 1:
        yield f"`sheet` is {sheet!r}, expected a number from 1"
    kind, systems = trial.get("kind"), trial.get("systems")
    if kind not in KINDS:
        yield f"`kind` is {kind!r}, expected one of {', '.join(KINDS)}"
        return
    count = 2 if kind == PREFERENCE else 1
    names: list[Any] = systems if isinstance(systems, list) else []
    if len(names) != count or not all(isinstance(name, str) and name in known for name in names):
        yield f"`systems` is {systems!r}, expected {count} of {', '.join(sorted(known))}"
    if trial.get("check") not in (None, *CHECKS[kind]):
        yield f"`check` is {trial.get('check')!r}, expected null, {' or '.join(CHECKS[kind])}"
