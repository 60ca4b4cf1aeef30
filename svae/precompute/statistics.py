"""Mean and deviation of the latents of a VAE, by which a flow model's latents are normalised."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from svae.data.batches import MAX_FAILURE_SHARE, read_latents, read_waveform
from svae.data.index import ShardIndex
from svae.data.samples import Sample, Samples
from svae.errors import DataError
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE

STATISTICS_UTTERANCES = 5000
"""At most this many training utterances, spread over the shards, measure the latents' mean and deviation."""


def spread(samples: Samples, limit: int) -> Samples:
    """Return at most `limit` samples, evenly spaced."""
    if len(samples) <= limit:
        return samples
    return samples.take([int(i * len(samples) / limit) for i in range(limit)])


@torch.inference_mode()
def measure_statistics(
    vae: SpeechVAE, index: ShardIndex, *, limit: int, device: torch.device, console: Console
) -> dict[str, Any]:
    """Measure the mean and standard deviation of every latent channel over training utterances.

    The shards hold waveforms, which the VAE encodes, or latents of it already.

    Returns:
        `latent_mean` and `latent_std` (lists of D numbers) and `latent_statistics` (what they were measured on).

    Raises:
        DataError: no training utterance could be read, or more than 1 % (of at least 100) cannot.
    """

    def posterior_mean(sample: Sample) -> Tensor:
        if index.kind == "latents":
            return read_latents(index, sample, vae.hop_length)[0]
        waveform = read_waveform(index, sample)[None].to(device)
        return streaming.encode(vae, waveform).mean[0]

    # In double precision: the square of a mean is taken from the mean of squares.
    total = torch.zeros(vae.latent_dim, dtype=torch.float64)
    squares = torch.zeros_like(total)
    frames = used = skipped = 0
    chosen = spread(index.train, limit)
    for sample in track(chosen, "Latent statistics", console=console, transient=True):
        try:
            mean = posterior_mean(sample).cpu().double()
        except DataError as error:
            console.print(f"[yellow]Skipped: {error}[/]")
            skipped += 1
            # Of all that are asked for, as they may be damaged in one place.
            if len(chosen) >= 100 and skipped > MAX_FAILURE_SHARE * len(chosen):
                raise DataError(
                    f"{index.root}: {skipped} of {len(chosen)} utterances cannot be read (at most 1 % may fail); the last: "
                    f"{error}\nMake the shards anew with `svae prepare`."
                ) from None
            continue
        total += mean.sum(dim=1)
        squares += mean.square().sum(dim=1)
        frames += mean.shape[1]
        used += 1
    if frames < 2:
        raise DataError(
            f"{index.root}: no training utterance could be read, so the latents cannot be measured"
        )
    centre = total / frames
    deviation = (squares / frames - centre.square()).clamp_min(1e-12).sqrt()
    stored_samples = index.kind == "latents" and index.latent_content == "sample"
    return {
        "latent_mean": centre.tolist(),
        "latent_std": deviation.tolist(),
        "latent_statistics": {
            "utterances": used,
            "unreadable": skipped,
            "frames": frames,
            "of": len(index.train),
            "posterior": "sample" if stored_samples else "mean",
        },
    }
