"""What a student of `svae distill` learns: its teacher's way from noise to speech in a few steps of one pass.

The teacher goes from noise to the end by its own small steps, with guidance in up to three passes each. The student learns the
mean velocity over every one of its own few steps, at the places where the teacher was. What it learns is thin matrices beside
the teacher's weights, so that a checkpoint holds both. docs/distill.md has what else was tried.

Source: ZipVoice (arXiv 2506.13053), whose student takes one step for two guided ones of its teacher, but on the teacher's own
way, the places where a sampler comes by.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from svae.checkpoint import Checkpoint, load_strict, open_checkpoint
from svae.config import DiTConfig, TTSTrainConfig
from svae.errors import CheckpointError
from svae.frames import length_mask
from svae.models.recompute import recompute_activations
from svae.models.representation import Representation, kind_of
from svae.models.tts.dit import DiT
from svae.models.tts.flow import Row, infilling_span, keyed_draws, row_draws
from svae.models.tts.sampler import guided_velocity
from svae.models.tts.solver import integrate, time_grid
from svae.runtime.distributed import World, data_parallel
from svae.synthesis.adapter import STUDENT_FILE
from svae.synthesis.types import STUDENT, Sampling
from svae.text.phonemes import open_vocabulary
from svae.text.vocabulary import Vocabulary
from svae.training.optim import ExponentialMovingAverage, build_optimizer
from svae.training.tts.lora import AdapterState, copies, inject
from svae.training.tts.objective import Known, Objective
from svae.training.warm_start import open_start, structure


@dataclass(frozen=True)
class Way:
    """A batch's way through a teacher's flow, at the places between which a student steps."""

    places: list[Tensor]
    """x at each of `times`, (B, D, T)."""
    times: list[float]
    condition: Tensor
    """The prompts, (B, D, T), zero where speech is to be generated."""
    lengths: Tensor
    """(B,)."""
    tokens: Tensor
    """(B, L)."""
    valid: Tensor
    """(B, 1, T), True in the utterances' frames."""
    besides: dict[str, Tensor] = field(default_factory=dict)
    """Nothing."""

    @property
    def count(self) -> Tensor:
        """See `Example`."""
        return (self.valid.sum() * (len(self.times) - 1) * self.condition.shape[1]).float()

    def error(self, network: nn.Module, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squared error of a student's mean velocities over all of its steps, and the number of elements.

        All steps go through the network as one batch. The prompt's frames count too: their x moves as well, and the next
        step reads it.
        """
        steps = len(self.times) - 1
        batch = len(self.condition)
        # Filled on the device: numbers that are copied there would make the host wait.
        edges = torch.cat([self.condition.new_full((batch,), time) for time in self.times])
        start, until = edges[:-batch], edges[batch:]
        before, after = torch.cat(self.places[:-1]), torch.cat(self.places[1:])
        velocity = network(
            before,
            self.condition.repeat(steps, 1, 1),
            start,
            self.tokens.repeat(steps, 1),
            self.lengths.repeat(steps),
        )
        target = (after - before) / (until - start)[:, None, None]
        error = (velocity.float() - target.float()).square()
        if weights is not None:
            error = error * weights
        error = error.masked_fill(~self.valid.repeat(steps, 1, 1), 0.0)
        return error.sum(), self.count


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
    steps: int
    """Of the student."""
    weights: Tensor | None
    """(D, 1), how much a channel's error counts; None: all alike."""
    held_out: list[Way] = field(default_factory=list)
    """The teacher's ways at validation, computed once, as it does not change."""

    def draw(
        self,
        latents: Tensor,
        lengths: Tensor,
        tokens: Tensor,
        rows: Sequence[Row] | None = None,
        keys: Sequence[str] = (),
    ) -> Way:
        """See `Objective`; how much is prompt is random, and the noise."""
        noise, (ratio,) = row_draws(latents, 1, rows)
        return self.follow(noise, ratio, latents, lengths, tokens)

    @torch.no_grad()
    def follow(
        self,
        noise: Tensor,
        ratio: Tensor,
        latents: Tensor,
        lengths: Tensor,
        tokens: Tensor,
    ) -> Way:
        """Follow the teacher from noise to the end, past all places where the student stops.

        Args:
            noise: (B, D, T), of unit deviation.
            ratio: (B,) in [0, 1), where between the bounds of `flow.mask_ratio` the part to generate lies.
            latents: the utterances, (B, D, T), normalised; of each the beginning is the prompt, as in synthesis.
            lengths: (B,).
            tokens: (B, L).
        """
        assert self.sampling.num_steps is not None and self.sampling.guidance_scale is not None
        assert self.sampling.temperature is not None
        num_frames = latents.shape[2]
        low, high = self.config.flow.mask_ratio
        size = low + (high - low) * ratio
        hidden = infilling_span(lengths, size, torch.ones_like(ratio), num_frames)
        valid = length_mask(lengths, num_frames)[:, None]
        condition = latents.masked_fill(hidden[:, None] | ~valid, 0.0)
        guidance = self.sampling.guidance_scale, self.sampling.prompt_guidance
        velocity = guided_velocity(self.teacher, condition, tokens, lengths, *guidance)
        times, fine = time_grid(self.steps), time_grid(self.sampling.num_steps)
        places = [(self.sampling.temperature * noise).masked_fill(~valid, 0.0)]
        for start, until in zip(times[:-1], times[1:], strict=True):
            between = [start, *(t for t in fine if start < t < until), until]
            places.append(integrate(velocity, places[-1], between))
        return Way(places, times, condition, lengths, tokens, valid)

    @torch.no_grad()
    def row(self, model: DiT, batches: Iterable[Known]) -> dict[str, float]:
        """Return a student's errors on held-out utterances.

        `loss/flow` is the squared error of the mean velocities on the teacher's way, `loss/end` that of where the student
        arrives by itself, against where the teacher does.
        """
        if not self.held_out:
            self.held_out = [self._held_out(known) for known in batches]
        flow, end, elements = 0.0, 0.0, 0.0
        for way in self.held_out:
            error, count = way.error(model)
            velocity = guided_velocity(model, way.condition, way.tokens, way.lengths, 0.0)
            missed = integrate(velocity, way.places[0], way.times) - way.places[-1]
            flow += float(error) / self.steps
            end += float(missed.square().masked_fill(~way.valid, 0.0).sum())
            elements += float(count) / self.steps
        return {"loss/flow": flow / elements, "loss/end": end / elements}

    def _held_out(self, known: Known) -> Way:
        latents, lengths, tokens, keys = known
        noise, ratio, _ = keyed_draws(latents, lengths, keys, self.config.trainer.seed)
        return self.follow(noise, ratio, latents, lengths, tokens)

    @property
    def facts(self) -> dict[str, Any]:
        """What synthesis needs to know of a student, and whose it is."""
        assert self.config.distill is not None
        student = {
            "steps": self.steps,
            "guidance": self.sampling.guidance_scale,
            "prompt_guidance": self.sampling.prompt_guidance,
            "teacher_hash": self.checkpoint.hash,
            "teacher_steps": self.sampling.num_steps,
            "scale": self.config.distill.lora.scale,
        }
        facts = {
            STUDENT: student,
            "num_steps": self.steps,
            "temperature": self.sampling.temperature,
        }
        words = self.checkpoint.config.get("description")
        return facts if words is None else facts | {"description": words}


@dataclass(kw_only=True)
class StudentState(AdapterState):
    """Thin matrices are trained; the teacher's weights stay, and stay in the checkpoint."""

    averages_file: ClassVar[str] = STUDENT_FILE
    dtype: torch.dtype
    """In which the teacher is stored, so that its copy is the same."""
    description: str
    """Whose student it is, and how large."""

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
        temperature=asked.temperature,
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
    speaking = copy.deepcopy(frozen)
    torch.manual_seed(config.trainer.seed)
    adapter = inject(network, config.distill.lora).to(world.device)
    if config.trainer.checkpoint_activations:
        recompute_activations(network)
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
        description=f"Teacher {teacher.folder} ({teacher.hash[:12]}…): {sampling.words({})}; a student of "
        f"{config.distill.steps} steps and rank {config.distill.lora.rank}, "
        f"{sum(parameter.numel() for parameter in adapter.parameters()):,} parameters",
    )


def take_student(adapter: nn.Module, config: TTSTrainConfig) -> None:
    """Start from the matrices of the student that `init` names, of whichever teacher.

    What makes few steps of one pass out of many changes little while a teacher goes on training, so a student of the teacher
    that it was is nearer to the end than nothing is.

    Raises:
        CheckpointError: it is unusable, no student, or its matrices have another shape or scale.
    """
    assert config.init is not None and config.distill is not None
    checkpoint = open_checkpoint(config.init, kind="tts", option="--init")
    if STUDENT not in checkpoint.config:
        raise CheckpointError(
            f"--init {config.init}: no student but a whole model. Expected a run of `svae distill`; what it learns from is RUN."
        )
    scale = checkpoint.config[STUDENT]["scale"]
    if scale != config.distill.lora.scale:
        raise CheckpointError(
            f"--init {config.init}: its matrices have the scale {scale:g}; expected {config.distill.lora.scale:g}, as "
            "distill.lora.scale says"
        )
    load_strict(adapter, checkpoint.state(STUDENT_FILE), checkpoint.folder / STUDENT_FILE)


def recipe_of(teacher: Checkpoint) -> dict[str, Any]:
    """Return the recipe fields that a teacher decides, by their places, such as `dit.dim`."""
    fields = {f"dit.{name}": value for name, value in structure(teacher, DiTConfig).items()}
    fields |= {"dit.dropout": 0.0, "distill.teacher": str(teacher.folder)}
    fields["tokens"] = open_vocabulary(teacher.config["vocabulary"]).tokens
    fields["representation"] = kind_of(teacher)
    if teacher.config.get("max_seconds") is not None:
        fields["max_seconds"] = teacher.config["max_seconds"]
    return fields
