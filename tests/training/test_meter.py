"""A logged row has the mean of every number over the steps that had it."""

from __future__ import annotations

import pytest
import torch

from svae.runtime.distributed import World
from svae.training.meter import Meter, StepResult

HERE = World(0, 1, torch.device("cpu"))


def test_a_loss_that_begins_within_a_row_is_the_mean_of_the_steps_that_had_it() -> None:
    """Steps 8 and 9 have an adversarial loss; of those the last is not finite, as is step 1."""
    meter = Meter()
    for step in range(10):
        values: dict[str, torch.Tensor | float] = {
            "loss/mel": torch.tensor(float(step)),
            "rate": 2.0,
        }
        if step >= 8:
            values |= {"loss/adversarial": torch.tensor(3.0), "weight": 0.5}
        finite = torch.tensor(step not in (1, 9))
        if not finite:
            values["loss/mel"] = torch.tensor(float("nan"))
        meter.add(StepResult(values, 1.0, [], finite=finite), 0.0)
    row = meter.row(HERE)
    assert row["loss/adversarial"] == pytest.approx(3.0)
    assert row["weight"] == pytest.approx(0.5) and row["rate"] == pytest.approx(2.0)
    assert row["loss/mel"] == pytest.approx(sum({*range(10)} - {1, 9}) / 8)


def test_a_loss_that_was_never_finite_is_not_in_the_row() -> None:
    meter = Meter()
    for finite, name in ((True, "loss/mel"), (False, "loss/adversarial")):
        values: dict[str, torch.Tensor | float] = {name: torch.tensor(1.0)}
        meter.add(StepResult(values, 1.0, [], finite=torch.tensor(finite)), 0.0)
    assert sorted(name for name in meter.row(HERE) if name.startswith("loss/")) == ["loss/mel"]
