"""`svae cache-teacher`: a teacher's features of whole utterances, stored once in shards for `train-vae`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from svae.config import TeacherConfig
from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.data.shard_writer import ShardItem, write_shard
from svae.errors import DataError
from svae.models.teacher import Teacher, load_teacher
from svae.precompute.driver import (
    array_item,
    cached_index,
    open_run,
    read_waveform_index,
    shard_hashes,
)
from svae.runtime.distributed import barrier
from svae.runtime.jobs import Tick
from svae.runtime.outgoing import shown
from svae.runtime.ray_jobs import RayOptions


def cache_teacher(
    data: Path,
    out: Path,
    teacher: TeacherConfig,
    *,
    dtype: Literal["float16", "float32"] = "float16",
    workers: int | None = None,
    device: str = "auto",
    ray: RayOptions | None = None,
) -> Path:
    """Write the teacher's features of every utterance, (K, C) each, in the same shards as the waveforms.

    The teacher hears the whole utterance, where online it hears the crop and `context_seconds` around it: the
    features differ a little (docs/benchmarks.md). Finished shards are kept when the command is run again.
    `workers` are processes on the CPU; None: one per core. `ray` is a cluster that does the work.

    Raises:
        DataError: the data are not waveform shards, or longer than the teacher hears; or the folder holds features made
            otherwise.
        ConfigError: the teacher cannot be loaded or hears another sample rate.
    """
    index = read_waveform_index(data, command="svae cache-teacher")
    with open_run(index, out, device=device, workers=workers, ray=ray) as run:
        loaded = load_teacher(teacher, run.world.device, sample_rate=index.sample_rate)
        run.console.print(f"Teacher: {loaded.description}, on {run.where}")
        _check_heard_whole(loaded, index)
        description = {
            "model": teacher.model,
            "layer": teacher.layer,
            "feature_dim": loaded.feature_dim,
            "hop_length": loaded.hop_length,
            "receptive_field": loaded.receptive_field,
            "dtype": dtype,
            "source": shard_hashes(index),
        }
        run.claim("plan.json", description, contents="features", command="svae cache-teacher")
        run.make(
            functools.partial(_cache_shard, data, run.out, teacher, dtype),
            finished=run.has_shard,
            label="Writing features",
        )
        if run.world.is_main:
            features = run.write_index(kind="features", extra={"features": description})
            size = sum(shard["bytes"] for shard in features.shards)
            rate = size / max(index.metadata["seconds"], 1e-9)
            run.console.print(
                f"Features in [bold]{shown(run.out)}[/]: {size / 1e6:.1f} MB, {rate / 1e3:.1f} kB per second of audio"
            )
            run.console.print(
                f"Next: svae train-vae … --set teacher.cache={shown(run.out)}",
                highlight=False,
                soft_wrap=True,
            )
        barrier(run.world)
        return shown(run.out)


def _check_heard_whole(teacher: Teacher, index: ShardIndex) -> None:
    """Raise DataError where utterances are longer than a teacher hears at once."""
    limit, rate = teacher.max_samples, index.sample_rate
    if limit is None:
        return
    if long := [sample for sample in index.samples if sample.num_samples > limit]:
        raise DataError(
            f"{index.root}: {len(long)} of {len(index.samples)} utterances are longer than the {limit / rate:g} s that the teacher "
            f"hears at once, such as {long[0].key!r} of {long[0].num_samples / rate:g} s.\n"
            f"Make the shards with `svae prepare … --max-seconds {limit / rate:g}` in another folder, or take another teacher."
        )


_cached_teacher = functools.lru_cache(maxsize=1)(load_teacher)


@torch.inference_mode()
def _cache_shard(
    data: Path, out: Path, config: TeacherConfig, dtype: str, number: int, device: str, tick: Tick
) -> None:
    index = cached_index(data)
    teacher = _cached_teacher(config, device, sample_rate=index.sample_rate)

    def items() -> Iterator[ShardItem]:
        for sample in index.samples_of(number):
            waveform = read_waveform(index, sample)[None].to(device)
            array = teacher.features(waveform)[0].cpu().numpy().astype(dtype)
            if not np.isfinite(array).all():
                raise DataError(
                    f"{index.describe(sample)}: features do not fit {dtype}; use --dtype float32"
                )
            yield array_item(index, sample, array)
            tick()

    write_shard(out, number, items())
