"""The BigVGAN generator: latents to waveform."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import BigVGANConfig
from svae.models.cpu.convolution import in_tiles
from svae.models.recompute import Recomputing
from svae.models.vae.layers import AntiAliasedActivation, Snake, SnakeBeta, conv1d, conv_transpose1d


def _activation(cfg: BigVGANConfig, channels: int) -> AntiAliasedActivation | Snake:
    snake = (SnakeBeta if cfg.activation == "snakebeta" else Snake)(
        channels, logscale=cfg.snake_logscale
    )
    return AntiAliasedActivation(snake) if cfg.anti_aliasing else snake


class AMPBlock(Recomputing):
    """Anti-aliased multi-periodicity block: residual pairs of activation and dilated convolution.

    With `resblock: "1"` each dilated convolution is followed by an activation and a plain convolution of the same
    kernel; with "2" it stands alone. Source: BigVGAN (arXiv 2206.04658), section 3.2 and appendix A.
    """

    def __init__(
        self, cfg: BigVGANConfig, channels: int, kernel_size: int, dilations: tuple[int, ...]
    ) -> None:
        super().__init__()
        per_step = 2 if cfg.resblock == "1" else 1
        self.dilated = nn.ModuleList(
            conv1d(channels, channels, kernel_size, dilation=d) for d in dilations
        )
        self.plain = nn.ModuleList(
            conv1d(channels, channels, kernel_size) for _ in dilations * (per_step - 1)
        )
        self.activations = nn.ModuleList(
            _activation(cfg, channels) for _ in range(per_step * len(dilations))
        )
        reach = kernel_size // 2
        self.halo = sum(reach * d + (per_step - 1) * reach for d in dilations)
        self.halo += len(self.activations) * (
            AntiAliasedActivation.halo if cfg.anti_aliasing else 0
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (B, channels, T); the shape stays."""
        activations = iter(self.activations)
        for step, dilated in enumerate(self.dilated):
            y = dilated(next(activations)(x))
            if self.plain:
                y = self.plain[step](next(activations)(y))
            x = y.add_(x)
        return x


def _halo(block: nn.Module) -> int:
    assert isinstance(block, AMPBlock)
    return block.halo


def _average(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    total = blocks[0](x)
    for block in blocks[1:]:
        total = total + block(x)
    return total / len(blocks)


class InverseSTFT(nn.Module):
    """Logarithmic magnitudes and phases at the frames of a short-time Fourier transform to samples.

    Frame i is the Hann window from 1.5 hops (of an even number of samples) before its own hop to 1.5 hops after it. With a
    window of four hops the squared windows add up to 1.5 everywhere, so that the overlap-add needs no division and is a
    linear layer.
    Source: iSTFTNet (arXiv 2203.02395); magnitudes as in Vocos (arXiv 2306.00814).
    """

    max_magnitude = 100.0
    """As in Vocos: keeps an untrained network from overflowing."""
    start_magnitude = 0.1
    """Magnitude of an input of 0, so that an untrained network is about as loud as speech."""
    basis: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop, self.bins = hop, 2 * hop + 1
        window = torch.hann_window(4 * hop, dtype=torch.float64) / 1.5
        unit = torch.eye(self.bins, dtype=torch.complex128)
        basis = (
            torch.cat([torch.fft.irfft(unit, 4 * hop), torch.fft.irfft(1j * unit, 4 * hop)])
            * window
        )
        self.register_buffer(
            "basis", (basis * self.start_magnitude)[:, None].float(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, 2 * bins, T), log magnitudes and then phases, to samples (B, 1, T * hop)."""
        with torch.autocast(x.device.type, enabled=False):
            log_magnitude, phase = x.to(self.basis.dtype).chunk(2, dim=1)
            magnitude = log_magnitude.exp().clamp(max=self.max_magnitude / self.start_magnitude)
            spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
            return F.conv_transpose1d(
                spectrum, self.basis, stride=self.hop, padding=3 * self.hop // 2
            )


class BigVGAN(nn.Module):
    """Upsample latents to a waveform with transposed convolutions and averaged AMP blocks.

    Source: BigVGAN (arXiv 2206.04658), figure 1. Initialisation is PyTorch's default, which is also what the official
    Semantic-VAE code ends up with (its N(0, 0.01) is written to a temporary of the weight norm).

    `cfg` is consistent (recipe.load and the importer check it); a frame of latents becomes `cfg.hop_length` samples.
    """

    def __init__(self, cfg: BigVGANConfig, in_channels: int) -> None:
        super().__init__()
        self.cfg = cfg
        channels = cfg.initial_channels
        self.conv_pre = conv1d(in_channels, channels, 7)
        self.upsamplers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for rate, kernel_size in zip(cfg.upsample_rates, cfg.upsample_kernel_sizes, strict=True):
            self.upsamplers.append(
                conv_transpose1d(channels, channels // 2, kernel_size, stride=rate)
            )
            channels //= 2
            kernels = zip(cfg.resblock_kernel_sizes, cfg.resblock_dilation_sizes, strict=True)
            self.stages.append(
                nn.ModuleList(AMPBlock(cfg, channels, k, dilations) for k, dilations in kernels)
            )
        self.activation_post = _activation(cfg, channels)
        self.istft = InverseSTFT(cfg.istft_hop) if cfg.istft_hop else None
        if self.istft is None:
            self.conv_post = conv1d(channels, 1, 7, bias=cfg.bias_at_final)
        else:
            self.conv_post = conv1d(channels, 2 * self.istft.bins, 7)
        frames = cfg.hop_length // (cfg.istft_hop or 1)
        linear = (
            nn.ConvTranspose1d(in_channels, 2 * cfg.istft_hop + 1, frames, frames)
            if cfg.linear_path
            else None
        )
        self.linear_path = linear
        """From latents (B, in_channels, T) to log magnitudes (B, bins, frames), each latent frame by itself."""

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents (B, in_channels, T) to a waveform (B, 1, T * hop) in [-1, 1]."""
        x = self.conv_pre(latents)
        for upsample, blocks in zip(self.upsamplers, self.stages, strict=True):
            assert isinstance(blocks, nn.ModuleList)
            x = in_tiles(partial(_average, blocks), upsample(x), halo=max(map(_halo, blocks)))
        x = self.conv_post(self.activation_post(x))
        if self.linear_path is not None:
            log_magnitude, phase = x.chunk(2, dim=1)
            x = torch.cat([log_magnitude + self.linear_path(latents), phase], dim=1)
        if self.istft is not None:
            x = self.istft(x)
        return torch.tanh(x) if self.cfg.tanh_at_final else torch.clamp(x, -1.0, 1.0)
