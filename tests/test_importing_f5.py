"""The key map of F5-TTS's weights. That the result computes the same is in test_dit.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from svae.config import DiTConfig
from svae.errors import CheckpointError
from svae.importing_f5 import dit_state_from_f5
from svae.models.dit import DiT

REFERENCE = DiTConfig(dim=128, depth=3, heads=2, text_dim=64, text_conv_layers=2)


def test_f5_key_map_is_strict_both_ways(shared: Path) -> None:
    weights = load_file(shared / "reference" / "f5_dit" / "weights.safetensors")
    expected = {name: tensor.shape for name, tensor in DiT(REFERENCE, 78, 64).state_dict().items()}
    assert {name: tensor.shape for name, tensor in dit_state_from_f5(weights, REFERENCE).items()} == expected
    total = sum(tensor.numel() for name, tensor in weights.items() if name != "rotary_embed.inv_freq")
    assert sum(tensor.numel() for tensor in dit_state_from_f5(weights, REFERENCE).values()) == total

    fewer = {name: tensor for name, tensor in weights.items() if name != "proj_out.bias"}
    with pytest.raises(CheckpointError, match="missing .*proj_out.bias"):
        dit_state_from_f5(fewer, REFERENCE)
    with pytest.raises(CheckpointError, match="not expected .*long_skip"):
        dit_state_from_f5({**weights, "long_skip_connection.weight": torch.zeros(1)}, REFERENCE)
    with pytest.raises(CheckpointError, match="dit.heads"):
        dit_state_from_f5(weights, DiTConfig(**{**REFERENCE.__dict__, "heads": 4}))
