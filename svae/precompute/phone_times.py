"""`svae align`: when each phone of every utterance is spoken, stored once for `train-tts`."""

from __future__ import annotations

import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from svae.audio import SPEECH_RATE, resample
from svae.data.batches import read_waveform
from svae.data.timings import DESCRIPTION, timings_name
from svae.errors import DataError
from svae.precompute.driver import cached_index, open_run, read_waveform_index, shard_hashes
from svae.runtime.distributed import barrier
from svae.runtime.files import write_text
from svae.runtime.jobs import Tick
from svae.runtime.outgoing import shown
from svae.runtime.ray_jobs import RayOptions
from svae.text.phone_aligner import AlignmentError, PhoneAligner


def align_shards(
    data: Path,
    out: Path,
    *,
    workers: int | None = None,
    ray: RayOptions | None = None,
    console: Console | None = None,
) -> Path:
    """Write the times of every utterance's phones, a JSONL file for each shard; finished shards are kept.

    `workers` are processes; None: one per core. `ray` is a cluster that does the work.

    An utterance whose text does not fit its recording is stored with the reason, counted and printed.

    Raises:
        DataError: no waveform shards, no texts, or the folder holds the times of other shards.
    """
    index = read_waveform_index(data, command="svae align")
    with open_run(index, out, workers=workers, ray=ray, console=console) as run:
        description = {
            "format": 1,
            "aligner": f"pocketsphinx {version('pocketsphinx')} en-us",
            "source": shard_hashes(index),
        }
        run.claim(
            DESCRIPTION,
            description,
            contents="times",
            command="svae align",
            files=("timings-*.jsonl",),
        )
        run.make(
            functools.partial(_align_shard, data, run.out),
            finished=lambda number: (run.out / timings_name(number)).is_file(),
            label="Aligning",
        )
        rows = [row for n in range(len(index.shards)) for row in _rows(run.out / timings_name(n))]
        failed = [row for row in rows if "error" in row]
        run.console.print(
            f"Times of phones in [bold]{shown(run.out)}[/]: {len(rows) - len(failed)} utterances",
            highlight=False,
        )
        if failed:
            run.console.print(
                f"Not aligned: {len(failed)}, e.g. {failed[0]['key']}: {failed[0]['error']}",
                markup=False,
            )
        run.console.print(
            f"Next: svae train-tts … --set tokens=frame-phonemes --set data.timings={shown(run.out)}",
            highlight=False,
        )
        barrier(run.world)
        return shown(run.out)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@functools.cache
def _aligner() -> PhoneAligner:
    return PhoneAligner()


def _align_shard(data: Path, out: Path, number: int, device: str, tick: Tick) -> None:
    index = cached_index(data)
    lines = []
    for sample in index.samples_of(number):
        row: dict[str, Any] = {"key": sample.key}
        try:
            waveform = resample(read_waveform(index, sample), index.sample_rate, SPEECH_RATE)
            row["words"] = _aligner().align(waveform[0], sample.text)
        except (AlignmentError, DataError) as error:
            row["error"] = str(error)
        lines.append(json.dumps(row, ensure_ascii=False))
        tick()
    write_text(out / timings_name(number), "".join(f"{line}\n" for line in lines))
