"""What a step takes of a GPU that need not be there: `--dry-run --memory 16G`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from svae.config import TrainerConfig
from svae.errors import ConfigError
from svae.training.memory_plan import GIB, RESERVE, Plan
from svae.training.pieces import fewest_that_fit, parse_memory, verdict

TRAINER = TrainerConfig(steps=1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16G", 16 * 2**30),
        ("16GB", 16 * 2**30),
        (" 24 GiB ", 24 * 2**30),
        ("24gib", 24 * 2**30),
        ("900M", 900 * 2**20),
        ("1.5g", 1536 * 2**20),
    ],
)
def test_a_memory_is_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "G", "16", "16K", "16T", "-16G", "0G", "0.0M", "16 G B", "16,5G", "1e9", "nan", "infG",
     "16GG", "16G 8G", "auto", "١٦G", "0.0000000001M", "9" * 400 + "G"],
)  # fmt: skip
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--memory .*expected the memory of a GPU, such as 16G"):
        parse_memory(text)


def steps(kept: float, single: float, row: float, rows: int) -> Callable[[int, bool], Plan]:
    """Return what a step of so many rows takes, in GiB: what stays, a piece of one, each row; half where computed twice."""

    def needs(pieces: int, twice: bool) -> Plan:
        activations = (single + row * -(-rows // pieces)) / (2 if twice else 1)
        return Plan({"parameters": int(kept * GIB), "activations": int(activations * GIB)})

    return needs


def said(available: float, trainer: TrainerConfig = TRAINER, fewest: int = 1) -> str:
    needs = steps(2.0, 1.0, 1.0, 24)
    return "\n".join(verdict(trainer, needs, fewest, 24, int(available * GIB)))


def test_a_step_that_fits() -> None:
    text = said(40)
    assert "in 1 piece(s) per process" in text and "It fits in 40 GiB: 1 piece(s)" in text
    assert "--set" not in text


def test_a_step_that_does_not_fit_says_what_would() -> None:
    text = said(16)
    assert "does not fit in 16 GiB" in text
    # 1.05 (2 + 1 + rows) + 1 <= 16: 11 rows, so 3 pieces of 8; computed twice 20 rows, so 2 of 12.
    assert "--set trainer.accumulate=3 or" in text
    assert "--set trainer.checkpoint_activations=true --set trainer.accumulate=2" in text
    text = said(20)
    assert text.endswith("--set trainer.accumulate=2 or --set trainer.checkpoint_activations=true")


def test_auto_takes_the_fewest_that_fit() -> None:
    text = said(16, replace(TRAINER, accumulate="auto"))
    assert "It fits in 16 GiB: 3 piece(s), chosen by trainer.accumulate: auto" in text


@pytest.mark.parametrize("accumulate", [1, "auto"])
def test_no_number_of_pieces_is_enough(accumulate: int | str) -> None:
    text = said(2, replace(TRAINER, accumulate=accumulate))
    assert "does not fit in 2 GiB: use a smaller model or a larger GPU" in text
    assert "--set" not in text


def test_data_that_ask_for_pieces_get_them() -> None:
    assert "in 8 piece(s)" in said(40, fewest=8)
    assert "in 12 piece(s)" in said(40, replace(TRAINER, accumulate=12), fewest=8)


def test_activations_that_are_computed_twice_already_are_not_advised() -> None:
    text = said(10, replace(TRAINER, checkpoint_activations=True))
    assert "--set trainer.accumulate=" in text and "checkpoint_activations" not in text


def test_the_reserve_is_on_top() -> None:
    plan = Plan({"parameters": 10 * GIB, "activations": 0})
    assert plan.total == pytest.approx((10 + RESERVE[0] + 10 * RESERVE[1]) * GIB)
    assert "parameters 10.00" in str(plan) and "activations" not in str(plan)


@pytest.mark.parametrize("limit", range(1, 14))
def test_the_fewest_that_fit(limit: int) -> None:
    found = fewest_that_fit(lambda pieces: -(-12 // pieces), limit, 1, 12)
    assert found == next(pieces for pieces in range(1, 13) if -(-12 // pieces) <= limit)
    assert fewest_that_fit(lambda pieces: 14, limit, 2, 12) == 12
