"""Samplers of flow matching: guidance, and the continuation of prompts; times and solvers are in `solver`.

Source: F5-TTS (arXiv 2410.06885, section 3.3); EPSS (arXiv 2505.19931); MegaTTS 3 (arXiv 2502.18924) for two scales.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from svae.frames import length_mask
from svae.models.tts.dit import DiT
from svae.models.tts.flow import keyed_noise
from svae.models.tts.solver import Solver, guidance_passes, integrate, time_grid


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
    parts = guidance_passes(guidance_scale, prompt_guidance)
    frames = condition.shape[-1]
    no_prompt = torch.zeros_like(condition)
    texts = {True: model.encode_text(tokens, frames, lengths)}
    if not all(part.has_text for part in parts):
        everywhere = torch.ones(len(condition), dtype=torch.bool, device=condition.device)
        texts[False] = model.encode_text(tokens, frames, lengths, drop_text=everywhere)
    passes = len(parts)
    weights = [part.weight for part in parts]
    condition = torch.cat([condition if part.has_prompt else no_prompt for part in parts])
    text = torch.cat([texts[part.has_text] for part in parts])
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
    temperature: float = 1.0,
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
        lengths: (B,) total frames, prompt included; on the host, so that no GPU is waited for.
        seed: with an utterance's key it fixes that utterance's noise; one for all, or B of them.
        keys: B keys; None numbers them 0, 1, …
        num_steps: solver steps.
        guidance_scale: g in v = v_cond + g·(v_cond - v_uncond), F5's convention; 0 = none, one pass a step.
        prompt_guidance: another scale for the prompt's part, see `guided_velocity`; None: the same.
        temperature: standard deviation of the noise; the model learned from 1.
        solver: `euler` or `midpoint` (two network evaluations a step).
        sway: see `time_grid`.
        epss: see `time_grid`.

    Returns:
        (B, D, T), T = max(lengths); each utterance's prompt frames are its prompt, frames beyond its length are 0.
    """
    batch, channels, prompt_frames = prompt.shape
    sizes = lengths.tolist()
    lengths = lengths.to(prompt.device)
    num_frames = max(sizes)
    keys = range(batch) if keys is None else keys
    seeds = [seed] * batch if isinstance(seed, int) else seed
    noise = torch.zeros(batch, channels, num_frames)
    for row, own_seed, key, size in zip(noise, seeds, keys, sizes, strict=True):
        row[:, :size] = temperature * keyed_noise(own_seed, key, channels, size)
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
