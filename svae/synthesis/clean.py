"""What does not belong to a voice and stops the search for silence: an offset, rumble and the hum of the mains.

Only what is there is removed; a recording that has none of it stays as it is, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.signal import butter, sosfiltfilt
from torch import Tensor

from svae.synthesis.trim import frame_levels, frame_size, loudest_level

FAINT = 3e-3
"""-50 dB: what is this far below the loudest part of the speech does no harm and is left alone."""
RUMBLE = 5e-3
"""-46 dB; speech itself holds a little of what the filter takes, in plosives and breath."""
RUMBLE_HZ = 30.0
"""Half the amplitude goes here; 80 Hz, a low voice, loses 0.2 dB."""
MAINS_HZ = (50.0, 60.0)
HARMONICS = 20
DRIFT_HZ = 0.5
"""How far the mains are off at most."""
LINE_SECONDS = 0.5
"""Spectra of this length tell a line from what is beside it."""
LINE_RATIO = 8.0
"""How far the power of a line stands out of its neighbourhood, in the quieter parts of a recording."""
FIT_SECONDS = 2.0
"""Hum is fitted anew in stretches of this length, most of which hold a pause."""
FIT_ROUNDS = 3
"""The voice is what the fit before leaves over."""
MIN_HUM_SECONDS = 1.25
"""In less, a vowel or two may last as long as a hum does: of 0.7 s of clean voices one in four lost harmonics."""
MAX_LINE_FRAMES = 480
"""Two minutes are enough to hear a hum in."""


@dataclass(frozen=True)
class Removed:
    """What was taken out of a recording."""

    offset: float = 0.0
    """Mean of the samples, full scale is 1."""
    hum_hz: tuple[float, ...] = ()
    """Frequencies of the mains' lines."""
    rumble: bool = False
    """Whether anything below `RUMBLE_HZ` was filtered."""

    def __bool__(self) -> bool:
        return bool(self.offset or self.hum_hz or self.rumble)

    def __str__(self) -> str:
        parts = [f"an offset of {100 * self.offset:.2g} %"] if self.offset else []
        if self.hum_hz:
            parts.append(f"hum at {', '.join(f'{hertz:.0f}' for hertz in self.hum_hz)} Hz")
        return ", ".join([*parts, f"rumble below {RUMBLE_HZ:g} Hz"] if self.rumble else parts)


def clean(waveform: Tensor, sample_rate: int) -> tuple[Tensor, Removed]:
    """Return a waveform (1, S) without offset, hum and rumble, and what was removed; itself where there was none."""
    samples = waveform[0].double()
    mean = samples.mean()
    samples = samples - mean
    faint = FAINT * loudest_level(samples, sample_rate)
    if faint == 0.0:
        return waveform, Removed()
    offset = float(mean) if abs(float(mean)) > faint else 0.0
    lines = hum_lines(samples, sample_rate, faint)
    if lines:
        # What stands out may be a voice that hardly moves; then little is left of it in the fit, which is of the pauses.
        power = _powers(fit_lines(samples, sample_rate, lines), sample_rate, lines)[:, :, 0]
        strong = (power.median(dim=0).values > faint**2).tolist()
        lines = [line for line, there in zip(lines, strong, strict=True) if there]
    if lines:
        samples = samples - fit_lines(samples, sample_rate, lines)
    low = samples - _high_pass(samples, sample_rate)
    rumble = float(low.square().mean().sqrt()) > RUMBLE * loudest_level(samples, sample_rate)
    removed = Removed(offset, tuple(round(line, 2) for line in lines), rumble)
    if not removed:
        return waveform, removed
    if rumble:
        samples = samples - low
    elif not offset:
        samples = samples + mean
    return samples[None].float(), removed


def _high_pass(samples: Tensor, sample_rate: int) -> Tensor:
    """Filter (S,) without shifting phases."""
    # Twice over, so -3 dB each time at the frequency that is to lose half.
    sections = butter(2, RUMBLE_HZ, "highpass", fs=sample_rate, output="sos")
    padding = min(len(samples) - 1, round(0.2 * sample_rate))
    return torch.from_numpy(sosfiltfilt(sections, samples.numpy(), padlen=padding).copy())


def hum_lines(samples: Tensor, sample_rate: int, faint: float) -> list[float]:
    """Return the frequencies of the mains and their harmonics that stand out of (S,) and are stronger than `faint`.

    A voice moves and pauses, the mains do not: a line must be there in the quieter fifth of all spectra. One at 100 or
    120 Hz without that of the mains themselves, which a monotonous voice may have too, must be steady besides. In a
    recording of less than `MIN_HUM_SECONDS` nothing tells one from the other.
    """
    found: list[float] = []
    if len(samples) < MIN_HUM_SECONDS * sample_rate:
        return found
    for mains in MAINS_HZ:
        numbers = [n for n in range(1, HARMONICS + 1) if n * mains < 0.45 * sample_rate]
        power = _powers(samples, sample_rate, [n * mains for n in numbers])
        quiet = power.quantile(0.2, dim=0)
        beside = quiet[:, 1:].median(dim=1).values
        stands_out = (quiet[:, 0] > LINE_RATIO * beside) & (quiet[:, 0] > faint**2)
        steady = power[:, :, 0].quantile(0.5, dim=0) < 4 * power[:, :, 0].quantile(0.1, dim=0)
        if not stands_out[0] and not bool((stands_out & steady)[1:2].any()):
            continue
        lines = [n for n, there in zip(numbers, stands_out.tolist(), strict=True) if there]
        strongest = max(lines, key=lambda n: float(quiet[numbers.index(n), 0]))
        exact = _refined(samples, sample_rate, strongest * mains) / strongest
        found += [n * exact for n in lines]
    return found


def _powers(samples: Tensor, sample_rate: int, frequencies: Sequence[float]) -> Tensor:
    """Return (frames, lines, 9): the mean square of a sine at each frequency, then at eight beside it."""
    size = min(len(samples), round(LINE_SECONDS * sample_rate))
    frames = samples.unfold(0, size, max(1, size // 2))[:MAX_LINE_FRAMES]
    beside = torch.tensor([0.0, -12, -10, -8, -6, 6, 8, 10, 12]).double()
    hertz = (torch.tensor(frequencies).double()[:, None] + beside).reshape(-1)
    window = torch.hann_window(size, dtype=torch.float64)
    angles = 2 * torch.pi / sample_rate * torch.arange(size).double()[:, None] * hertz
    weighted = frames * window
    power = (weighted @ angles.cos()).square() + (weighted @ angles.sin()).square()
    return (2 * power / window.sum().square()).view(len(frames), len(frequencies), 9)


def _refined(samples: Tensor, sample_rate: int, frequency: float) -> float:
    """Return where, within `DRIFT_HZ`, a line is strongest."""
    size = min(len(samples), round(4 * sample_rate))
    frames = samples.unfold(0, size, max(1, size // 2))[:16] * torch.hann_window(size).double()
    candidates = frequency + torch.linspace(-DRIFT_HZ, DRIFT_HZ, 51).double()
    angles = 2 * torch.pi / sample_rate * torch.arange(size).double()[:, None] * candidates
    power = ((frames @ angles.cos()).square() + (frames @ angles.sin()).square()).sum(dim=0)
    return float(candidates[power.argmax()])


def fit_lines(samples: Tensor, sample_rate: int, lines: Sequence[float]) -> Tensor:
    """Return (S,), the sines of given frequencies that are in (S,): fitted in stretches that fade into each other.

    Least squares in which a moment counts the less the louder the voice is there, so that the hum is taken from the
    pauses and the voice keeps its own. Other than by a filter, nothing rings, and the ends of a recording are fitted as
    well as its middle.
    """
    size = min(len(samples), round(FIT_SECONDS * sample_rate))
    angles = 2 * torch.pi / sample_rate * torch.arange(size).double()[:, None]
    angles = angles * torch.tensor(list(lines)).double()
    sines = torch.cat([angles.cos(), angles.sin()], dim=1)
    last = len(samples) - size
    starts = sorted({*range(0, last, max(1, size // 2)), last})
    fade = torch.hann_window(size, dtype=torch.float64) + 1e-6
    fitted = torch.zeros_like(samples)
    for _ in range(FIT_ROUNDS):
        voice = frame_levels(samples - fitted, sample_rate).repeat_interleave(
            frame_size(sample_rate)
        )
        weight = 1 / (voice[: len(samples)] + 1e-8 * voice.max() + 1e-30)
        total, fades = torch.zeros_like(samples), torch.zeros_like(samples)
        for start in starts:
            stretch = slice(start, start + size)
            weighted = sines * weight[stretch, None]
            normal = sines.T @ weighted
            normal += 1e-9 * normal.trace() * torch.eye(len(normal), dtype=torch.float64)
            amplitudes = torch.linalg.solve(normal, weighted.T @ samples[stretch])
            total[stretch] += fade * (sines @ amplitudes)
            fades[stretch] += fade
        fitted = total / fades
    return fitted
