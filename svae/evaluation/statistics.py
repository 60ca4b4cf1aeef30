"""How sure a mean is: bootstrap intervals over utterances or speakers, the spread over seeds, paired tests.

Every score here is a ratio of sums: a mean is sum(values) / count, a corpus word error rate errors / words.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
"""Samples of a bootstrap: with so many, the ends of a 95 % interval are good to a few per cent of its width."""
PERMUTATIONS = 10_000
PERMUTATIONS_AT_ONCE = 1000
EXACT_UNITS = 14
"""Up to so many differing utterances (or speakers) all 2^n sign patterns are counted, instead of drawn."""
CONFIDENCE = 0.95
FEW_UNITS = 10
"""Over fewer utterances or speakers a percentile interval is too narrow: in simulation it covers about 85 % at 6."""


@dataclass(frozen=True)
class Ratio:
    """One score of a list: numerator and denominator of each utterance, or of each speaker (N,)."""

    numerator: Array
    denominator: Array

    @property
    def value(self) -> float:
        """The score itself."""
        return float(self.numerator.sum() / self.denominator.sum())

    @property
    def units(self) -> int:
        """How many utterances (or speakers) have the score."""
        return int((self.denominator > 0).sum())

    def added_up(self, groups: Sequence[Hashable] | None) -> Ratio:
        """Return the ratio with an entry a group (speaker), for drawing whole speakers; as it is where groups is None."""
        if groups is None:
            return self
        index = group_numbers(groups)
        numerator = np.bincount(index, self.numerator).astype(np.float64)
        denominator = np.bincount(index, self.denominator).astype(np.float64)
        return Ratio(numerator, denominator)


def group_numbers(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    """Number groups by first appearance; return the number of each utterance's group (N,)."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def resampling_counts(size: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Draw bootstrap samples: how often each of N utterances (or speakers) is in each of B of them, (B, N).

    The same arguments give the same samples, so that scores of one list are resampled alike.
    """
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(size, np.full(size, 1 / size), size=resamples)
    return counts.astype(np.float64)


def interval(ratio: Ratio, counts: Array) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a ratio, or None where fewer than two units have the score."""
    if ratio.units < 2:
        return None
    drawn_below = counts @ ratio.denominator
    drawn = drawn_below > 0  # a sample may hold only utterances without this score
    return _ends((counts[drawn] @ ratio.numerator) / drawn_below[drawn])


def _ends(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation (n - 1), least and greatest of a score over seeds."""
    array = np.asarray(values, dtype=np.float64)
    deviation = float(array.std(ddof=1)) if array.size > 1 else None
    return {
        "mean": float(array.mean()),
        "sd": deviation,
        "min": float(array.min()),
        "max": float(array.max()),
    }


@dataclass(frozen=True)
class Comparison:
    """Two systems on one list: the difference B - A, its interval, and how often chance alone would do as much."""

    a: float
    b: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    exact: bool
    """Whether every permutation was counted."""


def compare_paired(
    a: Ratio, b: Ratio, *, groups: Sequence[Hashable] | None = None, seed: int = 0
) -> Comparison:
    """Compare two systems that said the same utterances.

    The interval is a paired bootstrap. The p-value is a two-sided permutation test: under the null hypothesis the two
    systems' results on an utterance (with `groups`: on all of a speaker) could as well be exchanged.
    """
    first, second = a.added_up(groups), b.added_up(groups)
    counts = resampling_counts(first.numerator.shape[0], seed=seed)
    if groups is not None:
        # Sums over utterances, not over speakers' sums: comparison.json is not rounded, and its last digits stay.
        counts = counts[:, group_numbers(groups)]
    below_a, below_b = counts @ a.denominator, counts @ b.denominator
    drawn = (below_a > 0) & (below_b > 0)
    score_a = (counts[drawn] @ a.numerator) / below_a[drawn]
    score_b = (counts[drawn] @ b.numerator) / below_b[drawn]
    ends = None
    if min(first.units, second.units) > 1 and drawn.any():
        ends = _ends(score_b - score_a)
    difference = b.value - a.value
    p, exact = _permutation_p(first, second, abs(difference), seed)
    return Comparison(a.value, b.value, difference, ends, p, exact)


def _permutation_p(a: Ratio, b: Ratio, observed: float, seed: int) -> tuple[float, bool]:
    """Return the p-value of a difference, and whether every exchange of units between a and b was counted."""
    sums = (a.numerator, a.denominator, b.numerator, b.denominator)
    differ = (a.numerator != b.numerator) | (a.denominator != b.denominator)
    rest = [float(w[~differ].sum()) for w in sums]  # exchanging equal results changes nothing
    units = [w[differ] for w in sums]
    size = int(differ.sum())
    exact = size <= EXACT_UNITS
    if exact:
        all_swaps = (np.arange(2**size)[:, None] >> np.arange(size)[None, :]) & 1
        hits = _count_extreme(all_swaps.astype(np.float64), units, rest, observed)
        return hits / 2**size, True
    generator = np.random.default_rng(seed)
    hits = 0
    for _ in range(PERMUTATIONS // PERMUTATIONS_AT_ONCE):
        swaps = generator.integers(0, 2, size=(PERMUTATIONS_AT_ONCE, size)).astype(np.float64)
        hits += _count_extreme(swaps, units, rest, observed)
    # The observed assignment is one of the permutations.
    return (hits + 1) / (PERMUTATIONS + 1), False


def _count_extreme(swaps: Array, units: list[Array], rest: list[float], observed: float) -> int:
    """Return how many exchanges (P, U) give a difference at least as large as the observed one."""
    top_a, below_a, top_b, below_b = (
        w.sum() + swaps @ (other - w) + r
        for w, other, r in zip(units, (units[2], units[3], units[0], units[1]), rest, strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.abs(top_b / below_b - top_a / below_a)
    return int(np.count_nonzero(np.nan_to_num(found) >= observed - 1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for there being several (Holm 1979): below a level, they are wrong at all with less than it.

    They stand in the order that they came in.
    """
    ordered = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    least = 0.0
    for place, i in enumerate(ordered):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = least
    return corrected
