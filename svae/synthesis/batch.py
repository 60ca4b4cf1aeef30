"""`svae synthesize --batch LIST`: many texts, each with a voice and a file of its own, from one JSONL list.

A bad row is named by its number and the others are done; rows whose file was made by the same settings are kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from svae.errors import DataError, SvaeError
from svae.runtime.environment import environment
from svae.runtime.files import file_sha256, write_text
from svae.synthesis.command import (
    SynthesizeOptions,
    check_output,
    load_model,
    open_prompt,
    recognizer,
    sentences_of,
    speak_into,
)
from svae.synthesis.model import TTS
from svae.synthesis.reference import OpenedPrompt
from svae.synthesis.types import WEIGHTS
from svae.synthesis.voices import voice_path
from svae.text.sentences import read_text

FIELDS = {"text": str, "ref": str, "ref_text": str, "voice": str, "out": str, "seed": int}


@dataclass(frozen=True)
class Row:
    """One line of the list, with the command's options for what it does not say."""

    number: int
    """In the file, from 1."""
    options: SynthesizeOptions


def synthesize_batch(file: Path, options: SynthesizeOptions, out: Path) -> int:
    """Speak every row of a JSONL list into a file of its own and return how many were made now.

    Args:
        file: one object a line: `text`, `out` (under `out`, unless absolute), `ref` or `voice` (default: those of
            `options`), optionally `ref_text` and `seed`. Relative `ref` are looked for beside the list.
        options: for everything that a row does not say.
        out: folder of the results.

    Raises:
        DataError: the list cannot be read; or, after all others are done, some rows failed.
    """
    console = Console()
    rows, problems = read_rows(file, options, out)
    tts = load_model(options, console)
    recognize = recognizer(options, tts) if options.verify else None
    made = kept = 0
    opened: dict[tuple[Any, ...], OpenedPrompt] = {}
    for row in track(rows, "Speaking", console=console):
        try:
            check_output(row.options.out)
            if _speak_row(row, tts, opened, recognize, console):
                made += 1
            else:
                kept += 1
        except (SvaeError, OSError) as error:
            problems.append((row.number, str(error)))
    console.print(
        f"{made} made, {kept} kept, {len(problems)} failed, in [bold]{escape(str(out))}[/]"
    )
    if problems:
        lines = [
            f"  row {number}: {' '.join(message.split())}"
            for number, message in sorted(problems)[:10]
        ]
        more = f"\n  … and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DataError(
            f"{file}: {len(problems)} of {len(rows) + len(problems) - _late(rows, problems)} rows failed, the others "
            "are done:\n"
            + "\n".join(lines)
            + more
            + "\nMend them and run the same command; finished rows are kept."
        )
    return made


def _late(rows: list[Row], problems: list[tuple[int, str]]) -> int:
    """Return how many problems belong to rows that could at least be read."""
    return len({row.number for row in rows} & {number for number, _ in problems})


def read_rows(
    file: Path, options: SynthesizeOptions, out: Path
) -> tuple[list[Row], list[tuple[int, str]]]:
    """Read the list; return its usable rows, and (number, message) of the others.

    Raises:
        DataError: the file cannot be read, is empty, or no row is usable.
    """
    rows: list[Row] = []
    problems: list[tuple[int, str]] = []
    seen: dict[Path, int] = {}
    for number, line in enumerate(read_text(None, file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = Row(number, _row_options(json.loads(line), file, options, out))
        except (json.JSONDecodeError, DataError) as error:
            problems.append(
                (
                    number,
                    f"not valid JSON ({error})" if isinstance(error, ValueError) else str(error),
                )
            )
            continue
        if row.options.out in seen:
            problems.append(
                (number, f"out {row.options.out}: row {seen[row.options.out]} writes it too")
            )
            continue
        seen[row.options.out] = number
        rows.append(row)
    if not rows:
        number, message = problems[0]
        raise DataError(f"{file}: no usable row. Row {number}: {message}")
    return rows, problems


def _row_options(tree: Any, file: Path, options: SynthesizeOptions, out: Path) -> SynthesizeOptions:
    if not isinstance(tree, dict):
        raise DataError('expected an object like {"text": "…", "ref": "a.wav", "out": "b.wav"}')
    unknown = sorted(tree.keys() - FIELDS.keys())
    wrong = [name for name in tree if name in FIELDS and type(tree[name]) is not FIELDS[name]]
    missing = [name for name in ("text", "out") if name not in tree]
    if unknown or wrong or missing:
        parts = [("unknown", unknown), ("of the wrong type", wrong), ("missing", missing)]
        raise DataError(
            "; ".join(f"{label}: {', '.join(names)}" for label, names in parts if names)
        )
    for name in ("text", "ref", "ref_text", "voice", "out"):
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in tree.get(name, "")):
            raise DataError(f"{name}: not valid Unicode text (half a character, or a zero)")
    changes: dict[str, Any] = {"text": tree["text"], "text_file": None, "out": out / tree["out"]}
    if "seed" in tree:
        changes["sampling"] = replace(options.sampling, seed=tree["seed"])
    if "ref" in tree or "voice" in tree:
        changes |= {
            "ref": file.parent / tree["ref"] if "ref" in tree else None,
            "voice": tree.get("voice"),
        }
        changes["ref_text"] = tree.get("ref_text")
    elif "ref_text" in tree:
        changes["ref_text"] = tree["ref_text"]
    changed = replace(options, **changes)
    if (changed.ref is None) == (changed.voice is None):
        raise DataError("needs either `ref` or `voice` (or --ref or --voice for all rows)")
    return changed


def _speak_row(
    row: Row,
    tts: TTS,
    opened: dict[tuple[Any, ...], OpenedPrompt],
    recognize: Callable[[Tensor], str] | None,
    console: Console,
) -> bool:
    """Speak a row, unless its file is there and was made the same way; return whether it was spoken."""
    options, started = row.options, time.perf_counter()
    made_with = _made_with(options, tts)
    report = options.out.with_suffix(".json")
    if _is_done(options.out, report, made_with):
        return False
    report.unlink(missing_ok=True)  # a file of other settings must not be taken for this row's
    key = (options.ref, options.ref_text, options.voice)
    if key not in opened:
        if len(opened) >= 64:
            opened.clear()  # bounded memory, whatever the list
        opened[key] = open_prompt(options, tts, console)
    sentences = sentences_of(read_text(options.text, None), tts, options, console)
    found = speak_into(
        options.out, tts, opened[key], sentences, options, recognize, Console(quiet=True), started
    )
    tree = {"made_with": made_with, "audio_sha256": file_sha256(options.out), "model": tts.identity}
    tree |= {
        **opened[key].description,
        "audio": options.out.name,
        **found,
        "environment": environment(tts.device),
    }
    write_text(report, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    return True


def _made_with(options: SynthesizeOptions, tts: TTS) -> str:
    """Return a hash of everything that decides the samples of a row."""
    voice = options.ref if options.voice is None else voice_path(options.voice)
    assert voice is not None
    if not voice.is_file():
        raise DataError(f"{voice}: no such file")
    tree = {
        "weights": {name: tts.identity.get(name) for name in WEIGHTS},
        "voice": file_sha256(voice),
        "text": options.text,
        "ref_text": options.ref_text,
        "sampling": asdict(tts.resolve(options.sampling)),
        "language": options.language,
        "skip_unknown": options.skip_unknown,
        "verify": [options.verify, options.verify_wer],
        "asr": options.asr,
        "stream": options.stream,
        "device": tts.device.type,
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _is_done(audio: Path, report: Path, made_with: str) -> bool:
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
        return found.get("made_with") == made_with and found.get("audio_sha256") == file_sha256(
            audio
        )
    except (OSError, ValueError, AttributeError):
        return False
