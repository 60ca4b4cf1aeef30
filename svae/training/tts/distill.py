"""What a student of `svae distill` learns: its teacher's guided velocity, in one pass in place of three.

The teacher goes from noise to the end in as few steps as the student will take, with guidance in up to three passes each. At
each of its places the student learns the velocity that the teacher had there. What it learns is thin matrices beside the
teacher's weights, so that a checkpoint holds both. docs/distill.md has what else was tried.

Source: guided-velocity distillation (stage 1 of arXiv 2210.03142), but on the teacher's own way, the places where a sampler comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from svae.checkpoint import Checkpoint, load_strict
from svae.config import DiTConfig, TTSTrainConfig
from svae.errors import CheckpointError
from svae.frames import length_mask
from svae.models.representation import Representation, kind_of
from svae.models.tts.dit import DiT
from svae.models.tts.flow import infilling_span, keyed_draws
from svae.models.tts.sampler import guided_velocity, integrate, time_grid
from svae.runtime.distributed import World, data_parallel
from svae.synthesis.adapter import STUDENT_FILE
from svae.synthesis.types import STUDENT, Sampling
from svae.text.phonemes import open_vocabulary
from svae.text.vocabulary import Vocabulary
from svae.training.optim import ExponentialMovingAverage, build_optimizer
from svae.training.tts.lora import AdapterState, copies, inject
from svae.training.tts.objective import Known, Objective
from svae.training.warm_start import open_start, structure, tokens_of

Field = Callable[[Tensor, float], Tensor]
"""A velocity by place (B, D, T) and time."""


@dataclass(frozen=True)
class Way:
    """A batch's way through a teacher's flow: the places from which a student steps, and the velocity at each."""

    places: list[Tensor]
    """x at each of `times`, (B, D, T)."""
    velocities: list[Tensor]
    """Those of the teacher, guidance included, (B, D, T)."""
    times: list[float]
    condition: Tensor
    """The prompts, (B, D, T), zero where speech is to be generated."""
    lengths: Tensor
    """(B,)."""
    tokens: Tensor
    """(B, L)."""
    valid: Tensor
    """(B, 1, T), True in the utterances' frames."""

    def error(self, network: nn.Module, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squared error of a student's velocities at all places, and the number of elements.

        All places go through the network as one batch. The prompt's frames count too: their x moves as well, and the next
        step reads it.
        """
        steps = len(self.times)
        batch, channels, _ = self.condition.shape
        velocity = network(
            torch.cat(self.places),
            self.condition.repeat(steps, 1, 1),
            self.condition.new_tensor(self.times).repeat_interleave(batch),
            self.tokens.repeat(steps, 1),
            self.lengths.repeat(steps),
        )
        error = (velocity.float() - torch.cat(self.velocities).float()).square()
        if weights is not None:
            error = error * weights
        error = error.masked_fill(~self.valid.repeat(steps, 1, 1), 0.0)
        return error.sum(), (self.valid.sum() * steps * channels).float()


@dataclass(frozen=True)
class HeldOut:
    """What validation compares a student with; computed once, as the teacher does not change."""

    way: Way
    end: Tensor
    """Where the teacher arrives in its own number of steps, (B, D, T)."""


@dataclass
class Distillation:
    """A teacher, and what of it is learned; see `Objective`."""

    teacher: DiT
    """In eval mode, without gradients."""
    checkpoint: Checkpoint
    """The teacher's."""
    config: TTSTrainConfig
    sampling: Sampling
    """How the teacher samples."""
    steps: tuple[int, ...]
    """Numbers of steps at whose places is learned."""
    weights: Tensor | None
    """(D, 1), how much a channel's error counts; None: all alike."""
    held_out: list[HeldOut] = field(default_factory=list)

    def error(
        self, network: nn.Module, latents: Tensor, lengths: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Objective`; noise, prompts and a number of steps are drawn from the global generators."""
        noise = torch.randn(latents.shape, device=latents.device, dtype=latents.dtype)
        ratio = torch.rand(len(latents), device=latents.device)
        steps = self.steps[int(torch.randint(len(self.steps), ()))]
        way, _ = self.follow(noise, ratio, latents, lengths, tokens, steps)
        return way.error(network, self.weights)

    @torch.no_grad()
    def follow(
        self,
        noise: Tensor,
        ratio: Tensor,
        latents: Tensor,
        lengths: Tensor,
        tokens: Tensor,
        steps: int,
    ) -> tuple[Way, Field]:
        """Follow the teacher from noise to the end in so many steps; return the way and the teacher's velocity.

        Args:
            noise: (B, D, T).
            ratio: (B,) in [0, 1), where between the bounds of `flow.mask_ratio` the part to generate lies.
            latents: the utterances, (B, D, T), normalised; of each the beginning is the prompt, as in synthesis.
            lengths: (B,).
            tokens: (B, L).
            steps: of the student.
        """
        assert self.sampling.guidance_scale is not None
        num_frames = latents.shape[2]
        low, high = self.config.flow.mask_ratio
        size = low + (high - low) * ratio
        hidden = infilling_span(lengths, size, torch.ones_like(ratio), num_frames)
        valid = length_mask(lengths, num_frames)[:, None]
        condition = latents.masked_fill(hidden[:, None] | ~valid, 0.0)
        guidance = self.sampling.guidance_scale, self.sampling.prompt_guidance
        velocity = guided_velocity(self.teacher, condition, tokens, lengths, *guidance)
        times = time_grid(steps)
        places, velocities = [noise.masked_fill(~valid, 0.0)], []
        for t, following in zip(times[:-1], times[1:], strict=True):
            velocities.append(velocity(places[-1], t))
            places.append(places[-1] + (following - t) * velocities[-1])
        way = Way(places[:-1], velocities, times[:-1], condition, lengths, tokens, valid)
        return way, velocity

    @torch.no_grad()
    def row(self, model: DiT, batches: Iterable[Known]) -> dict[str, float]:
        """Return a student's errors on held-out utterances in its own number of steps.

        `loss/flow` is the squared error of the velocities on the teacher's way, `loss/end` that of where the student
        arrives by itself, against where the teacher does in its own number of steps.
        """
        if not self.held_out:
            self.held_out = [self._held_out(known) for known in batches]
        flow, end, elements = 0.0, 0.0, 0.0
        for known in self.held_out:
            way = known.way
            error, count = way.error(model)
            steps = len(way.times)
            velocity = guided_velocity(model, way.condition, way.tokens, way.lengths, 0.0)
            missed = integrate(velocity, way.places[0], time_grid(steps)) - known.end
            flow += float(error) / steps
            end += float(missed.square().masked_fill(~way.valid, 0.0).sum())
            elements += float(count) / steps
        return {"loss/flow": flow / elements, "loss/end": end / elements}

    @torch.no_grad()
    def _held_out(self, known: Known) -> HeldOut:
        latents, lengths, tokens, keys = known
        noise, ratio, _ = keyed_draws(latents, lengths, keys, self.config.trainer.seed)
        way, velocity = self.follow(noise, ratio, latents, lengths, tokens, self.steps[0])
        assert self.sampling.num_steps is not None
        return HeldOut(way, integrate(velocity, way.places[0], time_grid(self.sampling.num_steps)))

    @property
    def facts(self) -> dict[str, Any]:
        """What synthesis needs to know of a student, and whose it is."""
        assert self.config.distill is not None
        student = {
            "steps": list(self.steps),
            "guidance": self.sampling.guidance_scale,
            "prompt_guidance": self.sampling.prompt_guidance,
            "teacher_hash": self.checkpoint.hash,
            "teacher_steps": self.sampling.num_steps,
            "scale": self.config.distill.lora.scale,
        }
        facts = {STUDENT: student, "num_steps": self.steps[0]}
        words = self.checkpoint.config.get("description")
        return facts if words is None else facts | {"description": words}


@dataclass(kw_only=True)
class StudentState(AdapterState):
    """Thin matrices are trained; the teacher's weights stay, and stay in the checkpoint."""

    averages_file: ClassVar[str] = STUDENT_FILE
    dtype: torch.dtype
    """In which the teacher is stored, so that its copy is the same."""

    def published(self) -> dict[str, dict[str, Tensor]]:
        """See `State`."""
        teacher = {name: weight.to(self.dtype) for name, weight in self.base.items()}
        return {"model.safetensors": teacher, **super().published()}


# ----------------------------------------------------------------------------------------------- the teacher


def open_teacher(config: TTSTrainConfig, resumed: Checkpoint | None) -> Checkpoint | None:
    """Return the teacher's checkpoint, or None where the recipe has no `distill`.

    Raises:
        ConfigError: there is no teacher.
        CheckpointError: it is unusable, or another than that of the run that is resumed.
    """
    if config.distill is None:
        return None
    checkpoint = open_start(config)
    assert checkpoint is not None
    known = checkpoint.hash if resumed is None else resumed.config[STUDENT]["teacher_hash"]
    if known != checkpoint.hash:
        raise CheckpointError(
            f"teacher {checkpoint.folder}: is {checkpoint.hash[:12]}…, but the run has learned from {known[:12]}…. "
            "Pass the checkpoint that it began with, or choose another --out."
        )
    return checkpoint


def teacher_sampling(config: TTSTrainConfig, checkpoint: Checkpoint) -> Sampling:
    """Return how a teacher samples, its own guidance where the recipe has none."""
    asked = config.distill
    assert asked is not None
    own = dict(checkpoint.config)
    # Of a student the teacher inside is followed once more, with what was asked of it then.
    own |= {k: v for k, v in own.pop(STUDENT, {}).items() if k in ("guidance", "prompt_guidance")}
    return Sampling(
        num_steps=asked.teacher_steps,
        guidance_scale=asked.guidance,
        prompt_guidance=asked.prompt_guidance,
    ).filled(own)


def build_student(
    config: TTSTrainConfig,
    teacher: Checkpoint,
    representation: Representation,
    vocabulary: Vocabulary,
    weights: Tensor | None,
    world: World,
) -> StudentState:
    """Build a student that is its teacher still; what is new depends on the seed only.

    Raises:
        CheckpointError: the teacher is damaged.
        ConfigError: peft is not installed.
    """
    assert config.distill is not None
    symbols = len(open_vocabulary(teacher.config["vocabulary"]))
    network = DiT(config.dit, symbols, teacher.config["latent_dim"])
    stored = teacher.model_state()
    load_strict(network, stored, teacher.folder)
    frozen, base = copies(network.to(world.device))
    speaking, _ = copies(network)
    torch.manual_seed(config.trainer.seed)
    adapter = inject(network, config.distill.lora).to(world.device)
    if config.trainer.compile:
        network.compile()
    sampling = teacher_sampling(config, teacher)
    objective: Objective = Distillation(
        frozen, teacher, config, sampling, config.distill.steps, weights
    )
    return StudentState(
        step=0,
        ema=ExponentialMovingAverage(adapter, config.ema),
        model=adapter,
        optimizer=build_optimizer(config.optimizer, adapter.parameters(), world.device),
        representation=representation,
        vocabulary=vocabulary,
        timings=None,
        network=data_parallel(network.train(), world),
        objective=objective,
        teacher=teacher,
        base=base,
        scale=config.distill.lora.scale,
        speaking=speaking,
        dtype=next(iter(stored.values())).dtype,
    )


def recipe_of(teacher: Checkpoint) -> dict[str, Any]:
    """Return the recipe fields that a teacher decides, by their places, such as `dit.dim`."""
    fields = {f"dit.{name}": value for name, value in structure(teacher, DiTConfig).items()}
    fields |= {"dit.dropout": 0.0, "distill.teacher": str(teacher.folder)}
    fields["tokens"] = tokens_of(open_vocabulary(teacher.config["vocabulary"]))
    fields["representation"] = kind_of(teacher)
    if teacher.config.get("max_seconds") is not None:
        fields["max_seconds"] = teacher.config["max_seconds"]
    return fields
