"""Linear layers packed for CPU inference: the same numbers, also after the weights change, and none of it in training."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from svae.config import DiTConfig
from svae.models.cpu import private_ops
from svae.models.cpu.linear import Linear, use_bf16_products
from svae.models.tts.dit import DiT

pytestmark = pytest.mark.skipif(bool(private_ops.missing()), reason="see test_private_ops")


@pytest.mark.parametrize("bias", [True, False])
def test_packed_products_are_those_of_nn_linear(bias: bool) -> None:
    layer, x = Linear(48, 80, bias=bias), torch.randn(2, 31, 48)
    with torch.no_grad():
        found, activated = layer(x), layer.gelu(x)
        strided = layer(x.mT.contiguous().mT)
    assert layer._packed is not None
    expected = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(strided, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(activated, F.gelu(expected, approximate="tanh"), atol=1e-5, rtol=0)


@torch.no_grad()
def test_changed_weights_are_packed_again() -> None:
    layer, x = Linear(8, 8), torch.randn(32, 8)
    layer(x)
    for change in (
        lambda: layer.weight.mul_(2),
        lambda: layer.load_state_dict(Linear(8, 8).state_dict()),
        lambda: setattr(layer, "weight", torch.nn.Parameter(torch.randn(8, 8))),
        lambda: layer.weight.lerp_(torch.zeros(8, 8), 0.5),
    ):
        change()
        torch.testing.assert_close(
            layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=0
        )


def test_gradients_autocast_half_precision_and_few_rows_take_the_plain_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = Linear(8, 8), torch.randn(32, 8)
    layer(x).sum().backward()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        layer(x[:3])
        copy.deepcopy(layer).bfloat16()(x.bfloat16())
        monkeypatch.setattr(private_ops, "usable", lambda: False)
        assert torch.equal(
            layer.gelu(x), F.gelu(F.linear(x, layer.weight, layer.bias), approximate="tanh")
        )
    assert layer._packed is None and layer.weight.grad is not None


@torch.no_grad()
def test_copies_files_and_inference_mode() -> None:
    layer, x = Linear(8, 8), torch.randn(32, 8)
    expected = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301
        assert other._packed is None and torch.equal(other(x), expected)
    assert layer.state_dict().keys() == {"weight", "bias"}
    with torch.inference_mode():
        made_here = Linear(8, 8)
        torch.testing.assert_close(
            made_here(x), F.linear(x, made_here.weight, made_here.bias), atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_bf16_products_are_near_and_can_be_turned_off_again() -> None:
    model, x = torch.nn.Sequential(Linear(64, 64), Linear(64, 64, bias=False)), torch.randn(32, 64)
    exact = model(x)
    use_bf16_products(model)
    rounded = model(x)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.02 * exact.abs().max()
    use_bf16_products(model, False)
    assert torch.equal(model(x), exact)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [None, [70, 41]])
def test_a_dit_with_bf16_products_differs_in_the_third_digit_alone_and_not_beside_others(
    lengths,
) -> None:
    torch.manual_seed(0)
    cfg = DiTConfig(
        dim=64, depth=3, heads=2, dropout=0.0, text_dim=16, text_conv_layers=1, conv_pos_groups=4
    )
    model = DiT(cfg, 10, 8).eval()
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    x, known, tokens = torch.randn(2, 8, 70), torch.randn(2, 8, 70), torch.randint(0, 10, (2, 30))
    valid = None if lengths is None else torch.tensor(lengths)
    exact = model(x, known, torch.tensor([0.3]), tokens, valid)
    use_bf16_products(model)
    rounded = model(x, known, torch.tensor([0.3]), tokens, valid)
    assert 1e-5 < (rounded - exact).abs().max() < 0.03 * exact.abs().max()
    if lengths is not None:
        alone = model(x[1:, :, :41], known[1:, :, :41], torch.tensor([0.3]), tokens[1:], valid[1:])
        torch.testing.assert_close(
            rounded[1:, :, :41], alone, atol=0.01 * float(exact.abs().max()), rtol=0
        )
