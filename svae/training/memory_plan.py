"""What a training step takes of a GPU's memory: the real step on tensors without memory, every one of them counted.

Nothing is computed and no GPU is needed. What is counted is what torch's allocator hands out; what CUDA, its libraries and
gaps between blocks take beside it is `RESERVE`, a guess: it was not compared with a run on a GPU.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

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


class MemoryMeter(TorchDispatchMode):
    """Counts the memory of tensors on one kind of device while they live, by what they are for."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.live: dict[int, tuple[str, int, Any]] = {}
        self.sums: dict[str, int] = {}
        self.peak: dict[str, int] = {}

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
            self.sums[before] -= size
        else:
            size = math.ceil(storage.nbytes() / BLOCK) * BLOCK
            reference = weakref.ref(storage, lambda _: self._gone(key))
        kind = kind or "activations"
        self.live[key] = kind, size, reference
        self.sums[kind] = self.sums.get(kind, 0) + size
        if sum(self.sums.values()) > sum(self.peak.values()):
            self.peak = dict(self.sums)

    def _gone(self, key: int) -> None:
        kind, size, _ = self.live.pop(key)
        self.sums[kind] -= size


def measure(
    step: Callable[[], object],
    known: Mapping[str, Iterable[Tensor]],
    optimizers: Sequence[AdamW],
    device_type: str = "cuda",
) -> Plan:
    """Return what a step takes that is neither the first of its run, as the optimizers' moments are there.

    Args:
        step: What is measured.
        known: Tensors that are there before and stay, by what they are.
        optimizers: Of all that is trained.
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
    for kind, tensors in {**known, "optimizers": moments}.items():
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                meter.see(tensor, kind)

    def gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            meter.see(parameter.grad, "gradients")

    hooks = [each.register_post_accumulate_grad_hook(gradient) for each in parameters]
    with meter:
        step()
    for hook in hooks:
        hook.remove()
    return Plan(meter.peak)


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
