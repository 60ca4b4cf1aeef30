"""TODO."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from svae.checkpoint import Checkpoint, open_checkpoint
from svae.data.index import ShardIndex, read_index
from svae.errors import CheckpointError, DataError
from svae.models.vae.vae import load_vae
from svae.runtime.distributed import World, barrier
from svae.runtime.jobs import cores, progress_bar, run_jobs


def content_of(index: ShardIndex) -> str:
    """Return what the latent shards hold: `posterior` or `sample`."""
    return index.metadata["latents"].get("content", "posterior")


def vae_of_latents(index: ShardIndex, vae: Path | None) -> Checkpoint:
    """Return the VAE that made stored latents: the one given, or the copy that lies beside them.

    Raises:
        DataError: the folder does not hold latents.
        CheckpointError: the VAE is unusable, or not the one that made them.
    """
    if index.kind != "latents":
        raise DataError(
            f"{index.root}: holds {index.kind}; expected latent shards from `svae encode`"
        )
    checkpoint = open_checkpoint(index.root / "vae" if vae is None else vae, kind="vae")
    stored = index.metadata["latents"]["vae_hash"]
    if stored != checkpoint.hash:
        raise CheckpointError(
            f"{index.root}: latents of VAE {stored[:12]}…, but {checkpoint.folder} is VAE {checkpoint.hash[:12]}….\n"
            "Pass the VAE that made them, or run `svae encode` again."
        )
    return checkpoint


def for_shards(
    job: Callable[..., Any],
    arguments: tuple[Any, ...],
    index: ShardIndex,
    *,
    finished: Callable[[int], bool],
    world: World,
    workers: int | None,
    description: str,
    console: Console,
) -> None:
    """Call `job(*arguments, number, device, tick)` for this rank's unfinished shards, and wait for the other ranks."""
    sizes = {
        n: shard["utterances"]
        for n, shard in enumerate(index.shards)
        if n % world.world_size == world.rank
    }
    missing = [number for number in sizes if not finished(number)]
    total, done = sum(sizes.values()), sum(sizes[n] for n in sizes if n not in missing)
    if world.device.type == "cpu":
        jobs = {number: (*arguments, number, "cpu") for number in missing}
        workers = max(1, cores() // world.world_size) if workers is None else workers
        run_jobs(
            job,
            jobs,
            workers=workers,
            description=description,
            console=console,
            total=total,
            completed=done,
        )
    else:
        with progress_bar(console) as progress:
            task = progress.add_task(description, total=total, completed=done)
            for number in missing:
                job(*arguments, number, str(world.device), lambda: progress.advance(task))
    barrier(world)


cached_vae = functools.lru_cache(maxsize=1)(load_vae)


cached_index = functools.lru_cache(maxsize=1)(read_index)
