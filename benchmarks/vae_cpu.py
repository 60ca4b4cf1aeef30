"""How fast the VAE encodes and decodes on a CPU, and in how much memory, beside a module-by-module baseline.

    python benchmarks/vae_cpu.py --out benchmarks/results/vae_cpu.json

Published width, random weights, the same in all. The three run alternately in one process, so that the ratios hold also
where the machine's speed drifts; memory is that of a process which builds one model and does one thing once.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import describe, load, write
from torch import nn

from svae.config import BigVGANConfig, VAEConfig
from svae.models.vae.vae import SpeechVAE

TINY = VAEConfig(encoder_channels=4, latent_dim=8, decoder=BigVGANConfig(initial_channels=64))
MODELS = ("baseline", "baseline, folded", "svae")
TOLERANCE = 1e-4


def build(name: str, cfg: VAEConfig, state: dict[str, torch.Tensor] | None = None) -> nn.Module:
    """Return one of MODELS for inference, with given weights or with random ones."""
    torch.manual_seed(0)
    if name == "svae":
        from svae.models.vae.layers import fold_weight_norm

        model: nn.Module = SpeechVAE(cfg)
    else:
        from baseline import BaselineVAE

        model = BaselineVAE(cfg)
    if state is not None:
        model.load_state_dict(state)
    if name == "svae":
        fold_weight_norm(model, packed=True)
    elif name == "baseline, folded":
        model.fold()
    return model.eval().requires_grad_(False)


def random_state(cfg: VAEConfig) -> dict[str, torch.Tensor]:
    """Return random weights in which no two channels' activations are alike."""
    torch.manual_seed(0)
    state = SpeechVAE(cfg).state_dict()
    for name, value in state.items():
        if name.endswith((".alpha", ".beta")):
            value.add_(0.2 * torch.randn_like(value))
    return state


def inputs(cfg: VAEConfig, seconds: float) -> dict[str, torch.Tensor]:
    """Return noise to encode and noise to decode, whole frames of `seconds`."""
    hop = torch.tensor(cfg.encoder_strides).prod().item()
    frames = round(seconds * cfg.sample_rate / hop)
    generator = torch.Generator().manual_seed(1)
    return {
        "encode": 0.1 * torch.randn(1, 1, frames * hop, generator=generator),
        "decode": torch.randn(1, cfg.latent_dim, frames, generator=generator),
    }


def operation(model: nn.Module, task: str, x: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return a call that gives the means or the waveform."""
    if task == "decode":
        return lambda: model.decode(x)
    return lambda: model.encode(x).mean if isinstance(model, SpeechVAE) else model.encode(x)[0]


@torch.inference_mode()
def measure(
    cfg: VAEConfig, tasks: list[str], seconds: float, repeats: int
) -> list[dict[str, object]]:
    """Return a row for each model and task: median real-time factor, all times, distance from the baseline."""
    state = random_state(cfg)
    models = {name: build(name, cfg, state) for name in MODELS}
    rows = []
    for task in tasks:
        x = inputs(cfg, seconds)[task]
        calls = {name: operation(model, task, x) for name, model in models.items()}
        outputs = {name: call() for name, call in calls.items()}  # this is also the warm-up
        times: dict[str, list[float]] = {name: [] for name in MODELS}
        cpu_times: dict[str, list[float]] = {name: [] for name in MODELS}
        for _ in range(repeats):
            for name, call in calls.items():
                start, cpu_start = time.perf_counter(), time.process_time()
                call()
                times[name].append(time.perf_counter() - start)
                cpu_times[name].append(time.process_time() - cpu_start)
        for name in MODELS:
            rows.append(
                {
                    "task": task,
                    "model": name,
                    "rtf": statistics.median(times[name]) / seconds,
                    "cpu_seconds_per_second": statistics.median(cpu_times[name]) / seconds,
                    "rtf_of_each": [value / seconds for value in times[name]],
                    "max_difference": float((outputs[name] - outputs["baseline"]).abs().max()),
                    "largest_output": float(outputs[name].abs().max()),
                    "load": load(),
                }
            )
    return rows


def peak_memory(args: argparse.Namespace, name: str, task: str) -> float:
    """Return the peak resident memory, in GB, of a process that builds one model and runs one task once."""
    command = [sys.executable, __file__, "--child", name, task, "--seconds", str(args.seconds)]
    command += ["--threads", str(args.threads)] + ["--tiny"] * args.tiny
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


@torch.inference_mode()
def child(cfg: VAEConfig, seconds: float, name: str, task: str) -> None:
    """Do one thing once and print this process's peak memory in GB."""
    operation(build(name, cfg), task, inputs(cfg, seconds)[task])()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def show(rows: list[dict[str, object]]) -> None:
    """Print the rows as a Markdown table."""
    print(
        "| task | model | real-time factor | baseline / this | peak memory (GB) | largest difference |"
    )
    print("|---|---|---|---|---|---|")
    for row in rows:
        base = next(r["rtf"] for r in rows if r["task"] == row["task"] and r["model"] == "baseline")
        print(
            f"| {row['task']} | {row['model']} | {row['rtf']:.3f} | {base / row['rtf']:.2f} | "
            f"{row['peak_memory_gb']:.2f} | {row['max_difference']:.1e} |"
        )


def main() -> None:
    """Measure, check, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--tasks", nargs="+", choices=("encode", "decode"), default=["encode", "decode"]
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="a model of a few channels: does the benchmark run?"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cfg = TINY if args.tiny else VAEConfig()
    if args.child:
        child(cfg, args.seconds, *args.child)
        return
    machine = describe(torch.device("cpu"))
    # Before this process grows: a child's peak counts what its parent held when it was started.
    memory = {(task, name): peak_memory(args, name, task) for task in args.tasks for name in MODELS}
    rows = measure(cfg, args.tasks, args.seconds, args.repeats)
    for row in rows:
        row["peak_memory_gb"] = memory[row["task"], row["model"]]
    show(rows)
    write(args.out, machine, seconds=args.seconds, rows=rows)
    worst = max(row["max_difference"] for row in rows)
    if worst > TOLERANCE:
        sys.exit(f"outputs differ by {worst:.1e}, more than {TOLERANCE}")


if __name__ == "__main__":
    main()
