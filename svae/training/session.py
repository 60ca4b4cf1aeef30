"""A training in progress: what it changes (`State`), and where it writes and what it prints to (`Session`)."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor, nn

from svae import recipe
from svae.checkpoint import Checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.runtime.distributed import World
from svae.runtime.environment import environment
from svae.runtime.files import write_text
from svae.runtime.tracking import Tracker
from svae.training.changes import Changes, describe
from svae.training.optim import ExponentialMovingAverage

TrainConfig = VAETrainConfig | TTSTrainConfig


@dataclass
class State(ABC):
    """What a training changes."""

    step: int
    """Optimizer steps taken so far."""
    ema: ExponentialMovingAverage[Any]
    """The averaged weights: what a checkpoint publishes, and what is validated."""
    averages_file: ClassVar[str] = "model.safetensors"
    """The file of a checkpoint that holds them."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Return what resuming needs beside the averaged weights, by its name in training/state.pt."""

    def published(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights that a checkpoint holds, by its files."""
        return {self.averages_file: self.ema.module.state_dict()}


@dataclass
class Session:
    """A run in progress: where it writes, what it prints to, what it continues from."""

    run: Path
    config: TrainConfig
    world: World
    console: Console
    """Quiet on all ranks but the first."""
    checkpoint: Checkpoint | None
    tracker: Tracker
    changes: Changes = field(default_factory=dict)
    """What the recipe has otherwise than before the run was resumed."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """All such changes, of earlier resumptions too, as recipe.yaml keeps them."""
    accumulate: int = 1
    """Pieces of a step that each process computes one after the other."""

    @property
    def layout(self) -> dict[str, int]:
        """Who reads: on the number of processes depends what dropout draws, and nothing else of a step."""
        workers = self.config.loader.num_workers
        return {"world_size": self.world.world_size, "num_workers": workers}

    def record(self, step: int, changes: Changes) -> None:
        """Print what is otherwise than before the run was resumed, and keep it with the run."""
        for line in describe(changes):
            self.console.print(f"[yellow]Changed from step {step} on: {escape(line)}[/]")
        if not self.changes:
            date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self.history = [*self.history, {"step": step, "date": date, "changes": {}}]
        self.changes = self.changes | changes
        self.history = [*self.history[:-1], self.history[-1] | {"changes": self.changes}]

    @contextmanager
    def side_work(self, what: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Turn a failure of what the training does not need into a note: listening to a model may not end its run.

        `but` are failures that the run shall end with. Nothing inside may be a collective, as the other ranks would wait for it.
        """
        try:
            yield
        except Exception as error:  # of any kind: judges, codecs and plots raise what they like
            if isinstance(error, but):
                raise
            reason = (str(error).splitlines() or [""])[0]
            self.console.print(
                f"[yellow]Note: {what} failed, the training goes on: {escape(f'{type(error).__name__}: {reason}')}[/]"
            )

    def describe(self) -> None:
        """Write recipe.yaml and environment.json, begin the log: when everything has been checked, before the first step."""
        self.tracker.begin()
        if self.world.is_main:
            facts = environment(self.world.device)
            facts |= {"world_size": self.world.world_size, "accumulate": self.accumulate}
            write_text(self.run / "recipe.yaml", recipe.dump(self.config, self.history))
            write_text(self.run / "environment.json", json.dumps(facts, indent=2) + "\n")
            if self.changes:
                self.tracker.changes(self.history[-1]["step"], self.changes)
