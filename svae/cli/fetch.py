"""`svae fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example


@app.command(
    epilog=example("""
        svae fetch lists
        svae fetch lists librispeech-pc
        svae fetch judges faster-whisper-large-v3 --to /big/disk
    """)
)
def fetch(
    kind: Annotated[str, typer.Argument(metavar="lists|judges", help="What.")],
    name: Annotated[
        str | None, typer.Argument(help="Which; without it, what there is: size, licence, use.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder of lists/ and judges/.")] = Path("data"),
    mirror: Annotated[
        list[str],
        typer.Option(metavar="URL", help="Server to ask in place of the known one; repeatable."),
    ] = [],  # noqa: B006
) -> None:
    """Fetch a list or judge of the published protocols, checked by its hash; offline, say what to copy where."""
    from svae.evaluation.fetch import fetch as run

    run(kind, name, to=to, mirrors=tuple(mirror))
