"""`svae prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from svae.cli.app import app, example
from svae.data.corpora import CORPORA

if TYPE_CHECKING:
    CorpusName = str
else:  # typer makes the choices of it
    CorpusName = Literal[tuple(CORPORA)]


@app.command(
    epilog=example("""
        svae prepare sample
        svae prepare libritts --root data/LibriTTS --subset train-clean-100 --subset dev-clean --workers 16
        svae prepare jsonl --root my/metadata.jsonl --out data/shards/mine --max-seconds 20
    """)
)
def prepare(
    corpus: Annotated[
        CorpusName,
        typer.Argument(
            help="Which corpus, or jsonl: lines of {audio, text, speaker, language, offset, duration}."
        ),
    ],
    root: Annotated[
        Path | None, typer.Option(help="Where the corpus is; default: data/LibriTTS and so on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the shards go; default: data/shards/CORPUS.")
    ] = None,
    subset: Annotated[list[str], typer.Option(help="Only this subset; repeatable.")] = [],  # noqa: B006
    sample_rate: Annotated[
        int, typer.Option(min=8000, max=48000, help="Sample rate of the shards in Hz.")
    ] = 16000,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Number of shards; default: by the corpus' size.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    min_seconds: Annotated[
        float, typer.Option(min=0, help="Shorter utterances are rejected.")
    ] = 0.3,
    max_seconds: Annotated[
        float, typer.Option(min=0, help="Longer utterances are rejected.")
    ] = 35.0,
    validation: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of utterances held out of training.")
    ] = 0.05,
) -> None:
    """Turn a corpus into webdataset shards of FLAC and text. Runs in parallel and continues where it was stopped."""
    from svae.data.prepare import prepare as run
    from svae.data.prepare_plan import PrepareOptions

    run(
        PrepareOptions(
            corpus=corpus,
            root=root,
            out=out,
            subsets=tuple(subset),
            sample_rate=sample_rate,
            shards=shards,
            workers=workers,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            validation=validation,
        )
    )
