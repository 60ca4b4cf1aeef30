"""Conditional flow matching with speech infilling: training loss, validation loss, samplers.

Source: F5-TTS (arXiv 2410.06885, sections 3.1 to 3.3). The path is straight: x_t = (1 - t)·x0 + t·x1 with noise x0 and
data x1, so the velocity to learn is x1 - x0. Differs: condition drops are drawn per utterance, not per batch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from svae.config import FlowConfig
from svae.models.dit import DiT, length_mask

VALIDATION_TIMES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
"""The fixed grid of t at which the validation loss is measured."""

EPSS_GRIDS: dict[int, tuple[int, ...]] = {
    5: (0, 2, 4, 8, 16, 32),
    6: (0, 2, 4, 6, 8, 16, 32),
    7: (0, 2, 4, 6, 8, 16, 24, 32),
    10: (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32),
    12: (0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32),
    16: (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32),
}
"""Step lists in 1/32, by number of steps (empirically pruned step sampling, arXiv 2505.19931)."""

Solver = Literal["euler", "midpoint"]

_FRAME_BLOCK = 16


def keyed_noise(seed: int, key: str | int, channels: int, num_frames: int) -> Tensor:
    """Draw standard normal noise (channels, num_frames) that depends on (seed, key, frame, channel) alone.

    Drawn on the CPU, frame after frame: more frames keep the ones before, and neither batch neighbours nor the
    device matter.
    """
    generator = _keyed_generator(seed, key)
    # torch draws normals in groups of 16 and draws an incomplete last group differently; whole groups keep the prefix.
    whole = -(-num_frames // _FRAME_BLOCK) * _FRAME_BLOCK
    return torch.randn(whole, channels, generator=generator)[:num_frames].T


def _keyed_generator(seed: int, key: str | int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def posterior_latents(
    mean: Tensor, logvar: Tensor, keys: Sequence[str], posterior: Literal["mean", "sample"], seed: int = 0
) -> Tensor:
    """Return what is learned, (B, D, T): the posterior means, or one sample per utterance, fixed by (seed, key)."""
    if posterior == "mean":
        return mean
    noise = torch.stack([keyed_noise(seed, f"posterior/{key}", mean.shape[1], mean.shape[2]) for key in keys])
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

    Args:
        lengths: (B,) valid frames.
        ratio: (B,) part of the utterance to hide; at least one frame is.
        position: (B,) in [0, 1), where the span lies between the utterance's start and end.
        num_frames: T.
    """
    size = (ratio * lengths).long().clamp(min=1)
    start = (position * (lengths - size)).long()
    frame = torch.arange(num_frames, device=lengths.device)[None]
    return (frame >= start[:, None]) & (frame < (start + size)[:, None])


def draw_training(latents: Tensor, lengths: Tensor, cfg: FlowConfig) -> FlowDraw:
    """Draw noise, times, spans and drops for latents (B, D, T) from torch's global generator of their device.

    Source: F5-TTS; drop rates as there (both with `drop_both`, else the audio alone with `drop_audio`), but per
    utterance, where F5 draws once per batch and rank. `drop_text`, on top, is ours.
    """
    batch, _, num_frames = latents.shape
    t, ratio, position, audio, both = torch.rand(5, batch, device=latents.device)
    low, high = cfg.mask_ratio
    drop_both = both < cfg.drop_both
    # Not randn_like, whose values would depend on how the latents lie in memory: encoded now, or read from shards.
    noise = torch.randn(latents.shape, device=latents.device, dtype=latents.dtype)
    drop_text = drop_both
    if cfg.drop_text > 0:
        drop_text = drop_both | (torch.rand(batch, device=latents.device) < cfg.drop_text)
    return FlowDraw(
        noise=noise,
        t=t,
        span=infilling_span(lengths, low + (high - low) * ratio, position, num_frames),
        drop_audio=(audio < cfg.drop_audio) | drop_both,
        drop_text=drop_text,
    )


def flow_error(
    model: nn.Module,
    latents: Tensor,
    lengths: Tensor,
    draw: FlowDraw,
    tokens: Tensor | None = None,
    text_features: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the squared error of the predicted velocity over the hidden spans, and the number of elements.

    Args:
        model: a DiT, or one wrapped for data-parallel training.
        latents: x1, normalised, (B, D, T).
        lengths: (B,) valid frames.
        draw: noise, times, spans, drops.
        tokens: (B, L), -1 = padding.
        text_features: instead of tokens, what `DiT.encode_text` returned.

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
    error = error.masked_fill(~draw.span[:, None], 0.0)
    return error.sum(), (draw.span.sum() * latents.shape[1]).float()


def flow_matching_loss(
    model: nn.Module, latents: Tensor, lengths: Tensor, tokens: Tensor, cfg: FlowConfig
) -> tuple[Tensor, Tensor]:
    """Draw a training example from the global generator and return `flow_error` of it."""
    return flow_error(model, latents, lengths, draw_training(latents, lengths, cfg), tokens)


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
    batch, channels, num_frames = latents.shape
    noise, draws = torch.zeros(batch, channels, num_frames), torch.zeros(2, batch)
    low, high = cfg.mask_ratio
    for i, (key, length) in enumerate(zip(keys, lengths.tolist(), strict=True)):
        noise[i, :, :length] = keyed_noise(seed, f"noise/{key}", channels, length)
        draws[:, i] = torch.rand(2, generator=_keyed_generator(seed, f"span/{key}"))
    ratio, position = draws.to(latents.device)
    span = infilling_span(lengths, low + (high - low) * ratio, position, num_frames)
    noise = noise.to(latents)
    text_features = model.encode_text(tokens, num_frames, lengths)
    sums, count = [], latents.new_zeros(())
    for time in times:
        t = latents.new_full((batch,), time)
        error, count = flow_error(model, latents, lengths, FlowDraw(noise, t, span), text_features=text_features)
        sums.append(error)
    return torch.stack(sums).double(), count.double()


# ----------------------------------------------------------------------------------------------- sampling


def time_grid(num_steps: int, *, sway: float = -1.0, epss: bool = True) -> list[float]:
    """Return the num_steps + 1 times of a sampler, from 0 to 1.

    Args:
        num_steps: steps of the solver.
        sway: t' = t + sway·(cos(pi·t / 2) - 1 + t); negative values put more steps near the noise, 0 keeps t.
        epss: use the pruned list where there is one for this number of steps; else uniform, both before sway.

    Raises:
        ValueError: num_steps < 1.

    Source: F5-TTS, section 3.3 (sway sampling); EPSS, arXiv 2505.19931.
    """
    if num_steps < 1:
        raise ValueError(f"time_grid: num_steps must be at least 1, got {num_steps}")
    if epss and num_steps in EPSS_GRIDS:
        times = [step / 32 for step in EPSS_GRIDS[num_steps]]
    else:
        times = [step / num_steps for step in range(num_steps + 1)]
    swayed = [t + sway * (math.cos(math.pi * t / 2) - 1 + t) for t in times]
    return [0.0, *swayed[1:-1], 1.0]


def integrate(
    velocity: Callable[[Tensor, float], Tensor], x: Tensor, times: Sequence[float], solver: Solver = "euler"
) -> Tensor:
    """Follow dx/dt = velocity(x, t) along `times` and return the last x; nothing in between is kept.

    Args:
        velocity: field at (x, t).
        x: start.
        times: grid, as from `time_grid`.
        solver: `euler`, one evaluation a step, or `midpoint`, two.
    """
    for t, following in zip(times[:-1], times[1:], strict=True):
        step = following - t
        slope = velocity(x, t)
        if solver == "midpoint":
            slope = velocity(x + 0.5 * step * slope, t + 0.5 * step)
        x = x + step * slope
    return x


def guided_velocity(
    model: DiT,
    condition: Tensor,
    tokens: Tensor,
    lengths: Tensor | None,
    guidance_scale: float,
    prompt_guidance: float | None = None,
) -> Callable[[Tensor, float], Tensor]:
    """Return the field v = v_cond + g·(v_text - v_uncond) + h·(v_cond - v_text), with the text tower run here.

    v_text has the text but not the prompt, v_uncond neither. Those whose weights are not 0 go through the network as one
    batch: one with g = h = 0, two with g = h (then v = v_cond + g·(v_cond - v_uncond)), at most three.

    Args:
        model: the network.
        condition: (B, D, T), the prompt.
        tokens: (B, L), -1 = padding.
        lengths: (B,) valid frames; None: all.
        guidance_scale: g.
        prompt_guidance: h; None: g, as F5-TTS does.

    Source: multi-condition guidance of MegaTTS 3, arXiv 2502.18924; F5-TTS's training, which drops the prompt alone or both
        prompt and text, makes all three velocities.
    """
    g, h = guidance_scale, guidance_scale if prompt_guidance is None else prompt_guidance
    weights = {"both": 1 + h, "text": g - h, "none": -g}
    passes = [kind for kind, weight in weights.items() if weight != 0]
    without = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
    texts = {drop: model.encode_text(tokens, condition.shape[-1], lengths, drop_text=without if drop else None)
             for drop in {kind == "none" for kind in passes}}  # fmt: skip
    text = torch.cat([texts[kind == "none"] for kind in passes])
    condition = torch.cat([condition if kind == "both" else torch.zeros_like(condition) for kind in passes])
    lengths = None if lengths is None else lengths.repeat(len(passes))

    def velocity(x: Tensor, t: float) -> Tensor:
        v = model(x.repeat(len(passes), 1, 1), condition, x.new_full((1,), t), lengths=lengths, text_features=text)
        return sum(weights[kind] * part for kind, part in zip(passes, v.chunk(len(passes)), strict=True))

    return velocity


@torch.no_grad()
def sample_latents(
    model: DiT,
    prompt: Tensor,
    prompt_lengths: Tensor,
    tokens: Tensor,
    lengths: Tensor,
    *,
    seed: int = 0,
    keys: Sequence[str | int] | None = None,
    num_steps: int = 32,
    guidance_scale: float = 2.0,
    prompt_guidance: float | None = None,
    solver: Solver = "euler",
    sway: float = -1.0,
    epss: bool = True,
) -> Tensor:
    """Continue prompts: generate the latents after each prompt, to the total length asked for.

    Args:
        model: a DiT in eval mode.
        prompt: normalised latents (B, D, P).
        prompt_lengths: (B,) valid frames of the prompts.
        tokens: (B, L) ids of prompt text and new text together, -1 = padding.
        lengths: (B,) total frames, prompt included.
        seed: with an utterance's key it fixes that utterance's noise.
        keys: B keys; None numbers them 0, 1, …
        num_steps: solver steps.
        guidance_scale: g in v = v_cond + g·(v_cond - v_uncond), F5's convention; 0 = none, one pass a step.
        prompt_guidance: another scale for the prompt's part, see `guided_velocity`; None: the same.
        solver: `euler` or `midpoint` (two network evaluations a step).
        sway: see `time_grid`.
        epss: see `time_grid`.

    Returns:
        (B, D, T), T = max(lengths); each utterance's prompt frames are its prompt, frames beyond its length are 0.
    """
    batch, channels, prompt_frames = prompt.shape
    sizes = lengths.tolist()
    num_frames = max(sizes)
    keys = range(batch) if keys is None else keys
    noise = torch.zeros(batch, channels, num_frames)
    for i, (key, size) in enumerate(zip(keys, sizes, strict=True)):
        noise[i, :, :size] = keyed_noise(seed, key, channels, size)
    in_prompt = length_mask(prompt_lengths, num_frames)[:, None]
    condition = prompt.new_zeros(batch, channels, num_frames)
    kept = min(prompt_frames, num_frames)
    condition[..., :kept] = prompt[..., :kept]
    condition = condition.masked_fill(~in_prompt, 0.0)
    # A batch without padding needs no masks, which makes attention faster.
    mask_lengths = None if min(sizes) == num_frames else lengths
    velocity = guided_velocity(model, condition, tokens, mask_lengths, guidance_scale, prompt_guidance)
    x = integrate(velocity, noise.to(prompt), time_grid(num_steps, sway=sway, epss=epss), solver)
    x = torch.where(in_prompt, condition, x)
    return x.masked_fill(~length_mask(lengths, num_frames)[:, None], 0.0)
