"""`svae encode`, and what else works on a VAE and its latents."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import Device, app, example


class LatentType(StrEnum):
    """Storage of latents."""

    float16 = "float16"
    float32 = "float32"


@app.command(
    epilog=example("""
        svae encode data/shards/sample --vae runs/tiny-vae --out data/latents/sample
        svae train-tts --data data/latents/sample
    """)
)
def encode(
    data: Annotated[Path, typer.Argument(help="Waveform shards from `svae prepare`.")],
    vae: Annotated[Path, typer.Option(help="Run or checkpoint folder of the VAE.")],
    out: Annotated[Path, typer.Option(help="Where latent shards go.")],
    dtype: Annotated[LatentType, typer.Option(help="Storage.")] = LatentType.float16,
    device: Device = "auto",
) -> None:
    """Encode waveform shards once into latent shards, so that train-tts need not run the encoder."""
    from svae.latents import EncodeOptions, encode_shards

    encode_shards(EncodeOptions(data=data, vae=vae, out=out, dtype=dtype.value, device=device))
