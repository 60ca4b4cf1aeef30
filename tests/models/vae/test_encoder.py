"""The encoder and the attention projection: causality, unequal lengths, both ways of changing the width."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from svae.models.vae.encoder import AttentionProjection, CausalAttention, Encoder, _narrowed


def perturbed(module: nn.Module) -> nn.Module:
    """Move every parameter away from its initial zeros and ones, so that biases and alphas count."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def test_encoder_gives_one_frame_per_hop(tiny_vae_config):
    torch.manual_seed(0)
    encoder = Encoder(tiny_vae_config)
    for frames in (1, 2, 7):
        assert encoder(torch.randn(2, 1, 400 * frames)).shape == (2, 64, frames)


def test_valid_frames_do_not_see_what_lies_beyond_the_item(tiny_vae_config):
    torch.manual_seed(0)
    encoder, waveform = perturbed(Encoder(tiny_vae_config)), torch.randn(2, 1, 6 * 400)
    waveform[1, :, 2 * 400 :] = 0
    alone = encoder(waveform[1:, :, : 2 * 400])
    batch = encoder(waveform, torch.tensor([6, 2]))
    torch.testing.assert_close(batch[1:, :, :2], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch[:1], encoder(waveform[:1]), atol=1e-5, rtol=0)
    unmasked = encoder(waveform)[1:, :, :2]  # the biases beyond the end do leak without the mask
    assert (unmasked - alone).abs().max() > 1e-3


@pytest.mark.parametrize("out_width", [4, 8, 16, 32])
def test_projection_is_causal(out_width):
    torch.manual_seed(0)
    projection = perturbed(AttentionProjection(16, out_width, heads=4, mlp_ratio=2))
    x = torch.randn(1, 9, 16)
    changed = x.clone()
    changed[:, 5:] = torch.randn(1, 4, 16)
    before, after = projection(x), projection(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=1e-6, rtol=0)
    assert ((before[:, 5:] - after[:, 5:]).abs().amax(dim=-1) > 1e-3).all()
    assert before.shape == (1, 9, out_width)


def test_narrowing_attention_averages_heads_and_pools_neighbours():
    torch.manual_seed(0)
    attention, x = perturbed(CausalAttention(16, 4, heads=2)), torch.randn(1, 5, 16)
    query, key, value = (F.linear(x, w) for w in attention.qkv.weight.chunk(3))
    query, value = query + attention.query_bias, value + attention.value_bias
    expected = torch.zeros(5, 8)
    for head in range(2):
        q, k, v = (t[0, :, 8 * head : 8 * head + 8] for t in (query, key, value))
        scores = (q @ k.T / 8**0.5).masked_fill(
            ~torch.tril(torch.ones(5, 5, dtype=torch.bool)), -torch.inf
        )
        expected += scores.softmax(dim=-1) @ v / 2
    pooled = expected.unflatten(-1, (4, 2)).mean(dim=-1)
    torch.testing.assert_close(attention(x)[0], attention.out(pooled), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "width"), [(16, 8), (16, 32), (12, 8), (7, 3), (5, 5)])
def test_a_graph_narrows_as_torch_does(size, width, monkeypatch):
    x = torch.randn(2, 3, size)
    expected = F.adaptive_avg_pool1d(x, width)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    torch.testing.assert_close(_narrowed(x, width), expected)
