"""What training steps report, and its sums between two rows of metrics.jsonl."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svae.runtime.distributed import World, sum_over_ranks


@dataclass
class StepResult:
    """What a training step tells the loop. Values stay on the device until a row is logged."""

    values: dict[str, Tensor]
    audio_seconds: float
    keys: list[str]
    failures: list[str] = field(default_factory=list)
    skipped: bool = False
    """A loss or gradient was not finite; the weights did not change."""


class Meter:
    """Sums what happened since the last logged row."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a new row."""
        self.sums: dict[str, Tensor] = {}
        self.steps, self.audio_seconds, self.waited, self.started = 0, 0.0, 0.0, time.perf_counter()

    def add(self, result: StepResult, waited: float) -> None:
        """Count one step."""
        self.waited += waited
        self.audio_seconds += result.audio_seconds
        if not result.skipped:
            self.steps += 1
            for name, value in result.values.items():
                self.sums[name] = self.sums.get(name, 0) + value.detach()

    def row(self, world: World) -> dict[str, float]:
        """Return means over steps and ranks, with throughput over all ranks. All ranks must call it."""
        elapsed = time.perf_counter() - self.started
        names = sorted(self.sums)
        device = world.device
        numbers = [self.sums[n].float().to(device) / max(self.steps, 1) for n in names]
        numbers += [
            torch.tensor(x, device=device)
            for x in (self.audio_seconds / elapsed, self.waited / elapsed)
        ]
        totals = sum_over_ranks(torch.stack(numbers), world).tolist()
        row = {n: t / world.world_size for n, t in zip(names, totals, strict=False)}
        return row | {
            "audio_seconds_per_second": totals[-2],
            "data_wait_share": totals[-1] / world.world_size,
        }
