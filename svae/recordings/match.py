"""A long text dealt to the segments of its recording: what was heard is found in it, and its own words are taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from svae.text.spell_out import spelled_text

_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[^\W_])+(?:'[^\W_]+)*"
)
"""A word, or a character of a script without spaces."""
STRAY = 0.25
"""What a word between two that agree counts against them, which count 1 each."""
SENTENCE_END, COMMA = 4.0, 1.5
"""So many words more or fewer than were heard a cut may be away to be where people pause."""
OUTER_WORDS = 5
"""Words that were misheard at the beginning or end of all that was found are guessed; more are not of this text."""


@dataclass(frozen=True)
class _Place:
    """Where a segment was found in the text: tokens first to last, and unmatched heard ones before and after."""

    first: int
    last: int
    before: int
    after: int


def tokens(text: str, language: str | None = None) -> list[str]:
    """Return the words of a text as they are compared: without case and punctuation.

    Numbers in digits are words of a language that has rules for them: a recogniser writes "Chapter 35", a book "Chapter
    thirty-five". None leaves them as they are.
    """
    return [word for match in _TOKEN.finditer(text) for word in _compared(match.group(), language)]


def _compared(token: str, language: str | None) -> list[str]:
    return [match.group().casefold() for match in _TOKEN.finditer(in_words(token, language))]


def in_words(text: str, language: str | None) -> str:
    """Return a text with its numbers as words, where its language has rules; one without digits as it is, as that is quick."""
    return spelled_text(text, language) if any(map(str.isdecimal, text)) else text


def agreement(text: str, heard: str, language: str | None = None) -> float:
    """Return how far what is heard agrees with a text: 1 less its word errors, as a share of the longer one."""
    return Levenshtein.normalized_similarity(tokens(text, language), tokens(heard, language))


def deal_text(text: str, heard: Sequence[str], language: str | None = None) -> list[str | None]:
    """Return which part of a text each segment of its recording says; None where that is not in the text.

    All that was heard is aligned with the whole text, word by word, with the fewest changes. Of a segment the words that
    agree, and lie close together, say where it is; the words between two segments go to where as many were misheard.

    Args:
        text: normalised; may hold more than is read, and the recording more than is in it.
        heard: by a recogniser, of each segment in order.
        language: in which numbers are compared, see `tokens`.
    """
    places = list(_TOKEN.finditer(text))
    wanted, place_of = [], []
    for place, match in enumerate(places):
        for word in _compared(match.group(), language):
            wanted.append(word)
            place_of.append(place)
    spoken = [tokens(each, language) for each in heard]
    flat = [word for words in spoken for word in words]
    equal: dict[int, int] = {}
    for block in Levenshtein.opcodes(wanted, flat):
        if block.tag == "equal":
            for step in range(block.src_end - block.src_start):
                equal[block.dest_start + step] = place_of[block.src_start + step]
    found: list[_Place | None] = []
    first = 0
    for words in spoken:
        found.append(
            _densest(
                [(n, equal[first + n]) for n in range(len(words)) if first + n in equal], len(words)
            )
        )
        first += len(words)
    bounds = _widened(found, text, places)
    return [None if bound is None else _span(text, places, *bound) for bound in bounds]


def _densest(matches: Sequence[tuple[int, int]], heard: int) -> _Place | None:
    """Return where the words that agree lie closest: the stretch of them that counts most, less the strays within.

    Args:
        matches: place among the words heard, and in the text; both rise.
        heard: how many words were heard.
    """
    best: tuple[float, int, int] | None = None
    score, begin = 0.0, 0
    for i, (at, place) in enumerate(matches):
        if i:
            strays = (at - matches[i - 1][0] - 1) + (place - matches[i - 1][1] - 1)
            score -= STRAY * strays
        if score <= 0:
            score, begin = 0.0, i
        score += 1
        if best is None or score > best[0]:
            best = (score, begin, i)
    # One word of several that agrees may stand anywhere.
    if best is None or best[0] < min(2, heard):
        return None
    (at_first, first), (at_last, last) = matches[best[1]], matches[best[2]]
    return _Place(first, last, at_first, heard - 1 - at_last)


def _widened(
    found: Sequence[_Place | None], text: str, places: Sequence[re.Match[str]]
) -> list[tuple[int, int] | None]:
    """Deal the words between segments to them, where about as many were heard there and not recognised."""
    bounds = [None if place is None else [place.first, place.last] for place in found]
    known = [number for number, place in enumerate(found) if place is not None]
    for left, right in zip(known, known[1:], strict=False):
        a, b = found[left], found[right]
        assert a is not None and b is not None
        between = b.first - a.last - 1
        if between <= 0:
            continue
        if right == left + 1 and between <= 1.5 * (a.after + b.before) + 3:
            to_left = _best_break(a, b, between, text, places)
            to_right = between - to_left
        else:
            to_left = min(a.after, between, OUTER_WORDS)
            to_right = min(b.before, between - to_left, OUTER_WORDS)
        bounds[left][1] += to_left  # type: ignore[index]
        bounds[right][0] -= to_right  # type: ignore[index]
    if known:
        first, last = found[known[0]], found[known[-1]]
        assert first is not None and last is not None
        bounds[known[0]][0] -= _outer(first.before, range(first.first, -1, -1), text, places)  # type: ignore[index]
        end = bounds[known[-1]][1]  # type: ignore[index]
        stops = range(end + 1, len(places) + 1)
        bounds[known[-1]][1] += _outer(last.after, stops, text, places)  # type: ignore[index]
    return [None if bound is None else (bound[0], bound[1]) for bound in bounds]


def _best_break(
    a: _Place, b: _Place, between: int, text: str, places: Sequence[re.Match[str]]
) -> int:
    """Return how many of the words between two segments belong to the first: as many as were heard, or to a stop nearby."""
    # So many were heard on either side of the cut; words that nobody heard, or too many heard, leave it open by as much.
    least, most = sorted((min(a.after, between), max(between - b.before, 0)))

    def cost(count: int) -> float:
        return max(least - count, count - most, 0) - _stop(text, places, a.last + count + 1)

    return min(range(between + 1), key=cost)


def _outer(heard: int, cuts: Sequence[int], text: str, places: Sequence[re.Match[str]]) -> int:
    """Return how many words before the first that were found, or behind the last, are of that segment too.

    Args:
        heard: how many were heard there; many are of no text.
        cuts: token before which the segment would begin, or behind it end, with no, one, two … words more.
        text: with its tokens.
        places: of the tokens.
    """
    if heard > OUTER_WORDS:
        return 0
    counts = range(min(heard + 3, len(cuts)))
    return min(counts, key=lambda count: abs(count - heard) - _stop(text, places, cuts[count]))


def _stop(text: str, places: Sequence[re.Match[str]], token: int) -> float:
    """Return how likely people pause before a token: words that may be missed or added for that."""
    if token in (0, len(places)):
        return SENTENCE_END
    behind = text[places[token - 1].end() : places[token].start()]
    if re.search(r"[.!?。！？]", behind):
        return SENTENCE_END
    return COMMA if re.search(r"[^\w\s']", behind) else 0.0


def _span(text: str, places: Sequence[re.Match[str]], first: int, last: int) -> str:
    """Return the text from one token to another with the signs that are written onto them."""
    start, end = places[first].start(), places[last].end()
    least = places[first - 1].end() if first else 0
    while start > least and not text[start - 1].isspace():
        start -= 1
    most = places[last + 1].start() if last + 1 < len(places) else len(text)
    while end < most and not text[end].isspace():
        end += 1
    # A sign between two words of which each is another segment's belongs to the first.
    if first and start == least and start < places[first].start():
        start = places[first].start()
    return text[start:end].strip()
