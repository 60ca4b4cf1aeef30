"""TODO."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.progress import track

from svae.data.batches import MAX_FAILURE_SHARE, read_latents, read_waveform
from svae.data.index import Sample, ShardIndex
from svae.errors import DataError
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE
from svae.precompute.driver import content_of

STATISTICS_UTTERANCES = 5000
"""At most this many training utterances, spread over the shards, measure the latents' mean and deviation."""


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
    for sample in track(
        spread(index.train, limit), "Latent statistics", console=console, transient=True
    ):
        try:
            if index.kind == "latents":
                mean = read_latents(index, sample, vae.hop_length)[0].double()
            else:
                waveform = read_waveform(index, sample)
                mean = (
                    streaming.encode(vae, waveform.unsqueeze(0).to(device)).mean[0].double().cpu()
                )
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
        raise DataError(
            f"{index.root}: no training utterance could be read, so the latents cannot be measured"
        )
    centre = total / frames
    deviation = (squares / frames - centre.square()).clamp_min(1e-12).sqrt()
    kind = (
        "mean"
        if index.kind == "waveforms"
        else {"posterior": "mean"}.get(content_of(index), "sample")
    )
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
