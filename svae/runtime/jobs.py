"""Work on many shards in several processes: one progress bar, Ctrl-C that loses no finished shard.

A job runs in a process of its own with one thread, so that its result does not depend on the number of processes.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from svae.errors import DataError

Result = TypeVar("Result")
Tick = Callable[[], None]
"""A job calls it after every utterance: it moves the bar, and ends the job where the user wants that."""


class RunJobs(Protocol):
    """Does jobs over shards, somewhere: `run_jobs` where that is this machine."""

    def __call__(
        self,
        function: Callable[..., Result],
        jobs: dict[int, tuple[Any, ...]],
        *,
        description: str,
        console: Console,
        total: int | None,
        completed: int = 0,
    ) -> dict[int, Result]:
        """Call `function(*job, tick)` for every job; see `run_jobs`."""


def run_jobs(
    function: Callable[..., Result],
    jobs: dict[int, tuple[Any, ...]],
    *,
    workers: int | None,
    description: str,
    console: Console,
    total: int | None,
    completed: int = 0,
) -> dict[int, Result]:
    """Call `function(*job, tick)` for every job in a pool of processes.

    Args:
        function: a function of a module, so that a process can find it; writes its shard whole or not at all.
        jobs: number of the shard → arguments.
        workers: processes; None: one per core.
        description: beside the progress bar.
        console: where the bar is drawn.
        total: utterances, for the bar; None: not known.
        completed: how many of them an earlier run finished.

    Returns:
        Number of the shard → what the function returned.

    Raises:
        DataError: a process died.
        KeyboardInterrupt: after every process has left what it was at.
    """
    if not jobs:
        return {}
    # Fork where it is safe to: starting afresh costs each process the seconds that importing torch takes.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    stop, counter = context.Event(), context.Value("q", completed)
    workers = min(cores() if workers is None else workers, len(jobs))
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(stop, counter)
    )
    results: dict[int, Result] = {}
    try:
        with CtrlC() as ctrl_c, progress_bar(console) as progress:
            task = progress.add_task(description, total=total, completed=completed)
            futures: dict[Future[Result], int] = {
                pool.submit(_run, function, job): n for n, job in jobs.items()
            }
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                results |= {futures[future]: future.result() for future in done}
                progress.update(task, completed=counter.value)
                if ctrl_c.pressed:
                    raise KeyboardInterrupt
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, most likely for want of memory. Finished shards are kept: run the same command "
            f"again with fewer than --workers {workers}."
        ) from error
    finally:
        stop.set()  # every job looks at it at its next tick
        pool.shutdown(wait=True, cancel_futures=True)
    return results


def run_here(
    function: Callable[..., Result],
    jobs: dict[int, tuple[Any, ...]],
    *,
    description: str,
    console: Console,
    total: int | None,
    completed: int = 0,
) -> dict[int, Result]:
    """Do what `run_jobs` does, in this process, one job after the other: what has a GPU of its own needs no others."""
    results = {}
    with progress_bar(console) as progress:
        task = progress.add_task(description, total=total, completed=completed)
        for number, job in jobs.items():
            results[number] = function(*job, lambda: progress.advance(task))
    return results


class CtrlC:
    """Holds Ctrl-C back until it is asked for.

    Raised wherever the program happens to be, KeyboardInterrupt can leave the lock of the counter or of the progress
    bar taken, and whoever waits for that waits for ever.
    """

    def __enter__(self) -> CtrlC:
        self.pressed = False
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        if self._in_main_thread:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, signum: int, frame: object) -> None:
        if self.pressed:  # a second one means it
            raise KeyboardInterrupt
        self.pressed = True

    def __exit__(self, *_: object) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGINT, self._previous)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Rate(ProgressColumn):
    """Utterances per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


def progress_bar(console: Console) -> Progress:
    """Return a bar with count, rate and time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


# ----------------------------------------------------------------------------------------------- in the workers


class _Interrupted(Exception):
    """The parent wants the worker to end."""


_stop: Any = None
_counter: Any = None


def _start_worker(stop: Any, counter: Any) -> None:
    """Leave Ctrl-C to the parent, die with it, and use one thread, whatever the number of workers."""
    global _stop, _counter
    _stop, _counter = stop, counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        # A parent that was killed cannot end its workers, and two runs must not write the same shards.
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _run(function: Callable[..., Result], job: tuple[Any, ...]) -> Result:
    return function(*job, _tick)


def _tick() -> None:
    if _stop.is_set():
        raise _Interrupted
    with _counter.get_lock():
        _counter.value += 1
