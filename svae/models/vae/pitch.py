"""Fundamental frequency of speech, frame by frame: what decoders with a source of harmonics learn to read from latents."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_SECONDS = 0.025
"""Stretch of signal that is compared with itself a period later."""
TYPICAL_PERIOD = 0.008
"""Seconds: a frame's centre is the middle of what is compared for this period."""
CUTOFF = 3000.0
"""Hz: noise above it only disturbs."""
SHORT_PERIOD_BONUS = 0.05
"""Subtracted from the correlation at the longest period, in proportion on the logarithmic scale: of multiples of a
period, which correlate as well as the period itself, the shortest is wanted."""
TRANSITION_COST = 6.0
"""Per octave between neighbouring frames, in units of correlation."""

FREE_STEPS = 2
"""Bins between neighbouring frames that cost nothing: pitch glides."""


def pitch_grid(low: float, high: float, bins: int) -> Tensor:
    """Return the frequencies (bins,) in Hz, equally spaced on the logarithmic scale from `low` to `high`."""
    return torch.logspace(math.log10(low), math.log10(high), bins)


@torch.no_grad()
def track_pitch(
    waveform: Tensor,
    sample_rate: int,
    hop: int,
    grid: Tensor,
    bounds: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the fundamental frequency in every frame, voiced or not: the best path through normalised correlations.

    Source: RAPT (Talkin 1995), with all periods as candidates and no decision on voicing.

    Args:
        waveform: (B, 1, T * hop).
        sample_rate: In Hz.
        hop: Samples between frames; frame i is centred on hop i.
        grid: (N,) candidate frequencies in Hz, equally spaced on the logarithmic scale, about 2 % apart.
        bounds: The least and the greatest of them, where the host knows them; None: it asks the device.

    Returns:
        Place on the grid (B, T), float32, between bins by a parabola; and the correlation there (B, T), 1 where the signal
        is periodic.
    """
    low, high = (float(grid[0]), float(grid[-1])) if bounds is None else bounds
    correlation = _correlations(waveform[:, 0], sample_rate, hop, grid, low)
    penalty = SHORT_PERIOD_BONUS * torch.linspace(1, 0, len(grid), device=waveform.device)
    octaves = math.log2(high / low) / (len(grid) - 1)
    path = _best_path(correlation - penalty, TRANSITION_COST * octaves)
    nearby = torch.stack(
        [
            correlation.gather(2, (path + i).clamp(0, len(grid) - 1)[..., None])[..., 0]
            for i in (-1, 0, 1)
        ]
    )
    path = (path + nearby.argmax(dim=0) - 1).clamp(0, len(grid) - 1)
    padded = F.pad(correlation, (1, 1), mode="replicate")
    left, middle, right = (padded.gather(2, path[..., None] + i)[..., 0] for i in range(3))
    curvature = (left - 2 * middle + right).clamp(max=-1e-4)
    return path + (0.5 * (left - right) / curvature).clamp(-0.5, 0.5), middle.clamp(0, 1)


def _correlations(x: Tensor, sample_rate: int, hop: int, grid: Tensor, low: float) -> Tensor:
    """Return the normalised correlation of each frame with itself one period later: (B, T, N) for x (B, T * hop).

    `low` is the least frequency of the grid.
    """
    taps = torch.hann_window(round(2 * sample_rate / CUTOFF) + 1, periodic=False, device=x.device)
    x = F.conv1d(x[:, None], (taps / taps.sum())[None, None], padding=len(taps) // 2)[:, 0]
    window = round(WINDOW_SECONDS * sample_rate)
    longest = math.ceil(sample_rate / low) + 1
    span = window + longest
    before = (window + round(TYPICAL_PERIOD * sample_rate) - hop) // 2
    frames = F.pad(x, (before, span)).unfold(-1, span, hop)[:, : x.shape[-1] // hop]
    frames = frames - frames.mean(dim=-1, keepdim=True)
    size = 1 << (span + window - 1).bit_length()
    spectrum = torch.fft.rfft(frames, size) * torch.fft.rfft(frames[..., :window], size).conj()
    products = torch.fft.irfft(spectrum, size)[..., : longest + 1]
    energy = F.pad(frames.square().cumsum(dim=-1), (1, 0))
    # Of the window that begins at each lag.
    energy = energy[..., window:] - energy[..., : span - window + 1]
    floor = 1e-6 * window
    normalised = products / ((energy[..., :1] + floor) * (energy + floor)).sqrt()
    lags = sample_rate / grid
    below = lags.floor().long()
    share = lags - below
    return normalised[..., below] * (1 - share) + normalised[..., below + 1] * share


def _best_path(score: Tensor, cost: float) -> Tensor:
    """Return the states (B, T) that maximise the scores (B, T, N) less `cost` per bin between neighbouring frames."""
    states = torch.arange(score.shape[-1], device=score.device)
    penalty = cost * ((states[:, None] - states).abs() - FREE_STEPS).clamp(min=0)
    total, back = score[:, 0], []
    for step in range(1, score.shape[1]):
        best, origin = (total[:, None, :] - penalty).max(dim=-1)
        total = best + score[:, step]
        back.append(origin)
    path = [total.argmax(dim=-1)]
    for origin in reversed(back):
        path.append(origin.gather(1, path[-1][:, None])[:, 0])
    return torch.stack(path[::-1], dim=1)
