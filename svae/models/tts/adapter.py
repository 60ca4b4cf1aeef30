"""Adapters: what is added to the weights of a transformer's linear layers, as products of two thin matrices.

Names are peft's: `LAYER.lora_A.weight` (rank, in) and `LAYER.lora_B.weight` (out, rank). Source: LoRA, arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from svae.errors import CheckpointError

A, B = ".lora_A.weight", ".lora_B.weight"


def melted(
    weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scale: float, where: Path
) -> dict[str, Tensor]:
    """Return a network's weights with an adapter's products added: `W + scale · B · A`.

    Raises:
        CheckpointError: the adapter is of another network.
    """
    layers = sorted({name.removesuffix(A).removesuffix(B) for name in adapter})
    result = dict(weights)
    for layer in layers:
        down, up = adapter.get(layer + A), adapter.get(layer + B)
        weight = weights.get(f"{layer}.weight")
        fits = (
            down is not None
            and up is not None
            and weight is not None
            and down.dim() == up.dim() == 2
            and up.shape[1] == down.shape[0]
            and weight.shape == (up.shape[0], down.shape[1])
        )
        if not fits:
            raise CheckpointError(
                f"{where}: what it adds to {layer!r} does not fit the base model; it was made for another one"
            )
        assert down is not None and up is not None and weight is not None
        product = scale * (up.float() @ down.float())
        result[f"{layer}.weight"] = (weight.float() + product.to(weight.device)).to(weight.dtype)
    return result
