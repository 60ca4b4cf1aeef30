"""Losses of the VAE training. All are computed in float32, whatever the autocast region they are called in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.models.mel_filters import mel_filters

AlignmentForm = Literal["cosine", "l1", "mse"]

FeatureMaps = Sequence[Sequence[Tensor]]
"""Per sub-discriminator its feature maps; the last one is its verdict."""

# ----------------------------------------------------------------------------------------------- latents


def kl_loss(mean: Tensor, logvar: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return KL(N(mean, exp(logvar)) || N(0, 1)), summed over channels, averaged over valid frames, then over items.

    Items weigh the same however short they are, so that the average over ranks is that of the whole batch.

    Source: Semantic-VAE (arXiv 2509.22167), equation of the VAE loss. The official code adds 1e-6 to the variance,
    a constant of 0.5e-6 per channel; we do not.

    Args:
        mean: Posterior mean (B, D, T).
        logvar: Logarithm of the posterior variance (B, D, T).
        mask: (B, T), True where a frame is valid; None: all are.
    """
    mean, logvar = mean.float(), logvar.float()
    per_frame = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).sum(dim=1)
    return per_frame.mean() if mask is None else _masked_mean(per_frame, mask)


def alignment_loss(
    latents: Tensor, projected: Tensor, mask: Tensor | None = None, form: AlignmentForm = "cosine"
) -> Tensor:
    """Return the distance of latents and projected teacher features, averaged over an item's valid frames, then items.

    Source: Semantic-VAE (arXiv 2509.22167), semantic alignment; its code minimises -cos (not 1 - cos), on the sampled
    latents.

    Args:
        latents: (B, D, T).
        projected: Teacher features at the same moments (`svae.training.vae.crops.teacher_features_of`), after the
            regulator (B, D, T).
        mask: (B, T), True where a frame is valid; None: all are.
        form: `cosine`: minus the cosine over channels, in [-1, 1]; `l1`, `mse`: the mean over channels of the
            absolute or squared difference.
    """
    latents, projected = latents.float(), projected.float()
    if form == "cosine":
        distance = -F.cosine_similarity(latents, projected, dim=1, eps=1e-8)
    else:
        difference = latents - projected
        distance = (difference.abs() if form == "l1" else difference.square()).mean(dim=1)
    return distance.mean(dim=1).mean() if mask is None else _masked_mean(distance, mask)


def _masked_mean(per_frame: Tensor, mask: Tensor) -> Tensor:
    """Average (B, T) over each item's valid frames, then over items."""
    means = torch.where(mask, per_frame, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return means.mean()


def pitch_loss(
    logits: Tensor,
    place: Tensor,
    periodicity: Tensor,
    mask: Tensor | None = None,
    total: Tensor | None = None,
) -> Tensor:
    """Return the cross entropy of predicted and measured pitch, averaged over frames by their periodicity squared.

    Args:
        logits: (B, N, F).
        place: (B, F), the measured pitch in bins, with fractions; the target is a Gaussian of one bin around it.
        periodicity: (B, F), 1 where the signal repeats itself, near 0 in noise and silence.
        mask: (B, F), True where a frame is valid; None: all are.
        total: (), what the frames of the whole batch weigh, of which these are a part; None: they are all.
    """
    bins = torch.arange(logits.shape[1], device=logits.device)[None, :, None]
    target = (-0.5 * (bins - place[:, None]).square()).softmax(dim=1)
    entropy = -(target * logits.float().log_softmax(dim=1)).sum(dim=1)
    weight = periodicity.square() if mask is None else periodicity.square() * mask
    total = weight.sum() if total is None else total
    return (entropy * weight).sum() / total.clamp(min=1e-3)


# ----------------------------------------------------------------------------------------------- spectra


class MultiScaleMelLoss(nn.Module):
    """Sum over seven resolutions of the L1 distance between log10 mel magnitudes.

    Windows of 32 to 2048 samples, hop a quarter of the window, 5 to 320 Slaney mel bands from 0 Hz to Nyquist,
    magnitudes clamped at 1e-5. Source: Descript Audio Codec (arXiv 2306.06546), section 3.4, with the numbers of the
    official Semantic-VAE code.

    Args:
        sample_rate: In Hz.
    """

    windows = (32, 64, 128, 256, 512, 1024, 2048)
    mel_bands = (5, 10, 20, 40, 80, 160, 320)

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for window, bands in zip(self.windows, self.mel_bands, strict=True):
            filters = mel_filters(sample_rate, window, bands, norm="slaney")
            self.register_buffer(f"filters_{window}", filters.clone(), persistent=False)
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)

    def log_mel(self, waveform: Tensor, window: int) -> Tensor:
        """Return log10 mel magnitudes (B, bands, frames) of a waveform (B, S) at one resolution."""
        taper, filters = getattr(self, f"window_{window}"), getattr(self, f"filters_{window}")
        spectrum = torch.stft(
            waveform, window, window // 4, window=taper, center=True, return_complex=True
        )
        return (filters @ spectrum.abs()).clamp(min=1e-5).log10()

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """Compare two waveforms (B, 1, S); make both zero beyond an item's end so that padding adds nothing."""
        with torch.autocast(device_type=target.device.type, enabled=False):
            reconstruction, target = reconstruction.float().squeeze(1), target.float().squeeze(1)
            total = reconstruction.new_zeros(())
            for window in self.windows:
                total = total + F.l1_loss(
                    self.log_mel(reconstruction, window), self.log_mel(target, window)
                )
            return total


# ----------------------------------------------------------------------------------------------- adversarial


def discriminator_loss(real: FeatureMaps, fake: FeatureMaps) -> Tensor:
    """Return the least-squares GAN loss of the discriminators, summed over them: verdicts of 1 on real, 0 on fake.

    Compute `fake` from a detached reconstruction. Source: LSGAN (arXiv 1611.04076).
    """
    losses = [
        (1.0 - real_maps[-1].float()).square().mean() + fake_maps[-1].float().square().mean()
        for real_maps, fake_maps in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).sum()


def generator_adversarial_loss(fake: FeatureMaps) -> Tensor:
    """Return the least-squares GAN loss of the generator, summed over the discriminators."""
    return torch.stack([(1.0 - maps[-1].float()).square().mean() for maps in fake]).sum()


def feature_matching_loss(real: FeatureMaps, fake: FeatureMaps) -> Tensor:
    """Return the plain sum of mean L1 distances over every feature map but each discriminator's last.

    No gradient flows into `real`. Source: Descript Audio Codec (arXiv 2306.06546), section 3.4.
    """
    distances = [
        F.l1_loss(fake_map.float(), real_map.detach().float())
        for real_maps, fake_maps in zip(real, fake, strict=True)
        for real_map, fake_map in zip(real_maps[:-1], fake_maps[:-1], strict=True)
    ]
    return torch.stack(distances).sum()
