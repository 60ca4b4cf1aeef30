"""A step of a text-to-speech training: latents, what is learned of them, gradients piece by piece, update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from svae.config import TTSTrainConfig
from svae.data.batches import UtteranceBatch
from svae.frames import length_mask, num_frames
from svae.models.representation import Representation
from svae.models.tts.flow import Row, posterior_latents
from svae.runtime.distributed import World, averaging, sum_over_ranks
from svae.training.draws import number_of, seed_by
from svae.training.meter import StepResult
from svae.training.optim import learning_rate, update
from svae.training.tts.objective import Example
from svae.training.tts.state import FlowState


@torch.no_grad()
def latents_of(
    representation: Representation, batch: UtteranceBatch, config: TTSTrainConfig
) -> tuple[Tensor, Tensor]:
    """Return normalised latents (B, D, T), zero at padding, and their lengths (B,): encoded now, or read from shards."""
    if batch.waveform is not None:
        posterior = representation.encode(batch.waveform, batch.lengths)
        mean, logvar, lengths = posterior.mean, posterior.logvar, posterior.lengths
    else:
        assert batch.latent_mean is not None
        assert batch.latent_logvar is not None and batch.latent_lengths is not None
        mean, logvar, lengths = batch.latent_mean, batch.latent_logvar, batch.latent_lengths
    latents = posterior_latents(
        mean.float(), logvar.float(), batch.keys, config.flow.posterior, config.trainer.seed
    )
    mask = length_mask(lengths, latents.shape[2])
    return representation.normalize(latents) * mask[:, None], lengths


def examples_of(
    state: FlowState, pieces: Sequence[UtteranceBatch], config: TTSTrainConfig, world: World
) -> list[Example]:
    """Return what is learned of each piece, on the device, with all that is random drawn."""
    examples = []
    for piece in pieces:
        frames = frames_of(piece, state.representation.hop_length)
        rows = [
            Row(number_of(config.trainer.seed, state.step, place), size)
            for place, size in zip(piece.places or range(len(piece.keys)), frames, strict=True)
        ]
        batch = piece.to(world.device)
        latents, lengths = latents_of(state.representation, batch, config)
        with autocast(config, world):
            examples.append(state.objective.draw(latents, lengths, batch.tokens, rows, batch.keys))
    return examples


def autocast(config: TTSTrainConfig, world: World) -> torch.autocast:
    """Return the context of the recipe's precision."""
    bf16 = config.trainer.precision == "bf16"
    return torch.autocast(world.device.type, torch.bfloat16, enabled=bf16)


def frames_of(batch: UtteranceBatch, hop_length: int) -> list[int]:
    """Return the utterances' frames, without padding; the batch is on the host still."""
    if batch.latent_lengths is not None:
        return batch.latent_lengths.tolist()
    assert batch.lengths is not None
    return num_frames(batch.lengths, hop_length).tolist()


def gradients(
    state: FlowState, pieces: Sequence[UtteranceBatch], config: TTSTrainConfig, world: World
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add up the gradients of the pieces of a step, one after the other, and return this rank's share of the loss.

    Every number of the global batch weighs the same, whatever the pieces and the ranks. What an example minimises besides
    (`Example.besides`) is returned by name, unweighted.
    """
    examples = examples_of(state, pieces, config, world)
    counts = [example.count * piece.weight for example, piece in zip(examples, pieces, strict=True)]
    total = sum_over_ranks(torch.stack(counts).sum(), world)
    loss = torch.zeros((), device=world.device)
    besides: dict[str, Tensor] = {}
    for number, (example, piece) in enumerate(zip(examples, pieces, strict=True)):
        # What dropout draws: the pieces' own, as the examples have left the generators anywhere.
        seed_by(config.trainer.seed, state.step, world.rank, number)
        with averaging(state.network, number == len(examples) - 1):
            with autocast(config, world):
                error, _ = example.error(state.network, state.objective.weights)
            # Gradients are averaged over ranks, of which there are so many.
            share = error * (piece.weight * world.world_size) / total
            share.backward()
        loss += share.detach()
        for name, value in example.besides.items():
            part = value * (piece.weight * world.world_size) / total
            besides[name] = besides.get(name, 0.0) + part
    return loss, besides


def train_step(
    state: FlowState, pieces: Sequence[UtteranceBatch], config: TTSTrainConfig, world: World
) -> StepResult:
    """Take one step: latents, the objective's loss over the global batch, update, EMA.

    `pieces` are this rank's share of the batch, still on the host; their gradients are computed one after the other.
    """
    rate = learning_rate(config.optimizer, state.step, config.trainer.steps)
    state.optimizer.zero_grad(set_to_none=True)
    loss, besides = gradients(state, pieces, config, world)
    for name, value in besides.items():
        loss = loss - getattr(config.loss, name) * value
    norm, finite = update(state.optimizer, state.trained(), config.optimizer, rate)
    state.step += 1
    state.ema.update(state.model, state.step, finite)
    representation = state.representation
    pieces = [piece for piece in pieces if piece.weight]
    frames = [frames_of(piece, representation.hop_length) for piece in pieces]
    padded = sum(len(each) * max(each, default=0) for each in frames)
    valid = sum(map(sum, frames))
    values: dict[str, Tensor | float] = {"loss/flow": loss, "gradient_norm": norm}
    values |= {f"loss/{name}": value for name, value in besides.items()}
    values |= {"learning_rate": rate, "padding_share": 1 - valid / max(padded, 1)}
    return StepResult(
        values,
        audio_seconds=valid * representation.hop_length / representation.sample_rate,
        keys=[key for piece in pieces for key in piece.keys],
        failures=[failure for piece in pieces for failure in piece.failures],
        finite=finite,
    )
