"""Long texts: sentences gathered into chunks that fit the model, and the speech of the chunks joined.

Nothing here holds more than a chunk: text comes in sentence by sentence, audio leaves piece by piece.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from svae.errors import DataError
from svae.synthesis.durations import MAX_TOTAL_SECONDS
from svae.synthesis.model import TTS
from svae.synthesis.reference import silent_frames
from svae.synthesis.types import Prompt, Sampling, Synthesis

CROSSFADE_SECONDS = 0.03
MAX_MATCH_DB = 6.0
"""Chunks are brought to the loudness of the first one by at most this much."""
_CLAUSE = re.compile(r"(?<=[;:,，；：、])\s*|\s+(?=-\s)")


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
    chunk = ""
    for sentence in sentences:
        for part in _split(sentence, seconds_of, limit_seconds):
            longer = f"{chunk} {part}" if chunk else part
            if chunk and seconds_of(longer) > limit_seconds:
                yield chunk
                longer = part
            chunk = longer
    if chunk:
        yield chunk


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
    gathered = ""
    for piece in pieces:
        longer = f"{gathered} {piece}" if gathered else piece
        if gathered and seconds_of(longer) > limit_seconds:
            yield from _split(gathered, seconds_of, limit_seconds)
            longer = piece
        gathered = longer
    yield from _split(gathered, seconds_of, limit_seconds)


def speech_level(waveform: Tensor, sample_rate: int) -> float:
    """Return the root mean square of the parts of a waveform (S,) that are not silent; 0 for silence."""
    size = max(1, round(0.02 * sample_rate))
    whole = waveform[: waveform.shape[0] // size * size]
    if not whole.numel():
        return float(waveform.square().mean().sqrt()) if waveform.numel() else 0.0
    loud = whole.view(-1, size)[~silent_frames(whole, sample_rate)]
    return float(loud.square().mean().sqrt()) if loud.numel() else 0.0


def join_chunks(waveforms: Iterable[Tensor], sample_rate: int) -> Iterator[Tensor]:
    """Join chunks of speech (S,) and yield the result in pieces, one a chunk, the last one included.

    Every chunk is brought to the loudness of the first one (by at most `MAX_MATCH_DB`) and cross-faded into it over
    `CROSSFADE_SECONDS`, linearly: amplitudes of two unrelated quiet ends, not of one signal.
    """
    overlap = round(CROSSFADE_SECONDS * sample_rate)
    level, tail = None, None
    for waveform in waveforms:
        own = speech_level(waveform, sample_rate)
        if level is None or own == 0.0:
            level = own if level is None and own > 0 else level
        else:
            bound = 10 ** (MAX_MATCH_DB / 20)
            peak = max(float(waveform.abs().max()), 1e-9)
            waveform = waveform * min(max(level / own, 1 / bound), bound, max(1.0, 0.99 / peak))
        if tail is not None:
            size = min(len(tail), len(waveform))
            fade = torch.linspace(0, 1, size + 2)[1:-1]
            mixed = tail[:size] * (1 - fade) + waveform[:size] * fade
            waveform = torch.cat([mixed, tail[size:], waveform[size:]])
        kept = max(len(waveform) - overlap, 0)
        yield waveform[:kept]
        tail = waveform[kept:]
    if tail is not None:
        yield tail


TRAINED_SECONDS = 30.0
"""Longest utterance of a model that does not say what it was trained on."""


MIN_CHUNK_SECONDS = 3.0
"""New speech gets at least this much room beside a long reference."""


def speak_long(
    tts: TTS,
    sentences: Sequence[str],
    prompt: Prompt,
    sampling: Sampling,
    *,
    by_sentence: bool = False,
    speak: Callable[[str], Synthesis] | None = None,
) -> Iterator[Synthesis]:
    """Speak sentences in chunks that, beside the prompt, are no longer than what the model was trained on.

    The noise of a chunk depends on (seed, its text) alone, so changing one sentence leaves other chunks as they are.

    Args:
        tts: the model.
        sentences: in order, as spoken.
        prompt: the voice.
        sampling: `duration_seconds` is possible where the text is one chunk.
        by_sentence: every sentence is a chunk of its own, so that the first one is there soon.
        speak: speaks one chunk; None: `tts.speak`.

    Raises:
        DataError: as `TTS.generate`.
    """
    trained = tts.identity.get("max_seconds")
    limit = min(TRAINED_SECONDS if trained is None else trained, MAX_TOTAL_SECONDS)
    free = replace(sampling, duration_seconds=None)
    room = max(limit - prompt.seconds, MIN_CHUNK_SECONDS)
    if sampling.duration_seconds is not None:
        chunks: Iterator[str] = iter([" ".join(sentences)])
    else:
        groups = [[sentence] for sentence in sentences] if by_sentence else [sentences]
        parts = (
            chunk_text(group, lambda text: tts.new_seconds(text, prompt, free), room)
            for group in groups
        )
        chunks = itertools.chain.from_iterable(parts)
    for chunk in chunks:
        yield tts.speak([chunk], [prompt], sampling)[0] if speak is None else speak(chunk)
