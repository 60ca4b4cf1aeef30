"""`svae decode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from svae.cli.app import app, example
from svae.cli.options import Device, Workers


@app.command(
    epilog=example("""
        svae decode data/latents/sample --out out/decoded
        svae decode data/latents/sample --out out/decoded --format flac --workers 2
    """)
)
def decode(
    latents: Annotated[
        Path, typer.Argument(help="Latent shards from `svae encode`: a folder or a URL (s3://…).")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for KEY.wav of each utterance; existing files are kept.")
    ],
    vae: Annotated[
        Path | None, typer.Option(help="The VAE that made them; default: the copy beside them.")
    ] = None,
    format: Annotated[Literal["wav", "flac"], typer.Option(help="Format of the files.")] = "wav",
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Decode latent shards into waveforms of the original lengths."""
    from svae.precompute.decode import DecodeOptions, decode_shards

    decode_shards(
        DecodeOptions(
            latents=latents, out=out, vae=vae, format=format, workers=workers, device=device
        )
    )
