"""From waveform to posterior parameters: the DAC encoder and the causal attention projection.

A batch of unequal lengths encodes like each item alone. Alone, an item is padded with zeros to a whole number of
frames, and every convolution pads its own input with zeros at that layer's rate. So in a batch, whatever a bias wrote
beyond an item's end is set back to zero before each convolution that looks at neighbours (Snake keeps zero at zero).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svae.config import VAEConfig
from svae.frames import ceil_div, length_mask
from svae.models.cpu.convolution import in_tiles
from svae.models.mel_filters import mel_filters
from svae.models.recompute import Recomputing
from svae.models.vae.layers import Snake, conv1d


class ResidualUnit(Recomputing):
    """Snake, dilated convolution, Snake, 1x1 convolution, added to the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.halo = 3 * dilation  # of the kernel of 7
        self.layers = nn.Sequential(
            Snake(channels),
            conv1d(channels, channels, 7, dilation=dilation),
            Snake(channels),
            conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (B, channels, T); the shape stays."""
        return in_tiles(lambda piece: self.layers(piece).add_(piece), x, halo=self.halo)


class EncoderBlock(nn.Module):
    """Three residual units (dilations 1, 3, 9), then a strided convolution that doubles the channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.residuals = nn.ModuleList(ResidualUnit(channels, dilation) for dilation in (1, 3, 9))
        self.snake = Snake(channels)
        self.downsample = conv1d(
            channels, 2 * channels, 2 * stride, stride=stride, padding=(stride + 1) // 2
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map x (B, channels, T) to (B, 2 * channels, T / stride); `mask` (B, 1, T) holds 1 where x is valid."""
        for residual in self.residuals:
            x = residual(x)
            if mask is not None:
                x = x * mask
        stride, out_channels = self.downsample.stride[0], self.downsample.out_channels
        last = lambda piece: self.downsample(self.snake(piece))  # noqa: E731
        return in_tiles(last, x, halo=2 * stride, stride=stride, out_channels=out_channels)


class LogMel(nn.Module):
    """Log-mel frames as fixed convolutions, so that chunks, zero padding and batches are those of any other layer.

    Frame i is the Hann window of four hops that is centred on hop i; `hop` is even. The bands lie on Slaney's
    scale, from 0 Hz to Nyquist.
    """

    floor = 1e-5
    """Least magnitude, 100 dB below full scale."""
    basis: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, hop: int, bands: int) -> None:
        super().__init__()
        self.hop, size = hop, 4 * hop
        transform = (
            torch.fft.rfft(torch.eye(size, dtype=torch.float64))
            * torch.hann_window(size, dtype=torch.float64)[:, None]
        )
        # Divided by the hop, so that a full-scale sine has magnitude 1.
        basis = torch.cat([transform.real, transform.imag], dim=1).T / hop
        filters = mel_filters(sample_rate, size, bands, norm=None)
        self.register_buffer("basis", basis[:, None].float(), persistent=False)
        self.register_buffer("filters", filters.clone(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map a waveform (B, 1, T * hop) to (B, bands, T), about zero mean and unit deviation for speech."""
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = F.conv1d(
                waveform.to(self.basis.dtype),
                self.basis,
                stride=self.hop,
                padding=3 * self.hop // 2,
            )
            real, imaginary = spectrum.chunk(2, dim=1)
            magnitude = (real.square() + imaginary.square() + self.floor**2).sqrt()
            return ((self.filters @ magnitude).clamp(min=self.floor).log() + 6.0) / 3.0


class LowSpectrum(nn.Module):
    """Log magnitudes below 1 kHz of a long window, in which harmonics are apart, as a fixed convolution.

    Frame i is the Hann window of `size` samples that is centred on hop i; both are even.
    """

    limit = 1000.0
    """Hz."""
    basis: Tensor

    def __init__(self, sample_rate: int, hop: int, size: int) -> None:
        super().__init__()
        self.hop, self.size = hop, size
        self.bins = math.ceil(self.limit * size / sample_rate)
        """From the second bin on; the first is the offset."""
        transform = torch.fft.rfft(torch.eye(size, dtype=torch.float64))[:, 1 : self.bins + 1]
        transform = transform * torch.hann_window(size, dtype=torch.float64)[:, None]
        # A full-scale sine has magnitude 1.
        basis = torch.cat([transform.real, transform.imag], dim=1).T / (size / 4)
        self.register_buffer("basis", basis[:, None].float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map a waveform (B, 1, T * hop) to (B, bins, T)."""
        with torch.autocast(waveform.device.type, enabled=False):
            side = (self.size - self.hop) // 2
            spectrum = F.conv1d(
                waveform.to(self.basis.dtype), self.basis, stride=self.hop, padding=side
            )
            real, imaginary = spectrum.chunk(2, dim=1)
            return ((real.square() + imaginary.square() + LogMel.floor**2).sqrt().log() + 6.0) / 3.0


class Encoder(nn.Module):
    """Strided convolutions from waveform, or from its log-mel frames, to latent frames.

    Source: Descript Audio Codec (arXiv 2306.06546), section 3.1; initialised by PyTorch's default as in Semantic-VAE.
    """

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        channels = cfg.encoder_channels
        self.strides = cfg.encoder_strides
        hop, bands = cfg.encoder_mel_hop, cfg.encoder_mel_bands
        self.log_mel = LogMel(cfg.sample_rate, hop, bands) if hop else None
        size = cfg.encoder_pitch_window
        self.low_spectrum = LowSpectrum(cfg.sample_rate, hop, size) if size else None
        inputs = (bands if hop else 1) + (
            0 if self.low_spectrum is None else self.low_spectrum.bins
        )
        self.conv_pre = conv1d(inputs, channels, 7)
        self.blocks = nn.ModuleList(
            EncoderBlock(channels * 2**i, s) for i, s in enumerate(cfg.encoder_strides)
        )
        self.width = channels * 2 ** len(cfg.encoder_strides)
        """Channels of the output."""
        self.snake = Snake(self.width)
        self.conv_post = conv1d(self.width, self.width, 3)

    def forward(self, waveform: Tensor, frames: Tensor | None = None) -> Tensor:
        """Map a waveform (B, 1, T * hop), zero beyond each item's end, to (B, width, T).

        `frames` (B,) counts the valid frames of each item; None: all are. Invalid output frames hold anything.
        """
        hop = math.prod(self.strides)

        def valid(x: Tensor) -> Tensor | None:
            if frames is None:
                return None
            return length_mask(frames * hop, x.shape[-1])[:, None].to(x.dtype)

        x = waveform if self.log_mel is None else self.log_mel(waveform)
        if self.low_spectrum is not None:
            x = torch.cat([x, self.low_spectrum(waveform).to(x.dtype)], dim=1)
        if self.log_mel is not None and (mask := valid(x)) is not None:
            x = x * mask
        x = self.conv_pre(x)
        for block, stride in zip(self.blocks, self.strides, strict=True):
            mask = valid(x)
            x = block(x if mask is None else x * mask, mask)
            hop //= stride
        if (mask := valid(x)) is not None:
            x = x * mask
        return self.conv_post(self.snake(x))


class CausalAttention(nn.Module):
    """Self-attention over past frames that also narrows the features from `width` to `out_width`.

    Narrowing (out_width < width): heads of width / heads are averaged over the heads, and the result is pooled to
    out_width by adaptive averaging. Widening: the projections themselves go to out_width, and heads are concatenated.
    Source: the official Semantic-VAE code; the key has no bias, and there is no positional encoding.
    """

    def __init__(self, width: int, out_width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.out_width = heads, out_width
        self.narrow = width > out_width
        inner = width if self.narrow else out_width
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(inner))
        self.value_bias = nn.Parameter(torch.zeros(inner))
        self.out = nn.Linear(out_width, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, width) to (B, T, out_width); frame t sees frames up to t.

        Right padding needs no mask: the keys of padded frames lie to the right of every valid frame.
        """
        query, key, value = self.project(x)
        return self.combine(F.scaled_dot_product_attention(query, key, value, is_causal=True))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (B, heads, T, head width), of x (B, T, width)."""
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        qkv = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        return query, key, value

    def combine(self, y: Tensor) -> Tensor:
        """Map what each head attended to, (B, heads, T, head width), to (B, T, out_width)."""
        if self.narrow:
            y = _narrowed(y.mean(dim=1), self.out_width)
        else:
            y = y.transpose(1, 2).flatten(2)
        return self.out(y)


def _narrowed(x: Tensor, width: int) -> Tensor:
    """Average the last dimension of x to `width` numbers, as F.adaptive_avg_pool1d does."""
    size = x.shape[-1]
    if not torch.onnx.is_in_onnx_export() or size % width == 0:
        return F.adaptive_avg_pool1d(x, width)
    # A graph has this average only where all are of as many numbers; the shares of others are written out.
    shares = [[0.0] * width for _ in range(size)]
    for place in range(width):
        first, end = place * size // width, ceil_div((place + 1) * size, width)
        for row in shares[first:end]:
            row[place] = 1 / (end - first)
    return x @ torch.tensor(shares, dtype=x.dtype, device=x.device)


class GatedMLP(nn.Module):
    """LayerNorm, then GELU(a) * b and back: GeGLU (arXiv 2002.05202) with the tanh form of GELU."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, ratio * width)
        self.up = nn.Linear(width, ratio * width)
        self.down = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to x (B, T, width); the shape stays."""
        x = self.norm(x)
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class AttentionProjection(nn.Module):
    """Narrow the encoder's frames to the latent width: causal attention plus a linear shortcut, then a gated MLP.

    Source: the official Semantic-VAE code (its `pre_block`); the paper does not describe it. The input of the MLP is
    normalised twice in a row, as there.
    """

    def __init__(self, width: int, out_width: int, *, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = CausalAttention(width, out_width, heads)
        self.norm_shortcut = nn.LayerNorm(width)
        self.shortcut = nn.Linear(width, out_width)
        self.norm_mlp = nn.LayerNorm(out_width)
        self.mlp = GatedMLP(out_width, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, width) to (B, T, out_width)."""
        return self.finish(x, self.attention(self.norm_attention(x)))

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the shortcut of x (B, T, width) to the attention's output (B, T, out_width) and apply the MLP."""
        x = self.shortcut(self.norm_shortcut(x)) + attended
        return x + self.mlp(self.norm_mlp(x))
