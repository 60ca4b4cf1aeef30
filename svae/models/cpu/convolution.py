"""Inference on a CPU: the memory order in which its convolutions are fast, and pieces of time that fit its cache.

Tensors stay (B, C, T) for the caller, but lie in memory in the order (B, T, C). In that order oneDNN's convolutions
(depthwise ones above all) need no reordering and no second copy of their input. Where gradients are recorded, and on
other devices, nothing here applies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE = 2**19
"""Numbers in a piece of a signal (2 MiB); the handful of pieces that a layer works on stay in the cache."""


def without_gradient(x: Tensor) -> bool:
    """Return whether `x` takes the path of CPU inference; not where its operators are being written down for others."""
    exporting = torch.onnx.is_in_onnx_export()
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not exporting


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Return what F.conv1d does, in memory order (B, T, C); depthwise if `weight` (out, 1, K) has one input channel."""
    if weight.shape[-1] == stride == 1 and padding == 0 and weight.shape[1] == x.shape[1]:
        return F.linear(x.transpose(1, 2), weight[:, :, 0], bias).transpose(1, 2)
    x = x[:, :, None].contiguous(memory_format=torch.channels_last)
    groups = x.shape[1] // weight.shape[1]
    y = F.conv2d(x, weight[:, :, None], bias, (1, stride), (0, padding), (1, dilation), groups)
    return y.contiguous(memory_format=torch.channels_last)[:, :, 0]


class Conv1d(nn.Conv1d):
    """nn.Conv1d with the path of CPU inference."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not without_gradient(x):
            return super()._conv_forward(x, weight, bias)
        assert not isinstance(self.padding, str)
        return convolve(
            x,
            weight,
            bias,
            stride=self.stride[0],
            padding=self.padding[0],
            dilation=self.dilation[0],
        )


class ConvTranspose1d(nn.ConvTranspose1d):
    """nn.ConvTranspose1d with the path of CPU inference."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Apply to x (B, in, T); `output_size` is that of torch's class."""
        if output_size is not None or not without_gradient(x):
            return super().forward(x, output_size)
        x = x[:, :, None].contiguous(memory_format=torch.channels_last)
        y = F.conv_transpose2d(
            x, self.weight[:, :, None], self.bias, (1, *self.stride), (0, *self.padding)
        )
        return y[:, :, 0]


def pack_weight(conv: Conv1d | ConvTranspose1d) -> None:
    """Lay the weight out as CPU inference reads it; values and shape stay. Without it, every call copies the weight."""
    conv.weight.data = conv.weight.data.transpose(1, 2).contiguous().transpose(1, 2)


def in_tiles(
    layer: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    halo: int,
    stride: int = 1,
    out_channels: int | None = None,
) -> Tensor:
    """Return layer(x), in CPU inference computed piece by piece: less memory, and less of it outside the cache.

    The result is that of one call, since every piece is computed with `halo` more positions to either side.

    Args:
        layer: Maps (B, C, T) to (B, out_channels, T / stride), sees at most `halo` positions to either side, and treats
            the ends of what it gets as the ends of the signal.
        x: (B, C, T), T a multiple of `stride`.
        halo: A multiple of `stride`; where pieces would be short beside it, all is computed at once.
        stride: See `layer`.
        out_channels: See `layer`; None: C.
    """
    batch, channels, length = x.shape
    size = TILE // (batch * channels) // stride * stride
    if not without_gradient(x) or length < 2 * size or size < 16 * halo:
        return layer(x)
    # Equal pieces waste least. One window for all, of one among few lengths: oneDNN compiles code for each that it sees.
    step = stride * max(1, size // (64 * stride))
    size = math.ceil(length / math.ceil(length / size) / step) * step
    window = size + 2 * halo
    y = x.new_empty(
        batch, length // stride, channels if out_channels is None else out_channels
    ).transpose(1, 2)
    for start in range(0, length, size):
        left, stop = min(max(start - halo, 0), length - window), min(start + size, length)
        piece = layer(x[..., left : left + window])
        y[..., start // stride : stop // stride] = piece[
            ..., (start - left) // stride : (stop - left) // stride
        ]
    return y
