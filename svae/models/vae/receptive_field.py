"""How far the convolutional networks look: the input frames on which one output frame depends, from the layers.

A span (first, last) of a layer's output positions is carried backward, layer by layer, to the span of input positions
it is computed from. It grows by the same amount wherever it lies, because every hop holds a whole number of each
layer's strides; so the span of frame 0 says it for all frames.
"""

from __future__ import annotations

import math

from torch import nn

from svae.models.vae.bigvgan import AMPBlock, BigVGAN, InverseSTFT
from svae.models.vae.encoder import Encoder, EncoderBlock, ResidualUnit
from svae.models.vae.layers import AntiAliasedActivation, kaiser_sinc_taps
from svae.models.vae.source_filter import ConvNeXtBlock, SourceFilterDecoder

Span = tuple[int, int]
"""First and last position, both inclusive; negative where it begins before position 0."""


def encoder_reach(encoder: Encoder) -> tuple[int, int]:
    """Return how many frames to the left and to the right of a frame the encoder's convolutions see."""
    span = _before(encoder.conv_post, (0, 0))
    for block in reversed(encoder.blocks):
        assert isinstance(block, EncoderBlock)
        span = _before(block.downsample, span)
        for residual in reversed(block.residuals):
            assert isinstance(residual, ResidualUnit)
            inner = span
            for layer in reversed(residual.layers):
                inner = _before(layer, inner)
            span = _union(span, inner)
    first, last = _before(encoder.conv_pre, span)
    hop = math.prod(encoder.strides)
    if encoder.log_mel is not None:
        own = encoder.log_mel.hop
        size = max(4 * own, 0 if encoder.low_spectrum is None else encoder.low_spectrum.size)
        side = (size - own) // 2
        first, last, hop = first * own - side, last * own + own + side - 1, hop * own
    return -(first // hop), last // hop


def decoder_reach(decoder: BigVGAN | SourceFilterDecoder) -> tuple[int, int]:
    """Return how many latent frames to the left and to the right a frame of decoded samples depends on.

    The phase of a source's pulses depends on all frames before; whoever decodes in chunks hands it on.
    """
    span = (0, decoder.cfg.hop_length - 1)
    if isinstance(decoder, SourceFilterDecoder):
        span = _before_source_filter(decoder.cfg.hop, span)
        for block in reversed(decoder.blocks):
            assert isinstance(block, ConvNeXtBlock)
            span = _before(block.depthwise, span)
        first, last = _before(decoder.conv_pre, _before(decoder.upsample, span))
        return -first, last
    if decoder.istft is not None:
        span = _before_istft(decoder.istft, span)
    span = _before_activation(decoder.activation_post, _before(decoder.conv_post, span))
    for upsample, blocks in zip(
        reversed(decoder.upsamplers), reversed(decoder.stages), strict=True
    ):
        assert isinstance(blocks, nn.ModuleList)
        spans = [_before_block(block, span) for block in blocks]
        span = _before(upsample, (min(first for first, _ in spans), max(last for _, last in spans)))
    first, last = _before(decoder.conv_pre, span)
    return -first, last


def _union(a: Span, b: Span) -> Span:
    return min(a[0], b[0]), max(a[1], b[1])


def _before(layer: nn.Module, span: Span) -> Span:
    """Return the inputs of a layer that its outputs in `span` depend on; what is no convolution works pointwise."""
    first, last = span
    if not isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
        return span
    stride = layer.stride[0]
    padding = int(layer.padding[0])
    taps = layer.kernel_size[0] - 1
    if isinstance(layer, nn.ConvTranspose1d):
        # Output o is made of the inputs i with o = i * stride - padding + tap.
        return -((taps - padding - first) // stride), (last + padding) // stride
    # Output o is made of the inputs i with i = o * stride - padding + tap * dilation.
    return first * stride - padding, last * stride - padding + taps * layer.dilation[0]


def _before_istft(istft: InverseSTFT, span: Span) -> Span:
    """Return the frames whose windows, four hops long and centred on their own hop, touch these samples."""
    first, last = span
    hop = istft.hop
    return (first - 2 * hop - hop // 2) // hop + 1, (last + hop + hop // 2) // hop


def _before_source_filter(hop: int, span: Span) -> Span:
    """Return the frames whose pieces, from 1.5 hops before their own hop to 4.5 after its beginning, touch these samples.

    And one more to either side, between which the pitch is interpolated.
    """
    first, last = span
    return -((9 * hop // 2 - 1 - first) // hop) - 1, (last + 3 * hop // 2) // hop + 1


def _before_activation(activation: nn.Module, span: Span) -> Span:
    """Widen by an anti-aliased activation, which filters twice at twice the rate; another works pointwise."""
    if not isinstance(activation, AntiAliasedActivation):
        return span
    # Each filter reaches (taps - 1) / 2 doubled samples, so both reach taps - 1 of them.
    reach = (len(kaiser_sinc_taps()) - 1) // 2
    return span[0] - reach, span[1] + reach


def _before_block(block: nn.Module, span: Span) -> Span:
    assert isinstance(block, AMPBlock)
    activation = block.activations[0]
    for step in reversed(range(len(block.dilated))):
        inner = span
        if block.plain:
            inner = _before_activation(activation, _before(block.plain[step], inner))
        inner = _before_activation(activation, _before(block.dilated[step], inner))
        span = _union(span, inner)
    return span
