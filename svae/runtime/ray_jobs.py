"""Jobs over shards on the nodes of a Ray cluster: what `--ray` puts in the place of this machine's processes.

A job gets a process with one thread there too, so that it writes the same bytes as alone. What a lost node had is done
again by another one. Ray itself is imported when a cluster is opened.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console

import svae
from svae.errors import ConfigError, DataError, SvaeError
from svae.runtime.distributed import describe_device
from svae.runtime.jobs import CtrlC, RunJobs, progress_bar, run_here, run_jobs

Result = TypeVar("Result")
Handle = Any

MAX_TRIES = 4
"""A job that is lost so often most likely ends its process itself. Ray's own number."""
AHEAD = 2
"""Jobs handed to the cluster, for each that it can do at a time: no node waits for the next, and few arguments lie around."""
TICK_SECONDS = 0.5
"""A job says so often how far it is."""
LEAVE_SECONDS = 10.0
"""How long jobs that are called off have to leave what they are at."""


@dataclass(frozen=True)
class RayOptions:
    """A Ray cluster that jobs go to."""

    address: str
    """`auto`, the cluster that this machine is of, or HOST:PORT of its head."""
    gpus: float = 1.0
    """What a job takes of a GPU, where jobs go to GPUs: 0.25 puts four on one."""


class LostJob(Exception):
    """The node or the process that had a job is gone; says why."""


class Cluster(Protocol):
    """What `run_on` asks of a cluster."""

    def slots(self) -> int:
        """Return how many jobs can be done at a time now."""

    def submit(self, number: int, function: Callable[..., Any], job: tuple[Any, ...]) -> Handle:
        """Have the job done by a node that is free, as soon as there is one."""

    def finished(self, handles: list[Handle]) -> list[Handle]:
        """Return those of the jobs that are over, after waiting a moment for one."""

    def result(self, handle: Handle) -> tuple[Any, int]:
        """Return what a job that is over returned, and its ticks. Raises LostJob, or what the job raised."""

    def ticks(self) -> dict[int, int]:
        """Return how many ticks the jobs have done, as far as they said."""

    def cancel(self, handles: list[Handle]) -> None:
        """Call jobs off, and wait until they have left what they were at."""


def run_on(
    cluster: Cluster,
    function: Callable[..., Result],
    jobs: dict[int, tuple[Any, ...]],
    *,
    description: str,
    console: Console,
    total: int | None,
    completed: int = 0,
) -> dict[int, Result]:
    """Do what `run_jobs` does, on a cluster: same arguments, same results.

    Raises:
        DataError: a job was lost `MAX_TRIES` times.
        KeyboardInterrupt: after the jobs were called off.
    """
    if not jobs:
        return {}
    results: dict[int, Result] = {}
    ticks: dict[int, int] = {}
    losses: Counter[int] = Counter()
    waiting, running = deque(jobs), dict[Handle, int]()
    try:
        with CtrlC() as ctrl_c, progress_bar(console) as progress:
            task = progress.add_task(description, total=total, completed=completed)
            while waiting or running:
                while waiting and len(running) < AHEAD * max(1, cluster.slots()):
                    number = waiting.popleft()
                    running[cluster.submit(number, function, jobs[number])] = number
                for handle in cluster.finished(list(running)):
                    number = running.pop(handle)
                    try:
                        results[number], ticks[number] = cluster.result(handle)
                    except LostJob as lost:
                        losses[number] += 1
                        if losses[number] == MAX_TRIES:
                            raise DataError(_given_up(number, lost)) from None
                        said = f"note: job {number} was lost ({lost}); it is done again elsewhere."
                        progress.console.print(said, highlight=False, markup=False, soft_wrap=True)
                        waiting.appendleft(number)
                done = sum((cluster.ticks() | ticks).values())
                progress.update(task, completed=completed + done)
                if ctrl_c.pressed:
                    raise KeyboardInterrupt
    finally:
        cluster.cancel(list(running))
    return results


def _given_up(number: int, lost: LostJob) -> str:
    return (
        f"job {number} was lost {MAX_TRIES} times on the cluster, the last time: {lost}.\nMost likely it takes more memory "
        "than a node has. Finished shards are kept: the same command continues."
    )


# ----------------------------------------------------------------------------------------------- the cluster itself


@dataclass(frozen=True)
class Runner:
    """Where jobs are done."""

    run: RunJobs
    device: str
    """On what: to be handed to the jobs."""
    where: str
    """That in words."""


@contextmanager
def open_runner(
    *, folder: Path, device: str = "cpu", workers: int | None = None, ray: RayOptions | None = None
) -> Iterator[Runner]:
    """Give what does jobs: processes of this machine, this process on its GPU, or the nodes of a cluster.

    Args:
        folder: where the jobs write: all nodes of a cluster must see it.
        device: of the jobs: one that this process has; with `ray` as `open_cluster` takes it.
        workers: processes on the CPUs of this machine; None: one per core.
        ray: the cluster; None: none.

    Raises:
        ConfigError: there is no such cluster.
    """
    if ray is not None:
        with open_cluster(ray, folder=folder, device=device) as cluster:
            yield Runner(partial(run_on, cluster), cluster.device, cluster.describe())
        return
    here = torch.device(device)
    run: RunJobs = partial(run_jobs, workers=workers) if here.type == "cpu" else run_here
    yield Runner(run, device, describe_device(here))


@contextmanager
def open_cluster(options: RayOptions, *, folder: Path, device: str = "cpu") -> Iterator[RayCluster]:
    """Join the cluster that `--ray` names; leave it at the end.

    Args:
        options: which cluster.
        folder: where jobs write: all nodes must see it.
        device: of the jobs: cpu, cuda, or auto, which is cuda where the cluster has any.

    Raises:
        ConfigError: ray is not installed, nobody answers there, this machine is not of the cluster, or that has no such device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"--device {device}: expected auto, cpu or cuda with --ray: the cluster says which GPU a job gets"
        )
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(
            "--ray: not under torchrun; the jobs are the cluster's, one process hands them out"
        )
    try:
        import ray
    except ImportError:
        raise ConfigError(
            f"--ray {options.address}: needs ray, which is not installed; try: pip install 'svae[ray]'"
        ) from None
    address = _answering(options.address)
    try:
        ray.init(address, logging_level=logging.ERROR, namespace="svae")
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"--ray {options.address}: no Ray cluster to be joined there ({str(error).splitlines()[0]}).\n"
            "Start one (`ray start --head`, on the others `ray start --address HOST:PORT`), and this command on one of its "
            "machines."
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    # Of a name that `remove_leftovers` knows, should this process be killed.
    mark = folder / f".ray.tmp-{os.getpid()}-{time.time_ns()}"
    mark.write_bytes(b"")
    try:
        if device == "auto":
            device = "cuda" if ray.cluster_resources().get("GPU", 0) > 0 else "cpu"
        cluster = RayCluster(ray, device, options.gpus if device == "cuda" else 0.0, mark)
        if not cluster.slots():
            raise ConfigError(
                f"--ray {options.address}: no node can do a job on {device}; the cluster is {cluster.describe()}"
            )
        yield cluster
    finally:
        mark.unlink(missing_ok=True)
        ray.shutdown()


def _answering(address: str) -> str:
    """Return an address where somebody answers; ray would try for long, and end the process."""
    there = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if there == "auto":
        return there
    host, colon, port = there.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host or int(port) > 65535:
        raise ConfigError(
            f"--ray {there}: expected auto (the cluster that this machine is of) or HOST:PORT of its head, as `ray start "
            "--head` prints it"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(
            f"--ray {there}: nobody answers ({error.strerror or error}). Is the head running (`ray status`), and the port open?"
        ) from None
    return there


@dataclass
class RayCluster:
    """A cluster that this process is a driver of."""

    ray: Any
    """The module."""
    device: str
    """Of the jobs: cpu or cuda."""
    gpus: float
    """What a job takes of a GPU; 0: it goes to CPUs."""
    mark: Path
    """A file in the folder of the results, by which a node shows that it sees that folder."""
    _counter: Any = field(init=False)
    _remote: Any = field(init=False)

    def __post_init__(self) -> None:
        """Start what counts ticks, beside this process: no other node's end takes it along."""
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        here = strategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        self._counter = (
            self.ray.remote(_Counter).options(num_cpus=0, scheduling_strategy=here).remote()
        )
        # Ray would do lost jobs again by itself, but say nothing of it.
        self._remote = self.ray.remote(_work).options(
            num_cpus=1, num_gpus=self.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )

    def describe(self) -> str:
        """Return the cluster in words."""
        nodes = sum(node["Alive"] for node in self.ray.nodes())
        what = self.ray.cluster_resources()
        share = f", {self.gpus:g} of a GPU for each job" if self.gpus else ""
        return (
            f"{self.device} of a Ray cluster ({nodes} node{'s' if nodes > 1 else ''}, {what.get('CPU', 0):g} CPUs, "
            f"{what.get('GPU', 0):g} GPUs{share})"
        )

    def slots(self) -> int:
        """Return how many jobs can be done at a time now."""
        what = self.ray.cluster_resources()
        cpus = what.get("CPU", 0)
        return int(min(cpus, what.get("GPU", 0) / self.gpus) if self.gpus else cpus)

    def submit(self, number: int, function: Callable[..., Any], job: tuple[Any, ...]) -> Handle:
        """Have the job done by a node that is free, as soon as there is one."""
        return self._remote.remote(
            function, job, number, self._counter, self.mark, Path.cwd(), svae.__version__
        )

    def finished(self, handles: list[Handle]) -> list[Handle]:
        """Return those of the jobs that are over, after waiting a moment for one."""
        done, _ = self.ray.wait(handles, num_returns=1, timeout=0.2)
        if done:
            done, _ = self.ray.wait(handles, num_returns=len(handles), timeout=0)
        return list(done)

    def result(self, handle: Handle) -> tuple[Any, int]:
        """Return what a job that is over returned, and its ticks. Raises LostJob, or what the job raised."""
        try:
            value: tuple[Any, int] = self.ray.get(handle)
            return value
        except self.ray.exceptions.RayTaskError as error:
            # What was said for the user; bugs keep the traceback of the node, which is in ray's error.
            if isinstance(error.cause, SvaeError):
                raise error.cause from None
            raise
        except self.ray.exceptions.RayError as error:
            raise LostJob(f"{type(error).__name__}: {str(error).splitlines()[0]}") from None

    def ticks(self) -> dict[int, int]:
        """Return how many ticks the jobs have done, as far as they said."""
        try:
            value: dict[int, int] = self.ray.get(self._counter.all.remote(), timeout=1)
            return value
        except self.ray.exceptions.RayError:  # the bar is no reason to end a run
            return {}

    def cancel(self, handles: list[Handle]) -> None:
        """Call jobs off, and wait until they have left what they were at."""
        for handle in handles:
            self.ray.cancel(handle)
        if handles:
            self.ray.wait(handles, num_returns=len(handles), timeout=LEAVE_SECONDS)


# ----------------------------------------------------------------------------------------------- on the nodes


class _Counter:
    """Knows the ticks of every job."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}

    def set(self, number: int, ticks: int) -> None:
        self._ticks[number] = ticks

    def all(self) -> dict[int, int]:
        return self._ticks


class _Ticks:
    """The tick of a job: counts, and tells the counter from time to time."""

    def __init__(self, counter: Any, number: int) -> None:
        self._counter, self._number = counter, number
        self.count, self._told = 0, time.monotonic()

    def __call__(self) -> None:
        self.count += 1
        if time.monotonic() - self._told > TICK_SECONDS:
            self._counter.set.remote(self._number, self.count)
            self._told = time.monotonic()


def _work(
    function: Callable[..., Result],
    job: tuple[Any, ...],
    number: int,
    counter: Any,
    mark: Path,
    folder: Path,
    version: str,
) -> tuple[Result, int]:
    """Do a job on this node, in the folder that the command was called in; return its result and its ticks."""
    node = socket.gethostname()
    if svae.__version__ != version:
        raise ConfigError(
            f"--ray: node {node} has svae {svae.__version__}, this command is {version}; install the same on all nodes"
        )
    if folder.is_dir():
        os.chdir(folder)
    if not mark.exists():
        raise ConfigError(
            f"--ray: node {node} does not see {mark.parent}. Results go to a folder that all nodes share, under the same name; "
            "what is to end at a URL is copied there afterwards."
        )
    torch.set_num_threads(1)
    ticks = _Ticks(counter, number)
    return function(*job, ticks), ticks.count
