"""F5-TTS's diffusion transformer module by module, as its description says and with no thought of speed.

Written from the facts alone, independent of svae/models: what the fast code is compared with, in numbers and in time.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import DiTConfig


class ResponseNorm(nn.Module):
    """Global response normalisation over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, T, C)."""
        norm = x.norm(dim=1, keepdim=True)
        return self.gamma * (x * (norm / (norm.mean(-1, keepdim=True) + 1e-6))) + self.beta + x


class TextBlock(nn.Module):
    """ConvNeXt-V2 block."""

    def __init__(self, channels: int, mult: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, channels * mult)
        self.response = ResponseNorm(channels * mult)
        self.contract = nn.Linear(channels * mult, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        y = self.norm(self.depthwise(x.transpose(1, 2)).transpose(1, 2))
        return x + self.contract(self.response(F.gelu(self.expand(y))))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, neighbouring pairs: x cos + rotated(x) sin."""
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return x * cos + turned * sin


class Attention(nn.Module):
    """Queries, keys and values by three layers."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.output(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """AdaLN-zero block."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(cfg.dim, 6 * cfg.dim)
        self.norm_attention = nn.LayerNorm(cfg.dim, eps=1e-6, elementwise_affine=False)
        self.norm_feed_forward = nn.LayerNorm(cfg.dim, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(cfg.dim, cfg.heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(cfg.dim, cfg.ff_mult * cfg.dim),
            nn.GELU(approximate="tanh"),
            nn.Dropout(cfg.dropout),
            nn.Linear(cfg.ff_mult * cfg.dim, cfg.dim),
        )

    def forward(self, x: Tensor, time: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map x (B, T, C) with time (B, C) to (B, T, C)."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.modulation(F.silu(time)).chunk(
            6, dim=1
        )
        y = self.norm_attention(x) * (1 + scale_a[:, None]) + shift_a[:, None]
        x = x + gate_a[:, None] * self.attention(y, cos, sin)
        y = self.norm_feed_forward(x) * (1 + scale_f[:, None]) + shift_f[:, None]
        return x + gate_f[:, None] * self.feed_forward(y)


class BaselineDiT(nn.Module):
    """The network of F5-TTS v1 for one length: no masks, no drops."""

    def __init__(self, cfg: DiTConfig, vocab_size: int, latent_dim: int) -> None:
        super().__init__()
        self.cfg = cfg
        self.embedding = nn.Embedding(vocab_size + 1, cfg.text_dim)
        self.text_blocks = nn.ModuleList(
            TextBlock(cfg.text_dim, cfg.text_conv_mult) for _ in range(cfg.text_conv_layers)
        )
        self.input = nn.Linear(2 * latent_dim + cfg.text_dim, cfg.dim)
        kernel, groups = cfg.conv_pos_kernel, cfg.conv_pos_groups
        self.position = nn.ModuleList(
            nn.Conv1d(cfg.dim, cfg.dim, kernel, padding=kernel // 2, groups=groups)
            for _ in range(2)
        )
        self.time = nn.Sequential(nn.Linear(256, cfg.dim), nn.SiLU(), nn.Linear(cfg.dim, cfg.dim))
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))
        self.output_modulation = nn.Linear(cfg.dim, 2 * cfg.dim)
        self.output_norm = nn.LayerNorm(cfg.dim, eps=1e-6, elementwise_affine=False)
        self.output = nn.Linear(cfg.dim, latent_dim)

    def encode_text(self, tokens: Tensor, num_frames: int, drop: bool = False) -> Tensor:
        """Return (B, T, text_dim); a dropped text is filler where it was (the length leaks, as in F5-TTS)."""
        ids = F.pad(tokens + 1, (0, num_frames - tokens.shape[1]))
        blank = (ids == 0)[..., None]
        ids = torch.zeros_like(ids) if drop else ids
        channels = self.cfg.text_dim
        rates = 10000.0 ** (-torch.arange(0, channels, 2).float() / channels)
        angles = torch.arange(num_frames).float()[:, None] * rates
        x = (self.embedding(ids) + torch.cat([angles.cos(), angles.sin()], dim=-1)).masked_fill(
            blank, 0.0
        )
        for block in self.text_blocks:
            x = block(x).masked_fill(blank, 0.0)
        return x

    def forward(self, noisy: Tensor, condition: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Return the velocity (B, D, T)."""
        x = self.input(torch.cat([noisy.transpose(1, 2), condition.transpose(1, 2), text], dim=-1))
        y = x.transpose(1, 2)
        for conv in self.position:
            y = F.mish(conv(y))
        x = x + y.transpose(1, 2)
        rates = torch.exp(torch.arange(128).float() * (-math.log(10000.0) / 127))
        angles = 1000.0 * t[:, None] * rates
        time = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        head_dim = self.cfg.dim // self.cfg.heads
        rates = 10000.0 ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        angles = (torch.arange(x.shape[1]).float()[:, None] * rates).repeat_interleave(2, dim=-1)
        cos, sin = angles.cos(), angles.sin()
        for block in self.blocks:
            x = block(x, time, cos, sin)
        scale, shift = self.output_modulation(F.silu(time)).chunk(2, dim=1)
        x = self.output_norm(x) * (1 + scale[:, None]) + shift[:, None]
        return self.output(x).transpose(1, 2)

    def take(self, state: dict[str, Tensor]) -> BaselineDiT:
        """Load the weights of svae's DiT."""
        own = {}
        for name, value in state.items():
            if ".attention.qkv." in name:
                for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    own[name.replace("qkv", part)] = piece
                continue
            if name.startswith("blocks."):
                name = name.replace(".expand.", ".feed_forward.0.").replace(
                    ".contract.", ".feed_forward.3."
                )
            name = name.replace("text_tower.blocks", "text_blocks").replace("text_tower.", "")
            name = name.replace("conv_position.convs", "position")
            own[name.replace("time.hidden", "time.0").replace("time.output", "time.2")] = value
        self.load_state_dict(own)
        return self
