"""`svae inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import Device, parse_layer


@app.command(
    epilog=example("""
        svae inspect data/latents/sample
        svae inspect runs/tiny-vae --data data/shards/sample
        svae inspect data/latents/mine --timings data/timings/mine
        svae inspect runs/semantic-vae --data data/shards/libritts --teacher microsoft/wavlm-large --layer 24
    """)
)
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="Latent shards (a folder or a URL), or run or checkpoint folder of a VAE."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Waveform shards, a folder or a URL; a checkpoint and the teacher need them."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for inspection.json and .png.")] = Path(
        "out/inspection"
    ),
    teacher: Annotated[
        str | None, typer.Option(help="Hub id or folder; default: what the checkpoint names.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of --teacher: index into hidden_states, or `average`.")
    ] = None,
    timings: Annotated[
        Path | None,
        typer.Option(
            help="Times of phones of these utterances from `svae align`: how many frames does a linear map name?"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Utterances to measure.")] = 200,
    device: Device = "auto",
) -> None:
    """Measure and draw what decides whether a flow model can learn these latents."""
    from svae.analysis.inspect_latents import InspectOptions
    from svae.analysis.inspect_latents import inspect as run

    run(
        InspectOptions(
            path=path,
            data=data,
            out=out,
            teacher=teacher,
            layer=None if layer is None else parse_layer(layer),
            timings=timings,
            limit=limit,
            device=device,
        )
    )
