"""Latents of a frozen VAE in shards: their statistics, and decoding them; `svae.encoding` writes them.

A latent shard holds `key.npy` beside `key.json` with the text: (2, D, T), the posterior's mean and log-variance, or
(1, D, T), one sample of it seeded by the utterance's key. `index.json` says which, and names the VAE by the hash of
its weights; `vae/` is a copy of it. Everything that reads latents compares the hashes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import track

from svae.audio import save_audio
from svae.checkpoint import Checkpoint, open_checkpoint, writable_folder
from svae.data.pool import Tick, cores, progress_bar, run_jobs
from svae.data.reading import MAX_FAILURE_SHARE, read_latents, read_waveform
from svae.data.shards import Sample, ShardIndex, read_index
from svae.distributed import World, barrier, describe_device, open_world
from svae.errors import CheckpointError, DataError
from svae.models import streaming
from svae.models.vae import SpeechVAE, load_vae

STATISTICS_UTTERANCES = 5000
"""At most this many training utterances, spread over the shards, measure the latents' mean and deviation."""


# ----------------------------------------------------------------------------------------------- statistics


def spread(samples: list[Sample], limit: int) -> list[Sample]:
    """Return at most `limit` samples, evenly spaced over the list."""
    if len(samples) <= limit:
        return samples
    return [samples[int(i * len(samples) / limit)] for i in range(limit)]


@torch.inference_mode()
def measure_statistics(
    vae: SpeechVAE, index: ShardIndex, *, limit: int, device: torch.device, console: Console
) -> dict[str, object]:
    """Measure the per-channel mean and standard deviation of posterior means over training utterances.

    Args:
        vae: encodes waveform shards; its latents may also be in the shards already.
        index: waveform shards, or latent shards of this VAE.
        limit: at most so many utterances.
        device: where the VAE is.
        console: where the bar is drawn and skipped utterances are named.

    Returns:
        `latent_mean` and `latent_std` (lists of D numbers) and `latent_statistics` (what they were measured on).

    Raises:
        DataError: no training utterance could be read, or more than 1 % (of at least 100) cannot.
    """
    total = torch.zeros(vae.latent_dim, dtype=torch.float64)
    squares, frames, used, skipped = torch.zeros_like(total), 0, 0, 0
    for sample in track(spread(index.train, limit), "Latent statistics", console=console, transient=True):
        try:
            if index.kind == "latents":
                mean = read_latents(index, sample, vae.hop_length)[0].double()
            else:
                waveform = read_waveform(index, sample)
                mean = streaming.encode(vae, waveform.unsqueeze(0).to(device)).mean[0].double().cpu()
        except DataError as error:
            console.print(f"[yellow]Skipped: {error}[/]")
            skipped += 1
            if used + skipped >= 100 and skipped > MAX_FAILURE_SHARE * (used + skipped):
                raise DataError(
                    f"{index.root}: {skipped} of {used + skipped} utterances cannot be read (at most 1 % may fail); the last: "
                    f"{error}\nMake the shards anew with `svae prepare`."
                ) from None
            continue
        total += mean.sum(dim=1)
        squares += mean.square().sum(dim=1)
        frames, used = frames + mean.shape[1], used + 1
    if frames < 2:
        raise DataError(f"{index.root}: no training utterance could be read, so the latents cannot be measured")
    centre = total / frames
    deviation = (squares / frames - centre.square()).clamp_min(1e-12).sqrt()
    kind = "mean" if index.kind == "waveforms" else {"posterior": "mean"}.get(content_of(index), "sample")
    return {
        "latent_mean": centre.tolist(),
        "latent_std": deviation.tolist(),
        "latent_statistics": {
            "utterances": used,
            "unreadable": skipped,
            "frames": frames,
            "of": len(index.train),
            "posterior": kind,
        },
    }


# ----------------------------------------------------------------------------------------------- work on shards


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
    sizes = {n: shard["utterances"] for n, shard in enumerate(index.shards) if n % world.world_size == world.rank}
    missing = [number for number in sizes if not finished(number)]
    total, done = sum(sizes.values()), sum(sizes[n] for n in sizes if n not in missing)
    if world.device.type == "cpu":
        jobs = {number: (*arguments, number, "cpu") for number in missing}
        workers = max(1, cores() // world.world_size) if workers is None else workers
        run_jobs(job, jobs, workers=workers, description=description, console=console, total=total, completed=done)
    else:
        with progress_bar(console) as progress:
            task = progress.add_task(description, total=total, completed=done)
            for number in missing:
                job(*arguments, number, str(world.device), lambda: progress.advance(task))
    barrier(world)


cached_vae = functools.lru_cache(maxsize=1)(load_vae)
cached_index = functools.lru_cache(maxsize=1)(read_index)


# ----------------------------------------------------------------------------------------------- reading and decoding


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
        raise DataError(f"{index.root}: holds {index.kind}; expected latent shards from `svae encode`")
    checkpoint = open_checkpoint(index.root / "vae" if vae is None else vae, kind="vae")
    stored = index.metadata["latents"]["vae_hash"]
    if stored != checkpoint.hash:
        raise CheckpointError(
            f"{index.root}: latents of VAE {stored[:12]}…, but {checkpoint.folder} is VAE {checkpoint.hash[:12]}….\n"
            "Pass the VAE that made them, or run `svae encode` again."
        )
    return checkpoint


@dataclass(frozen=True)
class DecodeOptions:
    """Options of `svae decode`."""

    latents: Path
    out: Path
    vae: Path | None = None
    """None: the copy beside the latents."""
    format: Literal["wav", "flac"] = "wav"
    workers: int | None = None
    """Processes on the CPU; None: one per core."""
    device: str = "auto"


def decode_shards(options: DecodeOptions) -> Path:
    """Write the waveform of every utterance in latent shards as OUT/KEY.wav, as long as the original was.

    Stored means are decoded as they are, and so are stored samples. Files that are there already are kept.

    Raises:
        DataError: the folder does not hold latents, or one of them is damaged.
        CheckpointError: the VAE is unusable, or not the one that made the latents.
    """
    index = read_index(options.latents)
    checkpoint = vae_of_latents(index, options.vae)
    with open_world(options.device) as world:
        console = Console(quiet=not world.is_main)
        out = writable_folder(options.out, option="--out")
        console.print(f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) on {describe_device(world.device)}")

        def finished(number: int) -> bool:
            return all(_decoded(out, s, options).is_file() for s in index.samples if s.shard == number)

        for_shards(
            _decode_shard,
            (index.root, checkpoint.folder, out, options),
            index,
            finished=finished,
            world=world,
            workers=options.workers,
            description="Decoding",
            console=console,
        )
        console.print(f"{len(index.samples)} waveforms ({content_of(index)}) in [bold]{out}[/]")
        console.print(f"Next: svae evaluate --wavs {out} --list LIST", highlight=False)
    return out


def _decoded(out: Path, sample: Sample, options: DecodeOptions) -> Path:
    return out / f"{sample.key}.{options.format}"


@torch.inference_mode()
def _decode_shard(
    data: Path, vae_folder: Path, out: Path, options: DecodeOptions, number: int, device: str, tick: Tick
) -> None:
    vae, index = cached_vae(vae_folder, device), cached_index(data)
    for sample in index.samples:
        if sample.shard != number:
            continue
        path = _decoded(out, sample, options)
        if not path.is_file():
            mean, _ = read_latents(index, sample, vae.hop_length)
            waveform = streaming.decode(vae, mean[None].to(device))[0, :, : sample.num_samples].cpu()
            save_audio(path, waveform, index.sample_rate)
        tick()
