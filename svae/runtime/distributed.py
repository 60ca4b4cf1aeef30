"""One process or many: torchrun's environment, collectives, and which device this process uses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from svae.errors import ConfigError, SvaeError

Value = TypeVar("Value")

TIMEOUT_MINUTES = 30.0
"""A collective that waits longer than this ends the job, where nothing else is said."""
PATIENT_MINUTES = 7 * 24 * 60.0
"""The same for commands whose ranks work apart for hours and meet at the end. A rank that dies is noticed at once."""


@dataclass(frozen=True)
class World:
    """This process's place among the ranks. `world_size` 1 is plain `svae …` without torchrun."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True on the one rank that prints and writes."""
        return self.rank == 0


def select_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that exists.

    Raises:
        ConfigError: the device is unknown or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank)
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"--device {name!r}: not a device; use auto, cpu, cuda, cuda:N or mps"
        ) from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError(
                f"--device {name}: torch {torch.__version__} sees no CUDA GPU; use --device cpu"
            )
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise ConfigError(f"--device {name}: there are only {torch.cuda.device_count()} GPUs")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("--device mps: this torch has no Apple GPU; use --device cpu")
    return device


def describe_device(device: torch.device) -> str:
    """Return the device in words, for printing and for results."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


@contextmanager
def open_world(device_name: str, *, timeout_minutes: float = TIMEOUT_MINUTES) -> Iterator[World]:
    """Join the process group that torchrun describes in the environment; leave it at the end.

    Raises:
        ConfigError: no such device.
        SvaeError: another rank went away, or did not come to a collective in `timeout_minutes`.
    """
    try:
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError as error:
        raise ConfigError(
            f"WORLD_SIZE and LOCAL_RANK, as torchrun sets them, must be whole numbers ({error}); unset them for one process"
        ) from None
    device = select_device(device_name, local_rank=local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1:
        yield World(rank=0, world_size=1, device=device)
        return
    # Tensors of the GPUs go over NCCL, what hosts tell each other over gloo.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    _join(backend, timedelta(minutes=timeout_minutes))
    try:
        yield World(rank=dist.get_rank(), world_size=world_size, device=device)
    except RuntimeError as error:
        if not _lost_contact(error):
            raise
        if re.search(r"[Tt]imed ?out", str(error)):
            raise SvaeError(
                f"waited {timeout_minutes:g} minutes for another rank, which did not come.\n"
                "It hangs, or does what takes longer: --set trainer.collective_minutes=… lets a training wait longer."
            ) from None
        raise SvaeError(
            f"lost contact with another rank ({str(error).splitlines()[0][-120:]}).\n"
            "It was killed or failed; torchrun names it below, as the root cause. The same command resumes."
        ) from None
    finally:
        dist.destroy_process_group()


def _join(backend: str, timeout: timedelta) -> None:
    """Meet the other ranks where the environment says.

    Raises:
        ConfigError: the environment does not say it.
        SvaeError: nobody is there, or not all came in time.
    """
    place = ", ".join(
        f"{name}={os.environ.get(name, 'not set')}"
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    )
    try:
        dist.init_process_group(backend, timeout=timeout)
    except ValueError as error:
        raise ConfigError(
            f"WORLD_SIZE is set, but not where the ranks meet ({error}): {place}.\nStart several processes by torchrun, or "
            "unset WORLD_SIZE for one."
        ) from None
    except RuntimeError as error:  # DistError, or gloo's and NCCL's own
        raise SvaeError(
            f"the ranks did not meet ({str(error).splitlines()[0][:200]}): {place}.\n"
            "Is every node started, with the same address and number of processes, and can they reach each other?"
        ) from None


def _lost_contact(error: RuntimeError) -> bool:
    """Return whether a collective failed because a peer went away: gloo and NCCL say it in words only."""
    signs = (
        "gloo/transport",
        "Connection reset by peer",
        "Connection closed by peer",
        "remote process exited",
        "NCCL",
        "Timed out",
        "timed out",
    )
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)


def set_arithmetic(tf32: Literal["none", "convolutions", "all"], cudnn_benchmark: bool) -> None:
    """Set for this process how GPUs compute products of float32, and whether cuDNN tries its algorithms; see `TrainerConfig`."""
    torch.backends.cuda.matmul.allow_tf32 = tf32 == "all"
    torch.backends.cudnn.allow_tf32 = tf32 != "none"
    torch.backends.cudnn.benchmark = cudnn_benchmark


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device; what lies in a host's memory is sent without waiting for what the GPU does."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def data_parallel(module: nn.Module, world: World) -> nn.Module:
    """Average the module's gradients over ranks in its backward pass; the module itself where there is one rank."""
    if world.world_size == 1:
        return module
    ids = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(
        module, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def averaging(module: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    """Return a context in which backward passes of a `data_parallel` module average gradients over ranks, or only add them up."""
    if wanted or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


def sum_over_ranks(tensor: Tensor, world: World) -> Tensor:
    """Return the element-wise sum of a tensor over all ranks (without gradient)."""
    if world.world_size == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def copy_from_first_rank(tensor: Tensor, world: World) -> None:
    """Overwrite a tensor, in place, with rank 0's. All ranks must call it."""
    if world.world_size > 1:
        dist.broadcast(tensor.detach(), src=0)


def from_first_rank(value: Value, world: World) -> Value:
    """Return rank 0's value, which can be pickled. All ranks must call it."""
    if world.world_size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def any_rank(flag: bool, world: World) -> bool:
    """Return whether the flag is set on at least one rank. All ranks must call it."""
    if world.world_size == 1:
        return flag
    # By the hosts, over gloo: a device need not finish what it computes for that.
    return bool(sum_over_ranks(torch.tensor(float(flag)), world) > 0)


def share_of(total: int, world: World) -> int:
    """Return how many of `total` things are this rank's: as even as can be, where it does not divide too."""
    return (world.rank + 1) * total // world.world_size - world.rank * total // world.world_size


def gather_lists(items: list[str], world: World) -> list[str]:
    """Return the concatenation of every rank's list, in rank order. All ranks must call it."""
    if world.world_size == 1:
        return items
    gathered: list[list[str] | None] = [None] * world.world_size
    dist.all_gather_object(gathered, items)
    return [item for part in gathered if part for item in part]


def barrier(world: World) -> None:
    """Wait until every rank is here."""
    if world.world_size > 1:
        dist.barrier()
