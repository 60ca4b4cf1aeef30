"""`svae prepare`: a corpus into shards, in parallel, so that it can be killed at any time and continued.

Each shard is one task of a process pool. It appears under its final name only when complete, after its list of
rejected utterances; index.json comes last. A run therefore makes exactly the shards that are not there yet.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from svae.audio import AudioError, encode_flac
from svae.data.corpora import find_corpus
from svae.data.corpora.corpus import Utterance
from svae.data.excerpt import expected_seconds, read_audio
from svae.data.index import ShardIndex, read_index, write_index
from svae.data.prepare_plan import (
    PrepareOptions,
    PreparePlan,
    PrepareReport,
    Rejection,
    choose_validation,
    enter_folder,
    make_plan,
)
from svae.data.shard_writer import ShardItem, describe_shard, read_rows, shard_name, write_shard
from svae.errors import DataError
from svae.runtime.files import write_text
from svae.runtime.jobs import Tick
from svae.runtime.outgoing import destination, shown
from svae.runtime.ray_jobs import open_runner
from svae.runtime.remote import is_url
from svae.text.spell_out import spelled_text

SILENT_PEAK = 1e-3
"""-60 dB of full scale: a recording that never gets louder holds no speech."""
SILENT_RMS = 1e-4


def prepare(
    options: PrepareOptions,
    console: Console | None = None,
    *,
    rejections: Sequence[Rejection] = (),
    extra: dict[str, Any] | None = None,
) -> PrepareReport:
    """Turn a corpus into shards, or finish what an earlier run with the same options began.

    Args:
        options: what to read, how, and where to.
        console: where progress and the report are printed; None: stderr.
        rejections: what was left out before the corpus was listed; counted and named with the others.
        extra: more fields of index.json, or others in their place.

    Returns:
        What is in the folder now.

    Raises:
        DataError: the corpus is missing (says how to get it) or malformed, `out` holds something else or cannot be
            written, every utterance was rejected, or a process died.
        KeyboardInterrupt: after the pool has ended; finished shards stay.
    """
    console = console if console is not None else Console(stderr=True)
    if options.out is not None and is_url(options.out):
        with destination(options.out) as folder:
            return prepare(
                replace(options, out=folder), console, rejections=rejections, extra=extra
            )
    with console.status(f"Listing {options.corpus} …"):
        plan = make_plan(options)
    plan = replace(plan, rejections=[*plan.rejections, *rejections])
    with enter_folder(plan.out, plan.identity):
        print_notes(_warnings(plan), console)
        made = 0
        if (plan.out / "index.json").exists():
            index = read_index(plan.out)
            console.print(f"{plan.out} is complete: nothing to do.", highlight=False, markup=False)
        else:
            missing = [n for n in range(len(plan.shards)) if not is_finished(plan.out, n)]
            if missing and len(missing) < len(plan.shards):
                done = len(plan.shards) - len(missing)
                console.print(
                    f"Continuing: {done} of {len(plan.shards)} shards are finished.",
                    highlight=False,
                )
            entries = _make_shards(plan, missing, console)
            made = len(missing)
            index = _finish(plan, entries, extra)
        shutil.rmtree(plan.out / ".rejected", ignore_errors=True)
    report = report_of(index, made)
    print_report(report, console)
    return report


# ----------------------------------------------------------------------------------------------- in the parent


def _make_shards(plan: PreparePlan, missing: list[int], console: Console) -> list[dict[str, Any]]:
    """Make the missing shards in a process pool; return the entries of all shards for index.json."""
    total = sum(map(len, plan.shards))
    if missing:
        (plan.out / ".rejected").mkdir(exist_ok=True)
    jobs = {}
    for number in missing:
        raw = {u.key: plan.raw_texts[u.key] for u in plan.shards[number] if u.key in plan.raw_texts}
        jobs[number] = (plan.out, number, plan.shards[number], raw, plan.options)
    try:
        with open_runner(
            workers=plan.options.workers, ray=plan.options.ray, folder=plan.out
        ) as runner:
            entries = runner.run(
                _make_shard,
                jobs,
                description="Preparing",
                console=console,
                total=total,
                completed=total - sum(len(plan.shards[n]) for n in missing),
            )
    except KeyboardInterrupt:
        finished = sum(is_finished(plan.out, number) for number in range(len(plan.shards)))
        console.print(
            f"Interrupted: {finished} of {len(plan.shards)} shards are finished; the same command continues.",
            highlight=False,
        )
        raise
    return [
        entries[n] if n in entries else describe_shard(plan.out, n) for n in range(len(plan.shards))
    ]


def is_finished(out: Path, number: int) -> bool:
    """Tell whether a shard is there, with the list of what was rejected from it."""
    return (out / shard_name(number)).exists() and _rejected_path(out, number).exists()


def _finish(
    plan: PreparePlan, entries: list[dict[str, Any]], extra: dict[str, Any] | None
) -> ShardIndex:
    """Write rejected.jsonl and index.json."""
    rejections = list(plan.rejections)
    for number in range(len(plan.shards)):
        rejections += read_rejections(plan.out, number)
    return finish_folder(plan.out, str(plan.root), plan.options, entries, rejections, extra)


def finish_folder(
    out: Path,
    source: str,
    options: PrepareOptions,
    entries: list[dict[str, Any]],
    rejections: list[Rejection],
    extra: dict[str, Any] | None = None,
) -> ShardIndex:
    """Write rejected.jsonl and index.json, which completes a folder of shards; `extra` are more fields of the latter.

    Raises:
        DataError: not a single utterance is left of `source`; the folder can then be used again.
    """
    rejections = sorted(rejections, key=lambda rejection: rejection.key)
    write_text(out / "rejected.jsonl", _json_lines(rejections))
    counts = dict(sorted(Counter(rejection.reason for rejection in rejections).items()))
    if not any(entry["utterances"] for entry in entries):
        # Nothing worth keeping: the corpus can be mended and the same folder used again.
        for path in (*out.glob("shard-*"), out / "plan.json"):
            path.unlink()
        shutil.rmtree(out / ".rejected", ignore_errors=True)
        raise DataError(
            f"{source}: all {len(rejections)} utterances were rejected: {_listed(counts)}. "
            f"Each is listed with its reason in {out / 'rejected.jsonl'}."
        )
    keys = [
        row["key"]
        for entry in entries
        for row in read_rows((out / entry["name"]).with_suffix(".jsonl"))
    ]
    return write_index(
        out,
        kind="waveforms",
        corpus=options.corpus,
        sample_rate=options.sample_rate,
        shards=entries,
        validation=choose_validation(keys, options.validation),
        rejected=counts,
        extra=extra,
    )


def _warnings(plan: PreparePlan) -> Iterator[str]:
    yield from plan.notes
    if not plan.transcripts and any(plan.shards):
        yield (
            f"{plan.root} has no transcripts: its utterances are prepared without text. "
            "That is enough for train-vae; train-tts needs texts."
        )
    if find_corpus(plan.options.corpus).has_subsets and not plan.options.subsets:
        taken = sorted(
            {utterance.source.split("/")[0] for shard in plan.shards for utterance in shard}
        )
        if taken:
            yield f"no --subset given: taking {', '.join(taken)}."


def report_of(index: ShardIndex, made: int) -> PrepareReport:
    """Return what is in a finished folder, of which this run made so many shards."""
    return PrepareReport(
        out=shown(index.root),
        utterances=len(index.samples),
        seconds=index.metadata["seconds"],
        speakers=len(index.metadata["speakers"]),
        shards=len(index.shards),
        shards_made=made,
        validation=len(index.metadata["validation"]),
        rejected=index.metadata["rejected"],
    )


def print_notes(notes: Iterable[str], console: Console) -> None:
    """Print what a person should know before the work begins."""
    for note in notes:
        console.print("[yellow]note:[/]", end=" ")
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def print_report(report: PrepareReport, console: Console) -> None:
    """Print what is in a finished folder, and what to do with it."""
    hours = (
        f"{report.seconds / 3600:.1f} h"
        if report.seconds >= 7200
        else f"{report.seconds / 60:.1f} min"
    )
    rejected = sum(report.rejected.values())
    speakers = f"{report.speakers} speaker{'s' if report.speakers > 1 else ''}"
    lines = [
        f"{report.utterances} utterances ({hours}) of {speakers} in {report.shards} shards; "
        f"{report.validation} held out for validation.",
        f"Rejected: {rejected}"
        + (f" ({_listed(report.rejected)}), see {report.out}/rejected.jsonl" if rejected else ""),
        f"Written: {report.out}",
        f"Next: svae train-vae --data {report.out}",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


# ----------------------------------------------------------------------------------------------- in the workers


def _make_shard(
    out: Path,
    number: int,
    utterances: list[Utterance],
    raw_texts: dict[str, str],
    options: PrepareOptions,
    tick: Tick,
) -> dict[str, Any]:
    """Write one shard of utterances."""
    items = (_read(utterance, raw_texts.get(utterance.key), options) for utterance in utterances)
    return make_shard(out, number, items, tick)


def make_shard(
    out: Path, number: int, items: Iterable[ShardItem | Rejection], tick: Tick
) -> dict[str, Any]:
    """Write one shard and, before it, the list of what was rejected from it; return its entry for index.json."""
    rejections: list[Rejection] = []

    def accepted() -> Iterator[ShardItem]:
        for item in items:
            if isinstance(item, Rejection):
                rejections.append(item)
            else:
                yield item
            tick()
        # Here, so that it lies there when the shard gets its name.
        write_text(_rejected_path(out, number), _json_lines(rejections))

    return write_shard(out, number, accepted())


def read_rejections(out: Path, number: int) -> list[Rejection]:
    """Read what was rejected from a finished shard."""
    text = _rejected_path(out, number).read_text(encoding="utf-8")
    # Not splitlines: a path may hold a separator of lines that JSON leaves as it is.
    return [Rejection(**json.loads(line)) for line in text.split("\n") if line]


def _read(
    utterance: Utterance, raw_text: str | None, options: PrepareOptions
) -> ShardItem | Rejection:
    """Read, check, resample and encode one utterance."""

    def rejection(reason: str, detail: str) -> Rejection:
        return Rejection(utterance.key, utterance.source, reason, detail)

    notes: list[str] = []
    try:
        # Headers first: ten hours in one file are not read to be thrown away. What is near the limit is measured.
        expected = expected_seconds(utterance)
        if expected > options.max_seconds + 0.5:
            return rejection("too long", f"{expected:.1f} s, limit {options.max_seconds:g} s")
        waveform, rate = (
            read_audio(utterance, options.sample_rate, notes=notes),
            options.sample_rate,
        )
    except AudioError as error:
        return rejection(error.reason, str(error))
    except DataError as error:
        return rejection("beyond the end", str(error))
    metadata: dict[str, Any] = {"source": utterance.source}
    if notes:
        metadata["audio_notes"] = notes
    if utterance.is_segment:
        metadata |= {"offset": utterance.offset, "duration": utterance.duration}
    if utterance.channel is not None:
        metadata["channel"] = utterance.channel
    text = utterance.text or ""
    if options.spell_out and (spelled := spelled_text(text, utterance.language)) != text:
        raw_text = raw_text or text
        text = spelled
    if raw_text is not None:
        metadata["raw_text"] = raw_text
    if problem := audible_problem(waveform, options):
        return rejection(*problem)
    return ShardItem(
        key=utterance.key,
        members={"flac": encode_flac(waveform, rate)},
        num_samples=waveform.shape[-1],
        sample_rate=rate,
        speaker=utterance.speaker,
        language=utterance.language,
        text=text,
        metadata=metadata,
    )


def audible_problem(waveform: Tensor, options: PrepareOptions) -> tuple[str, str] | None:
    """Return why a waveform (1, S) at the shards' rate is rejected, reason and detail; None where it is not."""
    seconds = waveform.shape[-1] / options.sample_rate
    if seconds < options.min_seconds:
        return "too short", f"{seconds:.3f} s, limit {options.min_seconds:g} s"
    if seconds > options.max_seconds:
        return "too long", f"{seconds:.1f} s, limit {options.max_seconds:g} s"
    peak, rms = float(waveform.abs().max()), float(waveform.square().mean().sqrt())
    if peak < SILENT_PEAK or rms < SILENT_RMS:
        return "silent", f"peak {peak:.2g}, rms {rms:.2g}; full scale is 1"
    return None


def _json_lines(rejections: list[Rejection]) -> str:
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejections)


def _rejected_path(out: Path, number: int) -> Path:
    return out / ".rejected" / f"{Path(shard_name(number)).stem}.jsonl"
