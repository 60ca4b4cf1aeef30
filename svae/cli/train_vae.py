"""`svae train-vae`."""

from __future__ import annotations

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
    RunFolder,
    TrainingData,
    default_run_folder,
    memory_bytes,
    with_paths,
)
from svae.config import VAETrainConfig


@app.command(
    "train-vae",
    epilog=example("""
        svae train-vae
        svae train-vae libritts/vae-semantic64 --set trainer.precision=bf16
        svae train-vae tiny/vae --set loss.alignment=null --out runs/acoustic
        svae train-vae mine.yaml --init runs/tiny-vae --set freeze_encoder=true --set loss.alignment=null
        torchrun --nproc-per-node 8 -m svae train-vae libritts/vae-semantic64
    """),
)
def train_vae(
    name: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")
    ] = "tiny/vae",
    init: Annotated[
        Path | None,
        typer.Option(
            help="VAE run or checkpoint, or user/repo on the hub, whose weights are the start."
        ),
    ] = None,
    data: TrainingData = None,
    overrides: Overrides = [],  # noqa: B006
    out: RunFolder = None,
    resume: Resume = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
    memory: Memory = None,
) -> None:
    """Train the speech VAE whose latents follow a self-supervised speech model."""
    fields = with_paths(overrides, {"data.root": data, "init": init})
    config = recipe.load(VAETrainConfig, name, fields)

    from svae.training.dry_run import dry_run as show_plan
    from svae.training.loop import TrainOptions
    from svae.training.vae.train import train_vae as train

    options = TrainOptions(config, out or default_run_folder(name), resume, device)
    size = memory_bytes(memory, dry_run)
    if dry_run:
        show_plan(options, size)
    else:
        train(options)
