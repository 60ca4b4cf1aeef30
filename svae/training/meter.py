"""What training steps report, and its sums between two rows of metrics.jsonl."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from svae.runtime.distributed import World, sum_over_ranks


@dataclass
class StepResult:
    """What a training step tells the loop. Tensors stay on the device until a row is logged."""

    values: dict[str, Tensor | float]
    audio_seconds: float
    keys: list[str]
    failures: list[str] = field(default_factory=list)
    finite: Tensor = field(default_factory=lambda: torch.tensor(True))
    """() bool: whether losses and gradients were; else the weights did not change."""


def over_sources(
    rows: Mapping[str, dict[str, float]], shares: Mapping[str, float]
) -> dict[str, float]:
    """Return one row of those of several sources: means by the sources' shares, then `loss/flow/NAME` and so on of each.

    The row of one source that has no name is returned as it is.
    """
    if list(rows) == [""]:
        return rows[""]
    row: dict[str, float] = {}
    for name in dict.fromkeys(name for each in rows.values() for name in each):
        having = [source for source in rows if name in rows[source]]
        total = sum(shares[source] for source in having)
        row[name] = sum(shares[source] * rows[source][name] for source in having) / total
    return row | {f"{name}/{source}": each[name] for source, each in rows.items() for name in each}


class Meter:
    """Sums what happened since the last logged row."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a new row."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        """Steps that had the number: some losses begin within a row."""
        self.known: dict[str, list[float]] = {}
        self.audio_seconds = 0.0
        self.waited = 0.0
        self.started = time.perf_counter()

    def add(self, result: StepResult, waited: float) -> None:
        """Count one step, for whose batch the training waited so many seconds; losses of one that was not finite do not."""
        self.waited += waited
        self.audio_seconds += result.audio_seconds
        one = result.finite.float()
        for name, value in result.values.items():
            if isinstance(value, float):
                self.known.setdefault(name, []).append(value)
                continue
            counted = torch.where(result.finite, value.detach(), 0.0)
            self.sums[name] = self.sums.get(name, 0) + counted
            self.counts[name] = self.counts.get(name, 0) + one

    def row(self, world: World) -> dict[str, float]:
        """Return means over the steps that had a number and over ranks, with throughput over all ranks.

        All ranks must call it.
        """
        elapsed = time.perf_counter() - self.started
        names = sorted(self.sums)
        measured = [
            number.float().to(world.device)
            for name in names
            for number in (self.sums[name], self.counts[name])
        ]
        throughput = torch.tensor(
            [self.audio_seconds / elapsed, self.waited / elapsed], device=world.device
        )
        # One collective for all numbers.
        *summed, speed, waited = sum_over_ranks(
            torch.stack([*measured, *throughput]), world
        ).tolist()
        totals, counts = summed[::2], summed[1::2]
        row = {name: sum(values) / len(values) for name, values in self.known.items()}
        row |= {
            name: total / count
            for name, total, count in zip(names, totals, counts, strict=True)
            if count
        }
        row = {name: row[name] for name in sorted(row)}
        row["audio_seconds_per_second"] = speed
        row["data_wait_share"] = waited / world.world_size
        return row
