"""What a step takes of a GPU that need not be there: `--dry-run --memory 16G`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_fake_gpu import QUIET, utterance_batch
from test_pieces import SPEAKER
from tiny_runs import TTS, VAE, tts_config, vae_config
from tone_shards import write_tone_shards

from svae.config import TrainerConfig
from svae.data.index import read_index
from svae.errors import ConfigError
from svae.models.mel import MelFrames
from svae.runtime.distributed import World
from svae.text.vocabulary import Vocabulary
from svae.training.memory_plan import (
    BLOCK,
    GIB,
    RESERVE,
    ROWS,
    MemoryMeter,
    Plan,
    StepPlans,
    Trace,
)
from svae.training.pieces import fewest_that_fit, parse_memory, verdict
from svae.training.tts import memory as tts
from svae.training.tts.utterances import limits_of, most_pieces
from svae.training.vae import train as vae

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


# ------------------------------------------------------------------------------------------- traces

WORLD = World(0, 1, torch.device("cpu"))
SYMBOLS = Vocabulary.from_characters("abcd")


def noted(work: Callable[[MemoryMeter], object], rows: int = 1) -> Trace:
    meter = MemoryMeter("cpu")
    with meter:
        work(meter)
    return meter.trace(rows, [], meter.brought(lambda: None))


def test_the_peak_is_what_lives_at_once_in_whole_blocks() -> None:
    def work(meter: MemoryMeter) -> None:
        kept = torch.zeros(1000, dtype=torch.uint8)
        large = torch.zeros(10 * BLOCK, dtype=torch.uint8)
        view = large[:5]
        del large
        assert view.numel() == 5  # the whole of it is there still
        more = torch.zeros(BLOCK + 1, dtype=torch.uint8)
        del view, more
        another = torch.zeros(3 * BLOCK, dtype=torch.uint8)
        del another, kept

    assert noted(work).plan().parts == {"activations": (2 + 10 + 2) * BLOCK}


def test_what_is_named_later_is_counted_once() -> None:
    kept = []

    def work(meter: MemoryMeter) -> None:
        kept.append(torch.zeros(4 * BLOCK, dtype=torch.uint8))
        meter.see(kept[0], "gradients")
        kept.append(torch.zeros(2 * BLOCK, dtype=torch.uint8))

    assert noted(work).plan().parts == {"activations": 2 * BLOCK, "gradients": 4 * BLOCK}


def test_what_is_there_for_every_row_grows_with_them_and_weights_do_not() -> None:
    meter = MemoryMeter("cpu")
    weights = torch.zeros(ROWS, 100 * BLOCK, dtype=torch.uint8)  # as many symbols as rows
    meter.see(weights, "parameters")
    with meter:
        gradient = torch.zeros_like(weights)
        batch = torch.zeros(ROWS, 3 * BLOCK, dtype=torch.uint8)
        table = torch.zeros(5 * BLOCK, dtype=torch.uint8)
    brought = meter.brought(lambda: torch.zeros(ROWS, 2 * BLOCK, dtype=torch.uint8))
    found = meter.trace(ROWS, [weights], brought)
    assert found.plan(7).parts == {
        "parameters": weights.nbytes,
        "activations": gradient.nbytes + (7 * 3 + 5) * BLOCK,
    }
    waiting = found.plan(7, waiting=4).parts["activations"] - found.plan(7).parts["activations"]
    assert waiting == 4 * 2 * BLOCK
    del batch, table


def vae_trace(kind: str, precision: str, pieces: int, rows: int = ROWS) -> Trace:
    changes: dict[str, Any] = {
        "plain": {},
        "pulses": {"vae": VAE["vae"] | SPEAKER},
        "aligned": {"loss": {"alignment": 1.0, "adversarial_start_step": 1}},
    }
    config = with_precision(vae_config("x", **changes[kind]), precision)
    return vae.trace_step(config, pieces, rows, teacher_dim=16 if kind == "aligned" else None)


def tts_trace(kind: str, precision: str, pieces: int, rows: int = ROWS) -> Trace:
    config = with_precision(tts_config("x", "y"), precision)
    mel = MelFrames(num_bins=8)
    batch = utterance_batch(rows, 8 if kind == "latents" else None, 24, mel.hop_length)
    return tts.trace_step(config, mel, SYMBOLS, batch, pieces)


def with_precision(config: Any, precision: str) -> Any:
    """Return a recipe of this precision; in bf16 what a block keeps is computed twice."""
    twice = precision == "bf16"
    trainer = replace(config.trainer, precision=precision, checkpoint_activations=twice)
    return replace(config, trainer=trainer)


TRACES: list[Any] = [
    pytest.param(tts_trace, "latents", "fp32", 2),
    pytest.param(tts_trace, "waveforms", "bf16", 1, marks=pytest.mark.slow),
]
TRACES += [
    pytest.param(vae_trace, kind, precision, pieces, marks=pytest.mark.slow)
    for kind, precision, pieces in (
        ("plain", "fp32", 1),
        ("plain", "bf16", 2),
        ("pulses", "bf16", 1),
        ("pulses", "fp32", 2),
        ("aligned", "fp32", 2),
    )
]


@QUIET
@pytest.mark.parametrize(("trace", "kind", "precision", "pieces"), TRACES)
def test_one_trace_tells_what_a_step_takes_with_any_number_of_rows(
    trace: Callable[..., Trace], kind: str, precision: str, pieces: int
) -> None:
    """To the byte: a trace of as many rows is the reference."""
    known = trace(kind, precision, pieces)
    for rows in (2, 5):
        own = trace(kind, precision, pieces, rows)
        assert known.plan(rows).parts == own.plan().parts
        assert sorted(known._blocks(known.brought, rows)) == sorted(own._blocks(own.brought, None))
    # A single row lies in memory in any order at once, which saves a copy here and there.
    single = trace(kind, precision, pieces, 1).plan()
    assert (
        single.total
        <= known.plan(1).total
        < 1.05 * (single.total - single.reserve) + single.reserve
    )


@QUIET
def test_pieces_that_wait_take_what_they_bring() -> None:
    """The reference is a step of four pieces, each of which is there."""
    config = tts_config("x", "y")
    mel = MelFrames(num_bins=8)
    batch = utterance_batch(3, 8, 24, mel.hop_length)
    four = tts.trace_step(config, mel, SYMBOLS, batch, 4).plan()
    two = tts.trace_step(config, mel, SYMBOLS, batch, 2)
    assert two.plan(waiting=0).total < four.total
    # How many of the smallest things (a count, a seed) a piece leaves besides is not counted: a block each.
    assert abs(two.plan(3, waiting=6).total - four.total) < 24 * BLOCK


# ------------------------------------------------------------------------------------------- real plans


def vae_plans() -> tuple[StepPlans, int, int]:
    """Return plans, and how many pieces there can be at least and at most."""
    config = vae_config("x", batch_size=12)
    return vae.step_plans(config, WORLD), 1, 12


def tts_plans(folder: Path) -> tuple[StepPlans, int, int]:
    """Return the same of flow matching, with four lengths a step."""
    index = read_index(write_tone_shards(folder / "shards", seconds=1.0, per_shard=12))
    # Blocks that take more than the mel frames before them, and several: of one as much is kept as is computed twice.
    blocks = TTS["dit"] | {"depth": 3, "dim": 128}
    config = tts_config("x", "y", batch_frames=1600, dit=blocks)
    config = replace(config, data=replace(config.data, slots=4))
    mel = MelFrames(num_bins=8)
    limits = limits_of(config, mel.hop_length)
    plans = tts.step_plans(config, mel, SYMBOLS, index, limits, WORLD)
    return plans, 4, most_pieces(index, limits, config, WORLD)


def check_order(plans: StepPlans, fewest: int, most: int) -> None:
    kept = [plans(pieces, False).total for pieces in range(fewest, most + 1)]
    twice = [plans(pieces, True).total for pieces in range(fewest, most + 1)]
    for totals in (kept, twice):
        assert totals == sorted(totals, reverse=True) and totals[-1] < totals[0]
    assert all(less <= more for less, more in zip(twice, kept, strict=True))
    assert twice[0] < kept[0]


def check_refusal(plans: StepPlans, fewest: int, most: int) -> None:
    """Check that what a refusal says does fit, and that with fewer pieces it would not."""
    low, high = plans(most, False).total, plans(fewest, False).total
    available = (low + high) // 2
    lines = verdict(replace(TRAINER, accumulate=fewest), plans, fewest, most, available)
    said = lines[-1]
    assert "does not fit" in said
    alone = re.search(r"use --set trainer.accumulate=(\d+)", said)
    assert alone is not None
    pieces = int(alone[1])
    assert plans(pieces, False).total <= available < plans(pieces - 1, False).total
    other = re.search(r"checkpoint_activations=true(?: --set trainer.accumulate=(\d+))?", said)
    assert other is not None
    assert plans(int(other[1] or fewest), True).total <= available
    nothing = verdict(TRAINER, plans, fewest, most, plans(most, True).total - 1)
    assert "no number of pieces is enough" in nothing[-1]


@QUIET
def test_more_pieces_never_take_more_of_a_tts_step_nor_does_computing_twice(
    tmp_path: Path,
) -> None:
    plans = tts_plans(tmp_path)
    check_order(*plans)
    check_refusal(*plans)


@pytest.mark.slow
@QUIET
def test_more_pieces_never_take_more_of_a_vae_step_nor_does_computing_twice() -> None:
    plans = vae_plans()
    check_order(*plans)
    check_refusal(*plans)


@QUIET
def test_at_most_four_traces_are_made() -> None:
    made = []
    trace = tts_trace("latents", "fp32", 1)

    def counted(pieces: int, twice: bool) -> Trace:
        made.append((pieces, twice))
        return trace

    plans = StepPlans(counted, lambda pieces: -(-24 // pieces), fewest=1)
    verdict(TRAINER, plans, 1, 24, 1)
    for pieces in range(1, 25):
        plans(pieces, True)
        plans(pieces, False)
    assert sorted(made) == [(1, False), (1, True), (2, False), (2, True)]
