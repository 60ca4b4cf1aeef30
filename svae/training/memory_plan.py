"""What a training step takes of a GPU's memory: the real step on tensors without memory, every one of them counted.

Nothing is computed and no GPU is needed. What is counted is what torch's allocator hands out; what CUDA, its libraries and
gaps between blocks take beside it is `RESERVE`, a guess: it was not compared with a run on a GPU. What cuDNN and cuBLAS use
while they work is in no count either. docs/benchmarks.md compares the rest with real runs.
"""

from __future__ import annotations

import copy
import functools
import gc
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svae.training.optim import AdamW

GIB = 2**30
BLOCK = 512
"""torch's allocator on a GPU hands out whole blocks of so many bytes."""
RESERVE = 1.0, 0.05
"""GiB that CUDA and its libraries take, and the share of what is allocated that is lost between blocks."""
ROWS = 61
"""Rows of the pieces that a step is traced with. A prime that no width is a multiple of: what has a multiple of so many bytes
is there once for every row, and how large it is with other rows is known without another look."""

ACTIVATIONS = "activations"

Thing = TypeVar("Thing")


@dataclass
class Plan:
    """Bytes that a step takes at its peak, by what takes them."""

    parts: dict[str, int]
    reserve: int = field(init=False)
    """What is not torch's."""

    def __post_init__(self) -> None:
        gib, share = RESERVE
        self.reserve = int(gib * GIB + share * sum(self.parts.values()))

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values()) + self.reserve

    def __str__(self) -> str:
        """Say it in GiB."""
        listed = [f"{name} {size / GIB:.2f}" for name, size in self.parts.items() if size]
        return f"{self.total / GIB:.1f} GiB ({', '.join(listed)}, reserve {self.reserve / GIB:.2f})"


# ----------------------------------------------------------------------------------------------- traces


@dataclass(frozen=True)
class Trace:
    """What a step took and gave back, in its order, with so many rows in every piece."""

    kinds: tuple[str, ...]
    kind: np.ndarray
    """(N,) of each event, as an index into `kinds`."""
    size: np.ndarray
    """(N,) bytes, negative where they were given back."""
    rows: int
    fixed: frozenset[int]
    """Sizes of weights: they do not grow with the rows, whatever they are multiples of."""
    brought: np.ndarray
    """(M,) bytes of what one piece brings to the device, which is there from the beginning of the step to its end."""

    def plan(self, rows: int | None = None, waiting: int = 0) -> Plan:
        """Return what the step takes at its peak.

        Args:
            rows: In every piece; as many as were traced by default. Sizes that are multiples of the traced rows are taken for
                those of batches, so another number asks for a trace with `ROWS`.
            waiting: Rows of further pieces, of which only that is there which they bring.
        """
        blocks = self._blocks(np.abs(self.size), rows) * np.sign(self.size)
        live = np.cumsum(blocks)
        peak = int(live.argmax()) + 1 if len(live) else 0
        sums = np.bincount(self.kind[:peak], weights=blocks[:peak], minlength=len(self.kinds))
        parts = {name: int(total) for name, total in zip(self.kinds, sums, strict=True)}
        if waiting:
            more = int(self._blocks(self.brought, waiting).sum())
            parts[ACTIVATIONS] = parts.get(ACTIVATIONS, 0) + more
        return Plan(parts)

    def _blocks(self, size: np.ndarray, rows: int | None) -> np.ndarray:
        if rows is not None and rows != self.rows:
            grows = (size % self.rows == 0) & ~np.isin(size, list(self.fixed))
            size = np.where(grows, size // self.rows * rows, size)
        return -(-size // BLOCK) * BLOCK


class MemoryMeter(TorchDispatchMode):
    """Notes what tensors on one kind of device take and give back, by what they are for."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.live: dict[int, tuple[str, int, Any]] = {}
        self.events: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                self.see(each)
        return result

    def see(self, tensor: Tensor, kind: str | None = None) -> None:
        """Count a tensor, for the first time or as another kind; what is not named is an activation."""
        if tensor.device.type != self.device_type:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self.live.get(key)
        if known is not None:
            if kind is None or kind == known[0]:
                return
            before, size, reference = known
            self.events.append((before, -size))
        else:
            size = storage.nbytes()
            reference = weakref.ref(storage, lambda _: self._gone(key))
        kind = kind or ACTIVATIONS
        self.live[key] = kind, size, reference
        self.events.append((kind, size))

    def _gone(self, key: int) -> None:
        kind, size, _ = self.live.pop(key)
        self.events.append((kind, -size))

    def brought(self, bring: Callable[[], object]) -> np.ndarray:
        """Return the sizes of what is there more after `bring`, as long as its result is; the events are forgotten."""
        count, before = len(self.events), set(self.live)
        with self:
            result = bring()
        sizes = [size for key, (_, size, _) in self.live.items() if key not in before]
        del result
        del self.events[count:]
        return np.array(sizes, dtype=np.int64)

    def trace(self, rows: int, fixed: Iterable[Tensor], brought: np.ndarray) -> Trace:
        """Return what was noted so far, of a step with so many rows in every piece and these weights."""
        kinds = tuple(dict.fromkeys(kind for kind, _ in self.events))
        numbers = {kind: number for number, kind in enumerate(kinds)}
        return Trace(
            kinds,
            np.array([numbers[kind] for kind, _ in self.events], dtype=np.int64),
            np.array([size for _, size in self.events], dtype=np.int64),
            rows,
            frozenset(each.untyped_storage().nbytes() for each in fixed),
            brought,
        )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Let Python look for no cycles: among a step's many small objects that takes a third of the time, and finds none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def measure(
    step: Callable[[], object],
    known: Mapping[str, Iterable[Tensor]],
    optimizers: Sequence[AdamW],
    *,
    bring: Callable[[], object] = lambda: None,
    rows: int,
    device_type: str = "cuda",
) -> Trace:
    """Return what a step takes that is not the first of its run, as the optimizers' moments are there.

    Args:
        step: What is measured.
        known: Tensors that are there before and stay, by what they are.
        optimizers: Of all that is trained.
        bring: Does what a step does first with each of its pieces, all before the gradients of the first.
        rows: In every piece of the step.
        device_type: Whose memory is counted.
    """
    parameters = [
        parameter
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    meter = MemoryMeter(device_type)
    moments = [each for optimizer in optimizers for each in tree_leaves(dict(optimizer.state))]
    fixed = []
    for kind, tensors in {**known, "optimizers": moments}.items():
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                meter.see(tensor, kind)
                fixed.append(tensor)

    def gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            meter.see(parameter.grad, "gradients")

    hooks = [each.register_post_accumulate_grad_hook(gradient) for each in parameters]
    with _without_collector():
        brought = meter.brought(bring)
        with meter:
            step()
    for hook in hooks:
        hook.remove()
    return meter.trace(rows, fixed, brought)


class StepPlans:
    """Plans of a step in any number of pieces, with activations kept or computed twice, by at most four traces.

    Args:
        trace: Traces a step of one piece or of two, with `ROWS` rows in each; True where activations are computed twice.
            More pieces than two take no more than two, but for what each of them brings.
        rows: How many the largest piece has, by the number of pieces.
        fewest: Pieces, all of which can be as large as the largest.
    """

    def __init__(
        self, trace: Callable[[int, bool], Trace], rows: Callable[[int], int], fewest: int
    ) -> None:
        self._trace = functools.cache(trace)
        self._rows = functools.cache(rows)
        self._fewest = fewest

    def __call__(self, pieces: int, twice: bool) -> Plan:
        """Return what a step in so many pieces takes, with activations computed `twice` or not."""
        rows, together = self._rows(pieces), min(pieces, 2)
        share = self._fewest * self._rows(self._fewest)
        waiting = max(0, share - together * rows)
        return self._trace(together, twice).plan(rows, waiting)


def tensors_of(*modules: nn.Module | None) -> list[Tensor]:
    """Return all parameters and buffers of modules."""
    return [
        each
        for module in modules
        if module is not None
        for each in (*module.parameters(), *module.buffers())
    ]


def on_fake_gpu(thing: Thing, device: torch.device) -> Thing:
    """Return a copy of an object whose modules are on the GPU that is not there; the object stays as it is."""
    modules = [thing] if isinstance(thing, nn.Module) else list(vars(thing).values())
    memo: dict[int, Any] = {}
    for tensor in tensors_of(*(each for each in modules if isinstance(each, nn.Module))):
        fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        if isinstance(tensor, nn.Parameter):
            fake = nn.Parameter(fake, tensor.requires_grad)
        memo[id(tensor)] = fake
    return copy.deepcopy(thing, memo)
