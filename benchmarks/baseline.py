"""The speech VAE module by module, as its published description says and with no thought of speed.

Written from the facts alone, independent of svae/models: what the fast code is compared with, in numbers and in time.
Parameters have svae's names, so that one state dict fits both.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from svae.config import BigVGANConfig, VAEConfig


def same_conv(channels: int, kernel_size: int, dilation: int = 1) -> nn.Module:
    """Weight-normed convolution that keeps channels and length."""
    padding = dilation * (kernel_size - 1) // 2
    return weight_norm(
        nn.Conv1d(channels, channels, kernel_size, padding=padding, dilation=dilation)
    )


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, T)."""
        alpha = self.alpha[None, :, None]
        return x + (alpha + 1e-9).reciprocal() * torch.sin(alpha * x).pow(2)


class SnakeBeta(nn.Module):
    """x + sin(exp(alpha) x)^2 / exp(beta)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, T)."""
        alpha, beta = torch.exp(self.alpha[None, :, None]), torch.exp(self.beta[None, :, None])
        return x + (1.0 / (beta + 1e-9)) * torch.sin(x * alpha).pow(2)


class Activation(nn.Module):
    """Replicate-pad, depthwise transposed convolution, crop, activate, replicate-pad, depthwise strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.activation = SnakeBeta(channels)
        beta = 0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7)
        time = torch.arange(-6, 6) + 0.5
        taps = 0.5 * torch.kaiser_window(12, periodic=False, beta=beta) * torch.sinc(0.5 * time)
        self.register_buffer("filter", (taps / taps.sum())[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, T)."""
        channels = x.shape[1]
        taps = self.filter.expand(channels, -1, -1)
        x = 2 * F.conv_transpose1d(
            F.pad(x, (5, 5), mode="replicate"), taps, stride=2, groups=channels
        )
        x = self.activation(x[..., 15:-15])
        return F.conv1d(F.pad(x, (5, 6), mode="replicate"), taps, stride=2, groups=channels)


class ResidualUnit(nn.Module):
    """Snake, dilated convolution, Snake, 1x1 convolution, shortcut."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        convs = same_conv(channels, 7, dilation), same_conv(channels, 1)
        self.layers = nn.Sequential(Snake(channels), convs[0], Snake(channels), convs[1])

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, T)."""
        return x + self.layers(x)


class EncoderBlock(nn.Module):
    """Three residual units, Snake, strided convolution."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.residuals = nn.Sequential(
            *(ResidualUnit(channels, dilation) for dilation in (1, 3, 9))
        )
        self.snake = Snake(channels)
        self.downsample = weight_norm(
            nn.Conv1d(channels, 2 * channels, 2 * stride, stride, padding=math.ceil(stride / 2))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, T)."""
        return self.downsample(self.snake(self.residuals(x)))


class Encoder(nn.Module):
    """Waveform to features."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        channels = [cfg.encoder_channels * 2**i for i in range(len(cfg.encoder_strides) + 1)]
        self.conv_pre = weight_norm(nn.Conv1d(1, channels[0], 7, padding=3))
        self.blocks = nn.Sequential(*map(EncoderBlock, channels, cfg.encoder_strides))
        self.snake, self.conv_post = Snake(channels[-1]), same_conv(channels[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, S) to (B, C, T)."""
        return self.conv_post(self.snake(self.blocks(self.conv_pre(x))))


class Attention(nn.Module):
    """Causal attention whose heads are averaged and pooled to the latent width."""

    def __init__(self, width: int, out_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(out_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, out_width)."""
        batch, frames, width = x.shape
        bias = torch.cat([self.query_bias, torch.zeros(width), self.value_bias])
        qkv = (self.qkv(x) + bias).reshape(batch, frames, 3, self.heads, width // self.heads)
        query, key, value = (part.squeeze(2).transpose(1, 2) for part in qkv.split(1, dim=2))
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True).mean(dim=1)
        return self.out(y.unflatten(-1, (self.out.in_features, -1)).mean(dim=-1))


class GatedMLP(nn.Module):
    """LayerNorm, GeGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, hidden)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, T, width)."""
        x = self.norm(x)
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class Projection(nn.Module):
    """Attention plus linear shortcut, then the gated MLP."""

    def __init__(self, cfg: VAEConfig, width: int) -> None:
        super().__init__()
        dim = cfg.latent_dim
        self.norm_attention, self.norm_shortcut, self.norm_mlp = (
            nn.LayerNorm(n) for n in (width, width, dim)
        )
        self.attention = Attention(width, dim, cfg.attention_heads)
        self.shortcut = nn.Linear(width, dim)
        self.mlp = GatedMLP(dim, cfg.attention_mlp_ratio * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width) to (B, T, latent_dim)."""
        x = self.shortcut(self.norm_shortcut(x)) + self.attention(self.norm_attention(x))
        return x + self.mlp(self.norm_mlp(x))


class AMPBlock(nn.Module):
    """Residual pairs of activation and convolution."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            same_conv(channels, kernel_size, dilation) for dilation in dilations
        )
        self.plain = nn.ModuleList(same_conv(channels, kernel_size) for _ in dilations)
        self.activations = nn.ModuleList(Activation(channels) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to (B, C, T)."""
        for i in range(len(self.dilated)):
            y = self.dilated[i](self.activations[2 * i](x))
            y = self.plain[i](self.activations[2 * i + 1](y))
            x = x + y
        return x


class Decoder(nn.Module):
    """BigVGAN v2, AMPBlock1 with SnakeBeta in log scale, clamped output."""

    def __init__(self, cfg: BigVGANConfig, latent_dim: int) -> None:
        super().__init__()
        channels = cfg.initial_channels
        self.conv_pre = weight_norm(nn.Conv1d(latent_dim, channels, 7, padding=3))
        self.upsamplers, self.stages = nn.ModuleList(), nn.ModuleList()
        for rate, size in zip(cfg.upsample_rates, cfg.upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, size, rate, padding=(size - rate) // 2)
            self.upsamplers.append(weight_norm(up))
            channels //= 2
            kernels = zip(cfg.resblock_kernel_sizes, cfg.resblock_dilation_sizes, strict=True)
            self.stages.append(nn.ModuleList(AMPBlock(channels, *kernel) for kernel in kernels))
        self.activation_post = Activation(channels)
        self.conv_post = weight_norm(nn.Conv1d(channels, 1, 7, padding=3, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, T) to (B, 1, S)."""
        x = self.conv_pre(x)
        for upsample, blocks in zip(self.upsamplers, self.stages, strict=True):
            x = upsample(x)
            x = sum(block(x) for block in blocks) / len(blocks)
        return torch.clamp(self.conv_post(self.activation_post(x)), -1, 1)


class BaselineVAE(nn.Module):
    """Encoder and decoder with svae's parameter names; for lengths that are whole frames."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        width = cfg.encoder_channels * 2 ** len(cfg.encoder_strides)
        self.encoder = Encoder(cfg)
        self.projection = Projection(cfg, width)
        self.mean = nn.Linear(cfg.latent_dim, cfg.latent_dim)
        self.logvar = nn.Linear(cfg.latent_dim, cfg.latent_dim)
        self.decoder = Decoder(cfg.decoder, cfg.latent_dim)

    def encode(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, 1, S) to mean and log-variance (B, D, T)."""
        x = self.projection(self.encoder(waveform).transpose(1, 2))
        return self.mean(x).transpose(1, 2), self.logvar(x).clamp(-12, 12).transpose(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Map (B, D, T) to (B, 1, S)."""
        return self.decoder(latents)

    def fold(self) -> BaselineVAE:
        """Replace weight norm by the weights it computes; return self."""
        for module in list(self.modules()):
            if parametrize.is_parametrized(module):
                parametrize.remove_parametrizations(module, "weight")
        return self
