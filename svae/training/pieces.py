"""Into how many pieces each process cuts its share of a step: as the recipe says, or as few as fit into the GPU's memory."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import torch

from svae.config import TrainerConfig
from svae.errors import ConfigError
from svae.runtime.distributed import World, from_first_rank
from svae.training.memory_plan import Plan
from svae.training.session import Session

GIB = 2**30


def choose_pieces(
    session: Session,
    fewest: int,
    most: int,
    needs: Callable[[int, bool], Plan] | None = None,
) -> int:
    """Return how many pieces `trainer.accumulate` means here, and print it where it is more than one. All ranks must call it.

    Args:
        session: keeps the number too.
        fewest: as few as the data allow.
        most: as many as there are rows.
        needs: plans a step of so many pieces, with activations computed twice or not.
    """
    asked, world = session.config.trainer.accumulate, session.world
    if asked != "auto":
        session.accumulate, why = asked, "trainer.accumulate"
    elif world.device.type != "cuda" or needs is None:
        session.accumulate, why = fewest, f"as few as can be, on {world.device.type}"
    else:
        free, planned = free_bytes(world), fewest
        if world.is_main:
            with session.side_work("planning the memory of a step"):
                twice = session.config.trainer.checkpoint_activations
                planned = fewest_that_fit(lambda n: needs(n, twice).total, free, fewest, most)
        session.accumulate = from_first_rank(planned, world)
        why = f"planned for {free / GIB:.1f} GiB"
    if session.accumulate > 1 or asked == "auto":
        session.console.print(
            f"Each process computes a step in {session.accumulate} pieces ({why})", highlight=False
        )
    return session.accumulate


def free_bytes(world: World) -> int:
    """Return what of this process's GPU nobody uses yet."""
    return torch.cuda.mem_get_info(world.device)[0] + torch.cuda.memory_reserved(world.device)


def fewest_that_fit(needed: Callable[[int], int], available: int, fewest: int, most: int) -> int:
    """Return the least number of pieces whose step fits, by bisection; `most` where none does.

    More pieces never take more memory.
    """
    low, high = fewest, most
    while low < high:
        middle = (low + high) // 2
        if needed(middle) <= available:
            high = middle
        else:
            low = middle + 1
    return low


def verdict(
    trainer: TrainerConfig,
    needs: Callable[[int, bool], Plan],
    fewest: int,
    most: int,
    available: int,
) -> list[str]:
    """Return what a step takes of so much memory, whether it fits, and if not what to set, each by a plan of its own.

    `needs` plans a step of so many pieces, with activations computed twice or not.
    """
    needs = functools.cache(needs)
    twice = trainer.checkpoint_activations

    def fewest_with(twice: bool) -> int | None:
        pieces = fewest_that_fit(lambda n: needs(n, twice).total, available, fewest, most)
        return pieces if needs(pieces, twice).total <= available else None

    fitting = fewest_with(twice)
    pieces = max(fewest, 1 if trainer.accumulate == "auto" else trainer.accumulate)
    if trainer.accumulate == "auto":
        pieces = fitting or most
    plan = needs(pieces, twice)
    card = f"{available / GIB:.4g} GiB"
    lines = [f"Memory of a step in {pieces} piece(s) per process, planned: {plan}"]
    if plan.total <= available:
        chosen = ", chosen by trainer.accumulate: auto" if trainer.accumulate == "auto" else ""
        return [*lines, f"It fits in {card}: {pieces} piece(s){chosen}"]
    advice = []
    if fitting is not None:
        advice.append(f"--set trainer.accumulate={fitting}")
    if not twice and (other := fewest_with(True)) is not None:
        more = "" if other <= pieces else f" --set trainer.accumulate={other}"
        advice.append(f"--set trainer.checkpoint_activations=true{more}")
    if not advice:
        advice.append("a smaller model or a larger GPU: no number of pieces is enough")
    return [*lines, f"It does not fit in {card}: use {' or '.join(advice)}"]


def parse_memory(text: str) -> int:
    """Read `16G`, `16GB`, `24 GiB` or `900M` as bytes; a card of 16 GB has 16 GiB.

    Raises:
        ConfigError: it is something else.
    """
    pattern = r"\s*([0-9]+(?:\.[0-9]+)?)\s*([GM])(?:i?B)?\s*"
    found = re.fullmatch(pattern, text, flags=re.IGNORECASE)
    size = 0 if found is None else float(found[1]) * 2 ** (30 if found[2].upper() == "G" else 20)
    if not 1 <= size < 2**60:
        raise ConfigError(f"--memory {text!r}: expected the memory of a GPU, such as 16G or 900M")
    return int(size)
