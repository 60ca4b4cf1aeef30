"""What the importers share: where they may write, files of plain tensors, and the constants that a checkpoint carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svae.errors import CheckpointError, ConfigError
from svae.runtime.pretrained import first_line


def check_free(out: Path) -> None:
    """Raise ConfigError where a new checkpoint would lie on something; an empty folder may be there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: is there already and not empty; choose another --out")


def load_plain(path: Path) -> Any:
    """Read a .pth or .pt of plain tensors; nothing in it is executed. Raises CheckpointError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different class for each kind of damage
        raise CheckpointError(
            f"{path}: truncated, damaged or not a file of plain tensors: {first_line(error)}"
        ) from None


def same_constant(found: Tensor, expected: Tensor, *, tolerance: float) -> bool:
    """Return whether a stored tensor is the expected float32 one, as far as the type it is stored in can tell.

    `tolerance` is the absolute difference allowed in float32; float16 keeps 11 bits, bfloat16 8.
    """
    if found.shape != expected.shape or not found.is_floating_point():
        return False
    # Rounding errs by half a unit in the last place; twice that leaves room for constants computed in that type.
    relative = max(1e-5, torch.finfo(found.dtype).eps)
    return torch.allclose(found.float(), expected, rtol=relative, atol=tolerance)
