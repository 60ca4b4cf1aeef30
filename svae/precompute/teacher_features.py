"""`svae cache-teacher`: a teacher's features of whole utterances, stored once in shards for `train-vae`."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from svae.config import TeacherConfig
from svae.data.batches import read_waveform
from svae.data.index import read_index, write_index
from svae.data.shard_writer import ShardItem, describe_shard, shard_name, write_shard
from svae.errors import DataError
from svae.models.teacher import Teacher, load_teacher
from svae.precompute.driver import cached_index, for_shards
from svae.runtime.distributed import barrier, describe_device, open_world
from svae.runtime.files import writable_folder, write_text
from svae.runtime.jobs import Tick


@dataclass(frozen=True)
class CacheOptions:
    """Options of `svae cache-teacher`."""

    data: Path
    out: Path
    teacher: TeacherConfig = TeacherConfig()
    dtype: Literal["float16", "float32"] = "float16"
    workers: int | None = None
    """Processes on the CPU; None: one per core."""
    device: str = "auto"


def cache_teacher(options: CacheOptions) -> Path:
    """Write the teacher's features of every utterance, (K, C) each, in the same shards as the waveforms.

    The teacher hears the whole utterance, where online it hears the crop and `context_seconds` around it: the
    features differ a little (docs/benchmarks.md). Finished shards are kept when the command is run again.

    Raises:
        DataError: the data are not waveform shards, or the folder holds features made otherwise.
        ConfigError: the teacher cannot be loaded or hears another sample rate.
    """
    index = read_index(options.data)
    if index.kind != "waveforms":
        raise DataError(
            f"{index.root}: holds {index.kind}; `svae cache-teacher` needs shards from `svae prepare`"
        )
    with open_world(options.device) as world:
        console = Console(quiet=not world.is_main)
        out = writable_folder(options.out, option="--out")
        teacher = load_teacher(options.teacher, world.device, sample_rate=index.sample_rate)
        console.print(f"Teacher: {teacher.description}, on {describe_device(world.device)}")
        description = {
            "model": options.teacher.model,
            "layer": options.teacher.layer,
            "feature_dim": teacher.feature_dim,
            "hop_length": teacher.hop_length,
            "receptive_field": teacher.receptive_field,
            "dtype": options.dtype,
            "source": [shard["sha256"] for shard in index.shards],
        }
        if world.is_main:
            _begin(out, description)
        barrier(world)
        for_shards(
            _cache_shard,
            (index.root, out, options),
            index,
            finished=lambda number: (out / shard_name(number)).is_file(),
            world=world,
            workers=options.workers,
            description="Listening",
            console=console,
        )
        if world.is_main:
            shards = [describe_shard(out, number) for number in range(len(index.shards))]
            write_index(
                out,
                kind="features",
                corpus=index.metadata["corpus"],
                sample_rate=index.sample_rate,
                shards=shards,
                validation=index.metadata["validation"],
                rejected=index.metadata["rejected"],
                extra={"features": description},
            )
            size = sum(shard["bytes"] for shard in shards)
            rate = size / max(index.metadata["seconds"], 1e-9)
            console.print(
                f"Features in [bold]{out}[/]: {size / 1e6:.1f} MB, {rate / 1e3:.1f} kB per second of audio"
            )
            console.print(
                f"Next: svae train-vae … --set teacher.cache={out}", highlight=False, soft_wrap=True
            )
        barrier(world)
    return out


def _begin(out: Path, description: dict[str, Any]) -> None:
    plan = out / "plan.json"
    if plan.is_file():
        before = json.loads(plan.read_text(encoding="utf-8"))
        changed = [key for key in description if before.get(key) != description[key]]
        if changed:
            raise DataError(
                f"{out}: holds features made otherwise ({', '.join(changed)} differ); choose another --out"
            )
    elif (out / "index.json").exists() or any(out.glob("shard-*")):
        raise DataError(
            f"{out}: holds shards that `svae cache-teacher` did not begin; choose another --out"
        )
    write_text(plan, json.dumps(description, indent=2) + "\n")


@functools.lru_cache(maxsize=1)
def _cached_teacher(cfg: TeacherConfig, device: str, sample_rate: int) -> Teacher:
    return load_teacher(cfg, device, sample_rate=sample_rate)


@torch.inference_mode()
def _cache_shard(
    data: Path, out: Path, options: CacheOptions, number: int, device: str, tick: Tick
) -> None:
    index = cached_index(data)
    teacher = _cached_teacher(options.teacher, device, index.sample_rate)

    def items() -> Iterator[ShardItem]:
        for sample in index.samples:
            if sample.shard != number:
                continue
            array = (
                teacher.features(read_waveform(index, sample)[None].to(device))[0]
                .cpu()
                .numpy()
                .astype(options.dtype)
            )
            if not np.isfinite(array).all():
                raise DataError(
                    f"{index.describe(sample)}: features do not fit {options.dtype}; use --dtype float32"
                )
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            yield ShardItem(
                key=sample.key,
                members={"npy": buffer.getvalue()},
                num_samples=sample.num_samples,
                sample_rate=index.sample_rate,
                speaker=sample.speaker,
                language=sample.language,
                text=sample.text,
            )
            tick()

    write_shard(out, number, items())
