"""`svae train-tts`."""

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
from svae.config import TTSTrainConfig


@app.command(
    "train-tts",
    epilog=example("""
        svae train-tts --vae runs/tiny-vae
        svae train-tts libritts/tts-small-semantic64
        svae train-tts mine.yaml --init runs/libritts-tts-small-semantic64 --data data/latents/mine
        svae train-tts tiny/tts --vae runs/tiny-vae --set trainer.steps=200 --dry-run
    """),
)
def train_tts(
    name: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")
    ] = "tiny/tts",
    vae: Annotated[
        Path | None,
        typer.Option(
            help="Run or checkpoint folder of the VAE whose latents are learned, or user/repo on the hub."
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="TTS run or checkpoint, or user/repo on the hub, whose weights are the start; the vocabulary may grow."
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
    """Train text-to-speech by flow matching, on a VAE's latents or on mel frames."""
    fields = with_paths(overrides, {"data.root": data, "vae": vae, "init": init})
    config = recipe.load(TTSTrainConfig, name, fields)

    from svae.training.dry_run import dry_run as show_plan
    from svae.training.loop import TrainOptions
    from svae.training.tts.train import train_tts as train

    options = TrainOptions(config, out or default_run_folder(name), resume, device)
    size = memory_bytes(memory, dry_run)
    if dry_run:
        show_plan(options, size)
    else:
        train(options)
