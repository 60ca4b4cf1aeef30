"""`svae prepare`: one command for every corpus that svae knows, and for sources of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.data.corpora import CORPORA
from svae.data.corpora.corpus import Corpus

preparer = typer.Typer(
    help="Turn a corpus into webdataset shards of FLAC and text. Runs in parallel and continues where it was stopped.",
    no_args_is_help=True,
    epilog=example("""
        svae prepare sample
        svae prepare libritts --root data/LibriTTS --subset train-clean-100 --subset dev-clean --workers 16
        svae prepare jsonl --root my/metadata.jsonl --out data/shards/mine --max-seconds 20
    """),
)
app.add_typer(preparer, name="prepare")

# ------------------------------------------------------------------------------ what all have

Out = Annotated[
    Path | None, typer.Option(help="Where the shards go; default: data/shards/ and the name above.")
]
SampleRate = Annotated[
    int, typer.Option(min=8000, max=48000, help="Sample rate of the shards in Hz.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
MinSeconds = Annotated[float, typer.Option(min=0, help="Shorter utterances are rejected.")]
MaxSeconds = Annotated[float, typer.Option(min=0, help="Longer utterances are rejected.")]
Validation = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of utterances held out of training.")
]
Shards = Annotated[
    int | None, typer.Option(min=1, help="Number of shards; default: by the corpus' size.")
]

# ------------------------------------------------------------------------------ folders in a layout of their own


def _add(corpus: Corpus) -> None:
    """Give a corpus its command."""
    root = f" --root {corpus.folder or 'my/metadata.jsonl'}" if corpus.name != "sample" else ""

    @preparer.command(
        corpus.name,
        short_help=corpus.title,
        help=f"{corpus.title}: {corpus.how_to_get}\n\nLayout: {corpus.layout}",
        epilog=example(f"svae prepare {corpus.name}{root} --out data/shards/mine --workers 16"),
    )
    def command(
        root: Annotated[
            Path | None, typer.Option(help="Where the corpus is; default: data/LibriTTS and so on.")
        ] = None,
        out: Out = None,
        subset: Annotated[list[str], typer.Option(help="Only this subset; repeatable.")] = [],  # noqa: B006
        sample_rate: SampleRate = 16000,
        shards: Shards = None,
        workers: Workers = None,
        min_seconds: MinSeconds = 0.3,
        max_seconds: MaxSeconds = 35.0,
        validation: Validation = 0.05,
    ) -> None:
        from svae.data.prepare import prepare as run
        from svae.data.prepare_plan import PrepareOptions

        run(
            PrepareOptions(
                corpus=corpus.name,
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


for _corpus in CORPORA.values():
    _add(_corpus)
