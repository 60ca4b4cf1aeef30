"""What a student of `svae distill` learns: its teacher's way from noise to speech in a few steps, guidance included.

The teacher goes from noise to the end by its own small steps, with guidance in up to three passes each. The student learns the
mean velocity over every one of its own few steps, at the places where the teacher was. There is no differentiation through
time, and no place that the teacher would not come to in synthesis. docs/distill.md has what else was tried.

Source: IntMeanFlow (arXiv 2510.07979), but with guidance, and on the teacher's own way in place of straight ways to the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from svae.checkpoint import Checkpoint, load_strict
from svae.config import DiTConfig, TTSTrainConfig
from svae.errors import CheckpointError
from svae.frames import length_mask
from svae.models.representation import kind_of
from svae.models.tts.dit import DiT
from svae.models.tts.flow import infilling_span, keyed_draws
from svae.models.tts.sampler import guided_velocity, integrate, jump, student_velocity, time_grid
from svae.synthesis.types import STUDENT, Sampling
from svae.text.phonemes import open_vocabulary
from svae.training.tts.objective import Known
from svae.training.warm_start import open_start, structure, tokens_of


@dataclass(frozen=True)
class Way:
    """A batch's way through a teacher's flow, at the places between which a student steps."""

    points: list[Tensor]
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

    def error(self, network: nn.Module, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squared error of a student's mean velocities over all of its steps, and the number of elements.

        All steps go through the network as one batch. The prompt's frames count too: their x moves as well, and the next
        step reads it.
        """
        steps = len(self.times) - 1
        batch, channels, _ = self.condition.shape
        edges = self.condition.new_tensor(self.times).repeat_interleave(batch)
        start, until = edges[:-batch], edges[batch:]
        before, after = torch.cat(self.points[:-1]), torch.cat(self.points[1:])
        mean_velocity = network(
            before,
            self.condition.repeat(steps, 1, 1),
            start,
            self.tokens.repeat(steps, 1),
            self.lengths.repeat(steps),
            until=until,
        )
        target = (after - before) / (until - start)[:, None, None]
        error = (mean_velocity.float() - target.float()).square()
        if weights is not None:
            error = error * weights
        error = error.masked_fill(~self.valid.repeat(steps, 1, 1), 0.0)
        return error.sum(), (self.valid.sum() * steps * channels).float()


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
    """Numbers of steps of the student."""
    weights: Tensor | None
    """(D, 1), how much a channel's error counts; None: all alike."""
    held_out: list[Way] = field(default_factory=list)
    """The teacher's ways at validation, computed once, as it does not change."""

    def error(
        self, network: nn.Module, latents: Tensor, lengths: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Objective`; noise, prompts and a number of steps are drawn from the global generators."""
        noise = torch.randn(latents.shape, device=latents.device, dtype=latents.dtype)
        ratio = torch.rand(len(latents), device=latents.device)
        steps = self.steps[int(torch.randint(len(self.steps), ()))]
        way = self.follow(noise, ratio, latents, lengths, tokens, steps)
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
    ) -> Way:
        """Follow the teacher from noise to the end, past all places where a student of so many steps stops.

        Args:
            noise: (B, D, T).
            ratio: (B,) in [0, 1), where between the bounds of `flow.mask_ratio` the part to generate lies.
            latents: the utterances, (B, D, T), normalised; of each the beginning is the prompt, as in synthesis.
            lengths: (B,).
            tokens: (B, L).
            steps: of the student.
        """
        assert self.sampling.num_steps is not None and self.sampling.guidance_scale is not None
        num_frames = latents.shape[2]
        low, high = self.config.flow.mask_ratio
        size = low + (high - low) * ratio
        hidden = infilling_span(lengths, size, torch.ones_like(ratio), num_frames)
        valid = length_mask(lengths, num_frames)[:, None]
        condition = latents.masked_fill(hidden[:, None] | ~valid, 0.0)
        guidance = self.sampling.guidance_scale, self.sampling.prompt_guidance
        velocity = guided_velocity(self.teacher, condition, tokens, lengths, *guidance)
        times, fine = time_grid(steps), time_grid(self.sampling.num_steps)
        points = [noise.masked_fill(~valid, 0.0)]
        for start, until in zip(times[:-1], times[1:], strict=True):
            between = [start, *(t for t in fine if start < t < until), until]
            points.append(integrate(velocity, points[-1], between))
        return Way(points, times, condition, lengths, tokens, valid)

    @torch.no_grad()
    def row(self, model: DiT, batches: Iterable[Known]) -> dict[str, float]:
        """Return a student's errors on held-out utterances in its own number of steps, for each number that there is.

        `loss/flow` is the squared error of the mean velocities on the teacher's way, `loss/end` that of where the student
        arrives by itself, against where the teacher does.
        """
        if not self.held_out:
            self.held_out = [self._held_out(known) for known in batches]
        flow, end, elements = 0.0, 0.0, 0.0
        for way in self.held_out:
            error, count = way.error(model)
            steps = len(way.times) - 1
            velocity = student_velocity(model, way.condition, way.tokens, way.lengths)
            missed = jump(velocity, way.points[0], way.times) - way.points[-1]
            flow += float(error) / steps
            end += float(missed.square().masked_fill(~way.valid, 0.0).sum())
            elements += float(count) / steps
        return {"loss/flow": flow / elements, "loss/end": end / elements}

    def _held_out(self, known: Known) -> Way:
        latents, lengths, tokens, keys = known
        noise, ratio, _ = keyed_draws(latents, lengths, keys, self.config.trainer.seed)
        return self.follow(noise, ratio, latents, lengths, tokens, self.steps[0])

    @property
    def facts(self) -> dict[str, Any]:
        """What synthesis needs to know of a student, and whose it is."""
        student = {
            "steps": list(self.steps),
            "guidance": self.sampling.guidance_scale,
            "prompt_guidance": self.sampling.prompt_guidance,
            "teacher_hash": self.checkpoint.hash,
            "teacher_steps": self.sampling.num_steps,
        }
        facts = {STUDENT: student, "num_steps": self.steps[0]}
        words = self.checkpoint.config.get("description")
        return facts if words is None else facts | {"description": words}


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
    """Return how a teacher samples, its own numbers where the recipe has none."""
    asked = config.distill
    assert asked is not None
    return Sampling(
        num_steps=asked.teacher_steps,
        guidance_scale=asked.guidance,
        prompt_guidance=asked.prompt_guidance,
    ).filled(checkpoint.config)


def open_distillation(
    config: TTSTrainConfig, checkpoint: Checkpoint, weights: Tensor | None, device: torch.device
) -> Distillation:
    """Load a teacher.

    Raises:
        CheckpointError: it is damaged.
    """
    assert config.distill is not None
    symbols = len(open_vocabulary(checkpoint.config["vocabulary"]))
    cfg = checkpoint.section(DiTConfig)
    teacher = DiT(cfg, symbols, checkpoint.config["latent_dim"])
    load_strict(teacher, checkpoint.model_state(), checkpoint.folder)
    teacher = teacher.to(device).eval().requires_grad_(False)
    sampling = teacher_sampling(config, checkpoint)
    return Distillation(teacher, checkpoint, config, sampling, config.distill.steps, weights)


def recipe_of(teacher: Checkpoint) -> dict[str, Any]:
    """Return the recipe fields that a teacher decides, by their places, such as `dit.dim`."""
    fields = {f"dit.{name}": value for name, value in structure(teacher, DiTConfig).items()}
    fields |= {"dit.dropout": 0.0, "dit.interval": True, "distill.teacher": str(teacher.folder)}
    fields["tokens"] = tokens_of(open_vocabulary(teacher.config["vocabulary"]))
    fields["representation"] = kind_of(teacher)
    if teacher.config.get("max_seconds") is not None:
        fields["max_seconds"] = teacher.config["max_seconds"]
    return fields
