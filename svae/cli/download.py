"""`svae download`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from svae.cli.app import app, example
from svae.data.archives import PUBLISHED

if TYPE_CHECKING:
    CorpusName = str
else:  # typer makes the choices of it
    CorpusName = Literal[tuple(PUBLISHED)]


@app.command(
    epilog=example("""
        svae download libritts --subset train-clean-100 --subset dev-clean
        svae download ljspeech --to /big/disk
        svae download libritts-r --subset train-clean-360 --mirror https://openslr.elda.org
    """)
)
def download(
    corpus: Annotated[CorpusName, typer.Argument(help="Which corpus.")],
    subset: Annotated[
        list[str], typer.Option(help="Which part of it, where it has parts; repeatable.")
    ] = [],  # noqa: B006
    to: Annotated[Path, typer.Option(help="The folder of all corpora.")] = Path("data"),
    mirror: Annotated[
        list[str],
        typer.Option(
            metavar="URL",
            help="Server to ask in place of the known ones; repeatable, in this order.",
        ),
    ] = [],  # noqa: B006
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Do not delete an archive when it is unpacked.")
    ] = False,
) -> None:
    """Fetch a published corpus: resumable, checked against its published sum, unpacked where prepare looks for it."""
    from svae.data.download import DownloadOptions
    from svae.data.download import download as run

    run(
        DownloadOptions(
            corpus=corpus,
            subsets=tuple(subset),
            to=to,
            mirrors=tuple(mirror),
            keep_archives=keep_archives,
        )
    )
