"""Which recordings of which systems are played to which listener, and in what order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

PREFERENCE, MOS, SIMILARITY = "preference", "mos", "similarity"
KINDS = (PREFERENCE, MOS, SIMILARITY)
CHECKS = {PREFERENCE: ("first", "second"), MOS: ("noise",), SIMILARITY: ("same",)}
"""The attention checks of each kind, by the answer that shows attention (`Trial.check`)."""
CHECK_EVERY = 10
"""Questions of a kind to one attention check; there is at least one."""


@dataclass(frozen=True)
class Trial:
    """One question to one listener; the page learns the kind and the sounds, not whose they are."""

    kind: str
    item: str
    systems: tuple[str, ...]
    """Whose recordings are played, in this order: two for a preference, else one."""
    check: str | None = None
    """None, or which answer shows attention: that to two recordings of which the `first` or `second` is noisy, to a noisy
    one (`noise`), or to the reference itself (`same`)."""


def design(
    systems: Sequence[str],
    items: Sequence[str],
    *,
    kinds: Sequence[str],
    listeners: int,
    questions: int | None,
    seed: int,
) -> list[list[Trial]]:
    """Return the questions of each listener: kind by kind, shuffled within a kind, with attention checks among them.

    Each listener goes on where the one before ended in a list in which an item comes again only after all others, so that
    every pair (or system) is asked about as often as any other, to within one round, and a listener hears an item as
    seldom as can be. Each pair stands both ways round equally often, to within one, and a pair of one item the other way
    round than when it was asked about before.

    Args:
        systems: at least one, two for preferences.
        items: what all of them said.
        kinds: out of `KINDS`.
        listeners: number of sheets.
        questions: of each kind and listener, checks not counted; None: all there are.
        seed: of the shuffling.
    """
    rng = random.Random(seed)
    sheets: list[list[Trial]] = [[] for _ in range(listeners)]
    for kind in kinds:
        groups: list[tuple[str, ...]] = [(name,) for name in systems]
        if kind == PREFERENCE:
            groups = list(combinations(systems, 2))
        order = rng.sample(list(items), len(items))
        cells = [
            (order[i], groups[(i + turn) % len(groups)])
            for turn in range(len(groups))
            for i in range(len(order))
        ]
        count = len(cells) if questions is None else min(questions, len(cells))
        last: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        begins: Counter[tuple[str, ...]] = Counter()
        for listener, sheet in enumerate(sheets):
            block = []
            for i in range(count):
                item, group = cells[(listener * count + i) % len(cells)]
                played = group if begins[group] <= begins[group[::-1]] else group[::-1]
                if (item, group) in last:
                    played = last[item, group][::-1]
                last[item, group] = played
                begins[played] += 1
                block.append(Trial(kind, item, played))
            rng.shuffle(block)
            for _ in range(max(1, count // CHECK_EVERY)):
                # Not the first: who has heard nothing yet does not know what good is.
                block.insert(rng.randint(1, len(block)), _check(kind, systems, order, rng))
            sheet += block
    return sheets


def _check(kind: str, systems: Sequence[str], items: Sequence[str], rng: random.Random) -> Trial:
    item, system = rng.choice(items), rng.choice(systems)
    if kind == PREFERENCE:
        return Trial(kind, item, (system, system), rng.choice(CHECKS[PREFERENCE]))
    return Trial(kind, item, (system,), CHECKS[kind][0])


def attentive(check: str, value: float) -> bool:
    """Tell whether an answer to an attention check is one that whoever listened would give."""
    return {"first": value > 0, "second": value < 0, "noise": value <= 2, "same": value >= 4}[check]
