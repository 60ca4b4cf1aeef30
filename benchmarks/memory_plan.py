"""How far a plan of `--dry-run --memory` is from what the same step really takes, on the CPU.

    python benchmarks/memory_plan.py --out benchmarks/results/memory_plan.json

Published widths, float32, random weights, short crops and few utterances, so that a step takes seconds. Planned: the step on
fake tensors, as `svae … --dry-run --memory` plans it, without the reserve for CUDA. Measured: what torch's CPU allocator hands
out, by torch.profiler, in a second step of the same recipe, beside the weights and moments that were there before. Kernels are
not those of a GPU: what they use while they work differs, so this says whether everything is counted, not how a GPU ends up.

    python benchmarks/memory_plan.py --measured OLD.json …      # the same options: plans anew, beside what was measured then
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import describe, write
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.batches import CropBatch, UtteranceBatch
from svae.models.mel import MelFrames
from svae.runtime.distributed import World
from svae.text.vocabulary import Vocabulary
from svae.training.memory_plan import Plan, tensors_of
from svae.training.optim import AdamW
from svae.training.tts import memory as tts_memory
from svae.training.tts.build import build_state
from svae.training.tts.step import train_step as tts_step
from svae.training.vae import train as vae
from svae.training.vae.crops import segment_samples
from svae.training.vae.step import train_step as vae_step

MIB = 2**20
WORLD = World(0, 1, torch.device("cpu"))
VOCABULARY = Vocabulary.from_characters("".join(chr(33 + i) for i in range(77)))
TINY_VAE = ["vae.encoder_channels=4", "vae.decoder.initial_channels=64"]
TINY_VAE += ["vae.decoder.resblock_kernel_sizes=[3]", "vae.decoder.resblock_dilation_sizes=[[1]]"]
TINY_DIT = ["dit.dim=64", "dit.depth=2", "dit.heads=2", "dit.text_dim=32"]


def peak_of(step: Callable[[], object], there: Sequence[Tensor]) -> int:
    """Return the bytes that torch's CPU allocator has handed out at the peak of a step, with what was `there` before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    assert found.profiler is not None
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    storages = {each.untyped_storage()._cdata: each.untyped_storage() for each in there}
    return most + sum(storage.nbytes() for storage in storages.values())


def measured(
    step: Callable[[], object], networks: Sequence[nn.Module], optimizers: Sequence[AdamW]
) -> int:
    """Return the peak of the second step of a run."""
    step()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    moments = [
        each
        for optimizer in optimizers
        for each in tree_leaves(dict(optimizer.state))
        if isinstance(each, Tensor)
    ]
    return peak_of(step, [*tensors_of(*networks), *moments])


Case = tuple[Plan, Callable[[], int]]
"""The plan of a step, and what measures the step."""


def vae_case(config: VAETrainConfig, pieces: int, rows: int) -> Case:
    """Return a step of the VAE training."""
    plan = vae.trace_step(config, pieces).plan(rows)
    return plan, lambda: vae_peak(config, pieces, rows)


def vae_peak(config: VAETrainConfig, pieces: int, rows: int) -> int:
    """Return what such a step takes."""
    size = segment_samples(config)
    batch = CropBatch(
        keys=[str(i) for i in range(rows)],
        waveform=0.1 * torch.randn(rows, 1, size),
        lengths=torch.full((rows,), size),
        starts=torch.zeros(rows, dtype=torch.int64),
    )
    state = vae.build_state(config, None, WORLD)
    state.step = max(1, config.loss.adversarial_start_step)
    return measured(
        lambda: vae_step(state, [batch] * pieces, config, WORLD),
        [state.model, state.discriminator, state.mel_loss, state.ema.module],
        [state.optimizer, state.discriminator_optimizer],
    )


def tts_case(config: TTSTrainConfig, pieces: int, rows: int, frames: int) -> Case:
    """Return a step of the TTS training, on mel frames that are made in the step."""
    representation = MelFrames()

    def batch(rows: int) -> UtteranceBatch:
        samples = frames * representation.hop_length
        return UtteranceBatch(
            keys=[str(i) for i in range(rows)],
            tokens=torch.zeros(rows, frames // 6, dtype=torch.int64),
            token_lengths=torch.full((rows,), frames // 6),
            waveform=0.1 * torch.randn(rows, 1, samples),
            lengths=torch.full((rows,), samples),
        )

    traced = tts_memory.trace_step(
        config, representation, VOCABULARY, batch(tts_memory.ROWS), pieces
    )

    def peak() -> int:
        state = build_state(config, representation, VOCABULARY, WORLD)
        small = batch(rows)
        frozen = [each for each in vars(representation).values() if isinstance(each, nn.Module)]
        return measured(
            lambda: tts_step(state, [small] * pieces, config, WORLD),
            [state.model, state.ema.module, *frozen],
            [state.optimizer],
        )

    return traced.plan(rows), peak


def measured_before(path: Path, options: dict[str, Any]) -> dict[tuple[str, int, bool], int]:
    """Return what an earlier run measured, by recipe, pieces and whether activations are computed twice."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["options"] != options:
        raise SystemExit(f"{path}: was measured with {found['options']}, expected {options}")
    return {
        (row["recipe"], row["pieces"], row["computed_twice"]): row["measured_bytes"]
        for row in found["rows"]
    }


def main() -> None:
    """Plan, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--segment-seconds", type=float, default=0.5)
    parser.add_argument("--crops", type=int, default=2, help="in a piece")
    parser.add_argument("--frames", type=int, default=400, help="of an utterance")
    parser.add_argument("--utterances", type=int, default=4, help="in a piece")
    parser.add_argument("--kinds", nargs="+", choices=["tts", "vae"], default=["tts", "vae"])
    parser.add_argument("--measured", type=Path, help="take what was measured from this result")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="of a few channels: does it run?")
    args = parser.parse_args()
    machine = describe(WORLD.device)
    torch.manual_seed(0)
    options = {"segment_seconds": args.segment_seconds, "crops": args.crops}
    options |= {"frames": args.frames, "utterances": args.utterances, "tiny": args.tiny}
    earlier = None if args.measured is None else measured_before(args.measured, options)
    rows: list[dict[str, Any]] = []
    print("| step | pieces | activations | planned, MiB | measured, MiB | error |")
    print("|---|---|---|---|---|---|")
    for kind in args.kinds:
        for twice in (False, True):
            for pieces in (1, 2):
                fields = ["trainer.precision=fp32", f"trainer.checkpoint_activations={twice}"]
                if kind == "vae":
                    fields += [f"segment_seconds={args.segment_seconds}"]
                    fields += TINY_VAE if args.tiny else []
                    name = "libritts/vae-vanilla64"
                    config = recipe.load(VAETrainConfig, name, fields)
                    plan, step = vae_case(config, pieces, args.crops)
                else:
                    name = "libritts/tts-small-mel"
                    fields += TINY_DIT if args.tiny else []
                    config = recipe.load(TTSTrainConfig, name, fields)
                    plan, step = tts_case(config, pieces, args.utterances, args.frames)
                peak = step() if earlier is None else earlier[name, pieces, twice]
                planned = plan.total - plan.reserve
                row = {"recipe": name, "pieces": pieces, "computed_twice": twice}
                row |= {"planned_bytes": planned, "measured_bytes": peak}
                row |= {"error": planned / peak - 1, "parts": plan.parts}
                rows.append(row)
                print(
                    f"| {name} | {pieces} | {'computed twice' if twice else 'kept'} | {planned / MIB:.1f} | "
                    f"{peak / MIB:.1f} | {planned / peak - 1:+.1%} |",
                    flush=True,
                )
    measured_in = None if args.measured is None else str(args.measured)
    write(args.out, machine, options=options, measured_in=measured_in, rows=rows)


if __name__ == "__main__":
    main()
