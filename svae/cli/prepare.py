"""`svae prepare CORPUS`, and what stands in the corpus' place and takes options of its own: `svae prepare recordings`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from svae.cli.app import app, example
from svae.data.corpora import CORPORA

if TYPE_CHECKING:
    CorpusName = str
else:  # typer makes the choices of it
    CorpusName = Literal[tuple(CORPORA)]


CORPUS = "CORPUS"
"""The command for everything that is no name of another."""


class Sources(TyperGroup):
    """Takes `svae prepare libritts …` as the one command for all corpora; others have names, and options, of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the corpora's command before what names no other."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [CORPUS, *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Leave its name out of what help and messages call it."""
        name, command, rest = super().resolve_command(ctx, args)
        return None if name == CORPUS else name, command, rest


prepare_app = typer.Typer(
    cls=Sources, help="Turn a corpus, or recordings of any kind, into shards of FLAC and text."
)
app.add_typer(prepare_app, name="prepare")


@prepare_app.command(
    CORPUS,
    epilog=example("""
        svae prepare sample
        svae prepare libritts --root data/LibriTTS --subset train-clean-100 --subset dev-clean --workers 16
        svae prepare jsonl --root my/metadata.jsonl --out data/shards/mine --max-seconds 20
        svae prepare recordings --help
    """),
)
def prepare(
    corpus: Annotated[
        CorpusName,
        typer.Argument(
            help="Which corpus, or jsonl: lines of {audio, text, speaker, language, offset, duration}. Recordings without "
            "any list: svae prepare recordings."
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
