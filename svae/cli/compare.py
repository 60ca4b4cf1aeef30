"""`svae compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example


@app.command(
    epilog=example("""
        svae compare runs/libritts-tts-small-semantic64 runs/libritts-tts-small-vanilla64 runs/libritts-tts-small-mel
        svae compare runs/a runs/b --out out/a-b
    """)
)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN…", help="Run folders of train-tts (or train-vae)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for comparison.png, .md and .json.")] = Path(
        "out/compare"
    ),
) -> None:
    """Draw WER, similarity and loss of several runs against steps and hours, with a table of where each ended."""
    from svae.analysis.compare_runs import compare_runs

    compare_runs(runs, out)
