"""Ask judges about many recordings: in batches of like length, divided over ranks, each content only once, remembered."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, track
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import DataError
from svae.evaluation.answer_cache import AnswerCache
from svae.evaluation.recordings import Recording
from svae.judges.asr import Recognizer
from svae.judges.clips import batches
from svae.judges.naturalness import NotFinite, QualityPredictor
from svae.judges.speaker import SpeakerModel
from svae.runtime.distributed import World, gather_lists
from svae.runtime.jobs import Tick

A = TypeVar("A")
"""What one judge answers about one recording."""
J = TypeVar("J")
DECODE_THREADS = 4
"""Audio of the next batch is read while the judge hears this one."""


@dataclass(frozen=True)
class Failed:
    """There is no answer about a recording."""

    reason: str


@dataclass(frozen=True)
class Heard:
    """What a recogniser answers."""

    text: str
    seconds: float
    """Length of the recording."""


@dataclass(frozen=True)
class Question(Generic[A]):
    """What one judge is asked about every recording."""

    kind: str
    """Names the judge in the cache and in timings."""
    identity: dict[str, Any]
    """All that may change an answer."""
    answer: Callable[[Sequence[Tensor]], Sequence[A | Failed]]
    """From the waveforms (S,) of a batch at 16 kHz to one answer for each."""
    to_json: Callable[[A], Any]
    from_json: Callable[[Any], A]

    def encode(self, answer: A | Failed) -> Any:
        """Return an answer as the cache holds it."""
        return {"error": answer.reason} if isinstance(answer, Failed) else self.to_json(answer)

    def decode(self, stored: Any) -> A | Failed:
        """Return an answer from what `encode` made of it."""
        if isinstance(stored, dict) and "error" in stored:
            return Failed(stored["error"])
        return self.from_json(stored)


@dataclass
class Judges:
    """The models behind every number of an evaluation."""

    asr: Recognizer
    speakers: dict[str, SpeakerModel]
    """By column: `sim_ecapa`, `sim_o`. Their scores do not compare with each other."""
    quality: dict[str, QualityPredictor] = field(default_factory=dict)
    """`distillmos`, `utmos`, `dnsmos`, where they were asked for."""

    @property
    def description(self) -> dict[str, dict[str, Any]]:
        """Return what is stored with the results."""
        judges: dict[str, Recognizer | SpeakerModel | QualityPredictor] = {
            "asr": self.asr,
            **self.speakers,
            **self.quality,
        }
        return {name: judge.description for name, judge in judges.items()}


@dataclass
class Stages:
    """Seconds that each stage took, and of audio it heard. Kept apart from scores, which are the same every time."""

    seconds: dict[str, float] = field(default_factory=dict)
    audio_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def heard(self, name: str, audio_seconds: float) -> None:
        """Add audio to a stage."""
        self.audio_seconds[name] = self.audio_seconds.get(name, 0.0) + audio_seconds

    @property
    def description(self) -> dict[str, dict[str, float]]:
        """Return what timings.json holds of this rank."""
        described = {}
        for name, spent in self.seconds.items():
            described[name] = {"seconds": round(spent, 3)}
            if name in self.audio_seconds:
                heard = self.audio_seconds[name]
                described[name]["audio_seconds"] = round(heard, 3)
                described[name]["audio_seconds_per_second"] = round(heard / max(spent, 1e-9), 2)
        return described


Batch = list[tuple[str, Recording]]
"""Recordings that a judge hears together, each with the hash of its content."""


class Elsewhere(Protocol):
    """Other machines, on which judges sit."""

    def hear(self, kind: str, batches: Sequence[Batch]) -> dict[str, Any]:
        """Have the judge of this kind hear the batches, and remember; return content → encoded answer."""

    def compare(self, pairs: dict[str, tuple[Recording, Recording]]) -> dict[str, Any]:
        """Have a made recording of every pair compared with its original, and remember; return key → scores as JSON."""


@dataclass
class Bench:
    """Where an evaluation's judging happens."""

    world: World
    cache: Path
    batch_size: int
    console: Console
    stages: Stages = field(default_factory=Stages)
    elsewhere: Elsewhere | None = None
    """Machines that hear in the place of this process."""
    _hashes: dict[str, str] = field(default_factory=dict)

    def content(self, recording: Recording) -> str:
        """Return the hash of a recording's content, computed once. Raises DataError where there is none."""
        if recording.name not in self._hashes:
            self._hashes[recording.name] = recording.sha256()
        return self._hashes[recording.name]

    def ask(self, question: Question[A], recordings: Sequence[Recording]) -> dict[str, A | Failed]:
        """Return a judge's answer about each recording, by the recording's name.

        Batches are cut from the whole list, whatever is remembered: a batch of which one answer is missing is heard
        again whole. So the answers of an interrupted run, of several ranks and of a second run are those of a single
        one, on devices too where the arithmetic depends on the batch.

        Recordings of equal names are one. What cannot be read is `Failed`, which is not remembered.
        """
        unique = {recording.name: recording for recording in recordings}
        contents: dict[str, str] = {}
        answers: dict[str, A | Failed] = {}
        for name, recording in unique.items():
            try:
                contents[name] = self.content(recording)
            except (DataError, OSError) as error:
                answers[name] = Failed(str(error))
        by_content = {content: unique[name] for name, content in reversed(contents.items())}
        order = sorted(by_content, key=lambda content: (by_content[content].size, content))
        cache = self.remembered(question)
        stored = {c: answer for c in order if (answer := cache.get(c)) is not None}
        whole = [
            [(content, by_content[content]) for content in batch]
            for batch in batches(order, self.batch_size)
        ]
        # Shared out whatever is remembered: ranks that read it at different moments agree all the same.
        mine = [
            batch
            for batch in whole[self.world.rank :: self.world.world_size]
            if not all(content in stored for content, _ in batch)
        ]
        with self.stages.measure(question.kind):
            if self.elsewhere is None:
                heard = self.hear(question, mine, cache)
            else:
                heard = self.elsewhere.hear(question.kind, mine)
        for line in gather_lists([json.dumps(pair) for pair in heard.items()], self.world):
            content, answer = json.loads(line)
            stored[content] = answer
        found = {name: question.decode(stored[content]) for name, content in contents.items()}
        return found | answers

    def remembered(self, question: Question[A]) -> AnswerCache:
        """Return what the judge of a question said before."""
        identity = question.identity | {"device": self.world.device.type}
        if self.batch_size > 1:  # what is heard beside a clip may change its answer
            identity |= {"batch_size": self.batch_size}
        return AnswerCache(self.cache, question.kind, identity, self.world.rank)

    def hear(
        self,
        question: Question[A],
        todo: Sequence[Batch],
        cache: AnswerCache,
        tick: Tick | None = None,
    ) -> dict[str, Any]:
        """Return content → encoded answer for these batches; remember each batch when it is done.

        `tick` is called for each recording.
        """
        answers: dict[str, Any] = {}
        progress = Progress(
            console=self.console, transient=True, disable=not self.console.is_terminal
        )
        with progress, ThreadPoolExecutor(DECODE_THREADS) as pool:
            task = progress.add_task(f"Judging: {question.kind}", total=sum(map(len, todo)))
            for batch in _read_ahead(todo, pool):
                clips = {c: clip for c, clip in batch if isinstance(clip, Tensor)}
                for content, clip in batch:
                    if isinstance(clip, Failed):
                        answers[content] = question.encode(clip)
                said = question.answer(list(clips.values())) if clips else []
                fresh = {c: question.encode(a) for c, a in zip(clips, said, strict=True)}
                cache.add(fresh)
                answers |= fresh
                samples = sum(clip.shape[0] for clip in clips.values())
                self.stages.heard(question.kind, samples / SPEECH_RATE)
                progress.advance(task, len(batch))
                if tick is not None:
                    for _ in batch:
                        tick()
        return answers


def _read_ahead(
    todo: Sequence[Batch], pool: ThreadPoolExecutor
) -> Iterator[list[tuple[str, Tensor | Failed]]]:
    """Yield each batch as contents and waveforms, while the recordings of the next one are being read."""
    reading = None
    for batch in todo:
        # Executor.map starts at once, not when its results are asked for.
        next_reading = pool.map(_read, batch)
        if reading is not None:
            yield list(reading)
        reading = next_reading
    if reading is not None:
        yield list(reading)


def _read(entry: tuple[str, Recording]) -> tuple[str, Tensor | Failed]:
    content, recording = entry
    try:
        return content, recording.load(SPEECH_RATE)
    except DataError as error:
        return content, Failed(str(error))


def own_share(
    jobs: Sequence[J], label: str, world: World, console: Console, tick: Tick | None = None
) -> Iterator[J]:
    """Yield the jobs of this rank, in a progress bar on a terminal; `tick` is called after each."""
    for job in track(
        jobs[world.rank :: world.world_size],
        label,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        yield job
        if tick is not None:
            tick()


def asr_question(asr: Recognizer) -> Question[Heard]:
    """Return what a recogniser is asked."""

    def answer(waveforms: Sequence[Tensor]) -> list[Heard]:
        texts = asr.transcribe(list(waveforms))
        return [
            Heard(text, clip.shape[0] / SPEECH_RATE)
            for text, clip in zip(texts, waveforms, strict=True)
        ]

    return Question("asr", asr.description, answer, asdict, lambda row: Heard(**row))


def voice_question(kind: str, model: SpeakerModel) -> Question[Tensor]:
    """Return what a speaker model is asked: an embedding (E,)."""

    def answer(waveforms: Sequence[Tensor]) -> list[Tensor | Failed]:
        # Samples of 1e18 give numbers that JSON does not know.
        not_finite = Failed("the judge's answer is not finite; are the samples within -1 and 1?")
        return [
            vector if vector.isfinite().all() else not_finite
            for vector in model.embed(list(waveforms)).float().cpu()
        ]

    return Question(kind, model.description, answer, _to_base64, _vector)


def rating_question(name: str, predictor: QualityPredictor) -> Question[dict[str, float]]:
    """Return what a predictor of opinion scores is asked: column → score."""

    def answer(waveforms: Sequence[Tensor]) -> list[dict[str, float] | Failed]:
        return [_rating(predictor, waveform) for waveform in waveforms]

    return Question(name, predictor.description, answer, dict, dict)


def _rating(predictor: QualityPredictor, waveform: Tensor) -> dict[str, float] | Failed:
    """Return column → score of a waveform (S,), or why it has none: one recording does not end an evaluation."""
    try:
        return predictor.predict([waveform])[0]
    except NotFinite as error:
        return Failed(str(error))


def question_of(judges: Judges, kind: str) -> Question[Any]:
    """Return what the judge of a kind is asked."""
    if kind in judges.speakers:
        return voice_question(kind, judges.speakers[kind])
    if kind in judges.quality:
        return rating_question(kind, judges.quality[kind])
    return asr_question(judges.asr)


def transcribe_all(
    bench: Bench, asr: Recognizer, recordings: Sequence[Recording]
) -> dict[str, Heard | Failed]:
    """Return what a recogniser hears in each recording, by the recording's name."""
    return bench.ask(asr_question(asr), recordings)


def embed_all(
    bench: Bench, kind: str, model: SpeakerModel, recordings: Sequence[Recording]
) -> dict[str, Tensor | Failed]:
    """Return a speaker model's embedding (E,) of each recording, by the recording's name."""
    return bench.ask(voice_question(kind, model), recordings)


def rate_all(
    bench: Bench, name: str, predictor: QualityPredictor, recordings: Sequence[Recording]
) -> dict[str, dict[str, float] | Failed]:
    """Return column → score of each recording, by its name."""
    return bench.ask(rating_question(name, predictor), recordings)


def _to_base64(vector: Tensor) -> str:
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()


def _vector(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").copy())
