"""Long texts: sentences gathered into chunks that fit the model, spoken, joined and written.

Which chunks: `chunks`. Nothing here holds more than those that go through the network together (on a CPU: one): text comes in sentence by
sentence, audio leaves piece by piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from svae.audio import FORMATS, pcm16
from svae.errors import DataError
from svae.judges.asr import Recognizer
from svae.judges.wer import normalize_for_wer, word_errors
from svae.runtime.files import atomic_path
from svae.synthesis.chunks import divide
from svae.synthesis.haste import least_seconds
from svae.synthesis.loudness import CEILING, Leveller
from svae.synthesis.marks import write_tags
from svae.synthesis.model import TTS
from svae.synthesis.trim import frame_size, silent_frames
from svae.synthesis.types import Prompt, Sampling, Synthesis, Utterance
from svae.text.phonemes import as_heard
from svae.text.sentences import Sentence

CROSSFADE_SECONDS = 0.03
FALL_SECONDS = 0.01
"""In which the level of speech that leaves as it is decoded falls where it would clip."""
MAX_MATCH_DB = 6.0
"""Chunks are brought to the loudness of the first one by at most this much."""
SPEECH_SCALE = 32767
"""What 1.0 is in the files of `svae synthesize`."""

# ----------------------------------------------------------------------------------------------- chunks to speech


@dataclass(frozen=True)
class Attempt:
    """One try at a chunk, and what a recogniser heard."""

    seed: int
    wer: float
    heard: str


@dataclass(frozen=True)
class ChunkReport:
    """How a chunk was spoken."""

    text: str
    seed: int
    generated_seconds: float
    seconds_by_stage: dict[str, float]
    attempts: tuple[Attempt, ...] = ()
    """All tries, where the speech was verified; the first of the best ones was kept."""
    pause_before: float = 0.0
    """Seconds of silence before it, which the text asks for."""
    pause_after: float = 0.0
    """Seconds of silence after it, which the text asks for."""
    least_seconds: float = 0.0
    """What its phones need at least, where they got less: words may be lost."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `attempts`, pauses and `least_seconds` only where there are some."""
        tree = asdict(self)
        for name in ("attempts", "pause_before", "pause_after", "least_seconds"):
            if not tree[name]:
                del tree[name]
        return tree


@dataclass(frozen=True)
class SpokenChunk:
    """A chunk of a text, spoken."""

    waveform: Tensor
    """(S,), on the CPU."""
    report: ChunkReport


@dataclass(frozen=True)
class Verifier:
    """Tells whether a chunk is understood, and how often to try again."""

    recognizer: Recognizer
    retries: int
    """Other seeds that are tried where a chunk is not understood."""
    max_wer: float
    """Understood means a word error rate of at most this."""

    def judge(self, speech: Synthesis) -> Attempt:
        """Return what is heard in some speech and how far it is from its text."""
        heard = self.recognizer.transcribe([speech.waveform[0, 0]], speech.sample_rate)[0]
        written = as_heard(speech.text, heard)
        # A text without words, "…" for example, cannot be misunderstood.
        has_words = bool(normalize_for_wer(written))
        wer = word_errors(written, heard).rate if has_words else 0.0
        return Attempt(speech.sampling.seed, wer, heard)


def speak_long(
    tts: TTS,
    sentences: Sequence[str],
    prompt: Prompt,
    sampling: Sampling,
    *,
    by_sentence: bool = False,
    verifier: Verifier | None = None,
) -> Iterator[SpokenChunk]:
    """Speak sentences in chunks that, beside the prompt, are no longer than what the model was trained on.

    A pause that a text asks for ends a chunk. The noise of a chunk depends on (seed, its text) alone, so changing one
    sentence leaves other chunks as they are.

    Args:
        tts: the model.
        sentences: in order, as spoken; those that are `Sentence`s say which pauses are around them.
        prompt: the voice.
        sampling: `duration_seconds` is of the whole, pauses included; without pauses the text is then one chunk.
        by_sentence: every sentence is a chunk of its own, so that the first one is there soon.
        verifier: has chunks that are not understood spoken again; None: all are taken as they are.

    Raises:
        DataError: as `TTS.generate`; no sentences; pauses that leave no time for speech.
    """
    chunks = plan_chunks(tts, sentences, prompt, sampling, by_sentence=by_sentence)
    return speak_planned(tts, chunks, verifier, first_alone=by_sentence)


def speak_planned(
    tts: TTS,
    chunks: Iterable[Chunk],
    verifier: Verifier | None = None,
    *,
    first_alone: bool = False,
) -> Iterator[SpokenChunk]:
    """Speak chunks in order, as many at a time as go through the network together; `first_alone`: the first is there sooner."""
    return chain.from_iterable(
        speak_chunks(tts, batch, verifier)
        for batch in _batches(chunks, tts.batch_frames, first_alone=first_alone)
    )


class Chunk(NamedTuple):
    """A part of a text that is spoken at once."""

    text: Sentence
    """With the pauses around it; empty: a pause alone."""
    utterance: Utterance | None
    """What is spoken; None for a pause alone."""
    sampling: Sampling

    @property
    def frames(self) -> int:
        """How many frames of prompt and new speech it takes."""
        return 0 if self.utterance is None else self.utterance.frames


def plan_chunks(
    tts: TTS,
    sentences: Sequence[str],
    prompt: Prompt,
    sampling: Sampling,
    *,
    by_sentence: bool = False,
) -> Iterator[Chunk]:
    """Yield the chunks of a text, ready to be spoken; arguments and errors as in `speak_long`."""
    if not sentences:
        raise DataError("text: nothing to say; expected at least one sentence")

    def seconds_of(text: str) -> float:
        return tts.new_seconds(text, prompt, sampling)

    trained = tts.identity.get("max_seconds")
    plan = divide(sentences, seconds_of, prompt.seconds, trained, sampling, by_sentence=by_sentence)
    return (
        Chunk(text, tts.prepare(text, prompt, settings) if text else None, settings)
        for text, settings in plan
    )


def _batches(
    chunks: Iterable[Chunk], batch_frames: int, *, first_alone: bool
) -> Iterator[list[Chunk]]:
    """Cut chunks into consecutive batches; see `speak_planned`."""
    batch: list[Chunk] = []
    longest = 0
    for chunk in chunks:
        longest = max(longest, chunk.frames)
        if batch and longest * (len(batch) + 1) > batch_frames:
            yield batch
            batch, longest = [], chunk.frames
        batch.append(chunk)
        if first_alone:
            yield batch
            batch, longest, first_alone = [], 0, False
    if batch:
        yield batch


def speak_chunks(
    tts: TTS, chunks: Sequence[Chunk], verifier: Verifier | None = None
) -> list[SpokenChunk]:
    """Speak chunks, in their order; with a verifier, try other seeds while one is misunderstood, and keep the best try.

    A pause alone is not spoken: its waveform is empty, and its pauses are what is heard.
    """
    spoken = iter(
        tts.speak_prepared([chunk.utterance for chunk in chunks if chunk.utterance is not None])
    )
    return [
        _silent(chunk) if chunk.utterance is None else _finished(tts, chunk, next(spoken), verifier)
        for chunk in chunks
    ]


def _silent(chunk: Chunk) -> SpokenChunk:
    text = chunk.text
    report = ChunkReport("", chunk.sampling.seed, 0.0, {}, (), text.pause_before, text.pause_after)
    return SpokenChunk(torch.zeros(0), report)


def _finished(tts: TTS, chunk: Chunk, speech: Synthesis, verifier: Verifier | None) -> SpokenChunk:
    """Return a chunk that was spoken, or the best of further tries at it."""
    assert chunk.utterance is not None
    attempts: list[Attempt] = []
    if verifier is not None:
        best = verifier.judge(speech)
        attempts.append(best)
        seed = chunk.sampling.seed
        for other_seed in range(seed + 1, seed + 1 + verifier.retries):
            if best.wer <= verifier.max_wer:
                break
            settings = replace(chunk.utterance.sampling, seed=other_seed)
            other = tts.speak_prepared([chunk.utterance._replace(sampling=settings)])[0]
            attempts.append(verifier.judge(other))
            if attempts[-1].wer < best.wer:
                best = attempts[-1]
                speech = other
    least = least_seconds(chunk.text)
    report = ChunkReport(
        speech.text,
        speech.sampling.seed,
        speech.generated_seconds,
        speech.timings,
        tuple(attempts),
        chunk.text.pause_before,
        chunk.text.pause_after,
        least if speech.generated_seconds < least else 0.0,
    )
    return SpokenChunk(speech.waveform.reshape(-1), report)


# ----------------------------------------------------------------------------------------------- speech to a file


def speech_level(waveform: Tensor, sample_rate: int) -> float:
    """Return the root mean square of the parts of a waveform (S,) that are not silent; 0 for silence."""
    size = frame_size(sample_rate)
    whole = waveform[: waveform.shape[0] // size * size]
    if not whole.numel():
        return float(waveform.square().mean().sqrt()) if waveform.numel() else 0.0
    loud = whole.view(-1, size)[~silent_frames(whole, sample_rate)]
    return float(loud.square().mean().sqrt()) if loud.numel() else 0.0


class ChunkJoiner:
    """Joins chunks of speech, piece by piece.

    Every chunk is brought to the level of the first one (by at most `MAX_MATCH_DB`), all to one loudness, and cross-faded into the one
    before over `CROSSFADE_SECONDS`, linearly: amplitudes of two unrelated quiet ends, not of one signal.
    """

    def __init__(self, sample_rate: int, leveller: Leveller | None = None) -> None:
        self.sample_rate = sample_rate
        self.leveller = leveller or Leveller(None, None, sample_rate)
        self._overlap = round(CROSSFADE_SECONDS * sample_rate)
        self._level: float | None = None
        self._tail = torch.zeros(0)

    def samples_before(self, pause: float) -> int:
        """Return how many samples come out before the first one of a chunk that is joined next, with such a pause before it."""
        # A pause comes behind the end of the chunk before, else the two fade into each other.
        return len(self._tail) + round(pause * self.sample_rate) if pause else 0

    def join(self, chunk: SpokenChunk) -> Tensor:
        """Return what is complete with this chunk and the pauses around it (S,)."""
        report = chunk.report
        before = self.pause(report.pause_before) if report.pause_before else torch.zeros(0)
        speech = self.add(chunk.waveform)
        after = self.pause(report.pause_after) if report.pause_after else torch.zeros(0)
        return torch.cat([before, speech, after])

    def add(self, waveform: Tensor) -> Tensor:
        """Return what is complete with this chunk (S,): all but the end that the next one may fade into."""
        return self._faded(waveform * self._factor(waveform))

    def _faded(self, waveform: Tensor) -> Tensor:
        size = min(len(self._tail), len(waveform))
        fade = torch.linspace(0, 1, size + 2)[1:-1]
        mixed = self._tail[:size] * (1 - fade) + waveform[:size] * fade
        return self._kept_back(torch.cat([mixed, self._tail[size:], waveform[size:]]))

    def _kept_back(self, waveform: Tensor) -> Tensor:
        kept = max(len(waveform) - self._overlap, 0)
        self._tail = waveform[kept:]
        return waveform[:kept]

    def join_pieces(self, text: Sentence, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield what is complete with each piece of a chunk whose end is not known yet, and the pauses around it (S,).

        The first piece decides the chunk's level; where a later one would clip, the level falls there, and stays.
        """
        if text.pause_before:
            yield self.pause(text.pause_before)
        factor: float | None = None
        for piece in pieces:
            if factor is None:
                factor = self._factor(piece)
                yield self._faded(piece * factor)
                continue
            least = min(factor, CEILING / max(float(piece.abs().max()), 1e-9))
            fall = min(round(FALL_SECONDS * self.sample_rate), len(piece))
            levels = torch.full_like(piece, least)
            levels[:fall] = torch.linspace(factor, least, fall + 1)[1:]
            factor = least
            yield self._kept_back(torch.cat([self._tail, piece * levels]))
        if text.pause_after:
            yield self.pause(text.pause_after)

    def pause(self, seconds: float) -> Tensor:
        """Return the end of the last chunk and then silence; the next chunk begins after it, not faded in."""
        ended = torch.cat([self._tail, torch.zeros(round(seconds * self.sample_rate))])
        self._tail = torch.zeros(0)
        return ended

    def rest(self) -> Tensor:
        """Return the end of the last chunk."""
        return self._tail

    def _factor(self, waveform: Tensor) -> float:
        """Return what brings a chunk to the level of the others."""
        own = speech_level(waveform, self.sample_rate)
        if own == 0.0:
            return 1.0
        if self._level is None and self.leveller.hear(waveform):
            self._level = own
        bound = 10 ** (MAX_MATCH_DB / 20)
        factor = min(max((self._level or own) / own, 1 / bound), bound)
        return self.leveller.within(factor, max(float(waveform.abs().max()), 1e-9))


@dataclass(frozen=True)
class WrittenSpeech:
    """An audio file that was written, and what is in it."""

    seconds: float
    first_audio_at: float
    """When the first piece was written, by `time.perf_counter`."""
    chunks: list[ChunkReport]
    loudness: dict[str, Any] = field(default_factory=dict)
    """What was done about it: see `Leveller.to_json`."""


def write_chunks(
    path: Path,
    chunks: Iterable[SpokenChunk],
    sample_rate: int,
    *,
    stream: bool,
    leveller: Leveller | None = None,
    tags: Mapping[str, str] | None = None,
    listener: Callable[[str, Tensor, float], None] | None = None,
) -> WrittenSpeech:
    """Speak chunks into an audio file as they come, joined, with the pauses around them.

    Args:
        path: ends in .wav or .flac.
        chunks: of a text; at least one.
        sample_rate: of the chunks, in Hz.
        stream: the file has its name at once and grows; else it appears when it is complete.
        leveller: decides the loudness; None: that of the chunks.
        tags: what the file says about itself; see `svae.synthesis.marks`.
        listener: is told of each chunk: its text, its waveform (S,), and where in the file it begins, in seconds.

    Raises:
        DataError: there are no chunks.
    """
    reports: list[ChunkReport] = []
    first_audio_at = 0.0
    joiner = ChunkJoiner(sample_rate, leveller)

    with (
        nullcontext(path) if stream else atomic_path(path) as target,
        soundfile.SoundFile(
            target, "w", sample_rate, 1, "PCM_16", format=FORMATS[path.suffix.lower()]
        ) as file,
    ):
        write_tags(file, tags or {})

        def write(waveform: Tensor) -> None:
            file.write(pcm16(waveform, full_scale=SPEECH_SCALE).numpy())

        for chunk in chunks:
            if listener is not None:
                before = joiner.samples_before(chunk.report.pause_before)
                place = (file.frames + before) / sample_rate
                listener(chunk.report.text, chunk.waveform, place)
            write(joiner.join(chunk))
            if stream:
                file.flush()
            if not reports:
                first_audio_at = time.perf_counter()
            reports.append(chunk.report)
        if not reports:
            raise DataError("text: nothing to say; expected at least one sentence")
        write(joiner.rest())
        seconds = file.frames / sample_rate
    return WrittenSpeech(seconds, first_audio_at, reports, joiner.leveller.to_json())
