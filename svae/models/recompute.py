"""Activations that are computed a second time in the backward pass instead of being kept: less memory, a third more time."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputing(nn.Module):
    """A block that can be asked for it. Source: arXiv 1604.06174, by torch.utils.checkpoint, which repeats dropout as it was."""

    recompute = False

    def __call__(self, *inputs: Any) -> Any:
        """Compute the block."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(super().__call__, *inputs, use_reentrant=False)
        return super().__call__(*inputs)


def recompute_activations(network: nn.Module) -> None:
    """Have all blocks below a network that can, keep their inputs only."""
    for module in network.modules():
        if isinstance(module, Recomputing):
            module.recompute = True
