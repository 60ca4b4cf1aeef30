"""Where the recordings of an evaluation come from: synthesised, decoded, said by another system, or there already."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.markup import escape

from svae.checkpoint import Checkpoint
from svae.evaluation.external.command import Command
from svae.evaluation.external.endpoint import Endpoint
from svae.evaluation.external.speak import speak_items, spoken_items
from svae.evaluation.external.system import System
from svae.evaluation.make import (
    described,
    existing_seeds,
    find_vae,
    reconstruct_items,
    reconstructed_items,
    synthesize_items,
    synthesized_items,
)
from svae.evaluation.options import EvaluateOptions, Plan, sampling_of
from svae.evaluation.rows import Systems
from svae.models.vae.vae import load_vae
from svae.runtime.distributed import World
from svae.runtime.jobs import Tick
from svae.synthesis.load import load_tts


@dataclass
class Made:
    """The system's recordings and where they come from."""

    task: str
    title: str
    """What its row is called."""
    systems: Systems
    settings: dict[str, Any]
    real_time_factors: list[float] = field(default_factory=list)
    first_audio: list[float] = field(default_factory=list)
    """Seconds until the first audio of each recording, where that was measured."""
    notes: list[str] = field(default_factory=list)


class Maker(Protocol):
    """Makes the recordings of a system: every rank a share, then each knows them all."""

    announcement: str
    """What is about to speak, as rich markup; empty where nothing is."""

    def make(self, world: World, console: Console, tick: Tick | None = None) -> None:
        """Make this rank's share; what an earlier run made alike is kept. `tick` is called for each recording."""

    def found(self, console: Console) -> Made:
        """Return what all ranks have made."""


def open_maker(options: EvaluateOptions, plan: Plan, device: torch.device) -> Maker:
    """Return what makes the recordings that the options ask for, its model loaded.

    Raises:
        ConfigError, CheckpointError: there is no such model or system.
    """
    if options.reconstruction:
        return _Reconstruction(options, plan, device)
    system = open_system(options)
    if system is not None:
        return _External(options, plan, system)
    if options.wavs is not None:
        return _Existing(options, plan)
    return _Synthesis(options, plan, device)


def open_system(options: EvaluateOptions) -> System | None:
    """Return the program or server that is to speak, None where there is none of them. Raises ConfigError."""
    if options.command is not None:
        return Command(options.command, timeout=options.timeout)
    if options.endpoint is not None:
        return Endpoint(options.endpoint, options.fields, timeout=options.timeout)
    return None


class _Synthesis:
    """A TTS model speaks."""

    def __init__(self, options: EvaluateOptions, plan: Plan, device: torch.device) -> None:
        assert options.model is not None
        self._items, self._seeds = plan.items.items, plan.protocol.seeds
        self._folder = options.out / "wavs"
        self._tts = load_tts(options.model, device).in_language(plan.protocol.language)
        asked = replace(sampling_of(options), duration_rule=plan.protocol.duration_rule)
        sampling = self._tts.resolve(asked)
        self.announcement = (
            f"Model [bold]{self._tts.identity['path']}[/] ({self._tts.short_description}): "
            f"{sampling.words(self._tts.identity)}"
        )
        self._sampling = replace(sampling, duration_rule=self._tts.duration_rule(sampling))

    def make(self, world: World, console: Console, tick: Tick | None = None) -> None:
        """See the protocol."""
        synthesize_items(
            self._tts,
            self._items,
            self._seeds,
            sampling=self._sampling,
            folder=self._folder,
            world=world,
            console=console,
            tick=tick,
        )

    def found(self, console: Console) -> Made:
        """See the protocol."""
        made, factors = synthesized_items(self._items, self._seeds, self._folder)
        settings = {
            "model": self._tts.identity,
            "seeds": list(self._seeds),
            **described(self._sampling),
        }
        noun = "seed" if len(self._seeds) == 1 else "seeds"
        title = f"synthesised, {noun} {', '.join(map(str, self._seeds))}"
        return Made("synthesis", title, made, settings, factors)


class _Reconstruction:
    """A VAE encodes and decodes the originals."""

    def __init__(self, options: EvaluateOptions, plan: Plan, device: torch.device) -> None:
        assert options.model is not None
        self._items, self._folder = plan.items.items, options.out / "wavs"
        self._checkpoint: Checkpoint = find_vae(options.model)
        self._vae = load_vae(self._checkpoint.folder, device)
        self.announcement = (
            f"VAE {escape(str(self._checkpoint.folder))} ({self._checkpoint.hash[:12]}…)"
        )

    def make(self, world: World, console: Console, tick: Tick | None = None) -> None:
        """See the protocol."""
        reconstruct_items(
            self._vae,
            self._checkpoint.hash,
            self._items,
            folder=self._folder,
            world=world,
            console=console,
            tick=tick,
        )

    def found(self, console: Console) -> Made:
        """See the protocol."""
        made = reconstructed_items(self._items, self._folder)
        checkpoint = self._checkpoint
        settings = {
            "model": {
                "path": str(checkpoint.folder),
                "hash": checkpoint.hash,
                "step": checkpoint.step,
            }
        }
        return Made("reconstruction", "reconstruction", {"reconstruction": made}, settings)


class _Existing:
    """Recordings that are there."""

    announcement = ""

    def __init__(self, options: EvaluateOptions, plan: Plan) -> None:
        assert options.wavs is not None
        self._wavs = options.wavs
        self._found = existing_seeds(plan.items.items, options.wavs)

    def make(self, world: World, console: Console, tick: Tick | None = None) -> None:
        """Do nothing."""

    def found(self, console: Console) -> Made:
        """See the protocol."""
        settings = {"wavs": str(self._wavs)}
        return Made("wavs", f"{self._wavs.resolve().name}/", self._found, settings)


class _External:
    """A program or a server speaks."""

    def __init__(self, options: EvaluateOptions, plan: Plan, system: System) -> None:
        self._options, self._plan, self._system = options, plan, system
        at_once = f", {options.jobs} at a time" if options.jobs > 1 else ""
        self.announcement = f"System [bold]{escape(system.title)}[/]{at_once}: {escape(json.dumps(system.description))}"

    def make(self, world: World, console: Console, tick: Tick | None = None) -> None:
        """See the protocol; calls are not ticked."""
        speak_items(
            self._system,
            self._plan.items.items,
            self._plan.protocol.seeds,
            language=self._plan.protocol.language,
            jobs=self._options.jobs,
            folder=self._options.out,
            world=world,
            console=console,
        )

    def found(self, console: Console) -> Made:
        """See the protocol."""
        system, seeds = self._system, self._plan.protocol.seeds
        spoken = spoken_items(system, self._plan.items.items, seeds, self._options.out, console)
        notes = []
        if "seed" not in system.names and len(seeds) > 1:
            notes.append(
                f"{system.title} is given no {{seed}}: its {len(seeds)} recordings of an utterance differ only where it draws "
                "something itself"
            )
        return Made(
            "external",
            f"{system.title}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
            spoken.recordings,
            system.description | {"seeds": list(seeds)},
            spoken.real_time_factors,
            spoken.first_audio,
            notes,
        )
