"""Stages of a long experiment: each is done once, resumed when interrupted, several at a time, until a deadline.

A stage's commands must be such that running them again continues what they began; svae's are.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.3
STOPPING_SECONDS = 45.0
"""What a command gets to write its checkpoint after SIGINT, before it is killed."""


@dataclass(frozen=True)
class Stage:
    """A part of the experiment."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    """Run one after the other, from the root of the checkout."""
    needs: tuple[str, ...] = ()
    budget: str = ""
    """What it depends on besides its needs, such as steps; with another one it is run again."""
    complete: Callable[[], str | None] = field(default=lambda: None)
    """Returns what is missing after the commands ended well, or None. A training that is stopped ends with status 0."""


@dataclass
class Job:
    """A stage that is running."""

    stage: Stage
    process: subprocess.Popen[bytes]
    command: int
    """Which of its commands."""
    log: IO[bytes]
    began: float


class Stages:
    """What is done, in a folder that lasts."""

    def __init__(self, stages: Iterable[Stage], out: Path) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.out = out
        self._keys: dict[str, str] = {}

    def key(self, name: str) -> str:
        """Return what the marker of a finished stage says: a digest of its budget and of those that it needs."""
        if name not in self._keys:
            stage = self.stages[name]
            parts = [name, stage.budget, *(self.key(need) for need in stage.needs)]
            self._keys[name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return self._keys[name]

    def marker(self, name: str) -> Path:
        """Return the file that says that a stage is done."""
        return self.out / "done" / name

    def is_done(self, name: str) -> bool:
        """Tell whether a stage is finished, with the budget that is asked for."""
        try:
            return self.marker(name).read_text() == self.key(name)
        except FileNotFoundError:
            return False

    def mark(self, name: str) -> None:
        """Say that a stage is finished."""
        path = self.marker(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name}")
        temporary.write_text(self.key(name))
        temporary.replace(path)

    def left(self) -> list[Stage]:
        """Return the stages that are not done, in order."""
        return [stage for name, stage in self.stages.items() if not self.is_done(name)]

    def wanted(self, only: Sequence[str] = ()) -> set[str]:
        """Return what has to be run for those stages that nothing else needs.

        What a finished stage needed is not made again, though it may not be here: results come from other machines, too. With
        `only`, stages whose names begin with one of these words are wanted, and nothing else.
        """
        needed = {need for stage in self.stages.values() for need in stage.needs}
        waiting = [name for name in self.stages if name not in needed]
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in found and not self.is_done(name):
                found.add(name)
                waiting += self.stages[name].needs
        return {name for name in found if not only or name.split("-")[0] in only}


def run_stages(
    plan: Stages,
    *,
    root: Path,
    jobs: int,
    environment: dict[str, str],
    deadline: float | None = None,
    only: Sequence[str] = (),
) -> int:
    """Run what is not done, in order, as soon as its needs are; return 0, or 1 where a stage failed.

    Args:
        plan: The stages.
        root: Folder the commands run in.
        jobs: How many at a time.
        environment: Of the commands.
        deadline: `time.monotonic()` at which everything is stopped; None: never. That is no failure.
        only: Only stages whose names begin with one of these words; empty: all.
    """
    failed: set[str] = set()
    running: dict[str, Job] = {}
    with one_at_a_time(plan.out), stopping_by_signals() as stop:
        while True:
            for job in list(running.values()):
                _step(plan, job, running, failed, root, environment)
            over = stop() or (deadline is not None and time.monotonic() >= deadline)
            if over:
                _stop(plan, running)
                _say(f"stopped; {len(plan.left())} of {len(plan.stages)} stages are left")
                return 130 if stop() else 0
            for stage in _ready(plan, running, failed, only):
                if len(running) >= jobs:
                    break
                running[stage.name] = _start(plan, stage, 0, root, environment, time.time())
            if not running:
                return int(bool(failed))
            time.sleep(POLL_SECONDS)


def _ready(
    plan: Stages, running: dict[str, Job], failed: set[str], only: Sequence[str]
) -> list[Stage]:
    wanted = plan.wanted(only)
    return [
        stage
        for stage in plan.left()
        if stage.name in wanted
        and stage.name not in running
        and stage.name not in failed
        and all(plan.is_done(need) for need in stage.needs)
    ]


def _start(
    plan: Stages, stage: Stage, command: int, root: Path, environment: dict[str, str], began: float
) -> Job:
    path = plan.out / "logs" / f"{stage.name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    if command == 0:
        _say(f"{stage.name}, see {path}")
    log = path.open("ab")
    arguments = stage.commands[command]
    log.write(f"\n$ {' '.join(arguments)}\n".encode())
    log.flush()
    process = subprocess.Popen(
        arguments,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # signals reach it when this program passes them on
    )
    return Job(stage, process, command, log, began)


def _step(
    plan: Stages,
    job: Job,
    running: dict[str, Job],
    failed: set[str],
    root: Path,
    environment: dict[str, str],
) -> None:
    """See whether a job's command has ended, and go on with the next one."""
    code = job.process.poll()
    if code is None:
        return
    job.log.close()
    name = job.stage.name
    if code == 0 and job.command + 1 < len(job.stage.commands):
        running[name] = _start(plan, job.stage, job.command + 1, root, environment, job.began)
        return
    del running[name]
    missing = f"ended with {code}" if code else job.stage.complete()
    seconds = _note_time(plan, job)
    if missing is None:
        plan.mark(name)
        _say(f"{name}: done after {seconds:.0f} s")
        return
    failed.add(name)
    _say(f"{name}: FAILED after {seconds:.0f} s: {missing}")
    log = plan.out / "logs" / f"{name}.log"
    print("\n".join(f"    {line}" for line in log.read_text(errors="replace").split("\n")[-8:]))


def _note_time(plan: Stages, job: Job) -> float:
    """Add the seconds that a job took to hours.jsonl; an interrupted stage has several rows."""
    seconds = time.time() - job.began
    row = {"stage": job.stage.name, "seconds": round(seconds, 1), "ended": round(time.time())}
    with (plan.out / "hours.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return seconds


def _stop(plan: Stages, running: dict[str, Job]) -> None:
    """End what runs as Ctrl-C would, wait, and kill what does not end."""
    for job in running.values():
        _send(job.process, signal.SIGINT)
    limit = time.monotonic() + STOPPING_SECONDS
    for job in running.values():
        try:
            job.process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            _send(job.process, signal.SIGKILL)
            job.process.wait()
        job.log.close()
        _note_time(plan, job)


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


@contextmanager
def one_at_a_time(out: Path) -> Iterator[None]:
    """Hold the folder's lock."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"{out}: the experiment is running in another process; end that one first")
        yield


@contextmanager
def stopping_by_signals() -> Iterator[Callable[[], bool]]:
    """Take note of SIGINT and SIGTERM instead of ending; yields what says whether one came."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
