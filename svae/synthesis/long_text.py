"""Long texts: sentences gathered into chunks that fit the model, spoken one by one, joined and written.

Nothing here holds more than a chunk: text comes in sentence by sentence, audio leaves piece by piece.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from svae.audio import FORMATS, pcm16
from svae.errors import DataError
from svae.judges.asr import Recognizer
from svae.judges.wer import normalize_for_wer, word_errors
from svae.runtime.files import atomic_path
from svae.synthesis.durations import MAX_TOTAL_SECONDS
from svae.synthesis.model import TTS
from svae.synthesis.reference import frame_size, silent_frames
from svae.synthesis.types import Prompt, Sampling, Synthesis

CROSSFADE_SECONDS = 0.03
MAX_MATCH_DB = 6.0
"""Chunks are brought to the loudness of the first one by at most this much."""
TRAINED_SECONDS = 30.0
"""Longest utterance of a model that does not say what it was trained on."""
MIN_CHUNK_SECONDS = 3.0
"""New speech gets at least this much room beside a long reference."""
SPEECH_SCALE = 32767
"""What 1.0 is in the files of `svae synthesize`."""
_CLAUSE = re.compile(r"(?<=[;:,，；：、])\s*|\s+(?=-\s)")

# ----------------------------------------------------------------------------------------------- text to chunks


def chunk_text(
    sentences: Iterable[str], seconds_of: Callable[[str], float], limit_seconds: float
) -> Iterator[str]:
    """Gather sentences into chunks that take at most `limit_seconds` to say; a sentence alone may be split.

    A sentence that is too long is split at clauses, a clause that is too long between words. Joined with spaces the
    chunks are the sentences, every word once and in order.

    Args:
        sentences: in order.
        seconds_of: predicted seconds of a text.
        limit_seconds: of a chunk.

    Raises:
        DataError: a single word does not fit.
    """
    parts = (part for sentence in sentences for part in _split(sentence, seconds_of, limit_seconds))
    return _gather(parts, seconds_of, limit_seconds)


def _gather(
    parts: Iterable[str], seconds_of: Callable[[str], float], limit_seconds: float
) -> Iterator[str]:
    """Join as many parts as fit, again and again; a part that does not fit alone comes as it is."""
    gathered = ""
    for part in parts:
        longer = f"{gathered} {part}" if gathered else part
        if gathered and seconds_of(longer) > limit_seconds:
            yield gathered
            longer = part
        gathered = longer
    if gathered:
        yield gathered


def _split(text: str, seconds_of: Callable[[str], float], limit_seconds: float) -> Iterator[str]:
    if seconds_of(text) <= limit_seconds:
        yield text
        return
    pieces = [piece for piece in _CLAUSE.split(text) if piece]
    if len(pieces) == 1:
        pieces = text.split()
    if len(pieces) == 1:
        raise DataError(
            f"text: the word {text[:40]!r}{'…' if len(text) > 40 else ''} alone would take {seconds_of(text):.0f} s, "
            f"the model's limit is {limit_seconds:.0f} s"
        )
    for gathered in _gather(pieces, seconds_of, limit_seconds):
        yield from _split(gathered, seconds_of, limit_seconds)


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

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `attempts` only where there are some."""
        tree = asdict(self)
        if not self.attempts:
            del tree["attempts"]
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
        # A text without words, "…" for example, cannot be misunderstood.
        has_words = bool(normalize_for_wer(speech.text))
        wer = word_errors(speech.text, heard).rate if has_words else 0.0
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

    The noise of a chunk depends on (seed, its text) alone, so changing one sentence leaves other chunks as they are.

    Args:
        tts: the model.
        sentences: in order, as spoken.
        prompt: the voice.
        sampling: `duration_seconds` is possible where the text is one chunk.
        by_sentence: every sentence is a chunk of its own, so that the first one is there soon.
        verifier: has chunks that are not understood spoken again; None: all are taken as they are.

    Raises:
        DataError: as `TTS.generate`.
    """
    for text in _chunks(tts, sentences, prompt, sampling, by_sentence=by_sentence):
        yield speak_chunk(tts, text, prompt, sampling, verifier)


def _chunks(
    tts: TTS, sentences: Sequence[str], prompt: Prompt, sampling: Sampling, *, by_sentence: bool
) -> Iterator[str]:
    if sampling.duration_seconds is not None:
        yield " ".join(sentences)
        return
    trained = tts.identity.get("max_seconds")
    limit = min(TRAINED_SECONDS if trained is None else trained, MAX_TOTAL_SECONDS)
    room = max(limit - prompt.seconds, MIN_CHUNK_SECONDS)

    def seconds_of(text: str) -> float:
        return tts.new_seconds(text, prompt, sampling)

    groups = [[sentence] for sentence in sentences] if by_sentence else [sentences]
    for group in groups:
        yield from chunk_text(group, seconds_of, room)


def speak_chunk(
    tts: TTS, text: str, prompt: Prompt, sampling: Sampling, verifier: Verifier | None
) -> SpokenChunk:
    """Speak one chunk; with a verifier, try other seeds while it is misunderstood, and keep the best try."""
    speech = tts.speak([text], [prompt], sampling)[0]
    attempts: list[Attempt] = []
    if verifier is not None:
        best = verifier.judge(speech)
        attempts.append(best)
        for seed in range(sampling.seed + 1, sampling.seed + 1 + verifier.retries):
            if best.wer <= verifier.max_wer:
                break
            other = tts.speak([text], [prompt], replace(sampling, seed=seed))[0]
            attempts.append(verifier.judge(other))
            if attempts[-1].wer < best.wer:
                best = attempts[-1]
                speech = other
    report = ChunkReport(
        speech.text,
        speech.sampling.seed,
        speech.generated_seconds,
        speech.timings,
        tuple(attempts),
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

    Every chunk is brought to the loudness of the first one (by at most `MAX_MATCH_DB`) and cross-faded into the one
    before over `CROSSFADE_SECONDS`, linearly: amplitudes of two unrelated quiet ends, not of one signal.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._overlap = round(CROSSFADE_SECONDS * sample_rate)
        self._level: float | None = None
        self._tail = torch.zeros(0)

    def add(self, waveform: Tensor) -> Tensor:
        """Return what is complete with this chunk (S,): all but the end that the next one may fade into."""
        waveform = self._at_one_level(waveform)
        size = min(len(self._tail), len(waveform))
        fade = torch.linspace(0, 1, size + 2)[1:-1]
        mixed = self._tail[:size] * (1 - fade) + waveform[:size] * fade
        waveform = torch.cat([mixed, self._tail[size:], waveform[size:]])
        kept = max(len(waveform) - self._overlap, 0)
        self._tail = waveform[kept:]
        return waveform[:kept]

    def rest(self) -> Tensor:
        """Return the end of the last chunk."""
        return self._tail

    def _at_one_level(self, waveform: Tensor) -> Tensor:
        own = speech_level(waveform, self.sample_rate)
        if own == 0.0:
            return waveform
        if self._level is None:
            self._level = own
            return waveform
        bound = 10 ** (MAX_MATCH_DB / 20)
        peak = max(float(waveform.abs().max()), 1e-9)
        return waveform * min(max(self._level / own, 1 / bound), bound, max(1.0, 0.99 / peak))


@dataclass(frozen=True)
class WrittenSpeech:
    """An audio file that was written, and what is in it."""

    seconds: float
    first_audio_at: float
    """When the first piece was written, by `time.perf_counter`."""
    chunks: list[ChunkReport]


def write_chunks(
    path: Path, chunks: Iterable[SpokenChunk], sample_rate: int, *, stream: bool
) -> WrittenSpeech:
    """Speak chunks into an audio file as they come, joined.

    Args:
        path: ends in .wav or .flac.
        chunks: of a text; at least one.
        sample_rate: of the chunks, in Hz.
        stream: the file has its name at once and grows; else it appears when it is complete.
    """
    reports: list[ChunkReport] = []
    first_audio_at = 0.0
    joiner = ChunkJoiner(sample_rate)
    with (
        nullcontext(path) if stream else atomic_path(path) as target,
        soundfile.SoundFile(
            target, "w", sample_rate, 1, "PCM_16", format=FORMATS[path.suffix.lower()]
        ) as file,
    ):
        for chunk in chunks:
            file.write(pcm16(joiner.add(chunk.waveform), full_scale=SPEECH_SCALE).numpy())
            if stream:
                file.flush()
            if not reports:
                first_audio_at = time.perf_counter()
            reports.append(chunk.report)
        file.write(pcm16(joiner.rest(), full_scale=SPEECH_SCALE).numpy())
        seconds = file.frames / sample_rate
    return WrittenSpeech(seconds, first_audio_at, reports)
