"""Optimizers, the learning rate as a function of the step, and the moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

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


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[Tensor], device: torch.device
) -> torch.optim.AdamW:
    """Return AdamW over the parameters, fused where the device has it."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=device.type == "cuda",
    )


def take_settings(optimizer: torch.optim.Optimizer, config: OptimizerConfig) -> None:
    """Give a resumed optimizer the recipe's settings: its stored state brings those of the time when it was saved."""
    for group in optimizer.param_groups:
        group["betas"] = config.betas
        group["eps"] = config.eps
        group["weight_decay"] = config.weight_decay


def update(
    optimizer: torch.optim.Optimizer,
    loss: Tensor,
    parameters: Sequence[Tensor],
    config: OptimizerConfig,
    rate: float,
) -> Tensor | None:
    """Take one clipped step; return the gradient norm, or None if it was not finite and nothing was changed."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    # Gradients are averaged over ranks by now: a bad value of one rank is bad on all, and all decide alike.
    norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    if not torch.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        return None
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return norm


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
    def update(self, module: Network, step: int) -> None:
        """Follow the network after its `step`-th optimizer step."""
        if step % self.config.every and step > self.config.start_step:
            return
        weight = 1 - self.decay_at(step)
        averages, current = self.module.state_dict(), module.state_dict()
        for name, average in averages.items():
            if average.is_floating_point():
                average.lerp_(current[name], weight)
            else:
                average.copy_(current[name])
