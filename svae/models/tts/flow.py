"""Conditional flow matching with speech infilling: noise, training loss, validation loss; `sampler.py` has the way back.

Source: F5-TTS (arXiv 2410.06885, sections 3.1 to 3.3). The path is straight: x_t = (1 - t)·x0 + t·x1 with noise x0 and
data x1, so the velocity to learn is x1 - x0. Differs: condition drops are drawn per utterance, not per batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from svae.config import FlowConfig
from svae.frames import ceil_div
from svae.models.tts.dit import DiT

VALIDATION_TIMES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
"""The fixed grid of t at which the validation loss is measured."""

_FRAME_BLOCK = 16


def keyed_noise(seed: int, key: str | int, channels: int, num_frames: int) -> Tensor:
    """Draw standard normal noise (channels, num_frames) that depends on (seed, key, frame, channel) alone.

    Drawn on the CPU, frame after frame: more frames keep the ones before, and neither batch neighbours nor the
    device matter.
    """
    generator = _keyed_generator(seed, key)
    # torch draws normals in groups of 16 and draws an incomplete last group differently; whole groups keep the prefix.
    whole = ceil_div(num_frames, _FRAME_BLOCK) * _FRAME_BLOCK
    return torch.randn(whole, channels, generator=generator)[:num_frames].T


def _keyed_generator(seed: int, key: str | int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def posterior_latents(
    mean: Tensor,
    logvar: Tensor,
    keys: Sequence[str],
    posterior: Literal["mean", "sample"],
    seed: int = 0,
) -> Tensor:
    """Return what is learned, (B, D, T): the posterior means, or one sample per utterance, fixed by (seed, key)."""
    if posterior == "mean":
        return mean
    noise = torch.stack(
        [keyed_noise(seed, f"posterior/{key}", mean.shape[1], mean.shape[2]) for key in keys]
    )
    return mean + torch.exp(0.5 * logvar) * noise.to(mean)


# ----------------------------------------------------------------------------------------------- loss


@dataclass(frozen=True)
class FlowDraw:
    """The random part of a training example."""

    noise: Tensor
    """x0, (B, D, T)."""
    t: Tensor
    """(B,) in [0, 1)."""
    span: Tensor
    """(B, T) bool, True = hidden and to be predicted; one run of frames inside each utterance."""
    drop_audio: Tensor | None = None
    """(B,) bool, True = without the audio condition."""
    drop_text: Tensor | None = None
    """(B,) bool, True = without text."""


def infilling_span(lengths: Tensor, ratio: Tensor, position: Tensor, num_frames: int) -> Tensor:
    """Return the hidden frames (B, T), True = hidden.

    `ratio` (B,) is the part of the `lengths` (B,) to hide, at least one frame; `position` (B,) in [0, 1) is where the
    span lies between the utterance's start and end.
    """
    size = (ratio * lengths).long().clamp(min=1)
    start = (position * (lengths - size)).long()
    frame = torch.arange(num_frames, device=lengths.device)[None]
    return (frame >= start[:, None]) & (frame < (start + size)[:, None])


class Row(NamedTuple):
    """An utterance of a batch, as its random numbers see it."""

    seed: int
    frames: int
    """Without padding; known on the host."""


def row_draws(
    latents: Tensor, count: int, rows: Sequence[Row] | None = None
) -> tuple[Tensor, Tensor]:
    """Return normal noise like latents (B, D, T), and numbers in [0, 1), (count, B), drawn on their device.

    With `rows` those of an utterance depend on its row alone, not on its neighbours nor on how far it is padded. They leave
    torch's global generators seeded by the last row.
    """
    batch, channels, num_frames = latents.shape
    device, dtype = latents.device, latents.dtype
    if rows is None:
        numbers = torch.rand(count, batch, device=device)
        # Not randn_like, whose values would depend on how the latents lie in memory: encoded now, or read from shards.
        return torch.randn(latents.shape, device=device, dtype=dtype), numbers
    noise, numbers = (
        torch.zeros(latents.shape, device=device, dtype=dtype),
        torch.zeros(count, batch, device=device),
    )
    for i, row in enumerate(rows):
        torch.manual_seed(row.seed)
        numbers[:, i] = torch.rand(count, device=device)
        noise[i, :, : row.frames] = torch.randn(channels, row.frames, device=device, dtype=dtype)
    return noise, numbers


def draw_training(
    latents: Tensor, lengths: Tensor, cfg: FlowConfig, rows: Sequence[Row] | None = None
) -> FlowDraw:
    """Draw noise, times, spans and drops for latents (B, D, T), as `row_draws`.

    Source: F5-TTS; drop rates as there (both with `drop_both`, else the audio alone with `drop_audio`), but per
    utterance, where F5 draws once per batch and rank. `drop_text`, on top, is ours.
    """
    noise, (t, ratio, position, audio, both, text) = row_draws(latents, 6, rows)
    low, high = cfg.mask_ratio
    drop_both = both < cfg.drop_both
    return FlowDraw(
        noise=noise,
        t=t,
        span=infilling_span(lengths, low + (high - low) * ratio, position, latents.shape[2]),
        drop_audio=(audio < cfg.drop_audio) | drop_both,
        drop_text=(text < cfg.drop_text) | drop_both,
    )


def flow_error(
    model: Callable[..., Tensor],
    latents: Tensor,
    lengths: Tensor,
    draw: FlowDraw,
    tokens: Tensor | None = None,
    text_features: Tensor | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the squared error of the predicted velocity over the hidden spans, and the number of elements.

    Args:
        model: a DiT, or one wrapped for data-parallel training, or what else returns its velocity.
        latents: x1, normalised, (B, D, T).
        lengths: (B,) valid frames.
        draw: noise, times, spans, drops.
        tokens: (B, L), -1 = padding.
        text_features: instead of tokens, what `DiT.encode_text` returned.
        weights: (D, 1), of mean 1, how much a channel's error counts; None: all alike.

    Returns:
        (sum, count), float32 scalars. The loss is sum / count with both summed over ranks, so that every hidden frame
        of the global batch weighs the same. With DDP, which averages gradients, a rank's share is
        sum · world_size / all_reduced(count).
    """
    t = draw.t[:, None, None]
    noisy = (1 - t) * draw.noise + t * latents
    condition = latents.masked_fill(draw.span[:, None], 0.0)
    velocity = model(
        noisy,
        condition,
        draw.t,
        tokens,
        lengths,
        drop_audio=draw.drop_audio,
        drop_text=draw.drop_text,
        text_features=text_features,
    )
    error = (velocity.float() - (latents - draw.noise).float()).square()
    if weights is not None:
        error = error * weights
    error = error.masked_fill(~draw.span[:, None], 0.0)
    return error.sum(), (draw.span.sum() * latents.shape[1]).float()


def keyed_draws(
    latents: Tensor, lengths: Tensor, keys: Sequence[str], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return noise like latents (B, D, T), zero at padding, and two numbers in [0, 1) for a span, (B,) each.

    The same (seed, key) gives the same in any batch.
    """
    batch, channels, num_frames = latents.shape
    noise, draws = torch.zeros(batch, channels, num_frames), torch.zeros(2, batch)
    for i, (key, length) in enumerate(zip(keys, lengths.tolist(), strict=True)):
        noise[i, :, :length] = keyed_noise(seed, f"noise/{key}", channels, length)
        draws[:, i] = torch.rand(2, generator=_keyed_generator(seed, f"span/{key}"))
    ratio, position = draws.to(latents.device)
    return noise.to(latents), ratio, position


@torch.no_grad()
def validation_error(
    model: DiT,
    latents: Tensor,
    lengths: Tensor,
    tokens: Tensor,
    keys: Sequence[str],
    cfg: FlowConfig,
    *,
    times: Sequence[float] = VALIDATION_TIMES,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the loss on a fixed grid of t, with noise and span fixed by each utterance's key and nothing dropped.

    Args:
        model: a DiT in eval mode.
        latents: (B, D, T) normalised.
        lengths: (B,).
        tokens: (B, L).
        keys: B names; the same (seed, key) gives the same noise and span in any batch.
        cfg: for the span's ratio.
        times: the grid.
        seed: of noise and spans.

    Returns:
        (sums, count): squared error by t, (len(times),) float64, and the number of elements behind each, () float64.
        Add up over batches and ranks, then divide.
    """
    batch, _, num_frames = latents.shape
    noise, ratio, position = keyed_draws(latents, lengths, keys, seed)
    low, high = cfg.mask_ratio
    span = infilling_span(lengths, low + (high - low) * ratio, position, num_frames)
    text_features = model.encode_text(tokens, num_frames, lengths)
    sums, count = [], latents.new_zeros(())
    for time in times:
        t = latents.new_full((batch,), time)
        error, count = flow_error(
            model, latents, lengths, FlowDraw(noise, t, span), text_features=text_features
        )
        sums.append(error)
    return torch.stack(sums).double(), count.double()
