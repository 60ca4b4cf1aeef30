"""Random numbers of a training step, each a function of (seed, step, place in the global batch): no matter who computes it."""

from __future__ import annotations

import hashlib

import torch


def number_of(*what: object) -> int:
    """Return a seed in [0, 2^63) that depends on all of the arguments."""
    digest = hashlib.sha256("/".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_by(*what: object) -> None:
    """Seed torch's global generators of all devices by all of the arguments."""
    torch.manual_seed(number_of(*what))
