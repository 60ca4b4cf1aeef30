"""Texts in chunks that a model can speak at once: sentences gathered, or divided where one is too long.

Without torch, since the runtime package (runtime/) uses it too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from svae.errors import DataError
from svae.synthesis.durations import MAX_TOTAL_SECONDS
from svae.synthesis.types import Sampling
from svae.text.sentences import Sentence

TRAINED_SECONDS = 30.0
"""Longest utterance of a model that does not say what it was trained on."""
MIN_CHUNK_SECONDS = 3.0
"""New speech gets at least this much room beside a long reference."""
_CLAUSE = re.compile(
    r"(?:\{[^{}]*\}|.)+?(?:(?<=[;，；：、])\s*|(?<=[:,])(?!(?<=\d.)\d)\s*|\s+(?=-\s)|$)", re.DOTALL
)
_WORD = re.compile(r"(?:\{[^{}]*\}|\S)+\s*")
_AT_MARK = re.compile(r"(?:\{[^{}]*\}|.)+?(?:(?<=[;:,，；：、])\s*|$)", re.DOTALL)
"""Given phones (`{B EY1 S}`) are whole in all three; marks in numbers (`3,5`, `10:30`) divide only a word that does not fit."""


def chunk_text(
    sentences: Iterable[str], seconds_of: Callable[[str], float], limit_seconds: float
) -> Iterator[str]:
    """Gather sentences into chunks that take at most `limit_seconds` to say; a sentence alone may be split.

    A sentence that is too long is split at clauses, a clause that is too long between words, a word that is too long
    (`1,2,3` and on) behind its marks. Every character is in one chunk, in order, but for white space between two
    chunks; sentences have a space between them.

    Args:
        sentences: in order.
        seconds_of: predicted seconds of a text.
        limit_seconds: of a chunk.

    Raises:
        DataError: a single word without marks does not fit.
    """

    def seconds_of_part(part: str) -> float:
        return seconds_of(part.rstrip())

    parts = (
        part
        for sentence in sentences
        for part in _split(f"{sentence.strip()} ", seconds_of_part, limit_seconds)
    )
    return (chunk.rstrip() for chunk in _gather(parts, seconds_of_part, limit_seconds))


def _gather(
    parts: Iterable[str], seconds_of: Callable[[str], float], limit_seconds: float
) -> Iterator[str]:
    """Join as many parts as fit, each with its own white space, again and again; one that does not fit alone comes as it is."""
    gathered = ""
    for part in parts:
        if gathered and seconds_of(gathered + part) > limit_seconds:
            yield gathered
            gathered = ""
        gathered += part
    if gathered:
        yield gathered


def _split(text: str, seconds_of: Callable[[str], float], limit_seconds: float) -> Iterator[str]:
    if seconds_of(text) <= limit_seconds:
        yield text
        return
    for pattern in (_CLAUSE, _WORD, _AT_MARK):
        pieces = pattern.findall(text)
        if len(pieces) > 1:
            break
    else:
        word = text.rstrip()
        raise DataError(
            f"text: the word {word[:40]!r}{'…' if len(word) > 40 else ''} alone would take {seconds_of(text):.0f} s, "
            f"the model's limit is {limit_seconds:.0f} s"
        )
    for gathered in _gather(pieces, seconds_of, limit_seconds):
        yield from _split(gathered, seconds_of, limit_seconds)


def _with_pauses(sentence: str) -> Sentence:
    return sentence if isinstance(sentence, Sentence) else Sentence(sentence)


def divide(
    texts: Sequence[str],
    seconds_of: Callable[[str], float],
    prompt_seconds: float,
    trained_seconds: float | None,
    sampling: Sampling,
    *,
    by_sentence: bool = False,
) -> Iterator[tuple[Sentence, Sampling]]:
    """Yield the chunks of a text, each with the pauses around it and the settings to speak it with.

    Args:
        texts: sentences, see `svae.synthesis.long_text.speak_long`.
        seconds_of: predicted seconds of a text.
        prompt_seconds: of the reference, which takes part of what the model can speak at once.
        trained_seconds: longest utterance that the model was trained on; None: unknown.
        sampling: see there.
        by_sentence: see there.
    """
    sentences = list(map(_with_pauses, texts))
    if not any(sentences):
        # A text that is a pause alone; asked for a duration, it is silent for so long.
        silence = sampling.duration_seconds or sentences[0].pause_after
        yield Sentence("", silence), sampling
        return
    if sampling.duration_seconds is not None:
        passages = [_around(" ".join(passage), passage) for passage in _passages(sentences)]
        yield from zip(passages, _share_duration(passages, seconds_of, sampling), strict=True)
        return
    limit = min(TRAINED_SECONDS if trained_seconds is None else trained_seconds, MAX_TOTAL_SECONDS)
    room = max(limit - prompt_seconds, MIN_CHUNK_SECONDS)
    groups = [[sentence] for sentence in sentences] if by_sentence else _passages(sentences)
    for group in groups:
        chunks = chunk_text(group, seconds_of, room)
        before, last = group[0].pause_before, next(chunks)
        for chunk in chunks:
            yield Sentence(last, 0.0, before), sampling
            before, last = 0.0, chunk
        yield Sentence(last, group[-1].pause_after, before), sampling


def _passages(sentences: Sequence[Sentence]) -> list[list[Sentence]]:
    """Return runs of sentences that no pause divides."""
    passages: list[list[Sentence]] = [[]]
    for sentence in sentences:
        divided = sentence.pause_before or (passages[-1] and passages[-1][-1].pause_after)
        if divided and passages[-1]:
            passages.append([])
        passages[-1].append(sentence)
    return passages


def _around(text: str, passage: Sequence[Sentence]) -> Sentence:
    """Return `text` with the pauses around a passage."""
    return Sentence(text, passage[-1].pause_after, passage[0].pause_before)


def _share_duration(
    passages: Sequence[Sentence], seconds_of: Callable[[str], float], sampling: Sampling
) -> list[Sampling]:
    """Return settings for each passage: what pauses leave of the duration, shared as predicted lengths are."""
    assert sampling.duration_seconds is not None
    if len(passages) == 1 and not passages[0].pause_before and not passages[0].pause_after:
        return [sampling]
    pauses = sum(passage.pause_before + passage.pause_after for passage in passages)
    left = sampling.duration_seconds - pauses
    if left <= 0:
        raise DataError(
            f"text: its pauses take {pauses:g} s, the duration asked for is {sampling.duration_seconds:g} s; "
            "use a longer duration or shorter pauses"
        )
    predicted = [seconds_of(passage) for passage in passages]
    return [
        replace(sampling, duration_seconds=left * seconds / sum(predicted)) for seconds in predicted
    ]
