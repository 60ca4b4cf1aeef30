"""Arithmetic of frames: how many there are, which are valid, and reading those of one rate at the moments of another."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from svae.runtime.distributed import send

Whole = TypeVar("Whole", int, Tensor, np.ndarray)
"""A whole number, or an integer tensor or array of them."""


def ceil_div(number: Whole, divisor: int) -> Whole:
    """Divide whole numbers, rounding up."""
    return -(-number // divisor)


def num_frames(num_samples: Whole, hop_length: int) -> Whole:
    """Return how many frames stand for so many samples: the last, incomplete frame counts as one."""
    return ceil_div(num_samples, hop_length)


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Return (B, size), True at the first `lengths` (B,) positions of each row."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def teacher_positions(
    start_sample: int, num_frames: int, *, hop_length: int, teacher_hop: int, receptive_field: int
) -> Tensor:
    """Return where latent frames lie on the teacher's time axis, in its frames, (num_frames,) float64.

    The centre of latent frame j lies at start_sample + hop_length * j + (hop_length - 1) / 2 samples of what the
    teacher hears, that of its frame k at teacher_hop * k + (receptive_field - 1) / 2.
    """
    centres = (
        start_sample
        + hop_length * torch.arange(num_frames, dtype=torch.float64)
        + (hop_length - 1) / 2
    )
    return (centres - (receptive_field - 1) / 2) / teacher_hop


def interpolate_frames(features: Tensor, positions: Tensor) -> Tensor:
    """Read features (B, K, C) at fractional frame positions (T,), linearly, as (B, T, C); the ends are repeated."""
    positions = positions.clamp(0, features.shape[1] - 1)
    left = positions.floor().long().clamp(max=max(features.shape[1] - 2, 0))
    right = (left + 1).clamp(max=features.shape[1] - 1)
    weight = send((positions - left).to(features.dtype), features.device)[:, None]
    left, right = send(left, features.device), send(right, features.device)
    return torch.lerp(features[:, left], features[:, right], weight)
