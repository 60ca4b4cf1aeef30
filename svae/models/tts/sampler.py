"""Samplers of flow matching: times, solvers, guidance, and the continuation of prompts.

Source: F5-TTS (arXiv 2410.06885, section 3.3); EPSS (arXiv 2505.19931); MegaTTS 3 (arXiv 2502.18924) for two scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from svae.frames import length_mask
from svae.models.tts.dit import DiT
from svae.models.tts.flow import keyed_noise

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
    velocity: Callable[[Tensor, float], Tensor],
    x: Tensor,
    times: Sequence[float],
    solver: Solver = "euler",
) -> Tensor:
    """Follow dx/dt = velocity(x, t) along `times` and return the last x; nothing in between is kept.

    `euler` evaluates the field once a step, `midpoint` twice.
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

    The prompt is `condition` (B, D, T); g is `guidance_scale`, and h `prompt_guidance`: None is g, as F5-TTS does.
    Tokens (B, L) have -1 as padding; `lengths` (B,) None: all frames are valid.

    Source: multi-condition guidance of MegaTTS 3, arXiv 2502.18924; F5-TTS's training, which drops the prompt alone or both
        prompt and text, makes all three velocities.
    """
    g = guidance_scale
    h = g if prompt_guidance is None else prompt_guidance
    frames = condition.shape[-1]
    no_prompt = torch.zeros_like(condition)
    text = model.encode_text(tokens, frames, lengths)
    parts = [(1 + h, condition, text), (g - h, no_prompt, text)]
    if g != 0:
        everywhere = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
        no_text = model.encode_text(tokens, frames, lengths, drop_text=everywhere)
        parts.append((-g, no_prompt, no_text))
    parts = [part for part in parts if part[0] != 0]
    passes = len(parts)
    weights = [weight for weight, _, _ in parts]
    condition = torch.cat([part_condition for _, part_condition, _ in parts])
    text = torch.cat([part_text for _, _, part_text in parts])
    lengths = None if lengths is None else lengths.repeat(passes)

    def velocity(x: Tensor, t: float) -> Tensor:
        v = model(
            x.repeat(passes, 1, 1),
            condition,
            x.new_full((1,), t),
            lengths=lengths,
            text_features=text,
        )
        weighted = [w * part for w, part in zip(weights, v.chunk(passes), strict=True)]
        return sum(weighted[1:], weighted[0])

    return velocity


@torch.no_grad()
def sample_latents(
    model: DiT,
    prompt: Tensor,
    prompt_lengths: Tensor,
    tokens: Tensor,
    lengths: Tensor,
    *,
    seed: int | Sequence[int] = 0,
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
        seed: with an utterance's key it fixes that utterance's noise; one for all, or B of them.
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
    seeds = [seed] * batch if isinstance(seed, int) else seed
    noise = torch.zeros(batch, channels, num_frames)
    for row, own_seed, key, size in zip(noise, seeds, keys, sizes, strict=True):
        row[:, :size] = keyed_noise(own_seed, key, channels, size)
    in_prompt = length_mask(prompt_lengths, num_frames)[:, None]
    condition = prompt.new_zeros(batch, channels, num_frames)
    kept = min(prompt_frames, num_frames)
    condition[..., :kept] = prompt[..., :kept]
    condition = condition.masked_fill(~in_prompt, 0.0)
    # A batch without padding needs no masks, which makes attention faster.
    mask_lengths = None if min(sizes) == num_frames else lengths
    times = time_grid(num_steps, sway=sway, epss=epss)
    x = noise.to(prompt)
    velocity = guided_velocity(
        model, condition, tokens, mask_lengths, guidance_scale, prompt_guidance
    )
    x = integrate(velocity, x, times, solver)
    x = torch.where(in_prompt, condition, x)
    return x.masked_fill(~length_mask(lengths, num_frames)[:, None], 0.0)
