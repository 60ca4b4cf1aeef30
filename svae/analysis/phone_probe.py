"""How well a linear map of one frame names the phone that is spoken in it: what of a text latents say plainly."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from svae.data.samples import Sample
from svae.data.timings import Timings
from svae.errors import DataError
from svae.text.phonemes import FramePhonemes

RIDGE = 1e-3
"""Added to the correlation matrix of the features, so that a channel that never varies does no harm."""
TESTED = 3
"""Every so manieth utterance is not fitted on but named."""
PAUSE = "pause"


@dataclass(frozen=True)
class PhoneProbe:
    """Shares of the tested frames."""

    accuracy: float
    """Named rightly by the linear map."""
    commonest: float
    """Those of the phone that is commonest where the map was fitted: what knowing nothing reaches."""
    phones: int
    frames: int
    """Tested."""


def phones_of_frames(
    timings: Timings, sample: Sample, frames: int, sample_rate: int, hop_length: int
) -> list[str]:
    """Return the phone spoken in the middle of each frame, without stress; everything between words is a pause."""
    symbols, ends = timings.timeline(sample, FramePhonemes(), sample_rate, hop_length)
    names = [s.rstrip("012") if s[0].isalpha() else PAUSE for s in symbols]
    last = len(names) - 1
    return [names[min(bisect.bisect_right(ends, i + 0.5), last)] for i in range(frames)]


def probe_phones(utterances: Sequence[tuple[Tensor, Sequence[str]]]) -> PhoneProbe:
    """Fit a ridge regression from a frame to its phone on two thirds of the utterances, and name those of the rest.

    Args:
        utterances: Frames (D, T) of each, and their T phones. Whole utterances are left out, since neighbouring frames are
            alike.

    Raises:
        DataError: fewer utterances than are needed.
    """
    if len(utterances) < TESTED:
        raise DataError(
            f"phone probe: {len(utterances)} utterances with times of phones; needs at least {TESTED}"
        )
    fitted = [pair for i, pair in enumerate(utterances) if i % TESTED]
    tested = [pair for i, pair in enumerate(utterances) if i % TESTED == 0]
    number = {name: i for i, name in enumerate(sorted({p for _, said in fitted for p in said}))}
    x, y = _stack(fitted, number)
    mean = x.mean(dim=0)
    deviation = x.std(dim=0, correction=0).clamp_min(1e-6)

    def inputs(frames: Tensor) -> Tensor:
        scaled = (frames - mean) / deviation
        return torch.cat([scaled, torch.ones(len(scaled), 1, dtype=scaled.dtype)], dim=1)

    a, targets = inputs(x), torch.nn.functional.one_hot(y, len(number)).double()
    gram = a.T @ a / len(a) + RIDGE * torch.eye(a.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, a.T @ targets / len(a))
    x, y = _stack(tested, number)
    named = (inputs(x) @ weights).argmax(dim=1)
    commonest = int(targets.sum(dim=0).argmax())
    return PhoneProbe(
        accuracy=float((named == y).double().mean()),
        commonest=float((y == commonest).double().mean()),
        phones=len(number),
        frames=len(y),
    )


def probe_of(
    samples: Sequence[Sample],
    timings: Timings,
    sample_rate: int,
    hop_length: int,
    frames_of: Callable[[Sample], Tensor],
) -> PhoneProbe:
    """Probe utterances whose times are known; `frames_of` returns an utterance's frames (D, T)."""
    utterances = []
    for sample in samples:
        if sample.key in timings:
            frames = frames_of(sample)
            said = phones_of_frames(timings, sample, frames.shape[1], sample_rate, hop_length)
            utterances.append((frames, said))
    return probe_phones(utterances)


def _stack(
    utterances: Sequence[tuple[Tensor, Sequence[str]]], number: dict[str, int]
) -> tuple[Tensor, Tensor]:
    """Return frames (N, D) and the numbers of their phones (N,); -1 is a phone that was not fitted on."""
    frames = torch.cat([latents.double().T for latents, _ in utterances])
    phones = torch.tensor([number.get(name, -1) for _, said in utterances for name in said])
    return frames, phones
