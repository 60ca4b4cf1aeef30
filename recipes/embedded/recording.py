"""A synthetic voice as a microphone in a room would hear it: its colour, its echo and its noise, drawn at random.

A synthesizer's recordings are all alike in these, and a person's are not: a model that has heard only the former takes a
microphone's colour for another way to speak (docs/embedded.md).
"""

from __future__ import annotations

import numpy as np
import torch
import torchaudio.functional

COLOUR_TERMS = 4
COLOUR_DB = 4.0
"""Standard deviation of each term: together about 6 dB at any frequency, which is how far apart readers' recordings are."""
ROOM_SHARE = 0.5
REVERBERATION_SECONDS = (0.15, 0.5)
DIRECT_TO_REVERBERANT_DB = (8.0, 20.0)
SIGNAL_TO_NOISE_DB = (30.0, 60.0)
_TAPS = 1025
_LOWEST_HZ = 60.0


def record(samples: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return speech as recorded: coloured, in half of the draws with an echo, and with noise.

    Args:
        samples: Mono float32 samples (T,) of a clean voice.
        sample_rate: Of `samples`, in hertz.
        rng: Draws the recording.

    Returns:
        Samples (T,), float32, in time with `samples` (the direct sound is not delayed); the level is not kept.
    """
    heard = torch.from_numpy(samples)
    if rng.random() < ROOM_SHARE:
        heard = heard + _convolved(heard, _echo(sample_rate, rng))
    level = heard.square().mean().sqrt() * 10 ** (-rng.uniform(*SIGNAL_TO_NOISE_DB) / 20)
    heard = heard + level * _noise(len(heard), sample_rate, rng)
    return _convolved(heard, _filter(_gains(sample_rate, rng)), delay=_TAPS // 2).numpy()


def _gains(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return random smooth gains (F,) in decibels at `_TAPS // 2 + 1` frequencies: cosines of the logarithm of frequency."""
    hertz = np.linspace(0, sample_rate / 2, _TAPS // 2 + 1)
    # 0 to 1.
    place = np.log(np.maximum(hertz, _LOWEST_HZ) / _LOWEST_HZ) / np.log(
        sample_rate / 2 / _LOWEST_HZ
    )
    heights = rng.normal(0, COLOUR_DB, COLOUR_TERMS)
    return sum(h * np.cos(np.pi * (n + 1) * place) for n, h in enumerate(heights))


def _filter(gains_db: np.ndarray) -> torch.Tensor:
    """Return the linear-phase filter (`_TAPS`,) with these gains, its middle at `_TAPS // 2`."""
    impulse = np.fft.irfft(10 ** (gains_db / 20), n=_TAPS - 1)
    centred = np.roll(impulse, _TAPS // 2)
    return torch.from_numpy(np.append(centred, centred[0]) * np.hanning(_TAPS)).float()


def _echo(sample_rate: int, rng: np.random.Generator) -> torch.Tensor:
    """Return a room's reverberant part: noise that falls by 60 dB within the reverberation time."""
    seconds = rng.uniform(*REVERBERATION_SECONDS)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail[: round(0.002 * sample_rate)] = 0  # the first wall is most of a metre away
    energy = 10 ** (-rng.uniform(*DIRECT_TO_REVERBERANT_DB) / 10)
    return torch.from_numpy(tail * np.sqrt(energy / np.square(tail).sum())).float()


def _noise(length: int, sample_rate: int, rng: np.random.Generator) -> torch.Tensor:
    """Return noise (T,) of RMS 1 whose spectrum falls by 0 to 6 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hertz = np.maximum(np.fft.rfftfreq(length, 1 / sample_rate), _LOWEST_HZ)
    shaped = np.fft.irfft(spectrum * hertz ** -rng.uniform(0, 1), n=length)
    return torch.from_numpy(shaped / np.sqrt(np.square(shaped).mean())).float()


def _convolved(samples: torch.Tensor, impulse: torch.Tensor, *, delay: int = 0) -> torch.Tensor:
    return torchaudio.functional.fftconvolve(samples, impulse)[delay : delay + len(samples)]
