"""Where an evaluation is done: in this process, perhaps one of several ranks, or on the nodes of a Ray cluster.

On a cluster, recordings are made and heard by jobs, each with a share of them; what is left for this process is to know them all, to
count and to write. Whatever a job has done lies in the output folder and in the cache of answers, so that the end of a
node or of the command costs no finished recording and no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from rich.console import Console

from svae.evaluation.ask import Batch, Bench, Elsewhere, Judges, question_of
from svae.evaluation.codec import compare_pairs, remembered_signals
from svae.evaluation.makers import Made, Maker, open_maker
from svae.evaluation.options import EvaluateOptions, Plan, batch_size, load_judges, make_plan
from svae.evaluation.recordings import Recording, recording_from_file
from svae.runtime.distributed import World, barrier, describe_device, select_device
from svae.runtime.environment import environment
from svae.runtime.jobs import Tick
from svae.runtime.ray_jobs import Runner

PARTS = 64
"""Jobs that the recordings, and the questions about them, are shared out to: more than there are nodes, so that none waits for long."""


class Place(Protocol):
    """Where recordings are made and judges sit."""

    world: World
    where: str
    """The judges' device in words."""
    elsewhere: Elsewhere | None

    def judges(self) -> Judges:
        """Return the judges, or what is known of them here. Raises ConfigError: one cannot be loaded."""

    def make(self, console: Console) -> Made:
        """Make the recordings, all ranks together."""

    def environment(self) -> dict[str, Any]:
        """Return versions and hardware of a machine that does the work."""


class Here:
    """This process."""

    def __init__(self, options: EvaluateOptions, plan: Plan, world: World) -> None:
        self.elsewhere: Elsewhere | None = None
        self.world, self.where = world, describe_device(world.device)
        self._options, self._plan = options, plan

    def judges(self) -> Judges:
        """See the protocol."""
        return load_judges(self._options, self._plan.protocol, self.world)

    def make(self, console: Console) -> Made:
        """See the protocol."""
        return _make_here(
            open_maker(self._options, self._plan, self.world.device), self.world, console
        )

    def environment(self) -> dict[str, Any]:
        """See the protocol."""
        return environment(self.world.device)


def _make_here(maker: Maker, world: World, console: Console) -> Made:
    if maker.announcement:
        console.print(maker.announcement, soft_wrap=True)
    maker.make(world, console)
    barrier(world)
    return maker.found(console)


# ----------------------------------------------------------------------------------------------- on a cluster


@dataclass
class JudgeElsewhere:
    """What is known here of a judge that sits on other machines."""

    description: dict[str, Any]
    name: str = ""
    columns: tuple[str, ...] = ()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError(f"{self.description}: sits elsewhere")

    transcribe = embed = predict = _refuse


class OnCluster:
    """The nodes of a cluster; models are loaded there alone.

    Args:
        options: with the device that the cluster has.
        plan: of them.
        runner: gives jobs to the nodes.
        console: where progress is drawn.
    """

    def __init__(
        self, options: EvaluateOptions, plan: Plan, runner: Runner, console: Console
    ) -> None:
        # Only names the device, which this machine need not have.
        self.world = World(0, 1, torch.device(runner.device))
        self.where = runner.where
        self.elsewhere: Elsewhere | None = self
        self._options, self._plan = options, plan
        self._runner, self._console = runner, console
        self._environment: dict[str, Any] = {}

    def judges(self) -> Judges:
        """See the protocol."""
        ((judges, self._environment),) = self._run(_describe, [()], "Loading judges", 1)
        return judges

    def environment(self) -> dict[str, Any]:
        """See the protocol: of the node that first loaded the judges."""
        return self._environment

    def make(self, console: Console) -> Made:
        """See the protocol. What other programs and servers say, or what is there, is asked for by this machine."""
        if self._options.model is None:
            here = World(0, 1, torch.device("cpu"))
            return _make_here(open_maker(self._options, self._plan, here.device), here, console)
        seeds = 1 if self._options.reconstruction else len(self._plan.protocol.seeds)
        count = len(self._plan.items.items) * seeds
        self._run(
            _make_part, [(number, PARTS) for number in range(min(PARTS, count))], "Making", count
        )
        ((made, announcement),) = self._run(_found, [()], "Finding what was made", 1)
        console.print(announcement, soft_wrap=True)
        return made

    def hear(self, kind: str, batches: Sequence[Batch]) -> dict[str, Any]:
        """See `Elsewhere`."""
        named = [[(content, recording.name) for content, recording in batch] for batch in batches]
        parts = [(number, kind, named[number::PARTS]) for number in range(min(PARTS, len(named)))]
        found = self._run(_hear_part, parts, f"Judging: {kind}", sum(map(len, named)))
        return {content: answer for part in found for content, answer in part.items()}

    def compare(self, pairs: dict[str, tuple[Recording, Recording]]) -> dict[str, Any]:
        """See `Elsewhere`."""
        named = [(key, made.name, target.name) for key, (made, target) in pairs.items()]
        parts = [(number, named[number::PARTS]) for number in range(min(PARTS, len(named)))]
        found = self._run(_compare_part, parts, "Comparing signals", len(named))
        return {key: scores for part in found for key, scores in part.items()}

    def _run(
        self, function: Any, parts: Sequence[tuple[Any, ...]], description: str, total: int
    ) -> list[Any]:
        """Have a function of this module called for every part; return what it returned, in order."""
        jobs = {number: (self._options, *part) for number, part in enumerate(parts)}
        results = self._runner.run(
            function, jobs, description=description, console=self._console, total=total
        )
        return [results[number] for number in range(len(parts))]


# ----------------------------------------------------------------------------------------------- on its nodes


@dataclass(frozen=True)
class _Node:
    """What a process of a node keeps between the jobs of an evaluation."""

    options: EvaluateOptions
    plan: Plan
    device: torch.device
    recordings: dict[str, Recording] = field(default_factory=dict)
    """Those of the list by their names; others are files."""

    def world(self, part: int = 0, parts: int = 1) -> World:
        """Return a place among jobs, which do not wait for each other."""
        return World(part, parts, self.device)

    def bench(self, part: int) -> Bench:
        """Return where a job judges: the answers that it adds to the cache have a file of their own."""
        cache = self.options.cache or self.options.out / "cache"
        size = batch_size(self.options, self.world())
        return Bench(self.world(part, PARTS), cache, size, _QUIET)

    def recording(self, name: str) -> Recording:
        """Return a recording by its name."""
        return self.recordings.get(name) or recording_from_file(Path(name))


_QUIET = Console(quiet=True)


@lru_cache(maxsize=1)
def _node(options: EvaluateOptions) -> _Node:
    plan = make_plan(options)
    known = [each for item in plan.items.items for each in (item.prompt, item.target)]
    recordings = {recording.name: recording for recording in known if recording is not None}
    return _Node(options, plan, select_device(options.device), recordings)


@lru_cache(maxsize=1)
def _maker(options: EvaluateOptions) -> Maker:
    node = _node(options)
    return open_maker(options, node.plan, node.device)


@lru_cache(maxsize=1)
def _judges(options: EvaluateOptions) -> Judges:
    node = _node(options)
    return load_judges(options, node.plan.protocol, node.world())


def _describe(options: EvaluateOptions, tick: Tick) -> tuple[Judges, dict[str, Any]]:
    """Load the judges; return what is to be known of them, and of this machine."""
    judges = _judges(options)
    described = Judges(
        JudgeElsewhere(judges.asr.description),
        {kind: JudgeElsewhere(model.description) for kind, model in judges.speakers.items()},
        {
            kind: JudgeElsewhere(predictor.description, predictor.name, predictor.columns)
            for kind, predictor in judges.quality.items()
        },
    )
    tick()
    return described, environment(_node(options).device)


def _make_part(options: EvaluateOptions, part: int, parts: int, tick: Tick) -> None:
    _maker(options).make(_node(options).world(part, parts), _QUIET, tick)


def _found(options: EvaluateOptions, tick: Tick) -> tuple[Made, str]:
    maker = _maker(options)
    tick()
    return maker.found(_QUIET), maker.announcement


def _hear_part(
    options: EvaluateOptions, part: int, kind: str, batches: list[list[tuple[str, str]]], tick: Tick
) -> dict[str, Any]:
    """Have a judge hear recordings, named beside the hash of their content."""
    _maker.cache_clear()  # on a GPU, its memory is for the judges now
    node = _node(options)
    todo = [[(content, node.recording(name)) for content, name in batch] for batch in batches]
    bench, question = node.bench(part), question_of(_judges(options), kind)
    return bench.hear(question, todo, bench.remembered(question), tick)


def _compare_part(
    options: EvaluateOptions, part: int, pairs: list[tuple[str, str, str]], tick: Tick
) -> dict[str, Any]:
    """Score made recordings against their originals: key, name of the one, name of the other."""
    node = _node(options)
    found = {key: (node.recording(made), node.recording(target)) for key, made, target in pairs}
    bench = node.bench(part)
    return compare_pairs(bench, found, remembered_signals(bench), tick)
