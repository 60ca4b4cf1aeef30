"""A frozen stream within the latents: what a teacher says, in its principal components; the other latents are the acoustic residue."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from svae.models.vae.regulator import at_frames


class Anchor(nn.Module):
    """A fixed linear map of teacher features to latents of zero mean and unit deviation; takes the place of the regulator.

    Source: the frozen semantic stream beside a residual acoustic one of SARA (arXiv 2606.11611). There the teacher itself makes the
    stream, at every encoding; here the encoder learns to make it, so that a VAE needs no teacher once it is trained.

    Args:
        teacher_dim: C, numbers in a feature.
        count: N, latents of the stream; at most C.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, teacher_dim: int, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(teacher_dim))
        self.register_buffer("components", torch.eye(count, teacher_dim))

    @torch.no_grad()
    def fit(self, features: Tensor) -> float:
        """Set the map to the first components of features (K, C); return the share of their variance that it keeps."""
        features = features.double()
        mean = features.mean(dim=0)
        values, vectors = torch.linalg.eigh((features - mean).T.cov())
        values, vectors = values.flip(0).clamp_min(1e-12), vectors.flip(1)  # eigh sorts upwards
        count = len(self.components)
        self.mean.copy_(mean)
        self.components.copy_((vectors[:, :count] / values[:count].sqrt()).T)
        return float(values[:count].sum() / values.sum())

    def forward(
        self, teacher_features: Tensor, num_frames: int, mask: Tensor | None = None
    ) -> Tensor:
        """Map features (B, K, C) to (B, N, num_frames); see `Regulator.forward`."""
        x = at_frames(teacher_features, num_frames)
        x = self.components @ (x - self.mean[:, None])
        return x if mask is None else x * mask[:, None]
