"""The noise that svae draws on a CPU, number for number: its generator is the one that numpy calls MT19937."""

from __future__ import annotations

import hashlib

import numpy as np

FRAMES = 16
"""Noise is drawn for whole groups of so many frames, so that a longer text begins alike."""


def keyed_noise(seed: int, key: str, channels: int, frames: int) -> np.ndarray:
    """Return normal noise (channels, frames), float32, that depends on (seed, key) as svae's does; equal to rounding.

    torch turns uniform numbers of 24 bits into normal ones sixteen at a time, by the method of Box and Muller.
    """
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    # torch's generator takes the lower half of its seed.
    generator = np.random.RandomState((int.from_bytes(digest[:8], "big") >> 1) & 0xFFFFFFFF)
    whole = -(-frames // FRAMES) * FRAMES
    bits = generator.randint(0, 2**32, size=whole * channels, dtype=np.uint32)
    uniform = (bits & 0xFFFFFF).reshape(-1, 2, 8) / 2.0**24
    radius = np.sqrt(-2 * np.log(1 - uniform[:, 0]))
    angle = 2 * np.pi * uniform[:, 1]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return np.ascontiguousarray(normal.astype(np.float32).reshape(whole, channels)[:frames].T)
