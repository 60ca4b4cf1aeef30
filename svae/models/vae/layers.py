"""Layers that the encoder, the decoder and the discriminators share: weight norm, Snake, anti-aliased activation."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from svae.models.cpu.convolution import (
    Conv1d,
    ConvTranspose1d,
    convolve,
    in_tiles,
    pack_weight,
    without_gradient,
)

# ----------------------------------------------------------------------------------------------- weight norm


def conv1d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    bias: bool = True,
) -> nn.Conv1d:
    """Build a weight-normed Conv1d; `padding` None keeps the length at stride 1 (odd kernels)."""
    if padding is None:
        padding = dilation * (kernel_size - 1) // 2
    return weight_norm(
        Conv1d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
    )


def conv_transpose1d(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int
) -> nn.ConvTranspose1d:
    """Build a weight-normed ConvTranspose1d whose output is exactly `stride` times as long (even kernel - stride).

    The magnitude runs over dimension 0 of the weight, which for a transposed convolution is the input channels.
    """
    return weight_norm(
        ConvTranspose1d(
            in_channels, out_channels, kernel_size, stride, padding=(kernel_size - stride) // 2
        )
    )


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> nn.Conv2d:
    """Build a weight-normed Conv2d."""
    return weight_norm(nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=padding))


def fold_weight_norm(module: nn.Module, *, packed: bool = False) -> nn.Module:
    """Replace every parametrized weight below `module` by its present value, in place, and return `module`.

    The output does not change; the weight is no longer recomputed at each call, and can no longer be trained as
    magnitude and direction. State-dict keys change (`weight` instead of `parametrizations.weight.original0/1`).

    `packed` also lays the weights out for inference on a CPU.
    """
    for child in module.modules():
        if parametrize.is_parametrized(child):
            assert isinstance(child.parametrizations, nn.ModuleDict)
            for name in list(child.parametrizations):
                parametrize.remove_parametrizations(child, name, leave_parametrized=True)
        if packed and isinstance(child, (Conv1d, ConvTranspose1d)):
            pack_weight(child)
    return module


# ----------------------------------------------------------------------------------------------- periodic activations


def periodic(x: Tensor, frequency: Tensor, inverse_scale: Tensor) -> Tensor:
    """Return x + inverse_scale * sin(frequency * x)^2, in place on temporaries where no gradient is recorded."""
    phase = x * frequency
    if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
        return torch.addcmul(x, torch.sin(phase).square(), inverse_scale)
    return torch.addcmul(x, phase.sin_().square_(), inverse_scale, out=phase)


class Snake(nn.Module):
    """Snake activation x + sin(alpha x)^2 / alpha with one trainable alpha per channel.

    Source: arXiv 2006.08195; BigVGAN (arXiv 2206.04658), section 3.2.

    With `logscale`, log alpha (initially 0) is stored instead of alpha (initially 1).
    """

    def __init__(self, channels: int, *, logscale: bool = False) -> None:
        super().__init__()
        self.logscale = logscale
        self.alpha = nn.Parameter(torch.zeros(channels) if logscale else torch.ones(channels))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Return the frequency and the inverse scale, each (channels, 1)."""
        alpha = self.alpha.exp() if self.logscale else self.alpha
        return alpha[:, None], (1.0 / (alpha + 1e-9))[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (B, channels, T)."""
        return periodic(x, *self.coefficients())


class SnakeBeta(Snake):
    """Snake with a magnitude of its own: x + sin(alpha x)^2 / beta.

    Source: BigVGAN (arXiv 2206.04658) and its second version's `snakebeta`.
    """

    def __init__(self, channels: int, *, logscale: bool = True) -> None:
        super().__init__(channels, logscale=logscale)
        self.beta = nn.Parameter(torch.zeros(channels) if logscale else torch.ones(channels))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Return the frequency and the inverse scale, each (channels, 1)."""
        frequency, _ = super().coefficients()
        beta = self.beta.exp() if self.logscale else self.beta
        return frequency, (1.0 / (beta + 1e-9))[:, None]


# ----------------------------------------------------------------------------------------------- anti-aliasing


def kaiser_sinc_taps() -> Tensor:
    """Return the 12 taps (float32, sum 1) of the half-band low-pass around the activation.

    Cutoff 0.25 of the doubled rate, transition half-width 0.3, Kaiser window.
    Source: BigVGAN (arXiv 2206.04658), section 3.3; alias-free filters of StyleGAN3 (arXiv 2106.12423).
    """
    taps, cutoff, half_width = 12, 0.25, 0.3
    attenuation = 2.285 * (taps / 2 - 1) * math.pi * 4 * half_width + 7.95
    beta = 0.1102 * (attenuation - 8.7)  # Kaiser's formula for an attenuation above 50 dB
    window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
    time = torch.arange(taps, dtype=torch.float64) - taps / 2 + 0.5
    response = 2 * cutoff * window * torch.sinc(2 * cutoff * time)
    return (response / response.sum()).float()


def polyphase_taps() -> Tensor:
    """Return kernels (4, 7): even and odd output of the x2 upsampler, even and odd input of the x2 downsampler.

    The doubled signal never exists: its even samples and its odd samples are two signals at the original rate, and
    each of the four filters is a 6-tap convolution there, written with 7 centred taps (one of them 0).
    """
    f = kaiser_sinc_taps()
    kernels = torch.zeros(4, 7)
    for tap in range(6):
        # The gain 2 makes up for the inserted zeros.
        kernels[0, tap] = 2 * f[11 - 2 * tap]  # x[n-3] .. x[n+2]
        kernels[1, tap + 1] = 2 * f[10 - 2 * tap]  # x[n-2] .. x[n+3]
        kernels[2, tap + 1] = f[1 + 2 * tap]
        kernels[3, tap] = f[2 * tap]
    return kernels


@functools.cache
def _polyphase_rows() -> list[list[float]]:
    """Return `polyphase_taps` as numbers, computed once, also where models are built on the meta device."""
    with torch.device("cpu"):
        return polyphase_taps().tolist()


class AntiAliasedActivation(nn.Module):
    """Upsample by 2, activate, low-pass and downsample by 2, so that the new harmonics do not fold back.

    Both filters have 12 taps and repeat the edge sample beyond the ends, at the original rate before upsampling and
    at the doubled rate before downsampling, as in BigVGAN v2; computed in polyphase form (see `polyphase_taps`).
    """

    halo = 6
    """Positions to either side that an output depends on."""
    taps: Tensor

    def __init__(self, activation: Snake) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("taps", torch.tensor(_polyphase_rows()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (B, C, T); the shape stays."""
        if without_gradient(x):
            return in_tiles(self._infer, x, halo=self.halo)
        channels = int(x.shape[1])  # `svae export` needs a number
        kernels = self.taps.to(x.dtype)[:, None, None, :].expand(-1, channels, -1, -1)
        frequency, inverse_scale = self.activation.coefficients()
        padded = F.pad(x, (3, 3), mode="replicate")
        even = periodic(F.conv1d(padded, kernels[0], groups=channels), frequency, inverse_scale)
        odd = periodic(F.conv1d(padded, kernels[1], groups=channels), frequency, inverse_scale)
        # The doubled signal starts with an even sample and ends with an odd one: these are what repeats at its ends.
        left, right = even[..., :1].expand(-1, -1, 3), odd[..., -1:].expand(-1, -1, 3)
        even = F.conv1d(torch.cat([left, even, right], dim=-1), kernels[2], groups=channels)
        return even + F.conv1d(torch.cat([left, odd, right], dim=-1), kernels[3], groups=channels)

    def _infer(self, x: Tensor) -> Tensor:
        """Compute `forward` by the same convolutions in CPU inference, where each copy of the signal counts."""
        batch, channels, length = x.shape
        kernels = self.taps.to(x.dtype)[:, None, None, :].expand(-1, channels, -1, -1)
        padded = x.new_empty(batch, length + 12, channels).transpose(1, 2)
        padded[..., :6], padded[..., 6:-6], padded[..., -6:] = x[..., :1], x, x[..., -1:]
        # Three positions more on either side than there are samples; what repeats at the ends is written over them.
        coefficients = self.activation.coefficients()
        even = periodic(convolve(padded, kernels[0]), *coefficients)
        odd = periodic(convolve(padded, kernels[1]), *coefficients)
        left, right = even[..., 3:4].clone(), odd[..., -4:-3].clone()
        for phase in (even, odd):
            phase[..., :3], phase[..., -3:] = left, right
        return convolve(even, kernels[2]).add_(convolve(odd, kernels[3]))
