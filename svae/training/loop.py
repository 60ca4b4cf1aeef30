"""What both trainings share: the run folder, resuming, checkpoints, and the order of events in a step.

A run is a function of its recipe, its data and the number of processes; what it reads is a function of the first two. To
continue from step k it therefore needs the weights and the optimizer at step k, and nothing of what came before: the order of
the data and all random numbers are functions of the step.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor, nn

from svae import recipe
from svae.checkpoint import (
    Checkpoint,
    Kind,
    checkpoint_folder,
    latest_checkpoint,
    load_strict,
    open_checkpoint,
    publish,
    write_checkpoint,
)
from svae.data.index import ShardIndex
from svae.data.order import ORDER
from svae.errors import CheckpointError, ConfigError, DataError, SvaeError
from svae.runtime.distributed import World, any_rank, barrier, describe_device, gather_lists
from svae.runtime.files import folder_lock, writable_folder
from svae.runtime.tracking import Tracker
from svae.training.changes import Changes, changes_since
from svae.training.draws import seed_by
from svae.training.meter import Meter, StepResult
from svae.training.optim import load_optimizer, take_settings
from svae.training.session import Session, State, TrainConfig
from svae.training.watch import StopRequest, Watch, log_row, progress_bar, show_row

Config_co = TypeVar("Config_co", bound=TrainConfig, covariant=True)
Batch = TypeVar("Batch")
STALE_SECONDS = 60.0
"""Until then all nodes should see what one of them wrote: network disks remember folders for some seconds."""
RACE_SECONDS = 2.0
"""The same for the ranks of one machine, which see different things only while another job is just saving there."""


@dataclass(frozen=True)
class TrainOptions(Generic[Config_co]):
    """What the command line adds to a recipe."""

    config: Config_co
    out: Path
    resume: str = "auto"
    """`auto` continues what is in `out`, `never` refuses to touch it, a path names a checkpoint to continue from."""
    device: str = "auto"


# ----------------------------------------------------------------------------------------------- opening a run


@contextmanager
def open_session(options: TrainOptions[TrainConfig], kind: Kind, world: World) -> Iterator[Session]:
    """Create or reopen the run folder.

    Raises:
        ConfigError: the folder cannot be written, another job works in it, or it holds a run with another recipe.
        CheckpointError: the checkpoint to continue from is unusable.
    """
    console = Console(quiet=not world.is_main)
    # Before anything is written: what is refused must not be touched.
    agreed_resume(options, kind, world)
    run = options.out
    with ExitStack() as locks:
        if world.is_main:
            writable_folder(run, option="--out")
            locks.enter_context(folder_lock(run))
            (run / "checkpoints").mkdir(exist_ok=True)
        barrier(world)
        # Once more, as the job that held the folder until now may have gone on.
        checkpoint = agreed_resume(options, kind, world)
        with _opened(options, checkpoint, world, console) as session:
            yield session


@contextmanager
def _opened(
    options: TrainOptions[TrainConfig],
    checkpoint: Checkpoint | None,
    world: World,
    console: Console,
) -> Iterator[Session]:
    """Open what a run writes to; say where it is and what it continues from."""
    run = options.out
    console.print(
        f"Run folder [bold]{escape(str(run))}[/], {describe_device(world.device)}, {world.world_size} process(es)"
    )
    step: int | None = None
    changes: Changes = {}
    history: list[dict[str, Any]] = []
    if checkpoint is not None:
        step = checkpoint.step
        console.print(f"Resuming from {checkpoint.folder} (step {step})", markup=False)
        note_unknown_recipe(checkpoint, console)
        changes = changes_since(options.config, stored_recipe(checkpoint))
        history = recipe.read_history(stored_recipe(checkpoint))

    def note(text: str) -> None:
        console.print(f"[yellow]Note: {escape(text)}[/]")

    tracker = Tracker(run, step=step, enabled=world.is_main, note=note)
    try:
        session = Session(run, options.config, world, console, checkpoint, tracker, history=history)
        if step is not None and changes:
            session.record(step, changes)
        yield session
    finally:
        tracker.close()


def agreed_resume(
    options: TrainOptions[TrainConfig], kind: Kind, world: World
) -> Checkpoint | None:
    """Return what `find_resume` does, when all ranks see the same. All ranks must call it.

    The disks of several nodes may show a folder as it was some seconds ago, which is waited for.

    Raises:
        ConfigError, CheckpointError: as `find_resume`; or ranks see different checkpoints, all of which are named.
    """
    hosts = gather_lists([socket.gethostname()], world)
    patience = STALE_SECONDS if len(set(hosts)) > 1 else RACE_SECONDS
    deadline = time.monotonic() + patience
    announced = False
    while True:
        failure: SvaeError | None = None
        checkpoint = None
        try:
            checkpoint = find_resume(options, kind)
            view = "no checkpoint"
            if checkpoint is not None:
                view = f"{checkpoint.folder.name} ({checkpoint.hash[:12]}…)"
        except SvaeError as error:
            failure, view = error, f"an error: {str(error).splitlines()[0]}"
        views = gather_lists([view], world)
        if len(set(views)) == 1:
            if failure is not None:
                raise failure
            return checkpoint
        if not any_rank(time.monotonic() < deadline, world):
            break
        if not announced and world.is_main:
            print(
                f"{options.out}: the ranks see different checkpoints; looking again for {patience:g} s, as a disk may be "
                f"late:\n{_by_rank(views)}",
                flush=True,
            )
        announced = True
        time.sleep(0.5)
    raise CheckpointError(
        f"{options.out}: the ranks see different checkpoints:\n{_by_rank(views)}\n"
        "The run folder must be on a disk that all nodes share. Else copy rank 0's run folder to the same path on the "
        "other nodes, or pass --resume CHECKPOINT with one that all of them have."
    )


def check_same_data_on_all(
    index: ShardIndex, checkpoints: dict[str, Checkpoint | None], world: World
) -> None:
    """Check that all ranks read the same shards and checkpoints (what each is → which): they would train apart.

    All ranks must call it.

    Raises:
        DataError: they do not, on all ranks.
    """
    seen = {"shards": data_fingerprint(index)}
    seen |= {what: each.hash for what, each in checkpoints.items() if each is not None}
    views = gather_lists([", ".join(f"{name} {x[:12]}…" for name, x in seen.items())], world)
    if len(set(views)) > 1:
        raise DataError(
            f"{index.root}: the ranks read different files:\n{_by_rank(views)}\n"
            "Put them on a disk that all nodes share, or copy rank 0's to the same path on the others."
        )


def _by_rank(views: list[str]) -> str:
    """Return a line for every different view, with the ranks that have it."""
    ranks = {view: [str(r) for r, seen in enumerate(views) if seen == view] for view in views}
    return "\n".join(f"  rank {', '.join(each)}: {view}" for view, each in ranks.items())


def find_resume(options: TrainOptions[TrainConfig], kind: Kind) -> Checkpoint | None:
    """Return the checkpoint that `--resume` means, or None for a fresh start; see `TrainOptions.resume`.

    Raises:
        ConfigError: there is a run although there must be none, or a run with another recipe.
        CheckpointError: the checkpoint is unusable.
    """
    given = options.resume not in ("auto", "never")
    folder = Path(options.resume) if given else latest_checkpoint(options.out)
    if folder is None:
        return None
    if options.resume == "never":
        raise ConfigError(
            f"{options.out}: already holds a run (at {folder.name}) and --resume is never.\n"
            "Choose another --out, delete the folder, or use --resume auto to continue it."
        )
    checkpoint = open_checkpoint(folder, kind=kind)
    changes_since(options.config, stored_recipe(checkpoint))
    return checkpoint


def stored_recipe(checkpoint: Checkpoint) -> Path:
    """Return where the run of a checkpoint keeps its recipe."""
    return checkpoint.folder.parent.parent / "recipe.yaml"


def note_unknown_recipe(checkpoint: Checkpoint, console: Console) -> None:
    """Say where nothing tells what a checkpoint was trained with: what may not change may have changed."""
    if not (path := stored_recipe(checkpoint)).is_file():
        console.print(
            f"[yellow]Note: there is no {escape(str(path))}: the recipe cannot be compared with that of the checkpoint, only "
            "the weights with their shapes.[/]"
        )


# ----------------------------------------------------------------------------------------------- checkpoints


def save_checkpoint(
    session: Session,
    state: State,
    index: ShardIndex,
    config: dict[str, Any],
    *,
    more: Mapping[str, dict[str, Tensor]] | None = None,
    **others: Any,
) -> None:
    """Write the state's checkpoint and make it the run's latest; for the first rank alone.

    `config` are fields of config.json, `more` further files with tensors, `others` arguments of `write_checkpoint`.
    """
    training_state: dict[str, Any] = {"step": state.step}
    training_state |= {name: part.state_dict() for name, part in state.parts().items()}
    training_state |= {"data": data_fingerprint(index), "layout": session.layout, "order": ORDER}
    published = state.published()
    write_checkpoint(
        checkpoint_folder(session.run, state.step),
        config=config,
        model_state=published.pop("model.safetensors"),
        training_state=training_state,
        more=published | dict(more or {}),
        **others,
    )
    publish(session.run, state.step, keep=session.config.trainer.keep_checkpoints)


def resume_state(session: Session, state: State, index: ShardIndex) -> None:
    """Load the checkpoint that the run continues from into the state.

    Raises:
        CheckpointError: it was trained on other data, is damaged, or does not fit the recipe.
    """
    checkpoint = session.checkpoint
    assert checkpoint is not None
    parts = state.parts()
    stored = load_training_state(checkpoint, parts, index, session.run)
    if changed := order_change(stored, session.config):
        session.record(stored["step"], changed)
    before, now = stored["layout"]["world_size"], session.world.world_size
    if before != now:
        session.console.print(
            f"[yellow]Note: {before} process(es) became {now}: the data, and the noise that goes with them, are those that would "
            "have come; dropout and the order of sums are others.[/]"
        )
    for part in parts.values():
        if isinstance(part, torch.optim.Optimizer):
            take_settings(part, session.config.optimizer)
    load_strict(state.ema.module, checkpoint.state(state.averages_file), checkpoint.folder)
    state.step = stored["step"]


def load_training_state(
    checkpoint: Checkpoint,
    parts: dict[str, nn.Module | torch.optim.Optimizer],
    index: ShardIndex,
    run: Path,
) -> dict[str, Any]:
    """Load what resuming needs into `parts` (`State.parts`), and return all of it.

    Raises:
        CheckpointError: it is damaged, of other data, or does not fit the parts.
    """
    stored = checkpoint.training_state()
    where = checkpoint.folder / "training" / "state.pt"
    if missing := [name for name in ("step", "data", "layout", *parts) if name not in stored]:
        raise CheckpointError(
            f"{where}: lacks {', '.join(missing)}, cannot resume from it.\n"
            "Use an earlier checkpoint with --resume PATH, or start anew with another --out."
        )
    check_same_data(stored, index, run)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            load_strict(part, stored[name], checkpoint.folder)
            continue
        try:
            load_optimizer(part, stored[name])
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{where}: its {name} is not of these parameters ({error}); resume with the recipe it was trained with, or "
                "start anew with --init and another --out"
            ) from None
    return stored


def order_change(stored: dict[str, Any], config: TrainConfig) -> Changes:
    """Return what is otherwise for a run that an older version of svae began, whose processes and readers made the order."""
    processes, readers = stored["layout"]["world_size"], max(stored["layout"]["num_workers"], 1)
    # One reader read what one slot gives.
    if stored.get("order", 1) == ORDER or processes * readers == config.data.slots == 1:
        return {}
    before = f"of {processes} process(es) with {readers} reader(s) each"
    now = f"of the recipe alone, with {config.data.slots} slot(s)"
    return {"order of the data": {"before": before, "now": now}}


def check_same_data(stored: dict[str, Any], index: ShardIndex, run: Path) -> None:
    """Raise CheckpointError where a training state is of other shards than those of an index."""
    if stored["data"] != data_fingerprint(index):
        raise CheckpointError(
            f"{run}: was trained on other shards than those in {index.root}; resume with the same data or "
            "choose another --out"
        )


def data_fingerprint(index: ShardIndex) -> str:
    """Return a hash of the shards' contents and of what is held out."""
    parts = [shard["sha256"] for shard in index.shards] + index.metadata.get("validation", [])
    return hashlib.sha256("".join(parts).encode()).hexdigest()


# ----------------------------------------------------------------------------------------------- the loop


def run_loop(
    session: Session,
    state: State,
    batches: Iterable[Batch],
    *,
    train_step: Callable[[Sequence[Batch]], StepResult],
    validate: Callable[[], dict[str, float]],
    save: Callable[[], None],
    synthesize: Callable[[], dict[str, float]] | None = None,
    synthesize_every: int = 0,
    enough: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the last step: step, log, validate, checkpoint; stop cleanly when asked to.

    Between these events the host waits for the device nowhere, so that there is always work queued for it.

    Args:
        session: the run.
        state: changed by `train_step`, which also advances `state.step`.
        batches: endless, starting at `state.step`.
        train_step: one optimizer step on `session.accumulate` batches, which are this rank's pieces of the step's.
        validate: called on every rank; returns the row to log, an empty one where there is nothing to say.
        save: writes a checkpoint of the state.
        synthesize: called on every rank like `validate`, for rows of its own.
        synthesize_every: steps between these; 0: never.
        enough: whether the run is finished although steps are left; never taken back, asked on every rank alike.

    Returns:
        True if the last step was reached, or enough was done, False if the run was stopped by a signal (a checkpoint was written).

    Raises:
        DataError: more than 1 % of the utterances asked for cannot be read.
        SvaeError: too many steps in a row were not finite.
    """
    trainer, world = session.config.trainer, session.world
    watch = Watch(session)
    meter = Meter()
    stream = iter(batches)
    session.describe()
    if state.step == 0:
        log_row(session, state, "validation", validate())
    with StopRequest() as stop, progress_bar(session) as progress:
        task = progress.add_task("", total=trainer.steps, completed=state.step)
        meter.reset()
        while state.step < trainer.steps and not enough():
            waiting = time.perf_counter()
            pieces = [next(stream) for _ in range(session.accumulate)]
            waited = time.perf_counter() - waiting
            seed_by(trainer.seed, state.step, world.rank)  # no generator's state need be saved
            result = train_step(pieces)
            meter.add(result, waited)
            watch.add(result, state.step)
            last = state.step == trainer.steps or enough()
            stopping = any_rank(stop.requested, world)
            logging = state.step % trainer.log_every == 0 or last
            saving = state.step % trainer.checkpoint_every == 0 or last or stopping
            if logging or saving:
                watch.look()
            if logging:  # after what takes long the meter starts anew: throughput is that of steps
                row = meter.row(world)
                session.tracker.log(state.step, "train", row)
                show_row(session, progress, task, state.step, row)
                meter.reset()
            progress.update(task, completed=state.step)
            if saving:  # before anything is judged: what ends a process there costs nothing learned
                save()
                meter.reset()
            if state.step % trainer.validate_every == 0 or last:
                log_row(session, state, "validation", validate())
                meter.reset()
            if synthesize_every and (state.step % synthesize_every == 0 or last):
                assert synthesize is not None
                log_row(session, state, "synthesis", synthesize())
                meter.reset()
            if stopping and not last:
                stop.leave(session.console, state.step)
                return False
    return True
