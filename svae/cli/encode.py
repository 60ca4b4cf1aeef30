"""`svae encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from svae.cli.app import app, example
from svae.cli.options import Device, Ray, RayGpus, StoredType, WaveformShards, Workers, ray_options


@app.command(
    epilog=example("""
        svae encode data/shards/sample --vae runs/tiny-vae --out data/latents/sample
        svae train-tts --data data/latents/sample
        torchrun --nproc-per-node 8 -m svae encode data/shards/libritts --vae runs/vae --out data/latents/libritts
        svae encode data/shards/libritts --vae runs/vae --out data/latents/libritts --ray auto --ray-gpus 0.5
    """)
)
def encode(
    data: WaveformShards,
    vae: Annotated[
        Path, typer.Option(help="Run or checkpoint folder of the VAE, or user/repo on the hub.")
    ],
    out: Annotated[Path, typer.Option(help="Where the latent shards go: a folder or a URL.")],
    dtype: StoredType = "float16",
    content: Annotated[
        Literal["posterior", "sample"],
        typer.Option(help="Mean and log-variance, or one sample of the posterior per utterance."),
    ] = "posterior",
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Utterances at once on a GPU; on the CPU each goes alone.")
    ] = 16,
    workers: Workers = None,
    device: Device = "auto",
    ray: Ray = None,
    ray_gpus: RayGpus = 1.0,
) -> None:
    """Encode waveform shards once into latent shards, so that train-tts need not run the encoder.

    On the CPU the bytes depend on data, VAE, --dtype, --content and --seed alone.
    """
    from svae.precompute.latents import EncodeOptions, encode_shards

    encode_shards(
        EncodeOptions(
            data=data,
            vae=vae,
            out=out,
            dtype=dtype,
            content=content,
            seed=seed,
            batch_size=batch_size,
            workers=workers,
            device=device,
            ray=ray_options(ray, ray_gpus),
        )
    )
