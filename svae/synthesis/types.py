"""What goes into synthesis and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from svae.errors import ConfigError

if TYPE_CHECKING:  # the runtime package, which has no torch, uses this module too
    from torch import Tensor

    from svae.config import Precision
    from svae.models.tts.solver import Solver

DurationChoice = Literal["auto", "bytes", "predictor"]
"""What decides durations. `auto`: the checkpoint's predictor where it has one, else the byte rule."""
DEFAULT_STEPS = 32
"""Solver steps of a model that does not name its own."""
DEFAULT_GUIDANCE = 2.0
"""Guidance of a model that has none inside."""
OWN = ("num_steps", "guidance", "prompt_guidance", "temperature")
"""Fields of `Sampling` for which a model may have a default of its own."""
STUDENT = "student"
"""What a checkpoint of `svae distill` says of itself: its `steps`, `guidance`, `prompt_guidance` inside it, …"""
WEIGHTS = ("hash", "vae_hash", "duration_hash")
"""What in `TTS.identity` tells one model's speech from another's."""


@dataclass(frozen=True)
class Prompt:
    """An encoded reference, usable for any number of texts."""

    latents: Tensor
    """(1, D, P), normalised."""
    text: str
    """Ends in sentence punctuation and a space."""
    gain: float
    """What the waveform was multiplied by before encoding."""
    seconds: float
    words: list[list[float]] | None = None
    """The start of each word and the ends of its phones, in seconds; for models of frame-level phones."""
    note: str | None = None
    """Why the times of the words are not known, where they are wanted."""

    @property
    def frames(self) -> int:
        """How many latent frames the reference has (P)."""
        return self.latents.shape[2]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How speech is generated from a text and a prompt."""

    seed: int = 0
    """With the text it decides the noise; on the CPU the same arguments and number of threads give the same samples."""
    num_steps: int | None = None
    """Solver steps; None: the model's own number, which `TTS.resolve` fills in."""
    guidance_scale: float | None = None
    """g in v = v_cond + g·(v_cond - v_uncond); 0 = none, in one pass a step instead of two or three. None: the model's own,
    else 2; 0 for a student, which has it inside. `TTS.resolve` fills it in."""
    prompt_guidance: float | None = None
    """h in v = v_cond + g·(v_text - v_uncond) + h·(v_cond - v_text); v_text is without the prompt. Less than g: more of the
    text and less of the prompt's voice. None: the model's own, but no more than a g below the model's own; g where it has
    none. `TTS.resolve` fills it in."""
    temperature: float | None = None
    """The standard deviation of the noise that speech begins as. The network learned from 1; less of it strays less from what
    is usual: clearer words, less variety. None: the model's own, else 1. `TTS.resolve` fills it in."""
    solver: Solver = "euler"
    """`midpoint` takes two network evaluations a step."""
    sway: float = -1.0
    """Negative values put more steps near the noise; 0: even steps."""
    speed: float = 1.0
    """How fast the speech is, relative to the reference."""
    duration_seconds: float | None = None
    """How long the new speech is, without the reference; None: `duration_rule` decides."""
    duration_rule: DurationChoice = "auto"
    precision: Precision = "fp32"
    """The arithmetic of the network's products. bf16 is nearly twice as fast on processors and GPUs that have it, slower on others."""

    @property
    def settings(self) -> dict[str, Any]:
        """Return what is stored with speech, but for its duration."""
        return {
            "seed": self.seed,
            "steps": self.num_steps,
            "guidance": self.guidance_scale,
            "prompt_guidance": self.prompt_guidance,
            "temperature": self.temperature,
            "solver": self.solver,
            "sway": self.sway,
            "speed": self.speed,
            "precision": self.precision,
        }

    def filled(self, own: Mapping[str, Any]) -> Sampling:
        """Return the settings with a model's own numbers (`OWN`, `STUDENT`) where none are given.

        A student has its guidance inside. Where it is asked for what it has not learned, its teacher speaks, who is in the
        checkpoint too (`by_student`). Raises ConfigError as `check`.
        """
        self.check()
        temperature = self.temperature
        if temperature is None:
            temperature = own.get("temperature", 1.0)
        student = own.get(STUDENT)
        if student is not None:
            if self.by_student(own):
                return replace(
                    self,
                    num_steps=student["steps"],
                    guidance_scale=0.0,
                    prompt_guidance=0.0,
                    temperature=temperature,
                )
            own = student | {"num_steps": student["teacher_steps"]}
        num_steps = self.num_steps
        if num_steps is None:
            num_steps = own.get("num_steps", DEFAULT_STEPS)
        guidance = self.guidance_scale
        if guidance is None:
            guidance = own.get("guidance", DEFAULT_GUIDANCE)
        prompt_guidance = self.prompt_guidance
        if prompt_guidance is None:
            prompt_guidance = own.get("prompt_guidance", guidance)
            if guidance < own.get("guidance", DEFAULT_GUIDANCE):
                # A user who asks for less guidance than the model's own does not get more of it for the prompt.
                prompt_guidance = min(guidance, prompt_guidance)
        return replace(
            self,
            num_steps=num_steps,
            guidance_scale=guidance,
            prompt_guidance=prompt_guidance,
            temperature=temperature,
        )

    def by_student(self, own: Mapping[str, Any]) -> bool:
        """Return whether a model's student speaks: no guidance is asked for, nor other steps than its own."""
        student = own.get(STUDENT)
        return (
            student is not None
            and not self.guidance_scale
            and not self.prompt_guidance
            and self.num_steps in (None, student["steps"])
            and self.solver == "euler"
            and self.sway == -1.0
        )

    @property
    def of_network(self) -> Sampling:
        """Return the settings that utterances must share to go through the network together; others are at their defaults."""
        return replace(self, seed=0, speed=1.0, duration_seconds=None, duration_rule="auto")

    def words(self, own: Mapping[str, Any]) -> str:
        """Return how a model samples with these settings: `16 steps, guidance 2 (prompt 0.3)`.

        A temperature of 1, which the network learned from, goes without saying. Raises as `filled`.
        """
        filled = self.filled(own)
        if filled.by_student(own):
            guidance = f"guidance inside ({_inside(own[STUDENT])})"
        else:
            guidance = f"guidance {filled.guidance_scale:g} (prompt {filled.prompt_guidance:g})"
        cooled = "" if filled.temperature == 1.0 else f", temperature {filled.temperature:g}"
        return f"{filled.num_steps} steps, {guidance}{cooled}"

    def check(self) -> None:
        """Raise ConfigError where a number is out of range."""
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"steps: must be at least 1, got {self.num_steps}")
        for name, scale, least, meaning in (
            ("guidance", self.guidance_scale, 0, "none"),
            ("prompt guidance", self.prompt_guidance, -1, "no prompt"),
            ("temperature", self.temperature, 0, "no noise"),
        ):
            if scale is not None and not (math.isfinite(scale) and scale >= least):
                raise ConfigError(
                    f"{name}: must be a number from {least} ({meaning}) up, got {scale}"
                )
        if not -1.0 <= self.sway <= 2 / (math.pi - 2):
            raise ConfigError(f"sway: must be from -1 to {2 / (math.pi - 2):.2f}, got {self.sway}")
        for name, value in (("speed", self.speed), ("duration", self.duration_seconds)):
            if value is not None and (not math.isfinite(value) or value <= 0):
                raise ConfigError(f"{name}: must be greater than 0, got {value}")
        if self.duration_seconds is not None and self.speed != 1.0:
            raise ConfigError(
                f"duration {self.duration_seconds:g} s and speed {self.speed:g}: a duration is a speed; give one of the two"
            )


def _inside(student: Mapping[str, Any]) -> str:
    """Return the guidance that a student has learned, in words."""
    return f"{student['guidance']:g}, prompt {student['prompt_guidance']:g}"


class Utterance(NamedTuple):
    """A text that is ready to be spoken; `TTS.prepare` makes it."""

    text: str
    """In the model's characters."""
    prompt: Prompt
    sampling: Sampling
    """With the model's own numbers filled in."""
    frames: int
    """Of prompt and new speech together."""
    tokens: list[int]
    """Of both."""


@dataclass(frozen=True)
class Synthesis:
    """New speech and how it was made."""

    waveform: Tensor
    """(1, 1, S) on the CPU, float32, without the reference."""
    sample_rate: int
    text: str
    prompt_text: str
    sampling: Sampling
    prompt_seconds: float
    generated_seconds: float
    timings: dict[str, float]
    """Wall-clock seconds of `encode`, `sample` and `decode`."""

    @property
    def real_time_factors(self) -> dict[str, float]:
        """Seconds of computing per second of new speech: by stage, and `total`."""
        factors = {
            stage: seconds / self.generated_seconds for stage, seconds in self.timings.items()
        }
        return {**factors, "total": sum(factors.values())}
