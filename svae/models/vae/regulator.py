"""The projection of teacher features to the latent width, used in training only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Regulator(nn.Module):
    """Project teacher features to the latent width; used in training only.

    Source: Semantic-VAE (arXiv 2509.22167), semantic alignment; the code's InterpolateRegulator. In place of
    GroupNorm over a clip with its padding, the statistics here are those of the valid frames.
    `layers` convolutions of width 2 * latent_dim come before the 1x1 convolution.
    """

    def __init__(self, teacher_dim: int, latent_dim: int, layers: int) -> None:
        super().__init__()
        widths = [teacher_dim] + [2 * latent_dim] * layers
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, 3, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths[1:])
        self.out = nn.Conv1d(widths[-1], latent_dim, 1)

    def forward(
        self, teacher_features: Tensor, num_frames: int, mask: Tensor | None = None
    ) -> Tensor:
        """Map teacher features (B, K, C) to (B, D, num_frames).

        Features at another frame rate are interpolated linearly (frame edges aligned, as the official code does);
        with K == num_frames they are used as they are. `mask` (B, num_frames) is True where a frame is valid; None: all.
        """
        x = at_frames(teacher_features, num_frames)
        if mask is not None:
            x = x * mask[:, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(norm, nn.GroupNorm)
            x = F.mish(_group_norm(conv(x), norm, mask))
            if mask is not None:
                x = x * mask[:, None]
        x = self.out(x)
        return x if mask is None else x * mask[:, None]


def at_frames(teacher_features: Tensor, num_frames: int) -> Tensor:
    """Return teacher features (B, K, C) as (B, C, num_frames), interpolated linearly where K is another number."""
    x = teacher_features.transpose(1, 2)
    if x.shape[-1] == num_frames:
        return x
    return F.interpolate(x, size=num_frames, mode="linear", align_corners=False)


def _group_norm(x: Tensor, norm: nn.GroupNorm, mask: Tensor | None) -> Tensor:
    """Normalise each item over its channels and valid frames together."""
    if mask is None:
        return norm(x)
    x, valid = x.float(), mask[:, None].float()
    count = (valid.sum(dim=(1, 2), keepdim=True) * x.shape[1]).clamp(min=1)
    centred = x - (x * valid).sum(dim=(1, 2), keepdim=True) / count
    variance = (centred.square() * valid).sum(dim=(1, 2), keepdim=True) / count
    return centred * torch.rsqrt(variance + norm.eps) * norm.weight[:, None] + norm.bias[:, None]
