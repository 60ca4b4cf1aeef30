"""Multi-period and multi-resolution multi-band discriminators (DAC)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import DiscriminatorConfig
from svae.models.vae.layers import conv2d

SLOPE = 0.1
"""Negative slope of every leaky ReLU here."""


class PeriodDiscriminator(nn.Module):
    """Judge the waveform folded into rows of `period` samples.

    Source: HiFi-GAN (arXiv 2010.05646), section 2.3, with DAC's widths.
    """

    def __init__(self, cfg: DiscriminatorConfig, period: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, *cfg.period_channels)
        strides = [3] * (len(cfg.period_channels) - 1) + [1]
        self.convs = nn.ModuleList(
            conv2d(width_in, width_out, (5, 1), stride=(stride, 1), padding=(2, 0))
            for width_in, width_out, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.conv_post = conv2d(widths[-1], 1, (3, 1), padding=(1, 0))

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """Return the feature maps of a waveform (B, 1, S), the verdict last."""
        # A full extra period where S is already a multiple: DAC's rule.
        missing = self.period - waveform.shape[-1] % self.period
        x = F.pad(waveform, (0, missing), mode="reflect").unflatten(-1, (-1, self.period))
        maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            maps.append(x)
        maps.append(self.conv_post(x))
        return maps


class SpectralDiscriminator(nn.Module):
    """Judge the complex STFT at one resolution, each frequency band by convolutions of its own.

    Source: Descript Audio Codec (arXiv 2306.06546), section 3.3.
    """

    window: Tensor

    def __init__(self, cfg: DiscriminatorConfig, fft_size: int) -> None:
        super().__init__()
        self.fft_size = fft_size
        self.hop_length = fft_size // 4
        bins = fft_size // 2 + 1
        self.bands = [(int(low * bins), int(high * bins)) for low, high in cfg.bands]
        width = cfg.spectral_channels
        self.log_magnitude = cfg.spectral_input == "log-magnitude"
        inputs = 1 if self.log_magnitude else 2
        self.band_convs = nn.ModuleList(
            nn.ModuleList(
                [
                    conv2d(inputs, width, (3, 9), padding=(1, 4)),
                    *(
                        conv2d(width, width, (3, 9), stride=(1, 2), padding=(1, 4))
                        for _ in range(3)
                    ),
                    conv2d(width, width, (3, 3), padding=(1, 1)),
                ]
            )
            for _ in self.bands
        )
        self.conv_post = conv2d(width, 1, (3, 3), padding=(1, 1))
        self.register_buffer("window", torch.hann_window(fft_size), persistent=False)

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Return the STFT of (B, 1, S) as (B, 2, ceil(S / hop), fft_size / 2 + 1), real and imaginary part, or log magnitude.

        As many frames as hops ("match stride"): the signal is extended by reflection on both sides, and the two
        frames that are centred on torch.stft's own padding at each end are dropped. Float32 even under autocast.
        """
        with torch.autocast(device_type=waveform.device.type, enabled=False):
            x = waveform.float().squeeze(1)
            side = (self.fft_size - self.hop_length) // 2
            x = F.pad(x, (side, side + -x.shape[-1] % self.hop_length), mode="reflect")
            spectrum = torch.stft(
                x,
                self.fft_size,
                self.hop_length,
                window=self.window,
                center=True,
                return_complex=True,
            )
            spectrum = spectrum[..., 2:-2]
            if self.log_magnitude:
                # A full-scale sine has magnitude fft_size / 4; 80 dB below it is silence.
                power = (spectrum.abs() / (self.fft_size / 4)).square()
                return (0.25 * (power + 1e-8).log() + 2.0).mT[:, None]
            return torch.view_as_real(spectrum).permute(0, 3, 2, 1)

    def forward(self, waveform: Tensor) -> list[Tensor]:
        """Return the feature maps of a waveform (B, 1, S), band by band, the verdict last."""
        spectrum = self.spectrogram(waveform)
        maps, bands = [], []
        for (low, high), convs in zip(self.bands, self.band_convs, strict=True):
            x = spectrum[..., low:high]
            assert isinstance(convs, nn.ModuleList)
            for conv in convs:
                x = F.leaky_relu(conv(x), SLOPE)
                maps.append(x)
            bands.append(x)
        maps.append(self.conv_post(torch.cat(bands, dim=-1)))
        return maps


class Discriminators(nn.Module):
    """All sub-discriminators on a waveform made free of offset and level."""

    def __init__(self, cfg: DiscriminatorConfig, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.period = nn.ModuleList(PeriodDiscriminator(cfg, period) for period in cfg.periods)
        self.spectral = nn.ModuleList(
            SpectralDiscriminator(cfg, fft_size) for fft_size in cfg.fft_sizes
        )

    def forward(self, waveform: Tensor) -> list[list[Tensor]]:
        """Return, per sub-discriminator, its feature maps on a waveform (B, 1, S), the verdict last.

        The mean of each item is removed and its peak set to 0.8 first (Source: DAC), in float32.
        """
        waveform = waveform.float()
        waveform = waveform - waveform.mean(dim=-1, keepdim=True)
        waveform = 0.8 * waveform / (waveform.abs().amax(dim=-1, keepdim=True) + 1e-9)
        return [discriminator(waveform) for discriminator in (*self.period, *self.spectral)]
