"""`svae cache-teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import (
    Device,
    Ray,
    RayGpus,
    StoredType,
    WaveformShards,
    Workers,
    parse_layer,
    ray_options,
)
from svae.config import TeacherConfig


@app.command(
    "cache-teacher",
    epilog=example("""
        svae cache-teacher data/shards/sample --teacher embedded --layer 3 --out data/features/sample
        svae train-vae --set teacher.cache=data/features/sample
        torchrun --nproc-per-node 8 -m svae cache-teacher data/shards/libritts --out data/features/libritts
    """),
)
def cache_teacher(
    data: WaveformShards,
    out: Annotated[Path, typer.Option(help="Where the feature shards go: a folder or a URL.")],
    teacher: Annotated[
        str, typer.Option(help="Hub id, folder or `embedded`.")
    ] = TeacherConfig.model,
    layer: Annotated[str, typer.Option(help="Index into hidden_states, or `average`.")] = str(
        TeacherConfig.layer
    ),
    dtype: StoredType = "float16",
    workers: Workers = None,
    device: Device = "auto",
    ray: Ray = None,
    ray_gpus: RayGpus = 1.0,
) -> None:
    """Store a teacher's features once, so that train-vae need not run the teacher."""
    from svae.precompute.teacher_features import cache_teacher as run

    config = TeacherConfig(model=teacher, layer=parse_layer(layer))
    cluster = ray_options(ray, ray_gpus)
    run(data, out, config, dtype=dtype, workers=workers, device=device, ray=cluster)
