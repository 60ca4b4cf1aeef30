"""How fast text-to-speech is on a GPU: steps, whole synthesis, training; latents against mel at equal seconds.

    python benchmarks/tts_gpu.py --out benchmarks/results/tts_gpu.json

F5-TTS Small and Base with random weights, 10 s at batch 1, 8 and 32; `ms per step` is a guided step, and the real-time
factor counts the steps (EPSS for 16) and the published VAE's decoder (mel: without a vocoder). Training is the real
step (loss, gradients, clipping, AdamW, EMA) on stored latents of 10 s that are on the device already. Meant for a GPU;
--tiny shows on any machine that it runs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import Results, describe
from torch import nn

from svae.config import (
    BigVGANConfig,
    DiTConfig,
    TTSDataConfig,
    TTSTrainConfig,
    TTSTrainerConfig,
    VAEConfig,
)
from svae.data.batches import UtteranceBatch
from svae.models.mel import MelFrames
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import guided_velocity
from svae.models.tts.solver import integrate, time_grid
from svae.models.vae.layers import fold_weight_norm
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, select_device
from svae.text.vocabulary import Vocabulary
from svae.training.tts.build import build_state
from svae.training.tts.step import train_step

SIZES = {"small": DiTConfig(), "base": DiTConfig(dim=1024, depth=22, heads=16)}
TINY = {
    "small": DiTConfig(dim=32, depth=1, heads=2, text_dim=16, text_conv_layers=1, conv_pos_groups=4)
}
TINY_VAE = VAEConfig(encoder_channels=4, decoder=BigVGANConfig(initial_channels=64))
MODES = {"eager": (False, None), "bf16": (True, None), "bf16 + compile": (True, "default")}
MODES |= {"bf16 + CUDA graphs": (True, "reduce-overhead")}
FRAME_RATES = {"latents": (64, 40.0), "mel": (100, 93.75)}
CHARACTERS_PER_SECOND = 15
VOCABULARY = Vocabulary.from_characters("".join(chr(33 + i) for i in range(77)))


def flops(model: DiT, batch: int, frames: int) -> float:
    """Return the floating-point operations of one forward pass: matrix products and attention, text tower included."""
    embedding = model.text_tower.embedding.weight.numel()
    once = (
        sum(block.modulation.weight.numel() for block in model.blocks)
        + model.output_modulation.weight.numel()
    )
    once += sum(p.numel() for p in model.time.parameters())
    weights = sum(p.numel() for p in model.parameters() if p.dim() > 1) - embedding - once
    attention = 2 * 2 * frames * frames * model.cfg.dim * model.cfg.depth
    return batch * (2.0 * weights * frames + attention + 2.0 * once)


def timed(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median duration of `repeats` calls after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def random_dit(cfg: DiTConfig, channels: int, device: torch.device) -> DiT:
    """Return a DiT for inference, none of whose weights is zero."""
    torch.manual_seed(0)
    model = DiT(cfg, len(VOCABULARY), channels)
    for name, parameter in model.named_parameters():
        if "modulation" in name or name.startswith("output"):
            nn.init.normal_(parameter, std=0.02)
    return model.to(device).eval().requires_grad_(False)


@torch.no_grad()
def infer(
    cfg: DiTConfig,
    representation: str,
    mode: str,
    batch: int,
    vae: SpeechVAE,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Return the row of one network, mode and batch size."""
    device, (channels, rate) = args.device, FRAME_RATES[representation]
    bf16, compiled = MODES[mode]
    model = random_dit(cfg, channels, device)
    frames = round(args.seconds * rate)
    work = 2 * flops(model, batch, frames)  # guided
    network = model if compiled is None else torch.compile(model, mode=compiled)
    x = torch.randn(batch, channels, frames, device=device)
    tokens = torch.randint(
        0, len(VOCABULARY), (batch, round(args.seconds * CHARACTERS_PER_SECOND)), device=device
    )
    decoder = vae.decode if representation == "latents" else None

    def generate(steps: int) -> None:
        velocity = guided_velocity(network, x, tokens, None, 2.0)

        def one(x: torch.Tensor, t: float) -> torch.Tensor:
            torch.compiler.cudagraph_mark_step_begin()
            return velocity(x, t).float()

        integrate(one, x, time_grid(steps))

    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        seconds = {
            steps: timed(lambda s=steps: generate(s), device, args.repeats) for steps in args.steps
        }
        decoding = 0.0 if decoder is None else timed(lambda: decoder(x), device, args.repeats)
    few, many = min(args.steps), max(args.steps)
    step = seconds[many] / many
    row = {
        "representation": representation,
        "mode": mode,
        "batch": batch,
        "frames": frames,
        "ms_per_step": 1e3 * step,
    }
    row |= {f"rtf_{n}_steps": (seconds[n] + decoding) / (batch * args.seconds) for n in (many, few)}
    return row | {"ms_decoder": 1e3 * decoding, "tflops": work / step / 1e12}


def train(
    cfg: DiTConfig, representation: str, mode: str, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the row of one network trained in one mode on batches of equal seconds."""
    device, (channels, rate) = args.device, FRAME_RATES[representation]
    bf16, compiled = MODES[mode]
    frames, batch = round(args.seconds * rate), max(1, round(args.batch_seconds / args.seconds))
    trainer = TTSTrainerConfig(
        steps=10**6, precision="bf16" if bf16 else "fp32", compile=compiled is not None
    )
    config = TTSTrainConfig(data=TTSDataConfig(root="."), trainer=trainer, dit=cfg)
    world = World(rank=0, world_size=1, device=device)
    # Normalises nothing; the batch holds what is learned.
    vae = MelFrames(num_bins=channels).to(device)
    state = build_state(config, vae, VOCABULARY, world)
    characters = round(args.seconds * CHARACTERS_PER_SECOND)
    data = UtteranceBatch(
        keys=[str(i) for i in range(batch)],
        tokens=torch.randint(0, len(VOCABULARY), (batch, characters), device=device),
        token_lengths=torch.full((batch,), characters, device=device),
        latent_mean=torch.randn(batch, channels, frames, device=device),
        latent_logvar=torch.full((batch, channels, frames), -4.0, device=device),
        latent_lengths=torch.full((batch,), frames, device=device),
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = timed(lambda: train_step(state, [data], config, world), device, args.repeats)
    work = 3 * flops(state.model, batch, frames)
    row = {"representation": representation, "mode": mode, "batch": batch, "frames": batch * frames}
    row |= {"seconds_per_step": seconds, "frames_per_second": batch * frames / seconds}
    row |= {
        "audio_seconds_per_second": batch * args.seconds / seconds,
        "tflops": work / seconds / 1e12,
    }
    row["model_flop_utilisation"] = work / seconds / 1e12 / args.peak_tflops if bf16 else None
    row["peak_memory_gb"] = (
        torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    )
    return row


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    print(f"\n{title}\n")
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print(
            "| "
            + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
            + " |"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, nargs=2, default=[16, 32])
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument(
        "--batch-seconds", type=float, default=409.6, help="of a training batch; F5-TTS's is 409.6"
    )
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="dense bf16 of the GPU; H100 and H200: 989"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="a model of a few channels: does the benchmark run?"
    )
    args = parser.parse_args()
    args.device = select_device(args.device)
    machine = describe(args.device)
    sizes = TINY if args.tiny else SIZES
    if args.tiny:
        args.seconds = 0.5
        args.batches = [1, 2]
        args.steps = [2, 4]
        args.repeats = 1
        args.batch_seconds = 1.0
        args.modes = [mode for mode in args.modes if MODES[mode][1] is None]
    torch.manual_seed(0)
    vae = fold_weight_norm(SpeechVAE(TINY_VAE if args.tiny else VAEConfig())).to(args.device).eval()
    results = Results(args.out, machine, seconds=args.seconds)
    # Modes that compile come last: they take longest, and all rows before them are kept where time is up.
    for mode, (size, cfg), representation in itertools.product(
        args.modes, sizes.items(), FRAME_RATES
    ):
        for batch in args.batches:
            row = infer(cfg, representation, mode, batch, vae, args)
            results.add("synthesis", {"size": size} | row)
        if "graphs" not in mode:
            row = train(replace(cfg), representation, mode, args)
            results.add("training", {"size": size} | row)
        if args.device.type == "cuda":
            torch.compiler.reset()
            torch.cuda.empty_cache()
    show("Synthesis", results.tables["synthesis"])
    show("Training", results.tables["training"])
    results.finish()


if __name__ == "__main__":
    main()
