"""Latents of a frozen VAE: their statistics, and storing them in shards.

A latent shard holds `key.npy`, an array (2, D, T) with the posterior's mean and log-variance, beside `key.json`
with the text. Whether a TTS run learns means or samples (`flow.posterior`) is decided at training time.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from svae.checkpoint import open_checkpoint, writable_folder
from svae.data.reading import read_waveform
from svae.data.shards import (
    Sample,
    ShardIndex,
    ShardItem,
    describe_shard,
    read_index,
    shard_name,
    write_index,
    write_shard,
)
from svae.distributed import select_device
from svae.errors import DataError
from svae.models import streaming
from svae.models.vae import SpeechVAE, load_vae


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

    Returns:
        `latent_mean` and `latent_std` (lists of D numbers) and `latent_statistics` (what they were measured on).

    Raises:
        DataError: no training utterance could be read.
    """
    total = torch.zeros(vae.latent_dim, dtype=torch.float64)
    squares, frames, used = torch.zeros_like(total), 0, 0
    for sample in track(spread(index.train, limit), "Latent statistics", console=console, transient=True):
        try:
            waveform = read_waveform(index, sample)
        except DataError as error:
            console.print(f"[yellow]Skipped: {error}[/]")
            continue
        mean = streaming.encode(vae, waveform.unsqueeze(0).to(device)).mean[0].double().cpu()
        total += mean.sum(dim=1)
        squares += mean.square().sum(dim=1)
        frames, used = frames + mean.shape[1], used + 1
    if frames < 2:
        raise DataError(f"{index.root}: no training utterance could be read, so the latents cannot be measured")
    centre = total / frames
    deviation = (squares / frames - centre.square()).clamp_min(1e-12).sqrt()
    return {
        "latent_mean": centre.tolist(),
        "latent_std": deviation.tolist(),
        "latent_statistics": {"utterances": used, "frames": frames, "of": len(index.train), "posterior": "mean"},
    }


@dataclass(frozen=True)
class EncodeOptions:
    """Options of `svae encode`."""

    data: Path
    vae: Path
    out: Path
    dtype: Literal["float16", "float32"] = "float16"
    device: str = "auto"


def encode_shards(options: EncodeOptions) -> Path:
    """Write latent shards beside the text: the same shards, utterances and held-out set as the waveform shards.

    One utterance at a time, so the result does not depend on any batch. Finished shards are kept when the command
    is run again after an interruption.

    Raises:
        DataError: the data are not waveform shards, or the folder holds latents of another VAE or type.
        CheckpointError: the VAE is unusable.
    """
    console = Console()
    index, device = read_index(options.data), select_device(options.device)
    if index.kind != "waveforms":
        raise DataError(f"{options.data}: holds {index.kind}; `svae encode` needs waveform shards from `svae prepare`")
    checkpoint = open_checkpoint(options.vae, kind="vae")
    if index.sample_rate != checkpoint.config["sample_rate"]:
        raise DataError(
            f"{options.data}: audio at {index.sample_rate} Hz, but the VAE works at {checkpoint.config['sample_rate']} Hz"
        )
    vae = load_vae(checkpoint.folder, device)
    out = writable_folder(options.out, option="--out")
    description = {
        "vae_hash": checkpoint.hash,
        "dtype": options.dtype,
        "latent_dim": vae.latent_dim,
        "hop_length": vae.hop_length,
        "source": [shard["sha256"] for shard in index.shards],
    }
    _check_same_encoding(out, description)
    if not (out / "vae").is_dir():
        shutil.copytree(checkpoint.folder, out / "vae", ignore=shutil.ignore_patterns("training"))
    by_shard: dict[int, list[Sample]] = {}
    for sample in index.samples:
        by_shard.setdefault(sample.shard, []).append(sample)
    shards = []
    for number, samples in track(sorted(by_shard.items()), "Encoding shards", console=console):
        finished = (out / shard_name(number)).is_file()
        items = _encode(vae, index, samples, options.dtype)
        shards.append(describe_shard(out, number) if finished else write_shard(out, number, items))
    write_index(
        out,
        kind="latents",
        corpus=index.metadata["corpus"],
        sample_rate=index.sample_rate,
        shards=shards,
        validation=index.metadata["validation"],
        rejected=index.metadata["rejected"],
        extra={"latents": description},
    )
    console.print(f"Latents in [bold]{out}[/] ({len(index.samples)} utterances, {options.dtype})")
    console.print(f"Next: svae train-tts --data {out}")
    return out


def _check_same_encoding(out: Path, description: dict[str, object]) -> None:
    plan = out / "plan.json"
    if plan.is_file():
        before = json.loads(plan.read_text(encoding="utf-8"))
        changed = [key for key in description if before.get(key) != description[key]]
        if changed:
            raise DataError(f"{out}: holds latents made otherwise ({', '.join(changed)} differ); choose another --out")
    plan.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


@torch.inference_mode()
def _encode(vae: SpeechVAE, index: ShardIndex, samples: list[Sample], dtype: str) -> Iterator[ShardItem]:
    for sample in samples:
        posterior = streaming.encode(vae, read_waveform(index, sample).unsqueeze(0).to(vae.latent_mean.device))
        buffer = io.BytesIO()
        array = torch.stack([posterior.mean[0], posterior.logvar[0]]).cpu().numpy().astype(dtype)
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
