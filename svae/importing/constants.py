"""Comparing the constants that a checkpoint carries with those that svae computes."""

from __future__ import annotations

import torch
from torch import Tensor


def same_constant(found: Tensor, expected: Tensor, *, tolerance: float) -> bool:
    """Return whether a stored tensor is the expected one in float32, as far as the type it is stored in can tell.

    Args:
        found: as stored: float16 keeps 11 bits, bfloat16 8.
        expected: (same shape) in float32.
        tolerance: the absolute difference allowed in float32.
    """
    if found.shape != expected.shape or not found.is_floating_point():
        return False
    # Rounding errs by half a unit in the last place; twice that leaves room for constants computed in that type.
    relative = max(1e-5, torch.finfo(found.dtype).eps)
    return torch.allclose(found.float(), expected, rtol=relative, atol=tolerance)
