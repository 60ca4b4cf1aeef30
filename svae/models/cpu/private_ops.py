"""The operators of torch that are not public and that inference on a CPU uses. No other module of svae names one.

torch.compile calls them for frozen weights. Known from torch 2.11; another version may rename them or take other
arguments. So their schemas are compared before the first use, and where they differ the public operators do the same
work, a sixth more slowly; `svae doctor` says which it is. tests/models/cpu/test_private_ops.py fails when they change.
"""

from __future__ import annotations

import sys
from functools import cache

import torch
from torch import Tensor

SCHEMAS = {
    "_reorder_linear_weight": "mkldnn::_reorder_linear_weight(Tensor self, int? batch_size=None) -> Tensor Y",
    "_linear_pointwise": (
        "mkldnn::_linear_pointwise"
        "(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm) -> Tensor Y"
    ),
}


@cache
def missing() -> str | None:
    """Return why the operators cannot be used here, or None where they can."""
    if not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    for name, expected in SCHEMAS.items():
        operator = getattr(getattr(torch.ops.mkldnn, name, None), "default", None)
        if operator is None:
            return f"torch {torch.__version__} has no mkldnn::{name}"
        found = str(operator._schema)
        if found != expected:
            return f"torch {torch.__version__} has another signature: {found}"
    return None


@cache
def usable() -> bool:
    """Return whether the operators can be used here; where they cannot, say so once on stderr."""
    why_not = missing()
    if why_not is not None:
        print(
            f"note: CPU inference without packed weights, which is slower: {why_not}",
            file=sys.stderr,
        )
    return why_not is None


def pack(weight: Tensor) -> Tensor:
    """Return a weight (out, in) in the blocks that oneDNN's products read; only `multiply` understands it."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None, *, gelu: bool = False) -> Tensor:
    """Return what F.linear does with x (…, in) and a packed weight; with `gelu`, GELU's tanh form of it."""
    activation, form = ("gelu", "tanh") if gelu else ("none", "")
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, activation, [], form)
    return product
