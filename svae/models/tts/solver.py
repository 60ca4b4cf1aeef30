"""What a sampler of flow matching computes without a network: times, steps of a solver, which passes guidance takes.

Without torch, since the runtime package (runtime/) uses it too. Source: F5-TTS (arXiv 2410.06885, section 3.3); EPSS (arXiv
2505.19931); MegaTTS 3 (arXiv 2502.18924) for two scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

State = TypeVar("State", bound=Any)
"""An array of torch or numpy."""

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
    velocity: Callable[[State, float], State],
    x: State,
    times: Sequence[float],
    solver: Solver = "euler",
) -> State:
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


class Pass(NamedTuple):
    """A velocity that guidance adds up."""

    weight: float
    has_prompt: bool
    has_text: bool


def guidance_passes(guidance_scale: float, prompt_guidance: float | None = None) -> list[Pass]:
    """Return the velocities in v = v_cond + g·(v_text - v_uncond) + h·(v_cond - v_text) whose weights are not 0.

    g is `guidance_scale`, and h `prompt_guidance`: None is g, as F5-TTS does.
    """
    g = guidance_scale
    h = g if prompt_guidance is None else prompt_guidance
    passes = [Pass(1 + h, True, True), Pass(g - h, False, True), Pass(-g, False, False)]
    return [each for each in passes if each.weight != 0]
