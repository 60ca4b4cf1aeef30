"""How fast the VAE trains, with and without its teacher, in fp32, bf16 and bf16 compiled; encoding and decoding.

    python benchmarks/vae_train.py --out benchmarks/results/vae_train.json

Published configuration, random weights, the real training step, noise read from shards by the real loader. The teacher
is of WavLM-large's size with random weights. Meant for a GPU; --tiny shows on any machine that it runs.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
from common import Results, describe

from svae.config import (
    BigVGANConfig,
    DataConfig,
    DiscriminatorConfig,
    LoaderConfig,
    TeacherConfig,
    TrainerConfig,
    VAEConfig,
    VAELossConfig,
    VAETrainConfig,
)
from svae.data.index import read_index, write_index
from svae.data.loaders import crop_loader
from svae.data.shard_writer import ShardItem, write_shard
from svae.models.vae.layers import fold_weight_norm
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, select_device
from svae.training.vae.crops import context_samples, segment_samples
from svae.training.vae.step import train_step
from svae.training.vae.train import build_state

ARITHMETIC = {"fp32": ("fp32", False), "bf16": ("bf16", False), "bf16 + compile": ("bf16", True)}
TINY = {
    "vae": VAEConfig(
        encoder_channels=4,
        latent_dim=8,
        decoder=BigVGANConfig(
            initial_channels=64, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),)
        ),
    ),
    "discriminator": DiscriminatorConfig(
        periods=(2,), period_channels=(4, 4), fft_sizes=(256,), spectral_channels=2
    ),
    "segment_seconds": 0.2,
    "batch_size": 2,
}


@dataclass(frozen=True)
class Case:
    """One row of the training table."""

    arithmetic: str
    with_teacher: bool


def write_teacher(folder: Path, *, tiny: bool) -> Path:
    """Write a WavLM-large with random weights (or a tiny one) as transformers stores it."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    size: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    size |= {"intermediate_size": 4096}
    if tiny:
        size = {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
        size |= {
            "conv_dim": (8,) * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 2,
        }
    config = WavLMConfig(**size, do_stable_layer_norm=True, feat_extract_norm="layer")
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def write_noise(folder: Path, *, utterances: int, seconds: float, shards: int) -> Path:
    """Write waveform shards of noise, compressed like speech corpora are."""
    generator = torch.Generator().manual_seed(0)
    samples = round(16000 * seconds)

    def items(shard: int) -> Iterator[ShardItem]:
        for number in range(shard, utterances, shards):
            file = io.BytesIO()
            noise = 0.1 * torch.randn(samples, generator=generator)
            soundfile.write(file, noise.numpy(), 16000, format="FLAC", subtype="PCM_16")
            yield ShardItem(
                f"noise-{number}", {"flac": file.getvalue()}, samples, 16000, "s", "en", "noise"
            )

    entries = [write_shard(folder, shard, items(shard)) for shard in range(shards)]
    write_index(
        folder,
        kind="waveforms",
        corpus="noise",
        sample_rate=16000,
        shards=entries,
        validation=["noise-0"],
        rejected={},
    )
    return folder


def recipe_of(case: Case, data: Path, teacher: Path, args: argparse.Namespace) -> VAETrainConfig:
    """Return the published recipe with the case's arithmetic, or a tiny one."""
    precision, compiled = ARITHMETIC[case.arithmetic]
    return VAETrainConfig(
        data=DataConfig(root=str(data)),
        trainer=TrainerConfig(steps=10**6, precision=precision, compile=compiled),
        loader=LoaderConfig(num_workers=0 if args.tiny else args.workers),
        teacher=TeacherConfig(model=str(teacher), layer=1 if args.tiny else 23),
        loss=VAELossConfig(alignment=1.0 if case.with_teacher else None),
        **(TINY if args.tiny else {"batch_size": args.batch_size}),
    )


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float:
    """Return the peak memory in GB: allocated on the GPU, or resident of this process so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def train(
    case: Case, config: VAETrainConfig, device: torch.device, *, warmup: int, steps: int
) -> dict[str, Any]:
    """Train some steps and return the row. Waiting for data is the time spent in the loader and in the copy's start."""
    world = World(rank=0, world_size=1, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    state = build_state(config, None, world)
    loader = crop_loader(
        read_index(config.data.root),
        batch_size=config.batch_size,
        segment_samples=segment_samples(config),
        context_samples=context_samples(config),
        seed=0,
        start_step=0,
        rank=0,
        world_size=1,
        loader=config.loader,
        pin_memory=device.type == "cuda",
    )
    batches = iter(loader)
    for _ in range(warmup):
        train_step(state, [next(batches)], config, world)
    synchronize(device)
    audio = waiting = 0.0
    start = time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - before
        audio += train_step(state, [batch], config, world).audio_seconds
    synchronize(device)
    elapsed = time.perf_counter() - start
    return {
        "arithmetic": case.arithmetic,
        "teacher": case.with_teacher,
        "batch_size": config.batch_size,
        "segment_seconds": config.segment_seconds,
        "seconds_per_step": elapsed / steps,
        "audio_seconds_per_second": audio / elapsed,
        "waiting_for_data": waiting / elapsed,
        "peak_memory_gb": peak_memory(device),
    }


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median duration of `repeats` calls after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


@torch.inference_mode()
def infer(
    cfg: VAEConfig, device: torch.device, *, seconds: float, repeats: int
) -> Iterator[dict[str, Any]]:
    """Yield real-time factors of encode and decode at batch 1 and 32, fp32 and bf16; the median of `repeats`."""
    torch.manual_seed(0)
    model = fold_weight_norm(SpeechVAE(cfg), packed=device.type == "cpu").to(device).eval()
    for batch in (1, 32):
        waveform = 0.1 * torch.randn(batch, 1, round(seconds * cfg.sample_rate), device=device)
        for precision in ("fp32", "bf16"):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                latents = model.encode(waveform).mean
                times = {
                    "encode": median_seconds(partial(model.encode, waveform), device, repeats),
                    "decode": median_seconds(partial(model.decode, latents), device, repeats),
                }
            for task, value in times.items():
                row = {"task": task, "arithmetic": precision, "batch": batch}
                yield row | {"rtf": value / (batch * seconds)}


def show(training: list[dict[str, Any]], inference: list[dict[str, Any]]) -> None:
    """Print both tables in Markdown."""
    print(
        "| arithmetic | teacher | audio s / s | to fp32 without teacher | waiting for data | peak memory (GB) |"
    )
    print("|---|---|---|---|---|---|")
    base = next(r for r in training if r["arithmetic"] == "fp32" and not r["teacher"])[
        "audio_seconds_per_second"
    ]
    for row in training:
        rate = row["audio_seconds_per_second"]
        print(
            f"| {row['arithmetic']} | {'yes' if row['teacher'] else 'no'} | {rate:.1f} | {rate / base:.2f} | "
            f"{row['waiting_for_data']:.1%} | {row['peak_memory_gb']:.2f} |"
        )
    print("\n| task | arithmetic | batch | real-time factor |\n|---|---|---|---|")
    for row in inference:
        print(f"| {row['task']} | {row['arithmetic']} | {row['batch']} | {row['rtf']:.5f} |")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--warmup", type=int, default=10, help="steps before the clock starts, compilation included"
    )
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="audio per item of encode and decode"
    )
    parser.add_argument("--arithmetic", nargs="+", choices=ARITHMETIC, default=list(ARITHMETIC))
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="a model of a few channels: does the benchmark run?"
    )
    args = parser.parse_args()
    if args.tiny:
        args = argparse.Namespace(**vars(args) | {"warmup": 1, "steps": 2, "seconds": 0.5})
    return args


def main() -> None:
    """Measure, print, write."""
    args = parse()
    device = select_device(args.device)
    results = Results(args.out, describe(device))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        teacher = write_teacher(folder / "teacher", tiny=args.tiny)
        data = write_noise(
            folder / "noise",
            utterances=16 if args.tiny else 400,
            seconds=2 if args.tiny else 10,
            shards=8,
        )
        for case in [
            Case(a, t) for a in dict.fromkeys(["fp32", *args.arithmetic]) for t in (False, True)
        ]:
            config = recipe_of(case, data, teacher, args)
            row = train(case, config, device, warmup=args.warmup, steps=args.steps)
            results.add("training", row)
            torch.compiler.reset()
    cfg = TINY["vae"] if args.tiny else VAEConfig()
    for row in infer(cfg, device, seconds=args.seconds, repeats=5):
        results.add("inference", row)
    show(results.tables["training"], results.tables["inference"])
    results.finish()


if __name__ == "__main__":
    main()
