"""The average of the weights is moved by a few operations over all of them, not by some for each."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from svae.config import EMAConfig
from svae.training.optim import ExponentialMovingAverage


class Operations(TorchDispatchMode):
    """Notes what is computed; a tensor that is only looked at in another way is not."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


def operations(layers: int, step: int) -> list[str]:
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(layers)))
    average = ExponentialMovingAverage(network, EMAConfig(start_step=2, every=1))
    with Operations() as found:
        average.update(network, step, torch.tensor(True))
    return found.names


def test_many_weights_take_as_many_operations_as_few() -> None:
    for step, kernel in ((1, "_foreach_copy_"), (5, "_foreach_add_")):  # a copy at first
        few = operations(1, step)
        assert kernel in few and operations(30, step) == few
