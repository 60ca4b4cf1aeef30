"""`svae listen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import refuse_idle_options
from svae.errors import ConfigError


@app.command(
    epilog=example("""
        svae listen out/mine out/flite --kind preference --kind mos
        svae listen mine=out/a other=wavs/b --listeners 12 --questions 15 --serve
        svae listen --score out/listen answers-1-anna.json answers-2-ben.json
    """)
)
def listen(
    ctx: typer.Context,
    systems: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A B...",
            help="Result folders of svae evaluate or folders of ID.wav, DIR or NAME=DIR; with --score: files of answers.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for listen.html, key.json and answers/.")
    ] = Path("out/listen"),
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="What is asked: preference (of two, -3 to 3), mos (naturalness, 1 to 5), similarity (to the reference, 1 to 5); "
            "may be repeated; default: preference and mos."
        ),
    ] = None,
    listeners: Annotated[int, typer.Option(help="Sheets of questions, one a listener.")] = 10,
    questions: Annotated[
        int, typer.Option(help="Questions of each kind and listener, besides attention checks.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
    loudness: Annotated[
        str, typer.Option(help="LUFS that every recording is brought to, or keep.")
    ] = "-23",
    serve: Annotated[
        bool,
        typer.Option(
            "--serve", help="Serve the page on this machine and write answers to OUT/answers."
        ),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0: a free one.")] = 8765,
    score: Annotated[
        Path | None, typer.Option(help="OUT of a test: score the answers to it instead.")
    ] = None,
) -> None:
    """A blind listening test as one page to open, and its scores: CMOS, MOS, intervals, agreement."""
    if score is not None:
        from svae.evaluation.listening.score import score_test

        where = "listen --score: reads the key and the answers of a test that was made, and files of answers"
        refuse_idle_options(ctx, {"score", "systems"}, where)
        score_test(score, [Path(name) for name in systems or ()])
        return
    from svae.evaluation.listening.serve import serve as run_server

    if not serve:
        everything = {parameter.name for parameter in ctx.command.params} - {"port"}
        refuse_idle_options(ctx, everything, "listen: --port is that of --serve")
    if systems:
        from svae.evaluation.listening.make import ListenOptions, make_test
        from svae.synthesis.loudness import check_loudness, parse_loudness

        target = parse_loudness(loudness)
        check_loudness(target, given=loudness)
        make_test(
            ListenOptions(
                systems=tuple(systems),
                out=out,
                kinds=tuple(kind) if kind else ListenOptions.kinds,
                listeners=listeners,
                questions=questions,
                seed=seed,
                loudness=target,
            )
        )
    elif serve:
        where = (
            "listen --serve: without systems it serves the test that is in --out, as it was made"
        )
        refuse_idle_options(ctx, {"serve", "port", "out"}, where)
    else:
        raise ConfigError("listen: pass the systems to compare, --serve, or --score OUT")
    if serve:
        run_server(out, port)
