"""Mel filter banks, made once: the same also where networks are built without memory."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks


@functools.cache
def mel_filters(
    sample_rate: int,
    fft_size: int,
    bands: int,
    *,
    norm: Literal["slaney"] | None,
    scale: Literal["htk", "slaney"] = "slaney",
) -> Tensor:
    """Return filters (bands, fft_size / 2 + 1) from 0 Hz to Nyquist, on the CPU; not to be changed."""
    # torchaudio looks at their values, which there are on the CPU alone.
    with torch.device("cpu"):
        filters = melscale_fbanks(
            fft_size // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate, norm, scale
        )
        return filters.T.contiguous()
