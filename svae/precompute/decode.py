"""Latents of a frozen VAE in shards: their statistics, and decoding them; `svae.precompute.latents` writes them.

A latent shard holds `key.npy` beside `key.json` with the text: (2, D, T), the posterior's mean and log-variance, or
(1, D, T), one sample of it seeded by the utterance's key. `index.json` says which, and names the VAE by the hash of
its weights; `vae/` is a copy of it. Everything that reads latents compares the hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from svae.audio import save_audio
from svae.data.batches import read_latents
from svae.data.index import Sample, read_index
from svae.models.vae import streaming
from svae.precompute.driver import cached_index, cached_vae, content_of, for_shards, vae_of_latents
from svae.runtime.distributed import describe_device, open_world
from svae.runtime.files import writable_folder
from svae.runtime.jobs import Tick

# ----------------------------------------------------------------------------------------------- statistics


# ----------------------------------------------------------------------------------------------- work on shards


# ----------------------------------------------------------------------------------------------- reading and decoding


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
        console.print(
            f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…) on {describe_device(world.device)}"
        )

        def finished(number: int) -> bool:
            return all(
                _decoded(out, s, options).is_file() for s in index.samples if s.shard == number
            )

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
    data: Path,
    vae_folder: Path,
    out: Path,
    options: DecodeOptions,
    number: int,
    device: str,
    tick: Tick,
) -> None:
    vae, index = cached_vae(vae_folder, device), cached_index(data)
    for sample in index.samples:
        if sample.shard != number:
            continue
        path = _decoded(out, sample, options)
        if not path.is_file():
            mean, _ = read_latents(index, sample, vae.hop_length)
            waveform = streaming.decode(vae, mean[None].to(device))[
                0, :, : sample.num_samples
            ].cpu()
            save_audio(path, waveform, index.sample_rate)
        tick()
