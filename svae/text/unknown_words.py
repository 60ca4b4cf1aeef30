"""Phones for words that no dictionary has: the network of g2p-en, two recurrent layers of 128, run with numpy.

Only the weights of the package are read, since importing it downloads NLTK's data. docs/text.md compares it with others.
Source: https://github.com/Kyubyong/g2p (Apache-2.0), trained on the CMU Pronouncing Dictionary.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from svae.text.phonemes import LETTERS, PHONES, with_s

_WEIGHTS = "checkpoint20.npz"
_END_OF_WORD, _FIRST_LETTER = 2, 3
_START, _END, _FIRST_PHONE = 2, 3, 4
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()

_OUTPUTS = [
    f"{phone}{stress}"
    for phone in sorted(PHONES)
    for stress in (("0", "1", "2") if phone in _VOWELS else ("",))
]
_OUTPUTS.insert(_OUTPUTS.index("UW0"), "UW")
"""The network's phones in their order; it knows UW without stress as well."""


def weights_file() -> Path | None:
    """Return the file of the network's weights; None where the package is not installed."""
    spec = find_spec("g2p_en")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / _WEIGHTS
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _weights() -> dict[str, np.ndarray] | None:
    path = weights_file()
    if path is None:
        return None
    with np.load(path) as stored:
        return dict(stored)


def is_available() -> bool:
    """Return whether the network's package is installed."""
    return _weights() is not None


@lru_cache(maxsize=65536)
def guess(word: str) -> tuple[str, ...] | None:
    """Return the likely phones of an English word, or None where the package is missing or there are no letters."""
    plain = word.lower().strip("'")
    if plain.endswith("'s") and (stem := guess(plain[:-2])):
        return with_s(stem)
    letters = [_FIRST_LETTER + LETTERS.index(char) for char in plain if char in LETTERS]
    weights = _weights()
    if weights is None or not letters:
        return None
    state = np.zeros(weights["enc_w_hh"].shape[1], np.float32)
    for letter in [*letters, _END_OF_WORD]:
        state = _step(weights, "enc", letter, state)
    found: list[str] = []
    last = _START
    # No word has more phones; without an end it would not stop.
    for _ in range(2 * len(letters) + 4):
        state = _step(weights, "dec", last, state)
        last = int((weights["fc_w"] @ state + weights["fc_b"]).argmax())
        if last == _END:
            break
        if last >= _FIRST_PHONE:
            found.append(_OUTPUTS[last - _FIRST_PHONE].rstrip("012"))
    return tuple(found) or None


def _step(weights: dict[str, np.ndarray], layer: str, symbol: int, state: np.ndarray) -> np.ndarray:
    """Return the next state of a gated recurrent unit."""
    inner = weights[f"{layer}_w_ih"] @ weights[f"{layer}_emb"][symbol] + weights[f"{layer}_b_ih"]
    outer = weights[f"{layer}_w_hh"] @ state + weights[f"{layer}_b_hh"]
    size = len(state)
    gates = 1 / (1 + np.exp(-(inner[: 2 * size] + outer[: 2 * size])))
    reset, update = gates[:size], gates[size:]
    new = np.tanh(inner[2 * size :] + reset * outer[2 * size :])
    return (1 - update) * new + update * state
