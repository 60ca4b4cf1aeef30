"""What the VAE and the TTS loop share: run folder, resuming, stopping, progress, the order of events in a step."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from svae import recipe
from svae.checkpoint import Checkpoint, Kind, checkpoint_folder, latest_checkpoint, open_checkpoint
from svae.config import TrainerConfig, TTSTrainConfig, VAETrainConfig
from svae.data.batches import MAX_FAILURE_SHARE
from svae.data.index import ShardIndex
from svae.errors import CheckpointError, ConfigError, DataError, SvaeError
from svae.runtime.distributed import World, any_rank, barrier, describe_device, gather_lists
from svae.runtime.environment import environment
from svae.runtime.files import writable_folder, write_text
from svae.runtime.tracking import Tracker
from svae.training.meter import Meter, StepResult

MAY_CHANGE = frozenset(
    "trainer.steps trainer.log_every trainer.validate_every trainer.checkpoint_every trainer.keep_checkpoints "
    "trainer.max_nonfinite_steps trainer.compile trainer.try_longest_batch trainer.synthesize_every "
    "trainer.synthesize_utterances trainer.synthesize_steps loader.prefetch loader.num_workers data.root "
    "data.validation_root data.waveform_root statistics_utterances vae vocoder".split()
)
"""Recipe fields that a resumed run may have otherwise; anything else would make it another experiment."""


@dataclass(frozen=True)
class TrainOptions:
    """What the command line adds to a recipe."""

    config: VAETrainConfig | TTSTrainConfig
    out: Path
    resume: str = "auto"
    """`auto` continues what is in `out`, `never` refuses to touch it, a path names a checkpoint to continue from."""
    device: str = "auto"


class State(Protocol):
    """What a step changes and a checkpoint holds."""

    step: int


@dataclass
class Session:
    """A run in progress: where it writes, what it prints to, what it continues from."""

    run: Path
    trainer: TrainerConfig
    world: World
    console: Console
    checkpoint: Checkpoint | None
    tracker: Tracker
    recipe: str
    """The resolved recipe as YAML."""

    def describe(self) -> None:
        """Write recipe.yaml and environment.json: when everything has been checked, before the first step."""
        if self.world.is_main:
            write_text(self.run / "recipe.yaml", self.recipe)
            text = json.dumps(
                environment(self.world.device) | {"world_size": self.world.world_size}, indent=2
            )
            write_text(self.run / "environment.json", text + "\n")


@contextmanager
def open_session(options: TrainOptions, kind: Kind, world: World) -> Iterator[Session]:
    """Create or reopen the run folder.

    Raises:
        ConfigError: the folder cannot be written, or holds a run with another recipe.
        CheckpointError: the checkpoint to continue from is unusable.
    """
    console = Console(quiet=not world.is_main)
    checkpoint = find_resume(options, kind)
    step = 0 if checkpoint is None else checkpoint.step
    run = writable_folder(options.out, option="--out") if world.is_main else options.out
    if world.is_main:
        (run / "checkpoints").mkdir(exist_ok=True)
    barrier(world)
    console.print(
        f"Run folder [bold]{run}[/], {describe_device(world.device)}, {world.world_size} process(es)"
    )
    if checkpoint is not None:
        console.print(f"Resuming from {checkpoint.folder} (step {step})")
    tracker = Tracker(run, step=step, enabled=world.is_main)
    try:
        yield Session(
            run,
            options.config.trainer,
            world,
            console,
            checkpoint,
            tracker,
            recipe.dump(options.config),
        )
    finally:
        tracker.close()


def find_resume(options: TrainOptions, kind: Kind) -> Checkpoint | None:
    """Return the checkpoint that `--resume` means, or None for a fresh start; see `TrainOptions.resume`."""
    if options.resume not in ("auto", "never"):
        checkpoint = open_checkpoint(options.resume, kind=kind)
        _check_same_recipe(options, checkpoint.folder.parent.parent / "recipe.yaml")
        return checkpoint
    latest = latest_checkpoint(options.out)
    if latest is None:
        return None
    if options.resume == "never":
        raise ConfigError(
            f"{options.out}: already holds a run (at {latest.name}) and --resume is never.\n"
            "Choose another --out, delete the folder, or use --resume auto to continue it."
        )
    checkpoint = open_checkpoint(latest, kind=kind)
    _check_same_recipe(options, options.out / "recipe.yaml")
    return checkpoint


def _check_same_recipe(options: TrainOptions, stored: Path) -> None:
    if not stored.is_file():
        return
    before = _flatten(recipe.to_tree(recipe.load(type(options.config), str(stored))))
    now = _flatten(recipe.to_tree(options.config))
    changed = sorted(
        k for k in before.keys() | now.keys() if before.get(k) != now.get(k) and k not in MAY_CHANGE
    )
    if changed:
        lines = [
            f"  {key}: {before.get(key)!r} in the run, {now.get(key)!r} now" for key in changed
        ]
        raise ConfigError(
            f"{stored.parent}: holds a run with another recipe, so it cannot be continued with this one:\n"
            + "\n".join(lines)
            + "\nChoose another --out, or take back the changes."
        )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flatten(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": value}
        )
    return flat


def data_fingerprint(index: ShardIndex) -> str:
    """Return a hash of the shards' contents; a resumed run must see the same data in the same order."""
    hashes = "".join(shard["sha256"] for shard in index.shards) + "".join(
        index.metadata.get("validation", [])
    )
    return hashlib.sha256(hashes.encode()).hexdigest()


def check_data(
    session: Session, training_state: dict[str, Any], index: ShardIndex, num_workers: int
) -> None:
    """Refuse to resume on other data; say so when the order of the data changes with the number of readers.

    Raises:
        CheckpointError: the shards differ from those the run was trained on.
    """
    if training_state["data"] != data_fingerprint(index):
        raise CheckpointError(
            f"{session.run}: was trained on other shards than those in {index.root}; resume with the same data or "
            "choose another --out"
        )
    layout = {"world_size": session.world.world_size, "num_workers": num_workers}
    if training_state["layout"] != layout:
        session.console.print(
            f"[yellow]Note: {training_state['layout']} became {layout}: the data order continues from this step in "
            "the new layout, not as it would have in the old one.[/]"
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make every random number of a training step a function of (seed, step, rank); nothing to save for resuming."""
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag, so that the step finishes and a checkpoint is written."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopRequest:
        self._previous = {
            s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def _handle(self, signum: int, frame: object) -> None:
        if self.requested:  # a second Ctrl-C means it
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def run_loop(
    session: Session,
    state: State,
    batches: Iterable[Any],
    *,
    train_step: Callable[[Any], StepResult],
    validate: Callable[[], dict[str, float]],
    save: Callable[[bool], None],
    synthesize: Callable[[], dict[str, float]] | None = None,
    synthesize_every: int = 0,
) -> bool:
    """Train to the last step: step, log, validate, checkpoint; stop cleanly when asked to.

    Args:
        session: the run.
        state: changed by `train_step`, which also advances `state.step`.
        batches: endless, starting at `state.step`.
        train_step: one optimizer step.
        validate: called on every rank; returns the row to log.
        save: writes a checkpoint of the state; the argument says whether it is the last one of a finished run.
        synthesize: called on every rank like `validate`, for rows of its own.
        synthesize_every: steps between these.

    Returns:
        True if the last step was reached, False if the run was stopped by a signal (a checkpoint was written).

    Raises:
        DataError: more than 1 % of the utterances asked for cannot be read.
        SvaeError: too many steps in a row were not finite.
    """
    trainer, world = session.trainer, session.world
    meter, nonfinite, asked, failed = Meter(), 0, 0, 0
    stream = iter(batches)
    session.describe()
    if state.step == 0:
        _log_row(session, state, "validation", validate())
    with StopRequest() as stop, progress_bar(session) as progress:
        task = progress.add_task("", total=trainer.steps, completed=state.step)
        meter.reset()
        while state.step < trainer.steps:
            waiting = time.perf_counter()
            batch = next(stream)
            waited = time.perf_counter() - waiting
            seed_step(trainer.seed, state.step, world.rank)
            result = train_step(batch)
            meter.add(result, waited)
            asked, failed = (
                asked + len(result.keys) + len(result.failures),
                failed + len(result.failures),
            )
            _report_failures(session, result, failed, asked)
            nonfinite = _report_nonfinite(session, state, result, nonfinite)
            last = state.step == trainer.steps
            if state.step % trainer.log_every == 0 or last:
                row = meter.row(world)
                session.tracker.log(state.step, "train", row)
                _show_row(session, progress, task, state.step, row)
                meter.reset()
            progress.update(task, completed=state.step)
            if state.step % trainer.validate_every == 0 or last:
                _log_row(session, state, "validation", validate())
                meter.reset()
            if synthesize is not None and (state.step % synthesize_every == 0 or last):
                _log_row(session, state, "synthesis", synthesize())
                meter.reset()
            stopping = any_rank(stop.requested, world)
            if state.step % trainer.checkpoint_every == 0 or last or stopping:
                save(last)
                meter.reset()
            if stopping and not last:
                session.console.print(
                    f"Stopped at step {state.step}; the same command continues from here."
                )
                return False
    return True


def _log_row(session: Session, state: State, split: str, row: dict[str, float]) -> None:
    session.tracker.log(state.step, split, row)
    text = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
    session.console.print(f"step {state.step:>7}  [green]{split}[/]  {text}", highlight=False)


def _report_failures(session: Session, result: StepResult, failed: int, asked: int) -> None:
    for failure in result.failures:
        session.console.print(f"[yellow]Skipped an utterance that cannot be read: {failure}[/]")
    if result.failures and asked >= 100 and failed > MAX_FAILURE_SHARE * asked:
        raise DataError(
            f"{failed} of {asked} utterances cannot be read (last: {result.failures[-1]}).\nRun `svae prepare` again."
        )


def _report_nonfinite(session: Session, state: State, result: StepResult, before: int) -> int:
    if not result.skipped:
        return 0
    keys = gather_lists(result.keys, session.world)
    session.console.print(
        f"[yellow]step {state.step}: loss or gradient not finite, skipped. Utterances: {', '.join(keys)}[/]"
    )
    if before + 1 > session.trainer.max_nonfinite_steps:
        raise SvaeError(
            f"{before + 1} steps in a row were not finite; the last utterances: {', '.join(keys)}.\n"
            "Lower optimizer.learning_rate, or resume from an earlier checkpoint with --resume PATH."
        )
    return before + 1


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


def _show_row(
    session: Session, progress: Progress, task: Any, step: int, row: dict[str, float]
) -> None:
    losses = "  ".join(
        f"{n.removeprefix('loss/')} {v:.4g}" for n, v in row.items() if n.startswith("loss/")
    )
    speed = f"{row['audio_seconds_per_second']:.1f} s/s  data wait {row['data_wait_share']:.0%}"
    if session.console.is_terminal:
        progress.update(task, description=f"{losses}  {speed}")
    else:
        session.console.print(f"step {step:>7}  {losses}  {speed}", highlight=False)


def new_checkpoint_folder(session: Session, state: State) -> Path:
    """Return where the state's checkpoint goes."""
    return checkpoint_folder(session.run, state.step)
