"""Encode and decode long audio chunk by chunk, and report the memory and time that takes.

    python benchmarks/long_audio.py --minutes 60                      # the published width
    python benchmarks/long_audio.py --minutes 60 --tiny          # recipes/tiny/vae.yaml
    python benchmarks/long_audio.py --minutes 2 --one-shot            # beside it, the whole in one call

Random weights, noise that arrives in pieces of one second, and results that are dropped at once, so that what grows is
the model's own need. Each direction runs in a process of its own; `peak` is the largest resident memory of it so far,
with Python, torch and the weights in it (`base`: before the first chunk).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from common import describe, write
from torch import Tensor

from svae.config import VAETrainConfig
from svae.models.vae import streaming
from svae.models.vae.layers import fold_weight_norm
from svae.models.vae.vae import SpeechVAE
from svae.recipe import load


def peak_gib() -> float:
    """Return the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**30 if sys.platform == "darwin" else 2**20
    )


def noise(pieces: int, channels: int, size: int, scale: float) -> Iterator[Tensor]:
    """Yield `pieces` tensors (1, channels, size) of seeded noise, one after the other."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(pieces):
        yield scale * torch.randn(1, channels, size, generator=generator)


@torch.inference_mode()
def measure(
    direction: str, tiny: bool, minutes: float, chunk_seconds: float, threads: int, one_shot: bool
) -> dict:
    """Run one direction in this process and return its times (s), real-time factors and memory (GiB)."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    cfg = load(VAETrainConfig, "tiny/vae" if tiny else "libritts/vae-semantic64").vae
    vae = fold_weight_norm(SpeechVAE(cfg), packed=True).eval().requires_grad_(False)
    seconds = math.ceil(60 * minutes)
    pieces = noise(seconds, 1, vae.sample_rate, 0.1)
    if direction == "decode":
        pieces = noise(
            math.ceil(seconds * vae.sample_rate / vae.hop_length / 40), vae.latent_dim, 40, 1.0
        )
    base, start, done, course = peak_gib(), time.perf_counter(), 0.0, []
    run = (
        _one_shot
        if one_shot
        else {"encode": streaming.iter_encode, "decode": streaming.iter_decode}[direction]
    )
    for part in run(vae, pieces, chunk_seconds=chunk_seconds):
        samples = (
            part.shape[-1] if isinstance(part, Tensor) else part.mean.shape[-1] * vae.hop_length
        )
        before, done = done, done + samples / vae.sample_rate
        if int(10 * done / seconds) > int(10 * before / seconds):  # ten points along the way
            elapsed = time.perf_counter() - start
            course.append(
                {
                    "audio_s": round(done, 1),
                    "elapsed_s": round(elapsed, 2),
                    "peak_gib": round(peak_gib(), 3),
                }
            )
    elapsed = time.perf_counter() - start
    return {
        "direction": direction,
        "audio_s": done,
        "elapsed_s": elapsed,
        "rtf": elapsed / done,
        "base_gib": base,
        "peak_gib": peak_gib(),
        "parameters": sum(p.numel() for p in vae.parameters()),
        "course": course,
    }


def _one_shot(vae: SpeechVAE, pieces: Iterator[Tensor], *, chunk_seconds: float) -> Iterator[Any]:
    whole = torch.cat(list(pieces), dim=-1)
    yield vae.encode(whole) if whole.shape[1] == 1 else vae.decode(whole)


def main() -> None:
    """Measure the wanted directions one after the other, print a table and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="the VAE of tiny/vae, not that of libritts/vae-semantic64",
    )
    parser.add_argument(
        "--directions", nargs="+", choices=("encode", "decode"), default=["encode", "decode"]
    )
    parser.add_argument("--chunk-seconds", type=float, default=streaming.CHUNK_SECONDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one-shot", action="store_true", help="without chunks, for comparison")
    parser.add_argument("--out", type=Path, default=None, help="where to write the results as JSON")
    args = parser.parse_args()
    settings = {key: value for key, value in vars(args).items() if key not in ("directions", "out")}
    machine = describe(torch.device("cpu"))
    context, results = multiprocessing.get_context("spawn"), []
    print(
        f"{'':8}{'audio':>9}{'RTF':>8}{'base GiB':>10}{'peak GiB':>10}   peak at a tenth of the way"
    )
    for direction in args.directions:
        with context.Pool(1) as pool:
            values = (
                direction,
                args.tiny,
                args.minutes,
                args.chunk_seconds,
                args.threads,
                args.one_shot,
            )
            result = pool.apply(measure, values)
        results.append(result)
        print(
            f"{direction:8}{result['audio_s']:>7.0f} s{result['rtf']:>8.3f}{result['base_gib']:>10.2f}"
            f"{result['peak_gib']:>10.2f}   {result['course'][0]['peak_gib']:.2f}",
            flush=True,
        )
    write(args.out, machine, settings=settings, results=results)


if __name__ == "__main__":
    main()
