"""A GPU that is not there: what a program would compute on it, without numbers, to see devices, types and memory.

torch's fake tensors have shapes, types and devices, and no memory. Two things stop them on a machine without CUDA, and are
done here in their place: autograd's engine looks for the streams of a device (`_backward` visits the same nodes in the same
order), and attention takes another kernel than a GPU would. Only for looking ahead; nothing of it runs while something is
trained.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

Result = TypeVar("Result")
DEVICE = torch.device("cuda", 0)
IMPORTED_BEFORE = ("peft",)
"""What is imported when it is needed, and must not be where tensors are fake: libraries that make tensors as they are imported
keep fake ones then, and peft's imports, in compiled code, left a heap that was found damaged later."""


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Make tensors and modules fake, and yield the GPU that they can be on.

    Modules come there by `module.to(device)`, also those that were built before. Asking for a value, as `float(tensor)`, is
    torch's DataDependentOutputException.
    """
    for library in IMPORTED_BEFORE:
        if find_spec(library) is not None:
            import_module(library)
    # Autograd starts its threads, one for each GPU, at the first step of a process: here, where there is none. A process that
    # had started them for this one could not train in children that it forks.
    torch.zeros(1, requires_grad=True).sum().backward()
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(_AsOnAGPU())
        for where, what, replacement in (
            (torch.Tensor, "backward", _backward),
            (nn.Module, "to", _module_to),
            (torch.Tensor, "__deepcopy__", _deep_copy),
            (nn.Parameter, "__deepcopy__", _deep_copy),
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *_, **__: True),
            (torch.cuda, "manual_seed_all", lambda seed: None),
        ):
            stack.enter_context(mock.patch.object(where, what, replacement))
        yield DEVICE


class _AsOnAGPU(TorchFunctionMode):
    """Attention is computed by the kernel that a GPU takes where there is a mask; what the host has is real and stays so."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func is Tensor.pin_memory:
            return args[0]
        kwargs = kwargs or {}
        if _is_of_the_host((*args, *kwargs.values())):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        return func(*args, **kwargs)


def on_host(work: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that does its work on real tensors, in the middle of fake ones: what never runs on a GPU."""

    @functools.wraps(work)
    def with_numbers(*args: Any, **kwargs: Any) -> Result:
        with unset_fake_temporarily():
            return work(*args, **kwargs)

    return with_numbers


def _is_of_the_host(arguments: Any) -> bool:
    """Return whether what is called has real tensors or memory, no fake ones, and names no GPU."""
    real = False
    for each in arguments:
        for one in each if isinstance(each, (list, tuple)) else (each,):
            if isinstance(one, FakeTensor) or (
                isinstance(one, torch.device) and one.type == "cuda"
            ):
                return False
            # A file of weights is read as a storage first.
            real = real or isinstance(one, (Tensor, torch.UntypedStorage))
    return real


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bias = None
    if attn_mask is not None:
        bias = torch.zeros(attn_mask.shape, dtype=query.dtype, device=attn_mask.device)
        bias = bias.expand(*query.shape[:-1], key.shape[-2])
    attend: Any = torch.ops.aten._scaled_dot_product_efficient_attention
    gradients = torch.is_grad_enabled() and query.requires_grad
    output, *_rest = attend(query, key, value, bias, gradients, dropout_p, is_causal, scale=scale)
    return output


def _module_to(module: nn.Module, device: torch.device | str, *_: Any, **__: Any) -> nn.Module:
    """Do what `nn.Module.to` does; those that share a parameter go on sharing it."""
    device = torch.device(device)
    moved: dict[int, Any] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and not _is_there(parameter, device):
                if id(parameter) not in moved:
                    data = _empty(parameter, device)
                    moved[id(parameter)] = nn.Parameter(data, parameter.requires_grad)
                part._parameters[name] = moved[id(parameter)]
        for name, buffer in part._buffers.items():
            if buffer is not None and not _is_there(buffer, device):
                part._buffers[name] = _empty(buffer, device)
    return module


_COPY_OF_A_TENSOR, _COPY_OF_A_PARAMETER = Tensor.__deepcopy__, nn.Parameter.__deepcopy__


def _deep_copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Copy a tensor; torch's way leaves a fake one with a storage that is another for each of its views."""
    if not isinstance(tensor, FakeTensor):
        real = isinstance(tensor, nn.Parameter)
        return (_COPY_OF_A_PARAMETER if real else _COPY_OF_A_TENSOR)(tensor, memo)
    if id(tensor) not in memo:
        copied = _empty(tensor, tensor.device)
        if isinstance(tensor, nn.Parameter):
            copied = nn.Parameter(copied, tensor.requires_grad)
        memo[id(tensor)] = copied
    return memo[id(tensor)]


def _is_there(tensor: Tensor, device: torch.device) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.device == device


def _empty(tensor: Tensor, device: torch.device) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)


# ----------------------------------------------------------------------------------------------- autograd


class _Saved:
    """What a node keeps for its backward pass, until that has been."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor


@contextmanager
def freeing() -> Iterator[None]:
    """What is saved for backward passes is freed as they go on, as autograd's engine does it: for counting memory."""
    with torch.autograd.graph.saved_tensors_hooks(_Saved, _unpack):
        yield


_used: list[_Saved] = []


def _unpack(saved: _Saved) -> Tensor:
    assert saved.tensor is not None, "a node was visited twice"
    _used.append(saved)
    return saved.tensor


_passes = itertools.count(1)


def _backward(loss: Tensor, gradient: Tensor | None = None, **_: Any) -> None:
    """Do what `Tensor.backward` does for one scalar, without autograd's engine."""
    if gradient is None:
        gradient = torch.ones_like(loss)
    number = next(_passes)
    patched = mock.patch.object(torch._C, "_current_graph_task_id", lambda: number)
    with torch.no_grad(), patched:
        _visit(loss.grad_fn, gradient)


def _visit(root: Any, gradient: Tensor) -> None:
    waiting = _count_edges(root)
    # By node, what came for each of its outputs so far.
    received: dict[Any, list[Tensor | None]] = {root: [gradient]}
    order = itertools.count()
    # As the engine: the youngest node first; accumulation into leaves as soon as it can be.
    ready: list[tuple[int, int, Any]] = [(0, next(order), root)]
    while ready:
        node = heapq.heappop(ready)[-1]
        inputs = received.pop(node)
        inputs = [
            _fitted(each, meta) for each, meta in zip(inputs, node._input_metadata, strict=True)
        ]
        # A custom torch.autograd.Function is called by `apply`.
        call: Callable[..., Any] = node.apply if hasattr(node, "apply") else node
        outputs = call(*inputs)
        for saved in _used:
            saved.tensor = None
        _used.clear()
        del inputs
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        for output, (following, index) in zip(outputs, node.next_functions, strict=True):
            if following is None:
                continue
            slots = received.setdefault(following, [None] * len(following._input_metadata))
            if output is not None:
                before = slots[index]
                slots[index] = output if before is None else before + output
            waiting[following] -= 1
            if not waiting[following]:
                heapq.heappush(ready, (-following._sequence_nr(), next(order), following))
        del outputs


def _count_edges(root: Any) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    stack, seen = [root], {root}
    while stack:
        for following, _ in stack.pop().next_functions:
            if following is None:
                continue
            counts[following] = counts.get(following, 0) + 1
            if following not in seen:
                seen.add(following)
                stack.append(following)
    return counts


def _fitted(gradient: Tensor | None, wanted: Any) -> Tensor | None:
    """Return a gradient in the shape and type of what it belongs to, as the engine does; a wrong device is an error."""
    if gradient is None:
        return None
    if tuple(gradient.shape) != tuple(wanted.shape):
        gradient = gradient.sum_to_size(wanted.shape)
    if gradient.dtype != wanted.dtype:
        gradient = gradient.to(wanted.dtype)
    if gradient.device != wanted.device:
        raise RuntimeError(f"a gradient on {gradient.device} for a tensor on {wanted.device}")
    return gradient
