"""When known words are spoken, by the probabilities of a CTC recogniser: the likeliest path through their letters (Viterbi).

Source: CTC segmentation as in Kürzinger et al. (arXiv 2007.09127), for a text that is spoken whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_path(
    scores: np.ndarray, targets: Sequence[int], blank: int
) -> list[tuple[int, int]] | None:
    """Return of each target the first frame that it is heard in, and the one behind the last; None where they do not fit.

    Args:
        scores: (T, V), log probabilities.
        targets: ids in order.
        blank: the id of no letter.
    """
    labels = [blank, *(each for target in targets for each in (target, blank))]
    frames, states = len(scores), len(labels)
    # A repeated letter needs a blank between.
    needed = len(targets) + sum(a == b for a, b in zip(targets, targets[1:], strict=False))
    if not targets or frames < needed:
        return None
    heard = scores[:, labels]
    may_skip = np.array(
        [n > 1 and labels[n] != blank and labels[n] != labels[n - 2] for n in range(states)]
    )
    best = np.full(states, -np.inf)
    best[:2] = heard[0, :2]
    steps = np.zeros((frames, states), dtype=np.int8)
    for frame in range(1, frames):
        one = np.concatenate([[-np.inf], best[:-1]])
        two = np.where(may_skip, np.concatenate([[-np.inf, -np.inf], best[:-2]]), -np.inf)
        options = np.stack([best, one, two])
        steps[frame] = options.argmax(axis=0)
        best = options.max(axis=0) + heard[frame]
    state = states - 1 if best[-1] >= best[-2] else states - 2
    if not np.isfinite(best[state]):
        return None
    path = []
    for frame in range(frames - 1, -1, -1):
        path.append(state)
        state -= int(steps[frame, state])
    path.reverse()
    spans = []
    for number in range(len(targets)):
        own = [frame for frame, state in enumerate(path) if state == 2 * number + 1]
        spans.append((own[0], own[-1] + 1))
    return spans
