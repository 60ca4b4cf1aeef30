"""Thin matrices beside frozen layers: what is trained is what is melted in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_tts import DIT
from torch import nn

from svae.config import LoRAConfig
from svae.errors import CheckpointError
from svae.models.tts.adapter import melted
from svae.models.tts.dit import DiT
from svae.training.tts.lora import copies, inject


def network() -> DiT:
    torch.manual_seed(0)
    model = DiT(DIT, vocab_size=9, latent_dim=4)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_melted_network_computes_what_was_trained(scale):
    model = network()
    plain, base = copies(model)
    adapter = inject(model, LoRAConfig(rank=3, scale=scale))
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.2)
    inputs = (torch.randn(2, 4, 20), torch.randn(2, 4, 20), torch.rand(2))
    tokens = torch.randint(0, 9, (2, 5))
    with torch.no_grad():
        before = plain(*inputs, tokens)
        plain.load_state_dict(melted(base, adapter.state_dict(), scale, Path("a")))
        torch.testing.assert_close(
            model(*inputs, tokens), plain(*inputs, tokens), rtol=1e-4, atol=1e-5
        )
    assert not torch.allclose(plain(*inputs, tokens), before)


def test_only_the_matrices_are_trained():
    model = network()
    adapter = inject(model, LoRAConfig(rank=3))
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained == {id(p) for p in adapter.parameters()}
    assert adapter.state_dict()["blocks.0.attention.qkv.lora_A.weight"].shape == (3, DIT.dim)


@pytest.mark.parametrize("damage", ["layer", "shape", "half"])
def test_an_adapter_of_another_network_is_refused(damage):
    _, base = copies(network())
    a, b = "output.lora_A.weight", "output.lora_B.weight"
    adapter = {a: torch.zeros(2, DIT.dim), b: torch.zeros(4, 2)}
    melted(base, adapter, 1.0, Path("a"))
    if damage == "layer":
        adapter |= {"blocks.7.expand.lora_A.weight": adapter[a]}
    elif damage == "shape":
        adapter[b] = torch.zeros(5, 2)
    else:
        del adapter[b]
    with pytest.raises(CheckpointError, match="does not fit the base model"):
        melted(base, adapter, 1.0, Path("a"))
