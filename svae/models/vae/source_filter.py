"""Decoder that speaks as a voice does: pulses of the predicted pitch and noise, each through a filter that changes with time.

The filters are smooth, as latents are, and what is sharp in speech (harmonics, the phases of a pulse) comes from the source; a
network that predicts magnitudes and phases of a spectrum has to learn those first. Source: neural homomorphic vocoder
(Liu et al., Interspeech 2020); WORLD (Morise et al. 2016) for minimum phase; ConvNeXt blocks as in Vocos (arXiv 2306.00814).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import SourceFilterConfig
from svae.models.recompute import Recomputing
from svae.models.vae.pitch import pitch_grid

MEASURED_FROM = 0.5
"""Training uses the measured pitch where the signal is at least so periodic."""
NOISE_SAMPLES = 1 << 17
"""The noise repeats after so many samples, so that a chunk of long audio knows its part."""


@dataclass
class Controls:
    """What the synthesis is told, for every frame of `hop` samples."""

    harmonic: Tensor
    """(B, bins, F), log magnitudes of the pulses' filter, from 0 Hz to Nyquist."""
    noise: Tensor
    """(B, bins, F), log magnitudes of the noise's filter."""
    phase: Tensor
    """(B, terms, F), sine series over frequency that is added to the pulses' minimum phase."""
    pitch_logits: Tensor
    """(B, pitch_bins, F)."""
    pitch: Tensor
    """(B, F), logarithm of the frequency in Hz, float64, without gradient: predicted, or in training measured."""


@dataclass(frozen=True)
class SourceState:
    """Where in its source a stretch of audio begins."""

    position: int | Tensor = 0
    """First sample, counted from the beginning of the audio; chooses the noise. Of all items, or (B, 1)."""
    origin: int = 0
    """Sample of the stretch at which the phase is known."""
    phase: Tensor | float = 0.0
    """Cycles of the fundamental there, (B, 1) float64 or of all items."""


class ConvNeXtBlock(Recomputing):
    """Depthwise convolution, LayerNorm, two pointwise layers, layer scale, added to the input."""

    def __init__(self, channels: int, kernel_size: int, expansion: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, expansion * channels)
        self.down = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (B, channels, T); the shape stays."""
        y = self.norm(self.depthwise(x).transpose(1, 2))
        y = self.down(F.gelu(self.up(y), approximate="tanh")) * self.scale
        return x + y.transpose(1, 2)


class SourceFilter(nn.Module):
    """Pulses and noise through filters that change from frame to frame: controls to samples.

    Frame i cuts two hops out of the source, with a Hann window centred on hop i. Its spectrum is multiplied with that of the
    filter; the result is six hops long, begins one hop before the cut, and is added to its neighbours.

    Args:
        sample_rate: In Hz.
        hop: Samples between frames, even.
        grid: (N,) frequencies in Hz that the pitch logits stand for, equally spaced on the logarithmic scale.
        phase_terms: Of the sine series.
    """

    max_log_magnitude = 3.0
    log_response: Tensor
    segment: Tensor
    inverse: Tensor
    sines: Tensor
    log_grid: Tensor
    noise: Tensor

    def __init__(self, sample_rate: int, hop: int, grid: Tensor, phase_terms: int) -> None:
        super().__init__()
        self.sample_rate, self.hop = sample_rate, hop
        size, filter_size = 6 * hop, 4 * hop
        cepstrum = torch.fft.irfft(torch.eye(2 * hop + 1, dtype=torch.complex128), filter_size)
        cepstrum = cepstrum[:, : 2 * hop + 1]
        cepstrum[:, 1 : 2 * hop] *= 2  # folded to positive times: minimum phase
        response = torch.fft.rfft(cepstrum, size)
        delayed = F.pad(torch.eye(2 * hop, dtype=torch.float64), (hop, 3 * hop))
        segment = torch.fft.rfft(delayed * torch.hann_window(2 * hop, dtype=torch.float64)[:, None])
        unit = torch.eye(size // 2 + 1, dtype=torch.complex128)
        inverse = torch.cat([torch.fft.irfft(unit, size), torch.fft.irfft(1j * unit, size)])
        harmonics = torch.arange(1, phase_terms + 1)[:, None]
        # The device is named: transformers exchanges linspace while it loads a model, and where `with torch.device(…)` is used
        # there for the first time in a process, it overlooks the true one from then on.
        angles = harmonics * torch.linspace(
            0, math.pi, size // 2 + 1, dtype=torch.float64, device=harmonics.device
        )
        tables = {
            "log_response": torch.cat([response.real, response.imag], dim=1),
            "segment": torch.cat([segment.real, segment.imag], dim=1),
            "inverse": inverse,
            "sines": angles.sin(),
            "log_grid": grid.double().log(),
            "noise": torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(0)),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float(), persistent=False)

    @torch.no_grad()
    def pitch(self, logits: Tensor) -> Tensor:
        """Return the logarithm of the frequency in Hz, (B, F): the mean of the bins around the likeliest of (B, N, F)."""
        best = logits.argmax(dim=1, keepdim=True)
        bins = torch.arange(logits.shape[1], device=logits.device)[None, :, None]
        # In double precision: the phase adds up over seconds, and with it what float32 would round away here.
        near = logits.double().masked_fill((bins - best).abs() > 3, -torch.inf).softmax(dim=1)
        return (near * self.log_grid[:, None].double()).sum(dim=1)

    @torch.no_grad()
    def cycles(self, pitch: Tensor, state: SourceState) -> tuple[Tensor, Tensor]:
        """Integrate log frequencies (B, F): cycles (B, F * hop + 1) and cycles a sample (B, F * hop), float64."""
        steps = self._every_sample(pitch.double()).exp() / self.sample_rate
        total = F.pad(steps.cumsum(dim=-1), (1, 0))
        return total - total[:, state.origin : state.origin + 1] + state.phase, steps

    def _every_sample(self, x: Tensor) -> Tensor:
        """Interpolate (B, F), known in the middle of each hop, linearly as (B, F * hop); the ends are repeated."""
        share = (torch.arange(self.hop, device=x.device, dtype=x.dtype) + 0.5) / self.hop - 0.5
        padded = torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
        before, here, after = padded[:, :-2, None], x[..., None], padded[:, 2:, None]
        return (
            here + share.clamp(max=0.0) * (here - before) + share.clamp(min=0.0) * (after - here)
        ).flatten(1)

    @torch.no_grad()
    def pulses(self, cycles: Tensor, steps: Tensor) -> Tensor:
        """Return pulses (B, S) of unit power with all harmonics below Nyquist, of what `cycles` returns."""
        place = (cycles - cycles.round())[:, :-1].float()
        count = (0.5 / steps).floor().float()
        sine = (math.pi * place).sin()
        near = sine.abs() < 1e-4
        series = ((2 * count + 1) * math.pi * place).sin() / torch.where(near, 1.0, sine)
        return torch.where(near, count, 0.5 * series - 0.5) * (2 / count).sqrt()

    def forward(self, controls: Controls, state: SourceState = SourceState()) -> Tensor:
        """Map controls to samples (B, 1, F * hop)."""
        batch, _, frames = controls.harmonic.shape
        pulses = self.pulses(*self.cycles(controls.pitch, state))
        first = torch.zeros(batch, 1, dtype=torch.int64, device=pulses.device) + state.position
        noise = self.noise[
            (first + torch.arange(frames * self.hop, device=pulses.device)) % NOISE_SAMPLES
        ]
        real, imaginary = self._filtered(pulses, controls.harmonic, controls.phase)
        noisy_real, noisy_imaginary = self._filtered(noise, controls.noise, None)
        pieces = torch.cat([real + noisy_real, imaginary + noisy_imaginary], dim=-1) @ self.inverse
        pieces = pieces.unflatten(-1, (6, self.hop))
        # Piece i begins 1.5 hops before hop i. Part k of all pieces lies end to end, k hops later than part 0.
        out = pulses.new_zeros(batch, (frames + 5) * self.hop)
        for part in range(6):
            length = frames * self.hop
            out = out + F.pad(
                pieces[:, :, part].flatten(1),
                (part * self.hop, out.shape[1] - length - part * self.hop),
            )
        start = 3 * self.hop // 2
        return out[:, None, start : start + frames * self.hop]

    def _filtered(
        self, source: Tensor, log_magnitude: Tensor, phase: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return real and imaginary part (B, F, 3 * hop + 1) of a source (B, F * hop) after its filter."""
        half = self.hop // 2
        hops = F.pad(source, (half, half)).unflatten(-1, (-1, self.hop))
        segments = torch.cat([hops[:, :-1], hops[:, 1:]], dim=-1)
        source_real, source_imaginary = (segments @ self.segment).chunk(2, dim=-1)
        log_magnitude = log_magnitude.transpose(1, 2).clamp(max=self.max_log_magnitude)
        log_response, angle = (log_magnitude @ self.log_response).chunk(2, dim=-1)
        if phase is not None:
            angle = angle + phase.transpose(1, 2) @ self.sines
        magnitude = log_response.clamp(max=2 * self.max_log_magnitude).exp()
        real, imaginary = magnitude * angle.cos(), magnitude * angle.sin()
        return (
            source_real * real - source_imaginary * imaginary,
            source_real * imaginary + source_imaginary * real,
        )


class SourceFilterDecoder(nn.Module):
    """Latents to waveform: ConvNeXt blocks at the frame rate of the filters, which they control.

    `linear_path` adds a linear map of the latents to both log magnitudes.
    """

    start_magnitude = 0.1
    """The linear path speaks of magnitudes of a spectrum of window 4 * hop in this unit, as that of an inverse STFT."""
    grid: Tensor

    def __init__(
        self, cfg: SourceFilterConfig, in_channels: int, sample_rate: int, *, linear_path: bool
    ) -> None:
        super().__init__()
        self.cfg, self.bins = cfg, 2 * cfg.hop + 1
        grid = pitch_grid(*cfg.pitch_range, cfg.pitch_bins)
        self.register_buffer("grid", grid, persistent=False)
        self.conv_pre = nn.Conv1d(in_channels, cfg.channels, 7, padding=3)
        self.upsample = nn.ConvTranspose1d(
            cfg.channels, cfg.channels, 2 * cfg.rate, cfg.rate, padding=cfg.rate // 2
        )
        self.norm_pre = nn.LayerNorm(cfg.channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(cfg.channels, cfg.kernel_size, cfg.expansion, 1 / cfg.blocks)
            for _ in range(cfg.blocks)
        )
        self.norm_post = nn.LayerNorm(cfg.channels)
        self.sizes = (self.bins, self.bins, cfg.phase_terms, cfg.pitch_bins)
        self.head = nn.Linear(cfg.channels, sum(self.sizes))
        self.linear_path = (
            nn.ConvTranspose1d(in_channels, self.bins, cfg.rate, cfg.rate) if linear_path else None
        )
        """From latents (B, in_channels, T) to log magnitudes (B, bins, T * rate), each latent frame by itself."""
        self.source_filter = SourceFilter(sample_rate, cfg.hop, grid, cfg.phase_terms)
        with torch.no_grad():
            self.head.weight[: -cfg.pitch_bins] *= 0.1
            self.head.bias.zero_()
        # White noise of unit power has magnitudes of sqrt(1.5 * hop) in a Hann window of four hops.
        self.offset = math.log(self.start_magnitude / math.sqrt(1.5 * cfg.hop))

    def controls(self, latents: Tensor) -> Controls:
        """Map latents (B, in_channels, T) to the controls of T * rate frames, float32."""
        x = self.upsample(self.conv_pre(latents))
        x = self.norm_pre(x.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm_post(x.transpose(1, 2))).transpose(1, 2).float()
        harmonic, noise, phase, pitch_logits = x.split(self.sizes, dim=1)
        linear = (
            self.offset
            if self.linear_path is None
            else self.linear_path(latents).float() + self.offset
        )
        pitch = self.source_filter.pitch(pitch_logits)
        return Controls(harmonic + linear, noise + linear, phase, pitch_logits, pitch)

    def with_measured_pitch(
        self, controls: Controls, place: Tensor, periodicity: Tensor
    ) -> Controls:
        """Return controls whose pitch is the measured one where the signal is periodic.

        So the filters learn on true harmonics while the pitch is still being learned.

        `place` (B, F) is the measured pitch in bins, with fractions; `periodicity` (B, F) that of `pitch.track_pitch`.
        """
        low, high = self.source_filter.log_grid[0], self.source_filter.log_grid[-1]
        measured = low + (high - low) * place / (self.cfg.pitch_bins - 1)
        return replace(
            controls, pitch=torch.where(periodicity > MEASURED_FROM, measured, controls.pitch)
        )

    def synthesize(self, controls: Controls, state: SourceState = SourceState()) -> Tensor:
        """Map controls to a waveform (B, 1, T * hop) in [-1, 1]."""
        with torch.autocast(controls.harmonic.device.type, enabled=False):
            return self.source_filter(controls, state).clamp(-1.0, 1.0)

    def stretch(self, latents: Tensor, state: SourceState, stop: int) -> tuple[Tensor, Tensor]:
        """Decode a stretch of longer audio; return its waveform and the phase (B, 1) at its sample `stop`."""
        controls = self.controls(latents)
        cycles, _ = self.source_filter.cycles(controls.pitch, state)
        return self.synthesize(controls, state), cycles[:, stop : stop + 1]

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents (B, in_channels, T) to a waveform (B, 1, T * rate * hop) in [-1, 1]."""
        return self.synthesize(self.controls(latents))
