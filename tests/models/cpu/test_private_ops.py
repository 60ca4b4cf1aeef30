"""What breaks when torch changes the operators that are not public: a failure here says that CPU inference has become slower.

The package goes on with the public operators; mend svae/models/cpu/private_ops.py for the new torch.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from svae.models.cpu import private_ops
from svae.models.cpu.linear import Linear

HERE = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


@pytest.fixture(autouse=True)
def asked_anew():
    private_ops.missing.cache_clear()
    private_ops.usable.cache_clear()
    yield
    private_ops.missing.cache_clear()
    private_ops.usable.cache_clear()


@HERE
@pytest.mark.parametrize("name", private_ops.SCHEMAS)
def test_the_operator_is_there_with_the_signature_that_is_used(name):
    assert str(getattr(torch.ops.mkldnn, name).default._schema) == private_ops.SCHEMAS[name]


@HERE
@torch.no_grad()
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_is_that_of_the_public_operator(gelu, dtype):
    x, weight, bias = (torch.randn(*size).to(dtype) for size in ((2, 31, 48), (80, 48), (80,)))
    found = private_ops.multiply(x, private_ops.pack(weight), bias, gelu=gelu)
    expected = F.linear(x.float(), weight.float(), bias.float())
    if gelu:
        expected = F.gelu(expected, approximate="tanh")
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("change", ["gone", "without default", "other signature", "no oneDNN"])
def test_where_they_changed_the_public_operators_give_the_same(change, monkeypatch, capsys):
    layer, x = Linear(48, 80), torch.randn(2, 31, 48)
    if change == "gone":
        monkeypatch.setitem(private_ops.SCHEMAS, "_no_such_operator", "")
    elif change == "without default":
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", object())
    elif change == "other signature":
        monkeypatch.setitem(private_ops.SCHEMAS, "_linear_pointwise", "something else")
    else:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert private_ops.missing()
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    assert layer._packed is None
    assert "without packed weights" in capsys.readouterr().err
