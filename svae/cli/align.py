"""`svae align`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import Ray, WaveformShards, Workers, ray_options


@app.command(
    epilog=example("""
        svae align data/shards/mine --out data/timings/mine
        svae train-tts --data data/latents/mine --set tokens=frame-phonemes --set data.timings=data/timings/mine
    """)
)
def align(
    data: WaveformShards,
    out: Annotated[
        Path, typer.Option(help="Where the times go, a folder or a URL; finished shards are kept.")
    ],
    workers: Workers = None,
    ray: Ray = None,
) -> None:
    """Find when each phone of every utterance is spoken, for models of frame-level phonemes. English only.

    Forced alignment by pocketsphinx's acoustic model; needs no GPU and no download.
    """
    from svae.precompute.phone_times import align_shards

    align_shards(data, out, workers=workers, ray=ray_options(ray))
