"""How fast the DiT of the text-to-speech model is on a CPU, beside a module-by-module baseline.

    python benchmarks/dit_cpu.py --out benchmarks/results/dit_cpu.json

F5-TTS Small, random weights, the same in both; 10 s of latents (400 x 64) with 150 characters. `forward` includes the
text, `guided step` is one step with guidance, for which the text is ready, `16 steps` is the sampler of synthesis (EPSS,
guided) with and without the published VAE's decoder; its baseline is Euler steps of the baseline network. The two run
alternately in one process, so that the ratios hold also where the machine's speed drifts. On a machine with other jobs
the processor time of one thread (--threads 1) says more than the wall clock.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from baseline_dit import BaselineDiT
from common import describe, load, write
from torch import Tensor, nn

from svae.config import BigVGANConfig, DiTConfig, VAEConfig
from svae.models.cpu.linear import use_bf16_products
from svae.models.tts.dit import DiT
from svae.models.tts.sampler import guided_velocity, sample_latents
from svae.models.tts.solver import integrate, time_grid
from svae.models.vae.layers import fold_weight_norm
from svae.models.vae.vae import SpeechVAE

FRAMES, CHARACTERS, VOCABULARY, LATENT_DIM, SECONDS = 400, 150, 256, 64, 10.0
TINY = DiTConfig(dim=32, depth=2, heads=2, text_dim=16, text_conv_layers=1, conv_pos_groups=4)
TINY_VAE = VAEConfig(encoder_channels=4, decoder=BigVGANConfig(initial_channels=64))


def build(cfg: DiTConfig) -> tuple[DiT, BaselineDiT]:
    """Return svae's network and the baseline with the same random weights."""
    torch.manual_seed(0)
    model = DiT(cfg, VOCABULARY, LATENT_DIM).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "modulation" in name or name.startswith("output"):  # zero before training
            nn.init.normal_(parameter, std=0.02)
    baseline = BaselineDiT(cfg, VOCABULARY, LATENT_DIM).take(model.state_dict())
    return model, baseline.eval().requires_grad_(False)


def tasks(
    model: DiT, fast: DiT, baseline: BaselineDiT, vae: SpeechVAE
) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """Return what is measured: task → name → call; `fast` is a copy of the model with products in bfloat16."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(1, LATENT_DIM, FRAMES, generator=g)
    prompt = torch.randn(1, LATENT_DIM, FRAMES, generator=g)
    tokens, t = torch.randint(0, VOCABULARY, (1, CHARACTERS), generator=g), torch.tensor([0.3])
    condition = prompt.masked_fill(torch.arange(FRAMES) >= 120, 0.0)
    guided, guided_fast = (guided_velocity(m, condition, tokens, None, 2.0) for m in (model, fast))
    text = torch.cat(
        [baseline.encode_text(tokens, FRAMES), baseline.encode_text(tokens, FRAMES, drop=True)]
    )
    conditions = torch.cat([condition, torch.zeros_like(condition)])

    def baseline_step(x: Tensor, t: float) -> Tensor:
        both = baseline(torch.cat([x, x]), conditions, torch.full((2,), t), text)
        return both[:1] + 2.0 * (both[:1] - both[1:])

    def sample(network: DiT) -> Tensor:
        lengths = torch.tensor([FRAMES])
        return sample_latents(
            network, prompt, torch.tensor([120]), tokens, lengths, num_steps=16, guidance_scale=2.0
        )

    return {
        "forward": {
            "baseline": lambda: baseline(x, condition, t, baseline.encode_text(tokens, FRAMES)),
            "svae": lambda: model(x, condition, t, tokens),
            "svae, bf16 products": lambda: fast(x, condition, t, tokens),
        },
        "guided step": {
            "baseline": lambda: baseline_step(x, 0.3),
            "svae": lambda: guided(x, 0.3),
            "svae, bf16 products": lambda: guided_fast(x, 0.3),
        },
        "16 steps": {
            "baseline": lambda: integrate(baseline_step, x, time_grid(16)),
            "svae": lambda: integrate(guided, x, time_grid(16)),
            "svae, bf16 products": lambda: integrate(guided_fast, x, time_grid(16)),
        },
        "16 steps and decoder": {
            "svae": lambda: vae.decode(sample(model)),
            "svae, bf16 products": lambda: vae.decode(sample(fast)),
        },
    }


@torch.no_grad()
def measure(
    model: DiT, baseline: BaselineDiT, vae: SpeechVAE, names: list[str], repeats: int
) -> list[dict]:
    """Return a row for each task and network: median and least seconds, all times, distance from the baseline."""
    rows = []
    fast = copy.deepcopy(model)
    use_bf16_products(fast)
    for task, calls in tasks(model, fast, baseline, vae).items():
        if task not in names:
            continue
        outputs = {name: call() for name, call in calls.items()}  # this is also the warm-up
        times: dict[str, list[float]] = {name: [] for name in calls}
        busy: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats if task in ("forward", "guided step") else max(1, repeats // 4)):
            for name, call in calls.items():
                start, before = time.perf_counter(), time.process_time()
                call()
                times[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - before)
        for name in calls:
            row = {
                "task": task,
                "model": name,
                "seconds": statistics.median(times[name]),
                "least_seconds": min(times[name]),
                "seconds_of_each": times[name],
                "least_cpu_seconds": min(busy[name]),
                "rtf": statistics.median(times[name]) / SECONDS,
                "load": load(),
            }
            if "baseline" in outputs:
                row["max_difference"] = float((outputs[name] - outputs["baseline"]).abs().max())
                row["largest_output"] = float(outputs[name].abs().max())
            rows.append(row)
    return rows


def show(rows: list[dict]) -> None:
    """Print the rows as a Markdown table."""
    print(
        "| task | model | median (s) | least (s) | least CPU (s) | baseline / this: median | least | CPU | difference |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        base = next(
            (r for r in rows if r["task"] == row["task"] and r["model"] == "baseline"), None
        )
        ratios = ["–"] * 3
        if base is not None:
            ratios = [
                f"{base[name] / row[name]:.2f}"
                for name in ("seconds", "least_seconds", "least_cpu_seconds")
            ]
        difference = f"{row['max_difference']:.1e}" if "max_difference" in row else "–"
        print(
            f"| {row['task']} | {row['model']} | {row['seconds']:.3f} | {row['least_seconds']:.3f} | "
            f"{row['least_cpu_seconds']:.3f} | {' | '.join(ratios)} | {difference} |"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=8)
    names = ["forward", "guided step", "16 steps", "16 steps and decoder"]
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="a model of a few channels: does the benchmark run?"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine = describe(torch.device("cpu"))
    model, baseline = build(TINY if args.tiny else DiTConfig())
    torch.manual_seed(0)
    vae = (
        fold_weight_norm(SpeechVAE(TINY_VAE if args.tiny else VAEConfig()), packed=True)
        .eval()
        .requires_grad_(False)
    )
    rows = measure(model, baseline, vae, args.tasks, args.repeats)
    show(rows)
    write(args.out, machine, frames=FRAMES, characters=CHARACTERS, threads=args.threads, rows=rows)


if __name__ == "__main__":
    main()
