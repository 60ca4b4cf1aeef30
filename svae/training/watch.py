"""What a training is watched for (signals, utterances that cannot be read, steps that are not finite) and what it shows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from svae.data.batches import MAX_FAILURE_SHARE
from svae.data.index import ShardIndex
from svae.errors import DataError, SvaeError
from svae.runtime.distributed import gather_lists
from svae.training.meter import StepResult
from svae.training.session import Session, State

ELASTIC_SECONDS = 10.0
"""Within these torchrun asks the processes of every node to stop, where it asks one."""


class StopRequest:
    """Turns SIGINT, SIGTERM and SIGUSR1 into a flag, so that the step finishes and a checkpoint is written.

    SLURM sends SIGUSR1 some time before the end where it is asked to (`--signal=USR1@300`), and SIGTERM at the end.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopRequest:
        self._previous = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", None))
            if number is not None  # Windows has no SIGUSR1
        }
        return self

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        # A second Ctrl-C means it. A SIGTERM that follows SIGUSR1 must not cut the saving short.
        if self.requested and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def leave(self, console: Console, step: int) -> None:
        """Say that the run was stopped; under torchrun, wait a moment until this process was asked itself.

        Of a job that gets another number of nodes, all processes stop when one is asked to. One that ends before its own
        torchrun asks it is taken for one that has finished the training, which then ends for all.
        """
        console.print(f"Stopped at step {step}; the same command continues from here.")
        deadline = time.monotonic() + ELASTIC_SECONDS
        while "TORCHELASTIC_RUN_ID" in os.environ and not self.requested:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Watch:
    """Names utterances that cannot be read and steps that are not finite; ends the run where there are too many.

    Whether a step was finite is known on the device. The host asks for it when it stops for something else.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.asked = 0
        self.unreadable = 0
        self.nonfinite_in_a_row = 0
        self.unseen: list[tuple[int, StepResult]] = []

    def add(self, result: StepResult, step: int) -> None:
        """Take note of a step, and name what of its batch could not be read.

        Raises:
            DataError: that is too much.
        """
        self.unseen.append((step, result))
        self.asked += len(result.keys) + len(result.failures)
        self.unreadable += len(result.failures)
        for failure in result.failures:
            self.session.console.print(
                f"[yellow]Skipped an utterance that cannot be read: {escape(failure)}[/]"
            )
        too_many = self.asked >= 100 and self.unreadable > MAX_FAILURE_SHARE * self.asked
        if result.failures and too_many:
            raise DataError(
                f"{self.unreadable} of {self.asked} utterances cannot be read (last: {result.failures[-1]}).\n"
                "Run `svae prepare` again."
            )

    def look(self) -> None:
        """Name the steps since the last look that were not finite. All ranks must call it.

        Raises:
            SvaeError: too many of them in a row.
        """
        unseen, self.unseen = self.unseen, []
        if not unseen:
            return
        flags = torch.stack([result.finite for _, result in unseen]).tolist()
        for (step, result), finite in zip(unseen, flags, strict=True):
            if finite:
                self.nonfinite_in_a_row = 0
                continue
            self.nonfinite_in_a_row += 1
            keys = ", ".join(gather_lists(result.keys, self.session.world))
            self.session.console.print(
                f"[yellow]step {step}: loss or gradient not finite, skipped. Utterances: {keys}[/]"
            )
            if self.nonfinite_in_a_row > self.session.config.trainer.max_nonfinite_steps:
                raise SvaeError(
                    f"{self.nonfinite_in_a_row} steps in a row were not finite; the last utterances: {keys}.\n"
                    "Continue with the same command and one of: --set optimizer.learning_rate=… (lower), "
                    "--set optimizer.max_grad_norm=… (lower), --set trainer.precision=fp32, --set trainer.seed=… (other "
                    "random numbers and another order of the data); or from an earlier checkpoint with --resume PATH."
                )


# ----------------------------------------------------------------------------------------------- what is shown


def note_no_validation(console: Console, index: ShardIndex, held_out: Mapping[str, Any]) -> None:
    """Say once what a run, or a source of its mixture, has not to be validated on."""
    for name in index.shares:
        if name not in held_out:
            rows = f"validation rows of {name}" if name else "validation rows"
            console.print(
                f"[yellow]Note: {escape(name or str(index.root))}: no usable utterance is held out, so this run has no {rows}. "
                "Run `svae prepare` with --validation, or pass --set data.validation_root=DIR.[/]"
            )


def log_row(session: Session, state: State, split: str, row: dict[str, float]) -> None:
    """Keep and print what was measured at the state's step; an empty row is nothing."""
    if not row:
        return
    session.tracker.log(state.step, split, row)
    text = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
    session.console.print(f"step {state.step:>7}  [green]{split}[/]  {text}", highlight=False)


def progress_bar(session: Session) -> Progress:
    """Return the live bar: step of steps, losses, throughput, share of time waiting for data, time left."""
    return Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=session.console,
        disable=not session.console.is_terminal,
    )


def show_row(
    session: Session, progress: Progress, task: Any, step: int, row: dict[str, float]
) -> None:
    """Show a logged row: beside the bar, or where there is none as a line."""
    losses = "  ".join(
        f"{name.removeprefix('loss/')} {value:.4g}"
        for name, value in row.items()
        if name.startswith("loss/")
    )
    speed = f"{row['audio_seconds_per_second']:.1f} s/s  data wait {row['data_wait_share']:.0%}"
    if session.console.is_terminal:
        progress.update(task, description=f"{losses}  {speed}")
    else:
        session.console.print(f"step {step:>7}  {losses}  {speed}", highlight=False)
