"""`svae doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import Device


@app.command(
    epilog=example("""
        svae doctor
        svae doctor --device cuda
        svae doctor out.wav
    """)
)
def doctor(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...", help="Audio files: print what they say of how they were made."
        ),
    ] = None,
    device: Device = "auto",
) -> None:
    """Print what this machine has and lacks, and test whether its arithmetic is right; or what audio files say of themselves."""
    if files:
        from svae.analysis.audio_files import describe_files

        describe_files(files)
        return
    from svae.analysis.doctor import doctor as run

    run(device)
