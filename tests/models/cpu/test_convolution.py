"""CPU inference, in its own memory order and in pieces, against the same layers with gradients recorded."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from svae.config import BigVGANConfig
from svae.models.cpu import convolution as cpu
from svae.models.cpu.convolution import in_tiles
from svae.models.vae.bigvgan import AMPBlock, BigVGAN
from svae.models.vae.encoder import Encoder, EncoderBlock, ResidualUnit
from svae.models.vae.layers import (
    AntiAliasedActivation,
    Snake,
    SnakeBeta,
    conv1d,
    conv_transpose1d,
    fold_weight_norm,
)

DECODER = BigVGANConfig(
    upsample_rates=(5, 2),
    upsample_kernel_sizes=(9, 4),
    initial_channels=16,
    resblock_kernel_sizes=(3, 7),
    resblock_dilation_sizes=((1, 3), (1, 2)),
)


def assert_inference_equals_training(layer: nn.Module, x: torch.Tensor, *args: object) -> None:
    """Compare the layer with and without gradients, and require that the input is left alone."""
    before = x.clone()
    expected = layer(x, *args)
    assert expected.requires_grad
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            found = layer(x, *args)
        torch.testing.assert_close(found, expected.detach(), atol=2e-5, rtol=1e-5)
    assert torch.equal(x, before)


def inputs(batch: int, channels: int, length: int) -> list[torch.Tensor]:
    """Return signals that lie in memory in three ways: (B, C, T), (B, T, C), and as every second sample of a longer one."""
    x = torch.randn(batch, channels, length)
    return [
        x,
        x.transpose(1, 2).contiguous().transpose(1, 2),
        torch.randn(batch, channels, 2 * length)[..., ::2],
    ]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so short that a test's signal has several."""
    monkeypatch.setattr(cpu, "TILE", 2**11)


@pytest.mark.parametrize("kind", [Snake, SnakeBeta])
@pytest.mark.parametrize("channels", [1, 3, 16, 33])
def test_activation_at_every_short_length(kind, channels):
    torch.manual_seed(channels)
    layer = AntiAliasedActivation(kind(channels, logscale=True))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    for length, batch in itertools.product(range(1, 41), (1, 3)):
        for x in inputs(batch, channels, length):
            assert_inference_equals_training(layer, x)


@pytest.mark.parametrize("length", [767, 768, 1000, 1001])
def test_activation_in_pieces(small_tiles, length):
    torch.manual_seed(0)
    layer = AntiAliasedActivation(SnakeBeta(4))
    for x in inputs(2, 4, length):
        assert_inference_equals_training(layer, x)


@pytest.mark.parametrize(
    ("layer", "channels"),
    [
        (lambda: conv1d(6, 10, 7, dilation=3), 6),
        (lambda: conv1d(6, 10, 8, stride=4, padding=2), 6),
        (lambda: conv1d(6, 10, 1), 6),
        (lambda: conv1d(1, 10, 7), 1),
        (lambda: conv1d(10, 1, 7, bias=False), 10),
        (lambda: conv_transpose1d(6, 10, 9, stride=5), 6),
    ],
)
@pytest.mark.parametrize("folded", [False, True])
def test_convolutions(layer, channels, folded):
    torch.manual_seed(0)
    layer = fold_weight_norm(layer(), packed=True) if folded else layer()
    for batch, length in itertools.product((1, 2), (4, 9, 64)):
        for x in inputs(batch, channels, length):
            assert_inference_equals_training(layer, x)


def test_packing_keeps_values_and_shapes():
    torch.manual_seed(0)
    layers = nn.Sequential(conv1d(3, 4, 7), conv_transpose1d(4, 2, 8, stride=4))
    weights = [layer.weight.detach().clone() for layer in layers]
    fold_weight_norm(layers, packed=True)
    for layer, weight in zip(layers, weights, strict=True):
        torch.testing.assert_close(layer.weight.detach(), weight, atol=1e-6, rtol=0)
        assert layer.weight.stride()[1] == 1


@pytest.mark.parametrize("length", [1500, 1501, 4000])
@pytest.mark.parametrize("batch", [1, 2])
def test_blocks_in_pieces(monkeypatch, length, batch):
    monkeypatch.setattr(cpu, "TILE", 2**12)
    torch.manual_seed(0)
    x = torch.randn(batch, 2, length)
    assert_inference_equals_training(ResidualUnit(2, 9), x)
    assert_inference_equals_training(EncoderBlock(2, 4), x[..., : length // 4 * 4], None)
    assert_inference_equals_training(AMPBlock(DECODER, 2, 7, (1, 2)), x)


def test_whole_decoder_and_encoder_in_pieces(monkeypatch, tiny_vae_config):
    calls = []
    monkeypatch.setattr(cpu, "TILE", 2**13)
    torch.manual_seed(0)
    decoder, encoder = BigVGAN(DECODER, 4), Encoder(tiny_vae_config)
    encoder.blocks[0].residuals[0].layers[0].register_forward_hook(lambda *_: calls.append(None))
    assert_inference_equals_training(decoder, torch.randn(1, 4, 700))
    assert_inference_equals_training(encoder, 0.1 * torch.randn(1, 1, 12000))
    frames = torch.tensor([30, 9])
    waveform = (
        0.1 * torch.randn(2, 1, 12000) * (torch.arange(12000) < 400 * frames[:, None])[:, None]
    )
    assert_inference_equals_training(encoder, waveform, frames)
    assert len(calls) > 6, "the signal was not cut into pieces"


def test_halo_says_how_far_a_layer_sees():
    torch.manual_seed(0)
    layers = [
        AntiAliasedActivation(SnakeBeta(2)),
        ResidualUnit(2, 9),
        AMPBlock(DECODER, 2, 7, (1, 2)),
    ]
    for layer in layers:
        x = torch.randn(1, 2, 401, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x)[0, :, 200].sum(), x)
        reached = (torch.arange(401)[gradient.abs().sum(dim=(0, 1)) > 0] - 200).abs().max()
        assert layer.halo - 14 <= reached <= layer.halo


def test_pieces_cover_the_signal_once_and_have_one_length(small_tiles):
    windows = []

    def layer(x: torch.Tensor) -> torch.Tensor:
        windows.append(x.shape[-1])
        return 2 * x

    x = torch.randn(1, 1, 10000)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(layer, x, halo=5), 2 * x)
    assert len(windows) == 5 and len(set(windows)) == 1
    assert sum(windows) <= 10000 + 5 * (2 * 5 + 2**11 // 64), (
        "the last piece repeats much of the one before"
    )
    assert in_tiles(layer, x.requires_grad_(), halo=5).requires_grad and windows[-1] == 10000
