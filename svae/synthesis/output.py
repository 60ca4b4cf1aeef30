"""Where speech goes: an audio file and a JSON beside it, neither of which may take the place of anything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from svae.audio import FORMATS
from svae.errors import ConfigError
from svae.runtime.files import writable_folder, write_text

_REPORT_FIELDS = {"model", "audio", "text", "generated_seconds", "chunks"}
"""What every report of ours has had."""

Identities = Mapping[object, str]
"""What a command reads, by `identity`, with the words a message names it by."""


def identity(path: Path) -> object:
    """Return what is the same for all names of a file: links, relative paths, other cases where those do not matter."""
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return found.st_dev, found.st_ino


def identities(inputs: Iterable[tuple[str, Path | None]]) -> dict[object, str]:
    """Return what a command reads, given as an option's name and its file, where there is one."""
    return {
        identity(path): f"{option} {path}"
        for option, path in inputs
        if path is not None and str(path) != "-"
    }


def check_output(out: Path, inputs: Identities | None = None) -> None:
    """Raise ConfigError where `out` is not a .wav or .flac that can be written, or would replace what it must not.

    That is anything the command reads, by whatever name, and a JSON beside `out` that is no report of ours.
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: must end in .wav or .flac")
    report = report_path(out)
    for path in (out, report):
        if path.is_dir():
            raise ConfigError(f"--out {out}: {path} is a folder; name a file in it, or another")
        read = (inputs or {}).get(identity(path))
        if read is not None:
            raise ConfigError(
                f"--out {out}: {path} is the same file as {read}, which would be lost; choose another name"
            )
    if report.exists() and _read_report(report) is None:
        raise ConfigError(
            f"--out {out}: its details go into {report}, which is there and was not written by svae synthesize; "
            "choose another name, or move that file away"
        )
    writable_folder(out.parent, option="--out")


def report_path(out: Path) -> Path:
    """Return where the details of an audio file go: NAME.json, or NAME.SUFFIX.json where that tells of another file."""
    path = out.with_suffix(".json")
    audio = (_read_report(path) or {}).get("audio", out.name)
    taken = audio != out.name and out.with_name(str(audio)).is_file()
    return out.with_name(f"{out.name}.json") if taken else path


def write_report(path: Path, tree: dict[str, Any]) -> None:
    """Write the details of an audio file."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


def _read_report(path: Path) -> dict[str, Any] | None:
    """Return a report; None where there is none, or something else."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and tree.keys() >= _REPORT_FIELDS else None
