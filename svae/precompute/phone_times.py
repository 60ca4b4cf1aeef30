"""`svae align`: when each phone of every utterance is spoken, stored once for `train-tts`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from svae.audio import resample
from svae.data.batches import read_waveform
from svae.data.index import read_index
from svae.data.timings import DESCRIPTION, timings_name
from svae.errors import DataError
from svae.precompute.driver import cached_index
from svae.runtime.files import writable_folder, write_text
from svae.runtime.jobs import Tick, run_jobs
from svae.text.phone_aligner import SAMPLE_RATE, AlignmentError, PhoneAligner


@dataclass(frozen=True)
class AlignOptions:
    """Options of `svae align`."""

    data: Path
    out: Path
    workers: int | None = None
    """Processes; None: one per core."""


def align_shards(options: AlignOptions) -> Path:
    """Write the times of every utterance's phones, a JSONL file for each shard; finished shards are kept.

    An utterance whose text does not fit its recording is stored with the reason, counted and printed.

    Raises:
        DataError: no waveform shards, no texts, or the folder holds the times of other shards.
    """
    index = read_index(options.data)
    if index.kind != "waveforms":
        raise DataError(
            f"{index.root}: holds {index.kind}; `svae align` needs shards from `svae prepare`"
        )
    console, out = Console(), writable_folder(options.out, option="--out")
    description = {
        "format": 1,
        "aligner": f"pocketsphinx {version('pocketsphinx')} en-us",
        "source": [shard["sha256"] for shard in index.shards],
    }
    stored = out / DESCRIPTION
    if stored.is_file() and json.loads(stored.read_text(encoding="utf-8")) != description:
        raise DataError(
            f"{out}: holds times of other shards or by another aligner; choose another --out"
        )
    write_text(stored, json.dumps(description, indent=2) + "\n")
    waiting = [n for n in range(len(index.shards)) if not (out / timings_name(n)).is_file()]
    counts = [shard["utterances"] for shard in index.shards]
    run_jobs(
        _align_shard,
        {n: (index.root, out, n) for n in waiting},
        workers=options.workers,
        description="Aligning",
        console=console,
        total=sum(counts),
        completed=sum(counts) - sum(counts[n] for n in waiting),
    )
    failed = [
        row for n in range(len(counts)) for row in _rows(out / timings_name(n)) if "error" in row
    ]
    console.print(
        f"Times of phones in [bold]{out}[/]: {sum(counts) - len(failed)} utterances",
        highlight=False,
    )
    if failed:
        console.print(
            f"Not aligned: {len(failed)}, e.g. {failed[0]['key']}: {failed[0]['error']}",
            markup=False,
        )
    console.print(
        f"Next: svae train-tts … --set tokens=frame-phonemes --set data.timings={out}",
        highlight=False,
    )
    return out


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@functools.lru_cache(maxsize=1)
def _aligner() -> PhoneAligner:
    return PhoneAligner()


def _align_shard(data: Path, out: Path, number: int, tick: Tick) -> None:
    index, lines = cached_index(data), []
    for sample in index.samples:
        if sample.shard != number:
            continue
        row: dict[str, Any] = {"key": sample.key}
        try:
            waveform = resample(read_waveform(index, sample), index.sample_rate, SAMPLE_RATE)
            row["words"] = _aligner().align(waveform[0], sample.text)
        except (AlignmentError, DataError) as error:
            row["error"] = str(error)
        lines.append(json.dumps(row, ensure_ascii=False))
        tick()
    path = out / timings_name(number)
    write_text(path, "".join(f"{line}\n" for line in lines))
