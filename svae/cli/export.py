"""`svae export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example


@app.command(
    epilog=example("""
        svae export embedded --onnx out/voice
        svae export runs/my-voice --onnx out/my-voice --int8 --license cc-by-4.0
    """)
)
def export(
    run: Annotated[
        Path,
        typer.Argument(help="Run or checkpoint folder of a TTS or adapter, or `embedded`."),
    ],
    onnx: Annotated[
        Path, typer.Option("--onnx", help="The folder to write; it must not exist, or be empty.")
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Store the transformer's matrices in 8 bits: smaller, and not the same."
        ),
    ] = False,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of the weights, for the card: mit, cc-by-4.0, …"),
    ] = None,
) -> None:
    """Write a voice as ONNX, for programs without torch (`svae-speak` of the package svae-runtime)."""
    from svae.export.folder import ExportOptions
    from svae.export.folder import export as run_export

    run_export(ExportOptions(run=run, folder=onnx, int8=int8, licence=licence))
