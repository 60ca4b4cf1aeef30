"""A small velocity network and a batch for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from svae.config import DiTConfig
from svae.models.tts.dit import DiT

CFG = DiTConfig(
    dim=32, depth=2, heads=2, text_dim=16, text_conv_layers=1, conv_pos_groups=4, conv_pos_kernel=7
)


D = 6


@pytest.fixture(scope="module")
def model() -> DiT:
    torch.manual_seed(0)
    model = DiT(CFG, 10, D).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    return model


def batch(lengths: tuple[int, ...] = (40, 25, 11)) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 10, (len(lengths), 7), generator=g)
    tokens[1:, 4:] = -1
    return torch.randn(len(lengths), D, max(lengths), generator=g), torch.tensor(lengths), tokens
