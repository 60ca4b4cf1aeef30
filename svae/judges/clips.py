"""What every judge does with a clip before it hears it: one channel, 16 kHz, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from torch import Tensor

from svae.audio import SPEECH_RATE, resample
from svae.frames import ceil_div

T = TypeVar("T")

SHORTEST_SPEECH_SECONDS = 0.1
"""Less than this is transcribed as nothing."""
SILENCE_RMS = 1e-4
"""-80 dB: a clip below this root mean square is silence."""
SHORTEST_VOICE_SECONDS = 0.25
"""Shorter clips are repeated up to this before they are embedded."""


def at_speech_rate(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return a clip of any shape as float32 (S,) at 16 kHz on the CPU."""
    flat = waveform.detach().float().cpu().reshape(1, -1)
    return resample(flat, sample_rate, SPEECH_RATE)[0]


def too_short_for_speech(clip: Tensor) -> bool:
    """Tell whether a clip (S,) at 16 kHz is too short to hold a word."""
    return clip.shape[0] < SHORTEST_SPEECH_SECONDS * SPEECH_RATE


def holds_no_speech(clip: Tensor) -> bool:
    """Tell whether a clip (S,) at 16 kHz is too short or too quiet to hold a word.

    Recognisers that have learned to write a text always write one, of digital silence too.
    """
    return too_short_for_speech(clip) or bool(clip.square().mean().sqrt() < SILENCE_RMS)


def long_enough_for_a_voice(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return a clip as (1, S) at 16 kHz, repeated where it is shorter than a voice needs."""
    clip = at_speech_rate(waveform, sample_rate)
    return clip.repeat(1, ceil_div(int(SHORTEST_VOICE_SECONDS * SPEECH_RATE), clip.shape[0]))


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield consecutive parts of a sequence, the last of which may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
