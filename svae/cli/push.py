"""`svae push` and `svae pull`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example


@app.command(
    epilog=example("""
        svae push runs/libritts-tts-small-semantic64 anna/small-voice --license cc-by-4.0 --dry-run
        svae push runs/my-vae anna/my-vae --license mit --results results/codec --sample out/a.wav
    """)
)
def push(
    run: Annotated[Path, typer.Argument(help="Run or checkpoint folder: VAE, TTS or adapter.")],
    repo: Annotated[str, typer.Argument(metavar="USER/REPO", help="Where it goes on the hub.")],
    licence: Annotated[
        str,
        typer.Option(
            "--license", help="Of the weights, as the hub calls it: mit, cc-by-4.0, other."
        ),
    ],
    licence_file: Annotated[
        Path | None, typer.Option("--license-file", help="Its text, which becomes LICENSE.")
    ] = None,
    results: Annotated[
        list[Path],
        typer.Option(help="Folder of `svae evaluate`, whose table goes into the card; repeatable."),
    ] = [],  # noqa: B006
    sample: Annotated[
        list[Path],
        typer.Option(help="Audio to listen to; repeatable; default: what the run said last."),
    ] = [],  # noqa: B006
    notes: Annotated[
        Path | None, typer.Option(help="Text file for the card, in your own words.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; send nothing.")
    ] = False,
) -> None:
    """Send a checkpoint to the Hugging Face hub, with a card made from its run."""
    from svae.hub.push import PushOptions
    from svae.hub.push import push as run_push

    run_push(
        PushOptions(
            run=run,
            repo=repo,
            licence=licence,
            licence_file=licence_file,
            results=results,
            samples=sample,
            notes=notes,
            private=private,
            dry_run=dry_run,
        )
    )


@app.command(
    epilog=example("""
        svae pull anna/small-voice --out runs/small-voice
        svae pull anna/small-voice@v1 --out runs/small-voice-v1
    """)
)
def pull(
    model: Annotated[
        str, typer.Argument(metavar="USER/REPO[@REVISION]", help="A checkpoint on the hub.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold anything.")],
) -> None:
    """Bring a checkpoint from the Hugging Face hub into a folder, its hashes checked."""
    from svae.hub.push import pull as run_pull

    run_pull(model, out)
