"""`svae prepare webdataset` and `huggingface`: sources that are read from front to back, into the shards of `prepare`.

How many recordings a part of a source has shows only when it has been read. So each part is one task of the process
pool, which fills shards of its own, of so many recordings each, in a folder `.parts/NUMBER`; when all parts are done
their shards are numbered through and moved up. Nothing of that depends on the number of processes. A run that was
stopped passes over parts that are done, and over the recordings of shards that are.
"""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from svae.audio import AudioError, audio_seconds, encode_flac, load_audio
from svae.data.index import ShardIndex, read_index
from svae.data.prepare import (
    audible_problem,
    finish_folder,
    is_finished,
    make_shard,
    print_notes,
    print_report,
    read_rejections,
    report_of,
)
from svae.data.prepare_plan import (
    FORMAT,
    MIN_SHARDS,
    UTTERANCES_PER_SHARD,
    PrepareOptions,
    PrepareReport,
    Rejection,
    check_options,
    enter_folder,
    identifying,
)
from svae.data.shard_writer import (
    ShardItem,
    describe_rows,
    describe_shard,
    read_rows,
    shard_name,
)
from svae.data.streams.source import Recording, Source, SourceError
from svae.errors import DataError
from svae.runtime.files import remove_leftovers, write_text
from svae.runtime.jobs import Tick
from svae.runtime.outgoing import destination
from svae.runtime.ray_jobs import open_runner
from svae.runtime.remote import is_url
from svae.text.spell_out import spelled_text
from svae.text.vocabulary import normalize_text


def prepare_stream(
    source: Source,
    options: PrepareOptions,
    *,
    utterances_per_shard: int = UTTERANCES_PER_SHARD,
    skip_unreadable: bool = False,
    console: Console | None = None,
) -> PrepareReport:
    """Turn a source into shards, or finish what an earlier run with the same options began.

    Args:
        source: what is read.
        options: `corpus` names the source in the index; `root`, `subsets` and `shards` mean nothing here.
        utterances_per_shard: recordings that are read for one shard; rejected ones are missing from it.
        skip_unreadable: leave out parts that cannot be read to their end, and list them as rejected.
        console: where progress and the report are printed; None: stderr.

    Raises:
        DataError: impossible options, a folder of something else, parts that cannot be read (all the others are done
            then), nothing usable.
        KeyboardInterrupt: after the pool has ended; finished shards stay.
    """
    console = console if console is not None else Console(stderr=True)
    if options.out is not None and is_url(options.out):
        with destination(options.out) as folder:
            return prepare_stream(
                source,
                replace(options, out=folder),
                utterances_per_shard=utterances_per_shard,
                skip_unreadable=skip_unreadable,
                console=console,
            )
    check_options(options)
    if utterances_per_shard < 1:
        raise DataError(f"--per-shard {utterances_per_shard}: expected at least 1.")
    out = Path(options.out) if options.out is not None else Path("data/shards") / options.corpus
    with enter_folder(out, _identity(source, options, utterances_per_shard)):
        print_notes(_notes(source), console)
        made = 0
        if (out / "index.json").exists():
            index = read_index(out)
            console.print(f"{out} is complete: nothing to do.", highlight=False)
        else:
            failures = _left_out(out)
            decided = bool(failures)
            if not decided:
                failures = _make_parts(source, out, options, utterances_per_shard, console)
            _report_failures(source, failures, decided, skip_unreadable, console, out)
            index = _finish(source, out, options, failures)
            made = len(index.shards)
        shutil.rmtree(out / ".parts", ignore_errors=True)
    report = report_of(index, made)
    print_report(report, console)
    if report.shards < MIN_SHARDS:
        few = f"{report.shards} shard{'s' if report.shards > 1 else ''}: training takes at least one for each rank and loader process."
        print_notes([f"{few} A smaller --per-shard, with another --out, makes more."], console)
    return report


def _identity(source: Source, options: PrepareOptions, utterances_per_shard: int) -> dict[str, Any]:
    fixed = identifying(options, ("root", "out", "workers", "ray", "subsets", "shards"))
    identity = {
        "format": FORMAT,
        **fixed,
        "utterances_per_shard": utterances_per_shard,
        "parts": len(source.parts),
        "content": source.identity,
    }
    return dict(json.loads(json.dumps(identity)))  # as it will be read: tuples are lists


def _notes(source: Source) -> Iterator[str]:
    yield from source.notes
    if not source.has_text:
        yield (
            "no field with transcripts: its utterances are prepared without text. "
            "That is enough for train-vae; train-tts needs texts (--text FIELD)."
        )


# ----------------------------------------------------------------------------------------------- in the parent


def _make_parts(
    source: Source, out: Path, options: PrepareOptions, utterances_per_shard: int, console: Console
) -> dict[int, str]:
    """Read the parts that are not done in a process pool; return what was wrong with those that cannot be read."""
    missing = [n for n in range(len(source.parts)) if not _done_path(out, n).exists()]
    if missing and (out / ".parts").exists():
        done = len(source.parts) - len(missing)
        console.print(f"Continuing: {done} of {len(source.parts)} parts are done.", highlight=False)
    jobs = {n: (source, n, out, options, utterances_per_shard) for n in missing}
    try:
        with open_runner(workers=options.workers, ray=options.ray, folder=out) as runner:
            results = runner.run(
                _make_part, jobs, description="Preparing", console=console, total=None
            )
    except KeyboardInterrupt:
        done = sum(_done_path(out, n).exists() for n in range(len(source.parts)))
        console.print(
            f"Interrupted: {done} of {len(source.parts)} parts are done; the same command continues.",
            highlight=False,
        )
        raise
    return {n: message for n, message in results.items() if message}


def _report_failures(
    source: Source,
    failures: dict[int, str],
    decided: bool,
    skip_unreadable: bool,
    console: Console,
    out: Path,
) -> None:
    """Say which parts cannot be read. Raises DataError unless they are to be left out."""
    if not failures:
        return
    shown = [failures[number] for number in sorted(failures)[:5]]
    more = [f"… and {len(failures) - 5} more"] if len(failures) > 5 else []
    text = "\n".join([*shown, *more])
    if decided and not skip_unreadable:
        raise DataError(
            f"{text}\n{len(failures)} of {len(source.parts)} parts could not be read, and an earlier run began to number the "
            f"shards without them. Finish it with --skip-unreadable; to have them too, delete {out} and run again."
        )
    if not skip_unreadable:
        raise DataError(
            f"{text}\n{len(failures)} of {len(source.parts)} parts cannot be read. What is done is kept: the same "
            "command tries these again, and with --skip-unreadable finishes without them."
        )
    print_notes([f"left out, {len(failures)} of {len(source.parts)} parts:\n{text}"], console)


def _finish(
    source: Source, out: Path, options: PrepareOptions, failures: dict[int, str]
) -> ShardIndex:
    """Number the shards of all parts through, move them up, and write rejected.jsonl and index.json."""
    entries: list[dict[str, Any]] = []
    rejections: list[Rejection] = []
    if failures:  # numbers depend on it: a run that goes on here must leave out the same
        write_text(_left_out_path(out), json.dumps(failures))
    for part, name in enumerate(source.parts):
        if part in failures:
            detail = failures[part]
            rejections.append(Rejection(f"{part:05d}", name, "unreadable part", detail))
            continue
        made = json.loads(_done_path(out, part).read_text(encoding="utf-8"))
        for number, entry in enumerate(made):
            rejections += read_rejections(_part_folder(out, part), number)
            if entry["utterances"]:
                entries.append(_move_up(out, part, number, len(entries), entry))
    try:
        return finish_folder(out, source.parts[0], options, entries, rejections)
    except DataError:
        shutil.rmtree(out / ".parts", ignore_errors=True)
        raise


def _move_up(
    out: Path, part: int, number: int, final: int, entry: dict[str, Any]
) -> dict[str, Any]:
    """Give a shard its final number; return its entry for index.json. Does nothing where that was done before."""
    old, new = _part_folder(out, part) / shard_name(number), out / shard_name(final)
    if old.exists():
        rows = [{**row, "shard": final} for row in read_rows(old.with_suffix(".jsonl"))]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_text(new.with_suffix(".jsonl"), text)
        old.replace(new)
    return {**entry, "name": new.name, **describe_rows(new.with_suffix(".jsonl"))}


def _part_folder(out: Path, part: int) -> Path:
    return out / ".parts" / f"{part:05d}"


def _left_out_path(out: Path) -> Path:
    """Return the file that says which parts are left out for what reasons, written before the first shard is moved up."""
    return out / ".parts" / "left_out.json"


def _left_out(out: Path) -> dict[int, str]:
    """Return which parts are left out, where that is decided: by part why it could not be read."""
    path = _left_out_path(out)
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {int(part): message for part, message in rows.items()}


def _done_path(out: Path, part: int) -> Path:
    """Return the file that lists the shards of a part, written when there are no more to come."""
    return _part_folder(out, part) / "done.json"


# ----------------------------------------------------------------------------------------------- in the workers


def _make_part(
    source: Source,
    part: int,
    out: Path,
    options: PrepareOptions,
    utterances_per_shard: int,
    tick: Tick,
) -> str:
    """Read a part and write its shards; return why it cannot be read to its end, or nothing."""
    folder = _part_folder(out, part)
    (folder / ".rejected").mkdir(parents=True, exist_ok=True)
    for each in (folder, folder / ".rejected"):
        remove_leftovers(each)
    require_text = source.has_text if options.require_text is None else options.require_text
    recordings = source.read(part)
    entries = []
    try:
        for number in itertools.count():
            first = next(recordings, None)
            if first is None:
                break
            some = itertools.islice(recordings, utterances_per_shard - 1)
            taken = itertools.chain([first], some)
            if is_finished(folder, number):
                for _ in taken:
                    tick()
                entries.append(describe_shard(folder, number))
            else:
                items = (_item(recording, options, require_text) for recording in taken)
                entries.append(make_shard(folder, number, items, tick))
    except SourceError as error:
        return str(error)
    write_text(_done_path(out, part), json.dumps(entries))
    return ""


def _item(
    recording: Recording, options: PrepareOptions, require_text: bool
) -> ShardItem | Rejection:
    """Check, decode, resample and encode one recording."""

    def rejection(reason: str, detail: str) -> Rejection:
        return Rejection(recording.key, recording.source, reason, detail)

    if recording.problem is not None:
        return rejection(*recording.problem)
    if not recording.audio:
        return rejection("empty", "the file has 0 bytes")
    text = normalize_text(recording.text or "")
    if options.spell_out:
        text = spelled_text(text, recording.language)
    if require_text and not text:
        return rejection("without text", "no or empty transcript")
    # Headers first: ten hours in one file are not decoded to be thrown away. What is near the limit is measured.
    expected = audio_seconds(io.BytesIO(recording.audio))
    if expected > options.max_seconds + 0.5:
        return rejection("too long", f"{expected:.1f} s, limit {options.max_seconds:g} s")
    rate = options.sample_rate
    notes: list[str] = []
    try:
        file = io.BytesIO(recording.audio)
        waveform, _ = load_audio(file, sample_rate=rate, name=recording.source, notes=notes)
    except AudioError as error:
        return rejection(error.reason, str(error))
    if problem := audible_problem(waveform, options):
        return rejection(*problem)
    metadata = {"source": recording.source, **recording.metadata}
    if notes:
        metadata["audio_notes"] = notes
    if recording.text is not None and recording.text != text:
        metadata["raw_text"] = recording.text
    return ShardItem(
        key=recording.key,
        members={"flac": encode_flac(waveform, rate)},
        num_samples=waveform.shape[-1],
        sample_rate=rate,
        speaker=recording.speaker,
        language=recording.language,
        text=text,
        metadata=metadata,
    )
