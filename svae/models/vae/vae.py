"""The speech VAE: waveform to latents and back, with the regulator that ties latents to teacher features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.checkpoint import Checkpoint, load_strict, open_checkpoint
from svae.config import VAEConfig
from svae.errors import CheckpointError
from svae.frames import length_mask, num_frames
from svae.models.vae.anchor import Anchor
from svae.models.vae.bigvgan import BigVGAN
from svae.models.vae.encoder import AttentionProjection, Encoder
from svae.models.vae.layers import fold_weight_norm
from svae.models.vae.regulator import Regulator
from svae.models.vae.source_filter import NOISE_SAMPLES, SourceFilterDecoder, SourceState

LOGVAR_RANGE = (-12.0, 12.0)
"""The posterior's log-variance is clamped to this, as in the official code."""


@dataclass
class Posterior:
    """A diagonal Gaussian per frame, float32. Frames beyond an item's end hold mean 0 and logvar 0."""

    mean: Tensor
    """(B, D, T)."""
    logvar: Tensor
    """(B, D, T), logarithm of the variance."""
    lengths: Tensor
    """(B,) int64, valid frames."""

    @property
    def mask(self) -> Tensor:
        """(B, T), True where a frame is valid."""
        return length_mask(self.lengths, self.mean.shape[-1])

    def sample(
        self, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Draw latents (B, D, T), zero beyond an item's end, by a generator on the latents' device, or of normal noise."""
        if noise is None:
            noise = torch.randn(
                self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
            )
        return (self.mean + torch.exp(0.5 * self.logvar) * noise) * self.mask[:, None]


class Draws(NamedTuple):
    """What is random in a forward pass of training."""

    noise: Tensor
    """(B, D, T), normal: which sample of the posterior is decoded."""
    source: Tensor
    """(B, 1) int64, where in its noise the source of a decoder begins, where it has one."""


def draw(seeds: Sequence[int], latent_dim: int, frames: int, device: torch.device) -> Draws:
    """Draw for each item what depends on its seed alone; leaves torch's global generators seeded by the last one."""
    noise = torch.zeros(len(seeds), latent_dim, frames, device=device)
    source = torch.zeros(len(seeds), 1, dtype=torch.int64, device=device)
    for i, seed in enumerate(seeds):
        torch.manual_seed(seed)
        noise[i] = torch.randn(latent_dim, frames, device=device)
        source[i] = torch.randint(NOISE_SAMPLES, (1,), device=device)
    return Draws(noise, source)


@dataclass
class VAEOutput:
    """What a training step needs of one forward pass."""

    posterior: Posterior
    latents: Tensor
    """(B, D, T), a sample of the posterior, or its mean where that was asked for."""
    reconstruction: Tensor
    """(B, 1, S), as long as the input and zero beyond each item's end."""
    projected_features: Tensor | None
    """(B, D, T), teacher features after the regulator; None without those. With anchored latents (B, N, T)."""
    pitch_logits: Tensor | None = None
    """(B, pitch_bins, frames of the source), where the decoder has a source."""


class SpeechVAE(nn.Module):
    """Variational autoencoder between waveform (B, 1, S) and latents (B, D, T), T = ceil(S / hop_length).

    Source: Semantic-VAE (arXiv 2509.22167).

    Without `teacher_dim`, the width of the teacher's features, there is no regulator (acoustic VAE, or inference only).
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, cfg: VAEConfig, teacher_dim: int | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        self.sample_rate = cfg.sample_rate
        self.latent_dim = cfg.latent_dim
        self.teacher_dim = teacher_dim
        self.hop_length = cfg.hop_length
        self.encoder = Encoder(cfg)
        self.projection = AttentionProjection(
            self.encoder.width,
            cfg.latent_dim,
            heads=cfg.attention_heads,
            mlp_ratio=cfg.attention_mlp_ratio,
        )
        self.mean = nn.Linear(cfg.latent_dim, cfg.latent_dim)
        self.logvar = (
            nn.Linear(cfg.latent_dim, cfg.latent_dim) if cfg.latent_noise is None else None
        )
        frames = math.prod(cfg.encoder_strides)
        self.linear_path = (
            nn.Conv1d(cfg.encoder_mel_bands, cfg.latent_dim, frames, frames)
            if cfg.linear_path
            else None
        )
        """From log-mel frames (B, bands, n T) to (B, D, T), each latent frame by itself."""
        self.decoder: BigVGAN | SourceFilterDecoder
        if cfg.source_filter is None:
            self.decoder = BigVGAN(cfg.decoder, cfg.latent_dim)
        else:
            self.decoder = SourceFilterDecoder(
                cfg.source_filter, cfg.latent_dim, cfg.sample_rate, linear_path=cfg.linear_path
            )
        self.regulator: Regulator | Anchor | None = None
        if teacher_dim is not None and cfg.anchored_latents:
            self.regulator = Anchor(teacher_dim, cfg.anchored_latents)
        elif teacher_dim is not None:
            self.regulator = Regulator(teacher_dim, cfg.latent_dim, cfg.regulator_layers)
        self._initialize(cfg)
        self.register_buffer("latent_mean", torch.zeros(cfg.latent_dim), persistent=False)
        self.register_buffer("latent_std", torch.ones(cfg.latent_dim), persistent=False)

    @torch.no_grad()
    def _initialize(self, cfg: VAEConfig) -> None:
        """Apply the options that differ from PyTorch's default initialisation."""
        if self.logvar is not None:
            self.logvar.bias.add_(cfg.initial_logvar)
        if self.linear_path is not None:  # the network's own mean starts small beside it
            self.mean.weight.mul_(0.1)
            self.mean.bias.zero_()
        if cfg.initial_gain == 1.0:
            return
        for name, parameter in (*self.encoder.named_parameters(), *self.decoder.named_parameters()):
            if name.endswith("weight.original0"):  # the magnitude of weight norm
                # The output starts quiet: where it is clamped to [-1, 1] it has no gradient.
                parameter.mul_(cfg.initial_gain * (0.1 if name.startswith("conv_post") else 1.0))
            elif name.endswith("bias"):
                parameter.zero_()

    def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Posterior:
        """Encode a waveform (B, 1, S), S > 0, into the posterior of ceil(S / hop) frames.

        The right is padded with zeros to a whole number of frames.

        Args:
            waveform: (B, 1, S) in [-1, 1].
            lengths: (B,) valid samples of each item: what lies beyond is ignored, and each item's posterior is that
                of encoding it alone. None: all are S, and no masking is computed.
        """
        if waveform.dim() != 3 or waveform.shape[1] != 1 or waveform.shape[2] == 0:
            raise ValueError(f"waveform must be (B, 1, S) with S > 0, got {tuple(waveform.shape)}")
        samples = waveform.shape[-1]
        frames = None
        if lengths is not None:
            waveform = waveform.masked_fill(~length_mask(lengths, samples)[:, None], 0.0)
            frames = num_frames(lengths, self.hop_length)
        waveform = F.pad(waveform, (0, -samples % self.hop_length))
        linear = None if self.linear_path is None else self.linear_mean(waveform)
        mean, logvar = self.parameters_of(
            self.projection(self.encoder(waveform, frames).transpose(1, 2)), linear
        )
        if frames is None:
            frames = torch.full(
                (mean.shape[0],), mean.shape[-1], dtype=torch.int64, device=mean.device
            )
        else:
            valid = length_mask(frames, mean.shape[-1])[:, None]
            mean, logvar = mean * valid, logvar * valid
        return Posterior(mean, logvar, frames)

    def parameters_of(self, x: Tensor, linear: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map projected frames (B, T, D) to the posterior's mean and logvar, each (B, D, T), float32.

        `linear` (B, D, T) is what the linear path adds to the mean.
        """
        mean = self.mean(x).transpose(1, 2).float()
        if linear is not None:
            mean = mean + linear
        if self.logvar is None:
            assert self.cfg.latent_noise is not None
            mean = F.layer_norm(mean.transpose(1, 2), (self.latent_dim,)).transpose(1, 2)
            return mean, torch.full_like(mean, 2 * math.log(self.cfg.latent_noise))
        return mean, self.logvar(x).transpose(1, 2).float().clamp(*LOGVAR_RANGE)

    def decoded(self, latents: Tensor) -> Tensor:
        """Return latents (B, D, T) as training decodes them: what is anchored is not shaped by what is made of it."""
        count = self.cfg.anchored_latents
        if not count:
            return latents
        return torch.cat([latents[:, :count].detach(), latents[:, count:]], dim=1)

    def linear_mean(self, waveform: Tensor) -> Tensor:
        """Return what the linear path adds to the mean: (B, D, T) for a waveform (B, 1, T * hop), float32."""
        assert self.encoder.log_mel is not None and self.linear_path is not None
        return self.linear_path(self.encoder.log_mel(waveform)).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, D, T), not normalised, to a waveform (B, 1, T * hop) in [-1, 1], float32."""
        return self.decoder(latents).float()

    def forward(
        self,
        waveform: Tensor,
        lengths: Tensor | None = None,
        teacher_features: Tensor | None = None,
        generator: torch.Generator | None = None,
        use_mean: bool = False,
        pitch: tuple[Tensor, Tensor] | None = None,
        draws: Draws | None = None,
    ) -> VAEOutput:
        """Encode, sample, decode, and project the teacher's features.

        Args:
            waveform: (B, 1, S) in [-1, 1].
            lengths: (B,) valid samples of each item; None: all are S.
            teacher_features: (B, K, C); None: no alignment.
            generator: Source of the sampling noise, on the waveform's device.
            use_mean: Decode the posterior's mean instead of a sample, as validation does.
            pitch: Measured pitch and periodicity, each (B, frames of the source), that a decoder with a source is to use;
                None: what it predicts.
            draws: What is random, drawn before; None: by the generator.
        """
        posterior = self.encode(waveform, lengths)
        noise = None if draws is None else draws.noise
        latents = posterior.mean if use_mean else posterior.sample(generator, noise)
        pitch_logits = None
        heard = self.decoded(latents)
        if isinstance(self.decoder, SourceFilterDecoder):
            controls = self.decoder.controls(heard)
            pitch_logits = controls.pitch_logits
            if pitch is not None:
                controls = self.decoder.with_measured_pitch(controls, *pitch)
            source = SourceState() if draws is None else SourceState(position=draws.source)
            reconstruction = self.decoder.synthesize(controls, source)[..., : waveform.shape[-1]]
        else:
            reconstruction = self.decode(heard)[..., : waveform.shape[-1]]
        projected = None
        if lengths is not None:
            reconstruction = reconstruction * length_mask(lengths, waveform.shape[-1])[:, None]
        if teacher_features is not None:
            if self.regulator is None:
                raise ValueError(
                    "teacher_features given, but this SpeechVAE was built without teacher_dim"
                )
            projected = self.regulator(
                teacher_features, latents.shape[-1], None if lengths is None else posterior.mask
            )
        return VAEOutput(posterior, latents, reconstruction, projected, pitch_logits)

    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set what `normalize` subtracts and divides by, per channel: mean (D,) and std (D,) > 0."""
        mean, std = torch.as_tensor(mean), torch.as_tensor(std)
        if mean.shape != (self.latent_dim,) or std.shape != (self.latent_dim,):
            raise ValueError(
                f"latent statistics must have {self.latent_dim} entries each, got {mean.shape}, {std.shape}"
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
            raise ValueError("latent statistics must be finite, with positive standard deviations")
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    def normalize(self, latents: Tensor) -> Tensor:
        """Return latents (B, D, T) at zero mean and unit deviation per channel over the training set."""
        return (latents - self.latent_mean[:, None]) / self.latent_std[:, None]

    def denormalize(self, latents: Tensor) -> Tensor:
        """Undo `normalize`."""
        return latents * self.latent_std[:, None] + self.latent_mean[:, None]


def load_vae(path: str | Path, device: str | torch.device = "cpu") -> SpeechVAE:
    """Load a VAE checkpoint for inference: eval mode, weight norm folded, no gradients, statistics set.

    `path` is a checkpoint folder, or a run folder, whose latest checkpoint is taken.

    Raises:
        CheckpointError: the folder is missing, damaged, of another kind, or its weights do not fit its config.
    """
    return opened_vae(open_checkpoint(path, kind="vae"), device)


def opened_vae(checkpoint: Checkpoint, device: str | torch.device = "cpu") -> SpeechVAE:
    """Load the VAE of a checkpoint that is open already; see `load_vae`."""
    config = checkpoint.config
    try:
        vae = SpeechVAE(checkpoint.section(VAEConfig), config["teacher_dim"])
        load_strict(vae, checkpoint.model_state(), checkpoint.folder)
        if config["latent_mean"] is not None:
            vae.set_latent_statistics(config["latent_mean"], config["latent_std"])
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.folder}/config.json: damaged: {' '.join(str(error).split())[:200]}"
        ) from None
    fold_weight_norm(vae, packed=torch.device(device).type == "cpu")
    return vae.to(device).eval().requires_grad_(False)
