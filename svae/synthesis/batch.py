"""`svae synthesize --batch LIST`: many texts, each with a voice and a file of its own, from one JSONL list.

A bad row is named by its number and the others are done; rows whose file was made by the same settings are kept.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import track

from svae.errors import DataError, SvaeError
from svae.judges.ctc import CTC
from svae.runtime.files import file_sha256
from svae.synthesis.command import (
    SpeechReport,
    SynthesizeOptions,
    check_credentials,
    inputs_of,
    load_model,
    open_ctc,
    open_leveller,
    open_lexicon,
    open_prompt,
    open_verifier,
    open_word_times,
    sentences_of,
)
from svae.synthesis.long_text import (
    Chunk,
    SpokenChunk,
    Verifier,
    plan_chunks,
    speak_planned,
    write_chunks,
)
from svae.synthesis.marks import tags
from svae.synthesis.model import TTS
from svae.synthesis.output import check_output, identities, report_path
from svae.synthesis.reference import OpenedPrompt
from svae.synthesis.subtitles import check_subtitles, remove_details, subtitles_path
from svae.synthesis.types import WEIGHTS
from svae.synthesis.voices import voice_path
from svae.text.lexicon import Lexicon
from svae.text.sentences import read_text

FIELDS = {
    "text": str, "ref": str, "ref_text": str, "voice": str, "out": str, "seed": int, "language": str,
}  # fmt: skip
MAX_OPEN_PROMPTS = 64
"""Encoded references that are kept for further rows."""
Voice = tuple[Path | None, str | None, str | None, str | None]
"""`ref`, `ref_text`, `voice` and `language`, which decide a prompt."""


class Problem(NamedTuple):
    """Why a row was not spoken."""

    row: int
    """Its line in the file, from 1."""
    message: str


@dataclass(frozen=True)
class Row:
    """One line of the list, with the command's options for what it does not say."""

    number: int
    """Its line in the file, from 1."""
    options: SynthesizeOptions


def synthesize_batch(file: Path, options: SynthesizeOptions, out: Path) -> int:
    """Speak every row of a JSONL list into a file of its own and return how many were made now.

    Args:
        file: one object a line: `text`, `out` (under `out`, unless absolute), `ref` or `voice` (default: those of
            `options`, or the model's own voice), optionally `ref_text`, `seed` and `language`. Relative `ref` are looked for beside the list.
        options: for everything that a row does not say.
        out: folder of the results.

    Raises:
        DataError: the list cannot be read; or, after all others are done, some rows failed.
    """
    console = Console()
    check_credentials(options)
    rows, problems = read_rows(file, options, out)
    count = len(rows) + len(problems)
    tts = load_model(options, console)
    verifier = open_verifier(options, tts)
    ctc = open_ctc(options, tts)
    lexicon = open_lexicon(options)
    made = kept = 0
    waiting: list[ReadyRow] = []
    opened: dict[Voice, OpenedPrompt] = {}
    # A row must not replace what another one reads either.
    inputs = identities(
        [("--batch", file), *(each for row in rows for each in inputs_of(row.options))]
    )
    for row in track(rows, "Speaking", console=console):
        try:
            check_output(row.options.out, inputs)
            check_subtitles(row.options.out, row.options.subtitles, report_path(row.options.out))
            ready = _prepare_row(row, tts, opened, lexicon, console)
        except Exception as error:  # whatever it is, the other rows can still be spoken
            problems.append(Problem(row.number, _reason(error)))
            continue
        if ready is None:
            kept += 1
            continue
        waiting.append(ready)
        if sum(chunk.frames for each in waiting for chunk in each.chunks) >= tts.batch_frames:
            made += _write_rows(waiting, tts, verifier, ctc, console, problems)
            waiting = []
    made += _write_rows(waiting, tts, verifier, ctc, console, problems)
    console.print(
        f"{made} made, {kept} kept, {len(problems)} failed, in [bold]{escape(str(out))}[/]"
    )
    if problems:
        lines = [f"{file}: {len(problems)} of {count} rows failed, the others are done:"]
        for number, message in sorted(problems)[:10]:
            lines.append(f"  row {number}: {' '.join(message.split())}")
        if len(problems) > 10:
            lines.append(f"  … and {len(problems) - 10} more")
        lines.append("Mend them and run the same command; finished rows are kept.")
        raise DataError("\n".join(lines))
    return made


def _reason(error: Exception) -> str:
    """Return why a row failed; what no one expected is named by its kind too."""
    if isinstance(error, SvaeError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def read_rows(file: Path, options: SynthesizeOptions, out: Path) -> tuple[list[Row], list[Problem]]:
    """Read the list; return its usable rows, and what is wrong with the others.

    Raises:
        DataError: the file cannot be read, is empty, or no row is usable.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: dict[Path, int] = {}
    for number, line in enumerate(read_text(None, file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = Row(number, _row_options(json.loads(line), file, options, out))
        except json.JSONDecodeError as error:
            problems.append(Problem(number, f"not valid JSON ({error})"))
            continue
        except Exception as error:
            problems.append(Problem(number, _reason(error)))
            continue
        out_file = row.options.out.resolve()
        if out_file in seen:
            first = seen[out_file]
            problems.append(Problem(number, f"out {row.options.out}: row {first} writes it too"))
            continue
        seen[out_file] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{file}: no usable row. Row {problems[0].row}: {problems[0].message}")
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
    if "language" in tree:
        changes["language"] = None if tree["language"] == "none" else tree["language"]
    if "ref" in tree or "voice" in tree:
        changes["ref"] = file.parent / tree["ref"] if "ref" in tree else None
        changes["voice"] = tree.get("voice")
        changes["ref_text"] = tree.get("ref_text")
    elif "ref_text" in tree:
        changes["ref_text"] = tree["ref_text"]
    changed = replace(options, **changes)
    if changed.ref is not None and changed.voice is not None:
        raise DataError(
            "needs either `ref` or `voice` (or --ref or --voice for all rows), not both"
        )
    return changed


@dataclass(frozen=True)
class ReadyRow:
    """A row that is to be spoken."""

    row: Row
    opened: OpenedPrompt
    chunks: list[Chunk]
    made_with: str
    started: float


def _prepare_row(
    row: Row,
    tts: TTS,
    opened: dict[Voice, OpenedPrompt],
    lexicon: Lexicon | None,
    console: Console,
) -> ReadyRow | None:
    """Open a row's voice and plan its speech; None where its file is there and was made the same way."""
    started = time.perf_counter()
    options = row.options
    made_with = _made_with(options, tts)
    path = report_path(options.out)
    if _is_done(options, path, made_with):
        return None
    remove_details(options.out, path)  # a file of other settings must not be taken for this row's
    tts = tts.in_language(options.language)
    voice = (options.ref, options.ref_text, options.voice, options.language)
    if voice not in opened:
        if len(opened) >= MAX_OPEN_PROMPTS:
            opened.clear()
        opened[voice] = open_prompt(options, tts, console, lexicon)
    sentences = sentences_of(read_text(options.text, None), tts, options, console, lexicon)
    prompt = opened[voice].prompt
    chunks = plan_chunks(tts, sentences, prompt, options.sampling, by_sentence=options.stream)
    return ReadyRow(row, opened[voice], list(chunks), made_with, started)


def _write_rows(
    rows: Sequence[ReadyRow],
    tts: TTS,
    verifier: Verifier | None,
    ctc: CTC | None,
    console: Console,
    problems: list[Problem],
) -> int:
    """Speak rows together and write a file for each; return how many were made, and add why others were not."""
    made = 0
    for ready, chunks in zip(rows, _speak_rows(rows, tts, verifier), strict=True):
        try:
            _write_row(ready, chunks, tts, ctc, console)
            made += 1
        except Exception as error:  # as above
            problems.append(Problem(ready.row.number, _reason(error)))
    return made


def _speak_rows(
    rows: Sequence[ReadyRow], tts: TTS, verifier: Verifier | None
) -> list[Iterable[SpokenChunk]]:
    """Return the speech of each row."""
    one_by_one = [speak_planned(tts, row.chunks, verifier) for row in rows]
    if len(rows) < 2:
        return list(one_by_one)
    try:
        together = list(speak_planned(tts, [c for row in rows for c in row.chunks], verifier))
    except Exception:  # of a row that will say so when it is spoken by itself
        return list(one_by_one)
    spoken = iter(together)
    return [list(islice(spoken, len(row.chunks))) for row in rows]


def _write_row(
    ready: ReadyRow, chunks: Iterable[SpokenChunk], tts: TTS, ctc: CTC | None, console: Console
) -> None:
    options = ready.row.options
    tts = tts.in_language(options.language)
    times = open_word_times(options, tts, ready.opened, ctc)
    written = write_chunks(
        options.out,
        chunks,
        tts.sample_rate,
        stream=options.stream,
        leveller=open_leveller(options, ready.opened, tts),
        tags=tags(tts.identity, options.sampling.seed, ready.opened.description),
        listener=None if times is None else times.add,
    )
    report = SpeechReport(options, tts, ready.opened, written, ready.started, times)
    report.sign()
    for warning in report.warnings:
        console.print(f"[yellow]Row {ready.row.number}: {escape(warning)}.[/]", highlight=False)
    made = {"made_with": ready.made_with, "audio_sha256": file_sha256(options.out)}
    report.write(report_path(options.out), made)


def _made_with(options: SynthesizeOptions, tts: TTS) -> str:
    """Return a hash of everything that decides the samples of a row."""
    voice = options.ref if options.voice is None else voice_path(options.voice)
    if voice is None:
        voice = tts.prompt_file
    if voice is None:
        raise DataError(
            "needs either `ref` or `voice` (or --ref or --voice for all rows): this model has no voice of its own"
        )
    if not voice.is_file():
        raise DataError(f"{voice}: no such file")
    tree: dict[str, Any] = {
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
    # Without these the hash is that of files made before there were any.
    if options.loudness is not None:
        tree["loudness"] = options.loudness
    if options.subtitles is not None:
        tree["subtitles"] = options.subtitles
    if options.credentials is not None:
        tree["signed"] = file_sha256(options.credentials.chain)
    if options.lexicon is not None:
        tree["lexicon"] = file_sha256(options.lexicon)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def _is_done(options: SynthesizeOptions, report: Path, made_with: str) -> bool:
    kind = options.subtitles
    if kind is not None and not subtitles_path(options.out, kind).is_file():
        return False
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
        same_settings = found.get("made_with") == made_with
        return same_settings and found.get("audio_sha256") == file_sha256(options.out)
    except (OSError, ValueError, AttributeError):
        return False
