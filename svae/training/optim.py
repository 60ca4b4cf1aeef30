"""Optimizers, the learning rate as a function of the step, and the moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from svae.config import EMAConfig, OptimizerConfig

Network = TypeVar("Network", bound=nn.Module)


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Return the learning rate of the update that takes the weights from `step` to `step + 1`.

    A pure function: nothing to save, nothing that depends on the number of ranks.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    after = step - config.warmup_steps
    if config.schedule == "exponential":
        return config.learning_rate * config.decay**after
    if config.schedule == "linear":
        length = max(total_steps - config.warmup_steps, 1)
        return config.learning_rate * max(0.0, 1 - after / length)
    return config.learning_rate


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW, whose step changes nothing where a number on the device says so; the host does not wait for it."""

    found_inf: Tensor | None = None
    """() float32, 1 where the step is to be left out; torch's gradient scaler uses the same way."""
    grad_scale: Tensor | None = None


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[Tensor], device: torch.device
) -> AdamW:
    """Return AdamW over the parameters; without memory (on `meta`) it can be loaded but not stepped."""
    return AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=device.type != "meta",
    )


def load_optimizer(optimizer: torch.optim.Optimizer, stored: dict[str, Any]) -> None:
    """Load a state whose run may have been on another device: which kernel steps is decided here, not there.

    Raises:
        ValueError, KeyError, TypeError: it is not of these parameters.
    """
    own = optimizer.param_groups[0]
    kernel = {name: own[name] for name in ("fused", "foreach", "capturable")}
    groups = [group | kernel for group in stored["param_groups"]]
    optimizer.load_state_dict(stored | {"param_groups": groups})


def take_settings(optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> None:
    """Give a resumed optimizer the recipe's settings: its stored state brings those of the time when it was saved."""
    for group in optimizer.param_groups:
        group["betas"] = config.betas
        group["eps"] = config.eps
        group["weight_decay"] = config.weight_decay


def update(
    optimizer: AdamW, parameters: Sequence[Tensor], config: OptimizerConfig, rate: float
) -> tuple[Tensor, Tensor]:
    """Take one clipped step with the gradients that are there.

    Returns:
        The gradients' norm, and () bool: whether it was finite; else nothing was changed. Both stay on the device.
    """
    # Gradients are averaged over ranks by now: a bad value of one rank is bad on all, and all decide alike.
    norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    finite = torch.isfinite(norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.found_inf = (~finite).to(torch.float32)
    optimizer.step()
    return norm, finite


class ExponentialMovingAverage(Generic[Network]):
    """A float32 copy of a network whose weights follow the original's slowly.

    Every rank keeps the copy; the updates are deterministic, so the copies stay equal. Source: the schedule of
    ema-pytorch, which the official codes of F5-TTS and Semantic-VAE use.
    """

    def __init__(self, module: Network, config: EMAConfig) -> None:
        self.config = config
        self.module: Network = copy.deepcopy(module).requires_grad_(False).eval()

    def decay_at(self, step: int) -> float:
        """Return the decay of the update made after `step` optimizer steps; 0 copies the weights."""
        after = step - self.config.start_step
        if after <= 0:
            return 0.0
        return min(self.config.decay, 1 - (1 + after) ** -self.config.power)

    @torch.no_grad()
    def update(self, module: Network, step: int, finite: Tensor | bool = True) -> None:
        """Follow the network after its `step`-th optimizer step, unless that was not `finite` and changed nothing."""
        if step % self.config.every and step > self.config.start_step:
            return
        weight = 1 - self.decay_at(step)
        averages, current = self.module.state_dict(), module.state_dict()
        floating = [name for name, average in averages.items() if average.is_floating_point()]
        for name in averages.keys() - set(floating):
            averages[name].copy_(current[name])
        if not floating:
            return
        mine = [averages[name] for name in floating]
        new = [current[name] for name in floating]
        if weight == 1:  # while the average is a copy, a step that changed nothing leaves it one
            torch._foreach_copy_(mine, new)
            return
        towards = torch._foreach_sub(new, mine)
        torch._foreach_mul_(towards, weight * finite)
        torch._foreach_add_(mine, towards)
