"""`svae leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example


@app.command(
    epilog=example("""
        svae leaderboard out/mine out/flite out/espeak
        svae leaderboard mine=out/a other=out/b --out out/leaderboard
    """)
)
def leaderboard(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT...",
            help="Result folders of svae evaluate, DIR or NAME=DIR, all of one protocol and list.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for leaderboard.html, leaderboard.md, leaderboard.json.")
    ] = Path("out/leaderboard"),
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster-by-speaker", help="Intervals and tests over speakers, not utterances."
        ),
    ] = False,
) -> None:
    """Several systems of one protocol in order, each tested against the best, corrected for their number (Holm)."""
    from svae.evaluation.leaderboard import leaderboard as run

    run(results, cluster=cluster, out=out)
