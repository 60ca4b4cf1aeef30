"""Diffusion transformer that predicts the flow's velocity from noisy latents, a partly hidden utterance and text.

Source: F5-TTS (arXiv 2410.06885, section 3.2), v1 options. Differs: padded frames are invisible everywhere
(attention, convolutions, text tower), so that a batch gives what each of its utterances gives alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svae.config import DiTConfig
from svae.errors import ConfigError
from svae.frames import length_mask
from svae.models.cpu.convolution import without_gradient
from svae.models.cpu.linear import Linear, attend_bf16
from svae.models.recompute import Recomputing
from svae.models.tts.text_tower import TextTower
from svae.recipe import dit_problems

TIME_CHANNELS = 256
NORM_EPS = 1e-6


def rotary_angles(num_frames: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (T, head_dim / 2) of the rotary position code, base 10000."""
    rates = 10000.0 ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)
    angles = torch.arange(num_frames, device=device).float()[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate neighbouring channel pairs of x (..., T, head_dim) by their position's angles."""
    cos, sin = rotary
    # A product of complex numbers: one pass over the memory.
    if x.dtype == torch.float32 and without_gradient(x):
        turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.complex(cos, sin)
        return torch.view_as_real(turned).flatten(-2)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return (
        torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
        .flatten(-2)
        .to(x.dtype)
    )


def modulated_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return layer_norm(x) · (1 + scale) + shift for x (B, T, C), and (B, 1, C) or (1, 1, C)."""
    channels = [int(x.shape[-1])]  # `svae export` needs a number
    if scale.shape[0] == 1:  # one time for all: that is what layer_norm calls weight and bias
        return F.layer_norm(x, channels, 1 + scale.flatten(), shift.flatten(), eps=NORM_EPS)
    return F.layer_norm(x, channels, eps=NORM_EPS) * (1 + scale) + shift


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer whose output is zero before training."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class TimeEmbedding(nn.Module):
    """Sinusoids of 1000·t through a two-layer perceptron."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(TIME_CHANNELS, dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        """Map t (B,) to (B, dim)."""
        half = TIME_CHANNELS // 2
        rates = torch.exp(
            torch.arange(half, device=t.device).float() * (-math.log(10000.0) / (half - 1))
        )
        angles = 1000.0 * t.float()[:, None] * rates
        return self.output(F.silu(self.hidden(torch.cat([angles.sin(), angles.cos()], dim=-1))))


class ConvolutionalPosition(nn.Module):
    """Two grouped convolutions that tell a frame about its neighbours; padded frames stay zero throughout."""

    bf16_products = False

    def __init__(self, dim: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=groups)
            for _ in range(2)
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        padded = None if mask is None else ~mask[:, None]
        x = x.transpose(1, 2)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv1d) and conv.bias is not None
            if padded is not None:
                x = x.masked_fill(padded, 0.0)
            if self.bf16_products and without_gradient(x):
                weight = conv.weight.bfloat16()
                convolved = F.conv1d(x.bfloat16(), weight, padding=conv.padding, groups=conv.groups)
                x = F.mish(convolved.float() + conv.bias[:, None])
            else:
                x = F.mish(conv(x))
        if padded is not None:
            x = x.masked_fill(padded, 0.0)
        return x.transpose(1, 2)


class Attention(nn.Module):
    """Bidirectional multi-head attention with rotary positions on all heads."""

    bf16_products = False

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        self.heads = cfg.heads
        self.qkv = Linear(cfg.dim, 3 * cfg.dim)
        head_dim = cfg.dim // cfg.heads
        self.q_norm = nn.RMSNorm(head_dim, eps=NORM_EPS) if cfg.qk_norm else None
        self.k_norm = nn.RMSNorm(head_dim, eps=NORM_EPS) if cfg.qk_norm else None
        self.output = Linear(cfg.dim, cfg.dim)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """Map (B, T, C) to (B, T, C); padded frames are not attended to."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q.float()), self.k_norm(k.float())
        q, k = rotate(q, rotary).to(v.dtype), rotate(k, rotary).to(v.dtype)
        keys = None if mask is None else mask[:, None, None]
        if self.bf16_products and without_gradient(x):
            y = attend_bf16(q, k, v, keys)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.dropout(self.output(y.transpose(1, 2).flatten(2)))


class Offset(nn.Module):
    """Adds a learned vector, zero before training."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., channels) to the same shape."""
        return x + self.weight


class DiTBlock(Recomputing):
    """Attention and feed-forward, both shifted, scaled and gated by the time (adaLN-zero: starts as the identity)."""

    def __init__(self, cfg: DiTConfig) -> None:
        super().__init__()
        modulations = 6 * cfg.dim
        self.modulation = (
            Offset(modulations) if cfg.shared_modulation else zero_linear(cfg.dim, modulations)
        )
        self.attention = Attention(cfg)
        self.expand = Linear(cfg.dim, cfg.dim * cfg.ff_mult)
        self.contract = Linear(cfg.dim * cfg.ff_mult, cfg.dim)
        self.dropout = nn.Dropout(cfg.dropout)

    def forward(
        self, x: Tensor, time: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        """Map x (B, T, C) to (B, T, C); `time` (B, ·) or (1, ·) is what `modulation` takes."""
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.modulation(time)[:, None].chunk(
            6, dim=-1
        )
        x = torch.addcmul(
            x, gate_a, self.attention(modulated_norm(x, scale_a, shift_a), rotary, mask)
        )
        y = self.dropout(self.expand.gelu(modulated_norm(x, scale_f, shift_f)))
        return torch.addcmul(x, gate_f, self.contract(y))


class DiT(nn.Module):
    """The velocity network.

    The ids of symbols are 0 … vocab_size - 1, padding -1; latents have `latent_dim` channels.

    Raises:
        ConfigError: sizes that do not divide.
    """

    def __init__(self, cfg: DiTConfig, vocab_size: int, latent_dim: int) -> None:
        super().__init__()
        problems = list(dit_problems(cfg))
        if problems:
            raise ConfigError("; ".join(problems))
        self.cfg = cfg
        self.vocab_size = vocab_size
        self.latent_dim = latent_dim
        self.text_tower = TextTower(cfg, vocab_size)
        self.input = nn.Linear(2 * latent_dim + cfg.text_dim, cfg.dim)
        self.conv_position = ConvolutionalPosition(
            cfg.dim, cfg.conv_pos_kernel, cfg.conv_pos_groups
        )
        self.time = TimeEmbedding(cfg.dim)
        self.blocks = nn.ModuleList(DiTBlock(cfg) for _ in range(cfg.depth))
        self.shared_modulation = (
            zero_linear(cfg.dim, 6 * cfg.dim) if cfg.shared_modulation else None
        )
        self.output_modulation = zero_linear(cfg.dim, 2 * cfg.dim)
        self.output = zero_linear(cfg.dim, latent_dim)

    def encode_text(
        self,
        tokens: Tensor,
        num_frames: int,
        lengths: Tensor | None = None,
        drop_text: Tensor | None = None,
    ) -> Tensor:
        """Return the text tower's output (B, T, text_dim), which does not depend on t: compute once, use at every step.

        Tokens (B, L), -1 = padding; `lengths` (B,), None: all frames are valid; `drop_text` (B,), True = without text.
        """
        mask = None if lengths is None else length_mask(lengths, num_frames)
        return self.text_tower(tokens, num_frames, mask, drop_text)

    def forward(
        self,
        noisy: Tensor,
        condition: Tensor,
        t: Tensor,
        tokens: Tensor | None = None,
        lengths: Tensor | None = None,
        *,
        drop_audio: Tensor | None = None,
        drop_text: Tensor | None = None,
        text_features: Tensor | None = None,
        taps: dict[int, Tensor] | None = None,
    ) -> Tensor:
        """Predict the velocity at (x_t, t).

        Args:
            noisy: x_t (B, D, T).
            condition: (B, D, T) known latents, zeros where hidden.
            t: (B,) in [0, 1], 1 = data; (1,): the same for all.
            tokens: (B, L) ids, -1 = padding.
            lengths: (B,) valid frames; None = all T.
            drop_audio: (B,) bool, True = no condition for that utterance.
            drop_text: (B,) bool, True = no text for it.
            text_features: what `encode_text` returned, instead of tokens and drop_text.
            taps: filled with the blocks' outputs (B, T, dim), by their numbers from 1 on.

        Returns:
            velocity (B, D, T), zeros in padded frames.
        """
        num_frames = noisy.shape[2]
        mask = None if lengths is None else length_mask(lengths, num_frames)
        if text_features is None:
            if tokens is None:
                raise ValueError("DiT: needs tokens or text_features")
            text_features = self.text_tower(tokens, num_frames, mask, drop_text)
        if drop_audio is not None:
            condition = condition.masked_fill(drop_audio[:, None, None], 0.0)
        x = self.input(
            torch.cat([noisy.transpose(1, 2), condition.transpose(1, 2), text_features], dim=-1)
        )
        x = x + self.conv_position(x, mask)
        time = F.silu(self.time(t))
        rotary = rotary_angles(num_frames, self.cfg.dim // self.cfg.heads, x.device)
        modulation = time if self.shared_modulation is None else self.shared_modulation(time)
        for number, block in enumerate(self.blocks, 1):
            x = block(x, modulation, rotary, mask)
            if taps is not None:
                taps[number] = x
        scale, shift = self.output_modulation(time)[:, None].chunk(2, dim=-1)
        velocity = self.output(modulated_norm(x, scale, shift)).transpose(1, 2)
        return velocity if mask is None else velocity.masked_fill(~mask[:, None], 0.0)
