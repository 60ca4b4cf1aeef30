"""Does the longest batch fit: computed once before step 0, and estimated by `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

import numpy as np
import torch
from torch import Tensor

from svae.config import DiTConfig, TTSTrainConfig
from svae.data.batches import UtteranceBatch
from svae.data.index import ShardIndex
from svae.data.order import worst_frames
from svae.data.select import select_utterances
from svae.errors import ConfigError
from svae.frames import num_frames
from svae.runtime.distributed import World
from svae.training.tts.utterances import Limits

GIB = 2**30


def longest_batch(
    index: ShardIndex, *, latent_dim: int, sharers: int = 1, **limits: Unpack[Limits]
) -> UtteranceBatch:
    """Return a batch of quiet noise with as many frames, samples and characters as any piece of a step can have.

    As many copies of the longest usable utterance as can be computed at once, each with the longest text; `sharers` pieces
    share a part of a step's batch. At least one utterance must be usable.
    """
    usable, _ = select_utterances(index.train, **limits)
    lengths = [num_frames(sample.num_samples, limits["hop_length"]) for sample in usable]
    samples = max(sample.num_samples for sample in usable)
    frames = max(lengths)
    characters = max(len(sample.text) for sample in usable)
    count = worst_frames(np.array(lengths), limits["batch_frames"], sharers) // frames
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
