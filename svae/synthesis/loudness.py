"""How loud speech comes out: by ITU-R BS.1770, whatever the level of its reference.

Streaming needs one gain before the first sample is written. It is that of the first chunk which holds speech: a chunk is
whole before it is written, and later ones are brought to its level anyway. So `--stream` and a whole file are alike, and
no reference, however loud the model makes its voice, decides. A chunk far below the reference is not speech; until there is
some the reference's own loudness gives the gain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from svae.errors import ConfigError

if TYPE_CHECKING:  # the runtime package, which has no torch, uses this module too
    from torch import Tensor

TARGET_LUFS = -23.0
"""Of speech that is written, EBU R 128; speech then peaks at -8 to -3 dB."""
RANGE_LUFS = (-60.0, -5.0)
"""What can be asked for; louder than that, no speech fits."""
CEILING = 0.99
"""No sample that was raised gets beyond this."""
BLOCK_SECONDS = 0.4
"""The meter's."""
SPEECH_DB = 20.0
"""A chunk this far below its reference holds no speech."""


def parse_loudness(text: str) -> float | None:
    """Read `--loudness`: LUFS, or None for `keep`. Raises ConfigError."""
    if text == "keep":
        return None
    try:
        target = float(text)
    except ValueError:
        target = math.nan
    check_loudness(target, given=text)
    return target


def check_loudness(target: float | None, *, given: str | None = None) -> None:
    """Raise ConfigError where a loudness is out of range."""
    low, high = RANGE_LUFS
    if target is not None and not low <= target <= high:
        raise ConfigError(
            f"--loudness {given or target}: expected LUFS from {low:g} to {high:g}, for example {TARGET_LUFS:g}, or `keep`"
        )


def _integrated_loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Return what pyloudnorm measures of (S,) in LUFS; minus infinity for what its gate leaves nothing of."""
    import pyloudnorm

    return float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples))


def measure(
    waveform: Tensor | np.ndarray,
    sample_rate: int,
    meter: Callable[[np.ndarray, int], float] = _integrated_loudness,
) -> float | None:
    """Return the integrated loudness of speech (S,) in LUFS; None for silence.

    The gate is relative, so that quiet speech is measured as loud speech is; speech shorter than the meter's block is
    repeated until it fills one.
    """
    samples = np.asarray(waveform, dtype=np.float64)
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        return None
    block = math.ceil(BLOCK_SECONDS * sample_rate) + 1
    samples = np.tile(samples / peak, max(1, -(-block // len(samples))))
    found = meter(samples, sample_rate)
    return found + 20 * math.log10(peak) if math.isfinite(found) else None


class Leveller:
    """Gives the gain of a text's chunks, one for all but for those that would clip.

    Args:
        target: LUFS; None keeps the level that the chunks have, which is the reference's.
        reference: loudness of the reference, in LUFS; None: unknown.
        sample_rate: of the chunks, in Hz.
        meter: see `measure`.
    """

    def __init__(
        self,
        target: float | None,
        reference: float | None,
        sample_rate: int,
        meter: Callable[[np.ndarray, int], float] = _integrated_loudness,
    ) -> None:
        self._meter = meter
        self.target = target
        self.reference = reference
        self.sample_rate = sample_rate
        self.gain = 1.0
        """Of all chunks from the first one with speech on."""
        self.limited = 0
        """Chunks that are quieter than they should be, since their peaks would clip."""
        self._found = target is None
        if target is not None and reference is not None:
            self.gain = _factor(target - reference)

    def hear(self, waveform: Tensor | np.ndarray) -> bool:
        """Return whether a chunk (S,) holds speech; the first one that does decides the gain."""
        if self._found:
            return True
        found = measure(waveform, self.sample_rate, self._meter)
        if found is None or (self.reference is not None and found < self.reference - SPEECH_DB):
            return False
        assert self.target is not None
        self.gain = _factor(self.target - found)
        self._found = True
        return True

    def within(self, factor: float, peak: float) -> float:
        """Return a chunk's whole factor, its own `factor` times the gain, or what its peak allows; count the latter."""
        if self.target is None:
            # As loud as the reference; a match to the first chunk alone does not make it clip.
            return min(factor, max(1.0, CEILING / peak))
        wanted = factor * self.gain
        if wanted * peak > CEILING:
            self.limited += 1
            return CEILING / peak
        return wanted

    def to_json(self) -> dict[str, Any]:
        """Return what was done."""
        return {
            "target_lufs": self.target,
            "reference_lufs": self.reference,
            "gain_db": 20 * math.log10(self.gain),
            "limited_chunks": self.limited,
        }


def _factor(decibels: float) -> float:
    return 10 ** (decibels / 20)
