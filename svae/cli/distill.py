"""`svae distill`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from svae import recipe
from svae.cli.app import app, example
from svae.cli.options import (
    Device,
    DryRun,
    Memory,
    Overrides,
    Resume,
    TrainingData,
    memory_bytes,
    with_paths,
)
from svae.config import TTSTrainConfig


@app.command(
    epilog=example("""
        svae distill embedded --data data/latents/tiny
        svae distill runs/libritts-tts-small-semantic64 libritts/distill-small
        svae distill runs/mine mine.yaml --set distill.steps=2 --set distill.guidance=1.5 --dry-run
    """)
)
def distill(
    teacher: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="The teacher: a run or checkpoint folder of train-tts, or `embedded`.",
        ),
    ],
    name: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")
    ] = "tiny/distill",
    init: Annotated[
        Path | None,
        typer.Option(
            help="Another student, as of the same teacher when it was younger, whose matrices are the start."
        ),
    ] = None,
    data: TrainingData = None,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default: runs/NAME-OF-RUN-student.")
    ] = None,
    resume: Resume = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
    memory: Memory = None,
) -> None:
    """Make a text-to-speech model fast: a student that speaks in a few steps of one pass, guidance inside."""
    from svae.checkpoint import open_checkpoint
    from svae.training.dry_run import dry_run as show_plan
    from svae.training.loop import TrainOptions
    from svae.training.tts.distill import recipe_of
    from svae.training.tts.train import train_tts as train

    decided = recipe_of(open_checkpoint(teacher, kind="tts"))
    fields = [f"{place}={json.dumps(value)}" for place, value in decided.items()]
    fields += with_paths(overrides, {"data.root": data, "init": init})
    config = recipe.load(TTSTrainConfig, name, fields)
    options = TrainOptions(config, out or _default_run_folder(teacher), resume, device)
    size = memory_bytes(memory, dry_run)
    if dry_run:
        show_plan(options, size)
    else:
        train(options)


def _default_run_folder(teacher: Path) -> Path:
    """Return where a student goes without `--out`: beside other runs, named after the run of its teacher."""
    folder = teacher.resolve()
    run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
    return Path("runs") / f"{run.name}-student"
