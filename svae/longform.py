"""Long texts: sentences gathered into chunks that fit the model, and the speech of the chunks joined.

Nothing here holds more than a chunk: text comes in sentence by sentence, audio leaves piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from svae.errors import DataError
from svae.reference import silent_frames

CROSSFADE_SECONDS = 0.03
MAX_MATCH_DB = 6.0
"""Chunks are brought to the loudness of the first one by at most this much."""
_CLAUSE = re.compile(r"(?<=[;:,，；：、])\s*|\s+(?=-\s)")


def chunk_text(sentences: Iterable[str], seconds_of: Callable[[str], float], limit_seconds: float) -> Iterator[str]:
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
