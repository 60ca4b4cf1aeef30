"""Linear layers whose weights lie, for inference on a CPU, in the blocks that oneDNN's matrix products read.

torch packs a weight anew at every call. Packed once, and with the activation applied while a block of the result is in
the cache, the products of a DiT take a sixth less time. Numbers differ from nn.Linear's by rounding alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.models.cpu import private_ops
from svae.models.cpu.convolution import without_gradient

FEWEST_ROWS = 16
"""Products with fewer rows are bound by reading the weight, which packing does not change."""
QUERIES = 512
BF16_SWITCH = "bf16_products"
"""The attribute of a layer that can multiply in bfloat16."""


def use_bf16_products(model: nn.Module, on: bool = True) -> None:
    """Let the layers of a model that can multiply in bfloat16 and add in float32, for inference on a CPU.

    These are the packed linear layers, attention and the convolutions of the position code. Nearly twice as fast where
    the processor has the instructions (avx512_bf16, AMX), slower elsewhere; results differ in the third digit. Everything
    between the products stays in float32. Other devices and training are not changed.
    """
    for module in model.modules():
        if hasattr(module, BF16_SWITCH):
            setattr(module, BF16_SWITCH, on)


def attend_bf16(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Return scaled dot-product attention with products in bfloat16; torch's own kernel gains nothing from it on a CPU.

    Args:
        q: (B, heads, T, channels), queries.
        k: the same of keys.
        v: the same of values.
        mask: (B, 1, 1, T) bool, True = attended to; None = all.

    Returns:
        (B, heads, T, channels) float32. Never more than `QUERIES` rows of scores exist.
    """
    q, k, v = ((q * q.shape[-1] ** -0.5).bfloat16(), k.bfloat16().transpose(2, 3), v.bfloat16())
    blocks = []
    for queries in q.split(QUERIES, dim=2):
        scores = queries @ k
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        blocks.append(scores.softmax(dim=-1) @ v)
    return torch.cat(blocks, dim=2).float()


class Linear(nn.Linear):
    """nn.Linear with the path of CPU inference: the packed copy of the weight is made at its first use."""

    bf16_products = False
    _packed: tuple[tuple[int, int, bool], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        packed = self._pack(x)
        if packed is None:
            return super().forward(x)
        return self._multiply(x, packed).float()

    def gelu(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out), followed by GELU in its tanh form; with bfloat16 products the result stays in it."""
        packed = self._pack(x)
        if packed is None:
            return F.gelu(super().forward(x), approximate="tanh")
        return self._multiply(x, packed, gelu=True)

    def _multiply(self, x: Tensor, packed: Tensor, *, gelu: bool = False) -> Tensor:
        bias = None if self.bias is None else self.bias.to(packed.dtype)
        return private_ops.multiply(x.to(packed.dtype), packed, bias, gelu=gelu)

    def _pack(self, x: Tensor) -> Tensor | None:
        """Return the packed weight, or None where the plain product is to be used."""
        inference = without_gradient(x) and not torch.compiler.is_compiling()
        if not inference or torch.is_autocast_enabled("cpu"):
            return None
        if x.dtype not in (torch.float32, torch.bfloat16) or self.weight.dtype != torch.float32:
            return None
        if x.numel() < FEWEST_ROWS * x.shape[-1] or not private_ops.usable():
            return None
        # The EMA changes weights in place, and load_state_dict too: both count a version up.
        version = 0 if self.weight.is_inference() else self.weight._version
        key = (self.weight.data_ptr(), version, self.bf16_products)
        if self._packed is None or self._packed[0] != key:
            dtype = torch.bfloat16 if self.bf16_products else torch.float32
            self._packed = (key, private_ops.pack(self.weight.detach().to(dtype)))
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}
