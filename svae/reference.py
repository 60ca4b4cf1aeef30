"""A reference recording made ready: silence at its ends off, too long a one cut at a pause."""

from __future__ import annotations

import torch
from torch import Tensor

from svae.errors import DataError

FRAME_SECONDS = 0.02
SILENCE_DB = 40.0
"""A frame this far below the loudest one is silent."""
MARGIN_SECONDS = 0.1
"""Silence that stays at both ends."""
PAUSE_SECONDS = 0.15
"""Silence that is long enough to cut in."""
MIN_CUT_SECONDS = 2.0
"""A reference is not cut to less than this."""


def silent_frames(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return (frames,) bool, True where a frame of `FRAME_SECONDS` of a waveform (S,) is silent."""
    size = max(1, round(FRAME_SECONDS * sample_rate))
    padded = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % size))
    level = padded.view(-1, size).square().mean(dim=1)
    return level <= level.max() * 10 ** (-SILENCE_DB / 10)


def trim_silence(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return a waveform (1, S) without the silence at its ends, but for a margin; as it is where all is silent."""
    loud = (~silent_frames(waveform[0], sample_rate)).nonzero()
    if not len(loud):
        return waveform
    margin, size = round(MARGIN_SECONDS * sample_rate), max(1, round(FRAME_SECONDS * sample_rate))
    first, last = int(loud[0]) * size - margin, (int(loud[-1]) + 1) * size + margin
    return waveform[:, max(first, 0) : min(last, waveform.shape[1])]


def cut_at_pause(
    waveform: Tensor, sample_rate: int, limit_seconds: float, *, has_transcript: bool, name: str
) -> Tensor:
    """Return a waveform (1, S) of at most `limit_seconds`, cut in the middle of the last pause before the limit.

    Raises:
        DataError: it is longer and a transcript was given, which a cut would make wrong; or there is no pause.
    """
    seconds = waveform.shape[1] / sample_rate
    if seconds <= limit_seconds:
        return waveform
    if has_transcript:
        raise DataError(
            f"{name}: {seconds:.1f} s of speech, at most {limit_seconds:g} s are possible, and it cannot be cut because "
            "its transcript was given. Shorten both, or leave --ref-text out: then it is cut at a pause and transcribed."
        )
    silent = silent_frames(waveform[0, : int(limit_seconds * sample_rate)], sample_rate).tolist()
    least, run = round(PAUSE_SECONDS / FRAME_SECONDS), 0
    cut = None
    for frame, is_silent in enumerate(silent):
        run = run + 1 if is_silent else 0
        if run >= least and (frame - run / 2) * FRAME_SECONDS >= MIN_CUT_SECONDS:
            cut = frame - run // 2
    if cut is None:
        raise DataError(
            f"{name}: {seconds:.1f} s long, at most {limit_seconds:g} s are possible, and there is no pause to cut at "
            f"between {MIN_CUT_SECONDS:g} and {limit_seconds:g} s. Cut out 3 to 12 s yourself."
        )
    return waveform[:, : round(cut * FRAME_SECONDS * sample_rate)]
