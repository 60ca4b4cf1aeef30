"""Weight norm, Snake and the anti-aliased activation against plain references."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from svae.models.vae.layers import (
    AntiAliasedActivation,
    Snake,
    SnakeBeta,
    conv1d,
    conv2d,
    conv_transpose1d,
    fold_weight_norm,
    kaiser_sinc_taps,
)


def plain_anti_aliased(activation: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute BigVGAN v2's activation step by step, through the doubled signal."""
    channels = x.shape[1]
    taps = kaiser_sinc_taps().to(x.dtype).expand(channels, 1, 12)
    doubled = (
        2
        * F.conv_transpose1d(F.pad(x, (5, 5), mode="replicate"), taps, stride=2, groups=channels)[
            ..., 15:-15
        ]
    )
    return F.conv1d(
        F.pad(activation(doubled), (5, 6), mode="replicate"), taps, stride=2, groups=channels
    )


def test_taps_are_those_of_the_official_filter():
    half = [0.00202896, 0.00938947, -0.02554346, -0.05765738, 0.12857258, 0.44320980]
    torch.testing.assert_close(
        kaiser_sinc_taps(), torch.tensor(half + half[::-1]), atol=1e-7, rtol=0
    )


@pytest.mark.parametrize("length", [1, 2, 3, 7, 200])
@pytest.mark.parametrize("kind", [Snake, SnakeBeta])
def test_polyphase_activation_equals_the_doubled_signal(kind, length):
    torch.manual_seed(length)
    layer = AntiAliasedActivation(kind(3, logscale=True))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    x = torch.randn(2, 3, length, requires_grad=True)
    expected, found = plain_anti_aliased(layer.activation, x), layer(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    weights = torch.randn_like(found)
    wanted = torch.autograd.grad((expected * weights).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), [x, *layer.parameters()]), wanted
    )
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("logscale", [False, True])
def test_snake_is_its_formula_and_leaves_its_input_alone(logscale):
    x, before = torch.randn(2, 3, 5), torch.Generator().manual_seed(3)
    layer = SnakeBeta(3, logscale=logscale)
    with torch.no_grad():
        layer.alpha.copy_(torch.rand(3, generator=before) + 0.5)
        layer.beta.copy_(torch.rand(3, generator=before) + 0.5)
    alpha, beta = (layer.alpha.exp(), layer.beta.exp()) if logscale else (layer.alpha, layer.beta)
    expected = x + torch.sin(alpha[:, None] * x) ** 2 / beta[:, None]
    copy = x.clone()
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(x, copy, atol=0, rtol=0)


def test_folding_removes_every_parametrization_and_keeps_the_output():
    torch.manual_seed(0)
    module = nn.Sequential(
        conv1d(2, 4, 7, dilation=3),
        conv_transpose1d(4, 2, 9, stride=5),
        nn.Unflatten(1, (1, 2)),
        conv2d(1, 3, (1, 3)),
    )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("original0"):  # magnitudes that differ from the directions' norms
                parameter.mul_(1 + torch.rand_like(parameter))
    x = torch.randn(2, 2, 30)
    before = module(x)
    assert fold_weight_norm(module) is module
    assert not any(parametrize.is_parametrized(child) for child in module.modules())
    assert not any("parametrizations" in key for key in module.state_dict())
    torch.testing.assert_close(module(x), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kernel_size", "stride"), [(9, 5), (4, 2), (8, 4), (5, 5)])
def test_transposed_convolution_multiplies_the_length_exactly(kernel_size, stride):
    assert conv_transpose1d(2, 3, kernel_size, stride=stride)(torch.randn(1, 2, 11)).shape == (
        1,
        3,
        11 * stride,
    )
