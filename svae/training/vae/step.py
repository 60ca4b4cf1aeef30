"""A step of the VAE training: what it changes, its losses, and the order of the two optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svae.config import VAETrainConfig
from svae.data.batches import CropBatch
from svae.models.teacher import Teacher
from svae.models.vae.discriminators import Discriminators
from svae.models.vae.vae import Draws, SpeechVAE, VAEOutput, draw
from svae.runtime.distributed import (
    World,
    averaging,
    sum_over_ranks,
)
from svae.training.draws import number_of
from svae.training.meter import StepResult
from svae.training.optim import (
    AdamW,
    learning_rate,
    update,
)
from svae.training.session import State
from svae.training.vae.crops import (
    crop_of,
    judged_stretch,
    measured_pitch,
    segment_samples,
    teacher_features_of,
)
from svae.training.vae.losses import (
    AlignmentForm,
    MultiScaleMelLoss,
    alignment_loss,
    discriminator_loss,
    feature_matching_loss,
    generator_adversarial_loss,
    kl_loss,
    pitch_loss,
)


@dataclass
class VAEState(State):
    """Everything a training step changes, plus the frozen networks it needs."""

    model: SpeechVAE
    discriminator: Discriminators
    optimizer: AdamW
    discriminator_optimizer: AdamW
    teacher: Teacher | None
    mel_loss: MultiScaleMelLoss
    network: nn.Module
    """`model`, averaged over ranks in its backward pass."""
    discriminator_network: nn.Module

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """See `State`."""
        return {
            "model": self.model,
            "discriminator": self.discriminator,
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }


def trained(model: SpeechVAE) -> list[nn.Parameter]:
    """Return the parameters that this run changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def vae_losses(
    state: VAEState,
    output: VAEOutput,
    crop: Tensor,
    form: AlignmentForm,
    pitch: tuple[Tensor, Tensor] | None,
    periodic: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the losses that need no discriminator, unweighted, in float32. Padding enters none of them.

    `periodic` is what all frames of the step's pitch weigh, where this is a part of it.
    """
    posterior = output.posterior
    anchored = state.model.cfg.anchored_latents
    losses = {
        "mel": state.mel_loss(output.reconstruction, crop),
        "kl": kl_loss(posterior.mean[:, anchored:], posterior.logvar[:, anchored:], posterior.mask),
    }
    if output.projected_features is not None:
        losses["alignment"] = alignment_loss(
            output.latents[:, : anchored or None], output.projected_features, posterior.mask, form
        )
    if output.pitch_logits is not None and pitch is not None:
        losses["pitch"] = pitch_loss(output.pitch_logits, *pitch, total=periodic)
    return losses


@dataclass
class Piece:
    """Part of a step's crops on the device, with all that is random drawn."""

    batch: CropBatch
    crop: Tensor
    """(B, 1, S)."""
    features: Tensor | None
    """The teacher's, (B, T, C)."""
    pitch: tuple[Tensor, Tensor] | None
    draws: Draws
    output: VAEOutput | None = None
    """Of the generator, with its gradients, where it is kept for them."""

    @property
    def periodic(self) -> Tensor:
        """() what the frames of its pitch weigh."""
        assert self.pitch is not None
        return self.pitch[1].square().sum()


def piece_of(state: VAEState, batch: CropBatch, config: VAETrainConfig, world: World) -> Piece:
    """Bring crops to the device, with what belongs to them."""
    seed, vae = config.trainer.seed, config.vae
    here = batch.to(world.device)
    heard = batch if state.teacher is not None and state.teacher.hears_on_host else here
    crop = crop_of(here, config)
    with autocast(config, world):
        features = teacher_features_of(state.teacher, heard, config)
    places = batch.places or range(len(batch.keys))
    seeds = [number_of(seed, state.step, place) for place in places]
    frames = segment_samples(config) // vae.hop_length
    draws = draw(seeds, vae.latent_dim, frames, world.device)
    return Piece(here, crop, features, measured_pitch(state.model, crop), draws)


def autocast(config: VAETrainConfig, world: World) -> torch.autocast:
    """Return the context of the recipe's precision."""
    bf16 = config.trainer.precision == "bf16"
    return torch.autocast(world.device.type, torch.bfloat16, enabled=bf16)


def generate(state: VAEState, piece: Piece, config: VAETrainConfig, world: World) -> VAEOutput:
    """Return what the generator makes of a piece."""
    with autocast(config, world):
        return state.network(
            piece.crop, piece.batch.lengths, piece.features, pitch=piece.pitch, draws=piece.draws
        )


def train_step(
    state: VAEState, batches: Sequence[CropBatch], config: VAETrainConfig, world: World
) -> StepResult:
    """Take one step: generator forward, discriminator update, generator update, EMA.

    `batches` are this rank's share of the step's crops, still on the host; the gradients of several are computed one after
    the other. Then the generator computes a piece twice, for the discriminator and for itself, since what the first time
    would keep for its gradients is what there is no memory for.

    Source: the training step of Semantic-VAE's official code, but no adversarial or feature gradient reaches the
    generator before `loss.adversarial_start_step`.
    """
    rate = learning_rate(config.optimizer, state.step, config.trainer.steps)
    adversarial = state.step >= config.loss.adversarial_start_step
    judged = judged_stretch(config, state.step)
    pieces = [piece_of(state, batch, config, world) for batch in batches]
    # Gradients are averaged over ranks, whose shares may differ; every crop of the step is to weigh the same.
    mine = sum(len(batch.keys) for batch in batches)
    crops = sum_over_ranks(torch.full((), float(mine), device=world.device), world)
    weights = [len(batch.keys) * world.world_size / crops for batch in batches]
    losses: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}
    finite = torch.ones((), dtype=torch.bool, device=world.device)
    if adversarial:
        losses["discriminator"] = _teach_discriminators(
            state, pieces, weights, judged, config, world
        )
        norms["discriminator"], finite = update(
            state.discriminator_optimizer,
            list(state.discriminator.parameters()),
            config.optimizer,
            rate,
        )
    found = _teach_generator(state, pieces, weights, judged if adversarial else None, config, world)
    losses |= found
    norms["generator"], own = update(state.optimizer, trained(state.model), config.optimizer, rate)
    finite = finite & own

    state.step += 1
    state.ema.update(state.model, state.step, finite)
    values: dict[str, Tensor | float] = {f"loss/{name}": loss for name, loss in losses.items()}
    values["loss/total"] = _weighed(found, config).detach()
    values |= {f"gradient_norm/{name}": norm for name, norm in norms.items()}
    values["learning_rate"] = rate
    samples = sum(float(batch.lengths.sum()) for batch in batches)
    return StepResult(
        values,
        audio_seconds=samples / config.vae.sample_rate,
        keys=[key for batch in batches for key in batch.keys],
        failures=[failure for batch in batches for failure in batch.failures],
        finite=finite,
    )


def _weighed(losses: Mapping[str, Tensor], config: VAETrainConfig) -> Tensor:
    """Return the sum of the generator's losses by the recipe's weights."""
    return torch.stack([getattr(config.loss, name) * loss for name, loss in losses.items()]).sum()


def _teach_discriminators(
    state: VAEState,
    pieces: Sequence[Piece],
    weights: Sequence[Tensor],
    judged: slice,
    config: VAETrainConfig,
    world: World,
) -> Tensor:
    """Make the discriminators' gradients, and return their loss; the output of a single piece is kept for the generator's."""
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), device=world.device)
    for number, (piece, weight) in enumerate(zip(pieces, weights, strict=True)):
        with torch.set_grad_enabled(len(pieces) == 1):
            output = generate(state, piece, config, world)
        if len(pieces) == 1:
            piece.output = output
        with averaging(state.discriminator_network, number == len(pieces) - 1):
            with autocast(config, world):
                both = state.discriminator_network(
                    torch.cat([output.reconstruction.detach(), piece.crop])[..., judged]
                )
            fake_maps, real_maps = split_maps(both)
            loss = discriminator_loss(real_maps, fake_maps) * weight
            loss.backward()
        total += loss.detach()
    return total


def _teach_generator(
    state: VAEState,
    pieces: Sequence[Piece],
    weights: Sequence[Tensor],
    judged: slice | None,
    config: VAETrainConfig,
    world: World,
) -> dict[str, Tensor]:
    """Make the generator's gradients, and return its losses; `judged` is None while there are no discriminators."""
    periodic = None
    if pieces[0].pitch is not None:
        total = torch.stack([piece.periodic for piece in pieces]).sum()
        periodic = sum_over_ranks(total, world) / world.world_size
    state.optimizer.zero_grad(set_to_none=True)
    state.discriminator.requires_grad_(False)
    losses: dict[str, Tensor] = {}
    for number, (piece, weight) in enumerate(zip(pieces, weights, strict=True)):
        with averaging(state.network, number == len(pieces) - 1):
            output = piece.output or generate(state, piece, config, world)
            piece.output = None
            form = config.loss.alignment_form
            found = vae_losses(state, output, piece.crop, form, piece.pitch, periodic)
            if judged is not None:
                found |= judged_losses(state, output, piece.crop, judged, config, world)
            # Frames of a pitch weigh by their periodicity, of which `periodic` is the sum; all else by crops.
            found = {
                name: loss if name == "pitch" else loss * weight for name, loss in found.items()
            }
            _weighed(found, config).backward()
        for name, loss in found.items():
            losses[name] = losses.get(name, 0.0) + loss.detach()
    state.discriminator.requires_grad_(True)
    return losses


def judged_losses(
    state: VAEState,
    output: VAEOutput,
    crop: Tensor,
    judged: slice,
    config: VAETrainConfig,
    world: World,
) -> dict[str, Tensor]:
    """Return what the discriminators, which are frozen here, tell the generator."""
    with autocast(config, world):
        fake_maps = state.discriminator(output.reconstruction[..., judged])
    losses = {"adversarial": generator_adversarial_loss(fake_maps)}
    if config.loss.feature_matching:
        with autocast(config, world), torch.no_grad():
            real_maps = state.discriminator(crop[..., judged])
        losses["feature_matching"] = feature_matching_loss(real_maps, fake_maps)
    return losses


def split_maps(maps: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Split the feature maps of a batch [fake, real] into those of the fake and those of the real half."""
    fake: list[list[Tensor]] = []
    real: list[list[Tensor]] = []
    for each in maps:
        halves = [feature.chunk(2) for feature in each]
        fake.append([half for half, _ in halves])
        real.append([half for _, half in halves])
    return fake, real
