"""Does the longest batch fit: computed once before step 0, planned and estimated by `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Unpack

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from svae.checkpoint import Checkpoint
from svae.config import DiTConfig, TTSTrainConfig
from svae.data.batches import UtteranceBatch
from svae.data.features import FeatureCache
from svae.data.index import ShardIndex
from svae.data.order import worst_frames
from svae.data.select import select_utterances
from svae.errors import ConfigError
from svae.frames import num_frames
from svae.models.representation import Representation
from svae.runtime.distributed import World
from svae.runtime.fake_gpu import fake_gpu, freeing
from svae.text.vocabulary import Vocabulary
from svae.training.memory_plan import ROWS, StepPlans, Trace, measure, on_fake_gpu, tensors_of
from svae.training.tts.build import build_state
from svae.training.tts.state import FlowState
from svae.training.tts.step import examples_of, gradients, train_step
from svae.training.tts.utterances import Limits, fewest_pieces

GIB = 2**30


def longest_batch(
    index: ShardIndex,
    *,
    latent_dim: int,
    sharers: int = 1,
    rows: int | None = None,
    **limits: Unpack[Limits],
) -> UtteranceBatch:
    """Return a batch of quiet noise with as many frames, samples and characters as any piece of a step can have.

    As many copies of the longest usable utterance as can be computed at once, each with the longest text; `sharers` pieces
    share a part of a step's batch. `rows` asks for another number of copies. At least one utterance must be usable.
    """
    usable, _ = select_utterances(index.train, **limits)
    lengths = [num_frames(sample.num_samples, limits["hop_length"]) for sample in usable]
    samples = max(sample.num_samples for sample in usable)
    frames = max(lengths)
    characters = max(len(sample.text) for sample in usable)
    count = rows or worst_frames(np.array(lengths), limits["batch_frames"], sharers) // frames
    generator = torch.Generator().manual_seed(0)
    batch = UtteranceBatch(
        keys=[f"longest-{i}" for i in range(count)],
        tokens=torch.zeros(count, characters, dtype=torch.int64),
        token_lengths=torch.full((count,), characters),
    )
    if index.kind == "latents":
        batch.latent_mean = torch.randn(count, latent_dim, frames, generator=generator)
        batch.latent_logvar = torch.full_like(batch.latent_mean, -4.0)
        batch.latent_lengths = torch.full((count,), frames)
    else:
        batch.waveform = 0.01 * torch.randn(count, 1, samples, generator=generator)
        batch.lengths = torch.full((count,), samples)
    return batch


def try_batch(
    batch: UtteranceBatch,
    compute: Callable[[UtteranceBatch], None],
    optimizer: torch.optim.Optimizer,
    world: World,
) -> str:
    """Let `compute` make the gradients of a batch and forget them, beside as much memory as the optimizer will take.

    Weights, optimizer and random numbers stay as they are.

    Returns:
        What was computed and what it took, in words.

    Raises:
        ConfigError: there is not enough memory; the message says what to lower.
    """
    on_gpu = world.device.type == "cuda"
    if batch.waveform is not None:
        size = f"{batch.waveform.shape[-1]} samples"
    else:
        assert batch.latent_mean is not None
        size = f"{batch.latent_mean.shape[-1]} frames"
    text = f"{len(batch.keys)} utterances of {size}"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(world.device)
    with torch.random.fork_rng(devices=[world.device] if on_gpu else []):
        try:
            moments = _future_moments(optimizer)
            compute(batch)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the longest batch ({text}) does not fit into the memory of {world.device}: "
                f"{str(error).splitlines()[0]}\n"
                "Lower batch_frames (it counts over all ranks) or max_seconds, set trainer.precision=bf16, or use more GPUs."
            ) from None
        finally:
            optimizer.zero_grad(set_to_none=True)
    del moments
    if not on_gpu:
        return f"Longest batch fits: {text}"
    peak = torch.cuda.max_memory_allocated(world.device) / GIB
    torch.cuda.empty_cache()
    return f"Longest batch fits: {text}, {peak:.1f} GiB at the peak"


def _future_moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return memory as large as AdamW's two moments, which come with its first step; none where they are there."""
    if optimizer.state:
        return []
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    return [torch.empty_like(parameter) for parameter in (*parameters, *parameters)]


def wants_trial(config: TTSTrainConfig, world: World) -> bool:
    """Return whether `trainer.try_longest_batch` asks for the trial on this device."""
    when = config.trainer.try_longest_batch
    return when == "always" or (when == "cuda" and world.device.type == "cuda")


def try_longest(
    console: Console,
    world: World,
    state: FlowState,
    index: ShardIndex,
    limits: Limits,
    config: TTSTrainConfig,
    accumulate: int,
) -> None:
    """Compute the gradients of the longest batch that can come, forget them, and print the memory they take."""
    latent_dim = state.representation.latent_dim
    batch = piece_like(index, limits, latent_dim, config, world, accumulate)

    def compute(batch: UtteranceBatch) -> None:
        gradients(state, [batch], config, world)

    trial = try_batch(batch, compute, state.optimizer, world)
    console.print(trial, highlight=False)


def piece_like(
    index: ShardIndex,
    limits: Limits,
    latent_dim: int,
    config: TTSTrainConfig,
    world: World,
    accumulate: int,
    rows: int | None = None,
) -> UtteranceBatch:
    """Return the longest piece that a step in so many pieces can have, or as many such `rows`."""
    sharers = max(1, world.world_size * accumulate // config.data.slots)
    return longest_batch(index, **limits, latent_dim=latent_dim, sharers=sharers, rows=rows)


# ----------------------------------------------------------------------------------------------- plan


def step_plans(
    config: TTSTrainConfig,
    representation: Representation,
    vocabulary: Vocabulary,
    index: ShardIndex,
    limits: Limits,
    world: World,
    teacher: Checkpoint | None = None,
    features: FeatureCache | None = None,
) -> StepPlans:
    """Return what a step takes of a GPU's memory, all of its pieces as long as any can be."""

    def piece(pieces: int, rows: int | None = None) -> UtteranceBatch:
        return piece_like(index, limits, representation.latent_dim, config, world, pieces, rows)

    def trace(pieces: int, twice: bool) -> Trace:
        trainer = replace(config.trainer, checkpoint_activations=twice)
        asked = replace(config, trainer=trainer)
        batch = piece(pieces, ROWS)
        return trace_step(asked, representation, vocabulary, batch, pieces, teacher, features)

    return StepPlans(trace, lambda pieces: len(piece(pieces).keys), fewest_pieces(config, world))


def trace_step(
    config: TTSTrainConfig,
    representation: Representation,
    vocabulary: Vocabulary,
    batch: UtteranceBatch,
    pieces: int,
    teacher: Checkpoint | None = None,
    features: FeatureCache | None = None,
) -> Trace:
    """Return what a step in so many pieces like `batch` takes and gives back on a GPU."""
    with fake_gpu() as device, freeing():
        here = World(0, 1, device)
        there = on_fake_gpu(representation, device)
        state = build_state(config, there, vocabulary, here, None, teacher, features)
        parts = [*vars(there).values(), *vars(state.objective).values(), *vars(state).values()]
        networks = [each for each in (there, *parts) if isinstance(each, nn.Module)]
        known = {
            "frozen networks": [*tensors_of(*networks), *getattr(state, "base", {}).values()],
            "parameters": tensors_of(state.network, state.model),
            "EMA": tensors_of(state.ema.module),
        }
        return measure(
            lambda: train_step(state, [batch] * pieces, config, here),
            known,
            [state.optimizer],
            bring=lambda: examples_of(state, [batch], config, here),
            rows=len(batch.keys),
        )


# ----------------------------------------------------------------------------------------------- estimate


def estimate_bytes(
    cfg: DiTConfig, *, parameters: int, latent_dim: int, frames: int, bf16: bool
) -> dict[str, int]:
    """Estimate what training keeps in memory at the peak, in bytes, by kind.

    Activations are counted from the code of `DiT`: what each operation keeps for its backward pass. What is missing:
    the VAE where it encodes while training, what the allocator cannot use, and the CUDA context.
    `frames` are the padded ones of a rank's batch, `parameters` those of the DiT.
    """
    size = 2 if bf16 else 4  # of what products give; norms keep theirs in float32 either way
    block = cfg.dim * (4 * 4 + size * (11 + 2 * cfg.ff_mult))
    if cfg.dropout > 0:
        block += cfg.dim * (1 + cfg.ff_mult)  # masks of one byte
    text_block = cfg.text_dim * (4 * (1 + cfg.text_conv_mult) + size * (4 + 3 * cfg.text_conv_mult))
    entry = size * (2 * latent_dim + cfg.text_dim) + cfg.dim * (4 * 2 + size * 6)
    per_frame = cfg.depth * block + cfg.text_conv_layers * text_block + entry
    weights = 4 * parameters
    return {
        "parameters": weights,
        "gradients": weights,
        "AdamW": 2 * weights,
        "EMA": weights,
        "bf16 copies of the weights": parameters * 2 if bf16 else 0,
        "activations": frames * per_frame,
    }
