"""Ask judges about many recordings: in batches of like length, divided over ranks, each content only once, remembered."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import DataError
from svae.evaluation.answer_cache import AnswerCache
from svae.evaluation.recordings import Recording
from svae.judges.asr import Recognizer
from svae.judges.naturalness import WORST, QualityPredictor
from svae.judges.speaker import SpeakerModel
from svae.runtime.distributed import World, barrier, gather_lists

JUDGE_RATE = SPEECH_RATE
DECODE_THREADS = 4
"""Audio of the next batch is read while the judge hears this one."""


@dataclass
class Judges:
    """The models behind every number of an evaluation."""

    asr: Recognizer
    speakers: dict[str, SpeakerModel]
    """By column: `sim_ecapa`, `sim_o`. Their scores do not compare with each other."""
    quality: dict[str, QualityPredictor] = field(default_factory=dict)
    """`utmos`, `dnsmos`, where their files were given."""

    @property
    def description(self) -> dict[str, dict[str, Any]]:
        """Return what is stored with the results."""
        models = {**self.speakers, **self.quality}
        return {"asr": self.asr.description} | {
            name: model.description for name, model in models.items()
        }


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
        return {
            name: {"seconds": round(spent, 3)}
            | (
                {
                    "audio_seconds": round(self.audio_seconds[name], 3),
                    "audio_seconds_per_second": round(
                        self.audio_seconds[name] / max(spent, 1e-9), 2
                    ),
                }
                if name in self.audio_seconds
                else {}
            )
            for name, spent in self.seconds.items()
        }


@dataclass
class Bench:
    """Where an evaluation's judging happens."""

    world: World
    cache: Path
    batch_size: int
    console: Console
    stages: Stages = field(default_factory=Stages)
    _hashes: dict[str, str] = field(default_factory=dict)

    def content(self, recording: Recording) -> str:
        """Return the hash of a recording's content, computed once. Raises DataError where there is none."""
        if recording.name not in self._hashes:
            self._hashes[recording.name] = recording.sha256()
        return self._hashes[recording.name]

    def ask(
        self, kind: str, identity: dict[str, Any], recordings: Sequence[Recording], answer: Answer
    ) -> dict[str, Any]:
        """Return a judge's answer about each recording, by the recording's name.

        Batches are cut from the whole list, whatever is remembered: a batch of which one answer is missing is heard
        again whole. So the answers of an interrupted run, of several ranks and of a second run are those of a single
        one, on devices too where the arithmetic depends on the batch.

        Args:
            kind: names the judge in the cache and in timings.
            identity: all that may change an answer.
            recordings: equal names once.
            answer: from the waveforms (S,) of a batch at 16 kHz to an answer that JSON can hold, for each.

        Returns:
            name → answer; for what cannot be read `{"error": reason}`, which is not remembered.
        """
        unique = {recording.name: recording for recording in recordings}
        contents, failures = self._contents(list(unique.values()))
        by_content = {content: unique[name] for name, content in reversed(contents.items())}
        order = sorted(by_content, key=lambda content: (by_content[content].size, content))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        cache = AnswerCache(
            self.cache, kind, identity | {"device": self.world.device.type}, self.world.rank
        )
        todo = [batch for batch in batches if any(cache.get(content) is None for content in batch)]
        barrier(
            self.world
        )  # every rank has read what was there before one adds to it, so that all share out the same
        mine = todo[self.world.rank :: self.world.world_size]
        answers: dict[str, Any] = {c: a for c in order if (a := cache.get(c)) is not None}
        with self.stages.measure(kind):
            heard = self._hear(
                kind, [[by_content[c] for c in batch] for batch in mine], mine, answer, cache
            )
        for line in gather_lists([json.dumps(row) for row in heard], self.world):
            content, value = json.loads(line)
            answers[content] = value
        return {name: answers[content] for name, content in contents.items()} | failures

    def _contents(self, recordings: list[Recording]) -> tuple[dict[str, str], dict[str, Any]]:
        """Return name → hash, and name → error of what is missing."""
        contents: dict[str, str] = {}
        failures: dict[str, Any] = {}
        for recording in recordings:
            try:
                contents[recording.name] = self.content(recording)
            except (DataError, OSError) as error:
                failures[recording.name] = {"error": str(error)}
        return contents, failures

    def _hear(
        self,
        kind: str,
        batches: list[list[Recording]],
        keys: list[list[str]],
        answer: Answer,
        cache: AnswerCache,
    ) -> list[tuple[str, Any]]:
        """Return (content, answer) of every recording of these batches; remember each batch when it is done."""
        rows: list[tuple[str, Any]] = []
        progress = Progress(
            console=self.console, transient=True, disable=not self.console.is_terminal
        )
        with progress, ThreadPoolExecutor(DECODE_THREADS) as pool:
            task = progress.add_task(f"Judging: {kind}", total=sum(map(len, batches)))
            loads = [pool.map(_try_load, batch) for batch in batches[:1]]
            for number, contents in enumerate(keys):
                loads += [pool.map(_try_load, batch) for batch in batches[number + 1 : number + 2]]
                loaded = list(loads.pop(0))
                waveforms = [clip for clip in loaded if isinstance(clip, Tensor)]
                values = iter(map(_finite, answer(waveforms)) if waveforms else [])
                self.stages.heard(kind, sum(clip.shape[0] for clip in waveforms) / JUDGE_RATE)
                good = {
                    c: next(values)
                    for c, x in zip(contents, loaded, strict=True)
                    if isinstance(x, Tensor)
                }
                bad = {
                    c: {"error": x}
                    for c, x in zip(contents, loaded, strict=True)
                    if isinstance(x, str)
                }
                cache.add(good)
                rows += [*good.items(), *bad.items()]
                progress.advance(task, len(contents))
        return rows


def _finite(answer: Any) -> Any:
    """Return a judge's answer; an error in place of numbers that JSON does not know, as of samples of 1e18."""
    numbers = answer.values() if isinstance(answer, dict) else [answer]
    if any(isinstance(n, float) and not math.isfinite(n) for n in numbers):
        return {"error": "the judge's answer is not finite; are the samples within -1 and 1?"}
    return answer


Answer = Callable[[Sequence[Tensor]], Sequence[Any]]


def _try_load(recording: Recording) -> Tensor | str:
    try:
        return recording.load(JUDGE_RATE)
    except DataError as error:
        return str(error)


def transcribe_all(
    bench: Bench, asr: Recognizer, recordings: Sequence[Recording]
) -> dict[str, Any]:
    """Return name → `{"text", "seconds"}` or `{"error"}`."""

    def answer(waveforms: Sequence[Tensor]) -> list[dict[str, Any]]:
        texts = asr.transcribe(list(waveforms))
        return [
            {"text": text, "seconds": clip.shape[0] / JUDGE_RATE}
            for text, clip in zip(texts, waveforms, strict=True)
        ]

    return bench.ask("asr", asr.description, recordings, answer)


def embed_all(
    bench: Bench, kind: str, model: SpeakerModel, recordings: Sequence[Recording]
) -> dict[str, Any]:
    """Return name → an embedding (E,), or `{"error"}`."""

    def answer(waveforms: Sequence[Tensor]) -> list[str]:
        vectors = model.embed(list(waveforms)).cpu().numpy().astype("<f4")
        return [
            base64.b64encode(vector.tobytes()).decode() if np.isfinite(vector).all() else math.nan
            for vector in vectors
        ]

    found = bench.ask(kind, model.description, recordings, answer)
    return {name: a if isinstance(a, dict) else _vector(a) for name, a in found.items()}


def rate_all(
    bench: Bench, name: str, predictor: QualityPredictor, recordings: Sequence[Recording]
) -> dict[str, Any]:
    """Return recording → column → score; `WORST` throughout for what cannot be heard."""
    found = bench.ask(name, predictor.description, recordings, predictor.predict)
    return {
        key: dict.fromkeys(predictor.columns, WORST) if "error" in a else a
        for key, a in found.items()
    }


def _vector(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), dtype="<f4").copy())
