"""Text tower of the DiT: characters to one vector per latent frame.

Source: F5-TTS (arXiv 2410.06885, section 3.2), v1 options: ConvNeXt-V2 blocks (arXiv 2301.00808) on text that is
left-aligned in the frames, padding masked. Differs: everything, the response norm included, sees an utterance's own
frames only, so that a batch gives what each of its utterances gives alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svae.config import DiTConfig
from svae.models.recompute import Recomputing


class GlobalResponseNorm(nn.Module):
    """Global response normalisation over time (ConvNeXt-V2), starting as the identity.

    Source: arXiv 2301.00808, section 3; the norm runs over the valid frames of each utterance.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalise x (B, T, C) with mask (B, T) or None for all valid."""
        valid = x if mask is None else x.masked_fill(~mask[..., None], 0.0)
        norm = torch.linalg.vector_norm(valid, dim=1, keepdim=True, dtype=torch.float32)
        response = norm / (norm.mean(-1, keepdim=True) + 1e-6)
        return self.gamma * (x * response.to(x.dtype)) + self.beta + x


class TextBlock(Recomputing):
    """ConvNeXt-V2 block: depthwise convolution, norm, expansion, response norm, contraction, residual."""

    def __init__(self, channels: int, mult: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, channels * mult)
        self.response = GlobalResponseNorm(channels * mult)
        self.contract = nn.Linear(channels * mult, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        y = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        y = F.gelu(self.expand(self.norm(y)))
        return x + self.contract(self.response(y, mask))


def position_code(num_positions: int, channels: int, device: torch.device) -> Tensor:
    """Return absolute position codes (T, C): cosines in the first half of the channels, sines in the second."""
    rates = 10000.0 ** (
        -torch.arange(0, channels, 2, device=device)[: channels // 2].float() / channels
    )
    angles = torch.arange(num_positions, device=device).float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def spread_evenly(x: Tensor, token_lengths: Tensor, frame_lengths: Tensor) -> Tensor:
    """Repeat each of an utterance's token vectors so that together they cover its frames, in order.

    With N frames and L tokens each is repeated N // L times, the last N % L tokens once more. Frames beyond the
    utterance, and utterances without tokens, get zeros.

    x is (B, T, C), row i holding token i in its first L rows, as is the result.

    Source: ZipVoice (arXiv 2506.13053), as F5-TTS's `average_upsampling`.
    """
    tokens, frames = token_lengths[:, None], frame_lengths[:, None]
    frame = torch.arange(x.shape[1], device=x.device)[None]
    at_least_one = tokens.clamp(min=1)
    repeats, longer = frames // at_least_one, frames % at_least_one
    first_longer = (tokens - longer) * repeats
    index = torch.where(
        frame < first_longer,
        frame // repeats.clamp(min=1),
        tokens - longer + (frame - first_longer) // (repeats + 1),
    ).clamp(0, x.shape[1] - 1)
    spread = x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
    return spread.masked_fill(((frame >= frames) | (tokens == 0))[..., None], 0.0)


class TextTower(nn.Module):
    """Embedding, position code and ConvNeXt-V2 blocks.

    Without blocks (`text_conv_layers: 0`) the embeddings are used as they are, with no position code, and frames without
    text get the learned filler (as in E2-TTS, and in F5-TTS without blocks): then dropped text is filler throughout and
    never tells its length.
    """

    def __init__(self, cfg: DiTConfig, vocab_size: int) -> None:
        super().__init__()
        self.text_length_leak = cfg.text_length_leak
        self.average_upsampling = cfg.average_upsampling
        self.embedding = nn.Embedding(vocab_size + 1, cfg.text_dim)
        self.blocks = nn.ModuleList(
            TextBlock(cfg.text_dim, cfg.text_conv_mult) for _ in range(cfg.text_conv_layers)
        )

    def forward(
        self,
        tokens: Tensor,
        num_frames: int,
        frame_mask: Tensor | None = None,
        drop_text: Tensor | None = None,
    ) -> Tensor:
        """Embed the text.

        Args:
            tokens: (B, L) ids, -1 = padding; what exceeds an utterance's frames is cut off.
            num_frames: T.
            frame_mask: (B, T), True = valid; None = all.
            drop_text: (B,), True = without text. With `text_length_leak` such an utterance still gets a constant
                vector, the filler's, at as many positions as its text had (F5-TTS computes its text mask before
                dropping); without it, zeros.

        Returns:
            (B, T, text_dim), zeros where there is no text (the filler, without blocks and upsampling).
        """
        ids = F.pad((tokens + 1)[:, :num_frames], (0, max(0, num_frames - tokens.shape[1])))
        if frame_mask is not None:
            ids = ids.masked_fill(~frame_mask, 0)
        has_text = ids != 0
        if drop_text is not None:
            ids = ids.masked_fill(drop_text[:, None], 0)
            if not self.text_length_leak:
                has_text = has_text & ~drop_text[:, None]
        no_text = ~has_text[..., None]
        x = self.embedding(ids)
        if len(self.blocks) > 0:
            x = (x + position_code(num_frames, x.shape[-1], x.device)).masked_fill(no_text, 0.0)
        for block in self.blocks:
            x = block(x, frame_mask).masked_fill(no_text, 0.0)
        if self.average_upsampling:
            frames = (
                torch.full_like(ids[:, 0], num_frames) if frame_mask is None else frame_mask.sum(1)
            )
            x = spread_evenly(x, has_text.sum(1), frames)
        return x
