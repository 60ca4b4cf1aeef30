"""Texts that lie beside recordings: plain ones, and subtitles (SubRip, WebVTT), which say when."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from svae.audio import audio_seconds
from svae.errors import DataError
from svae.recordings.speech import Stretch
from svae.runtime.text_files import check_characters, read_utf8
from svae.text.vocabulary import normalize_text

_CLOCK = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMES = re.compile(rf"^\s*{_CLOCK}\s*-->\s*{_CLOCK}(?:\s.*)?$")
_INNER_TIMES = re.compile(r"<\d[\d:.]*>")
_TAGS = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
"""`<i>`, `<v Anna>`, `<00:00:01.000>`; `{\an8}` of SubStation in SubRip."""
_NO_SPEECH = re.compile(r"^(?:\s*(?:\[[^\]]*\]|\([^)]*\)|[♪♫#*]+|-))*\s*$")
"""`[Music]`, `(laughs)`, `♪`: what is heard, not said."""
_HEARD = re.compile(r"\s*\[[^\[\]]*\]")
"""`[laughs]` beside words."""
_SUNG = re.compile(r"[♪♫]")
NEAR_SECONDS = 0.5
"""Subtitles are early or late by so much: a cut between two of them may be in a pause this near."""


@dataclass(frozen=True)
class Given:
    """What lies beside a recording."""

    text: str | None = None
    cues: tuple[Stretch, ...] = ()
    """Subtitles, in order."""


def given_text(path: Path | None, source: str) -> Given:
    """Read the text beside a recording, if there is one.

    Raises:
        DataError: not UTF-8, no text in it, or subtitles that are damaged; names file and line.
    """
    if path is None:
        return Given()
    content = read_utf8(path)
    check_characters(content, str(path))
    if path.suffix.lower() == ".txt":
        text = normalize_text(content)
        if not text:
            raise DataError(
                f"{path}: empty. Expected what is said in {source}; write it, or take the file away to have it recognised."
            )
        return Given(text)
    cues = read_subtitles(content, str(path))
    if not cues:
        raise DataError(
            f"{path}: no subtitle with words in it. Expected times like 00:00:01,500 --> 00:00:04,000 and what is said "
            f"below each; take the file away to have {source} recognised."
        )
    return Given(None, tuple(cues))


def read_subtitles(content: str, name: str) -> list[Stretch]:
    """Return the cues of SubRip or WebVTT, by their beginnings; without marks of type, and without what nobody says.

    Where lines roll up, as in automatic captions with a time for each word, a line is taken where it comes first.

    Raises:
        DataError: a line with an arrow has no times, or a cue ends before it begins; `name` is the file's.
    """
    lines = content.split("\n")
    rolls = _INNER_TIMES.search(content) is not None
    cues: list[Stretch] = []
    before: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if "-->" not in line:
            continue  # a number, a name, a header, a note
        found = _TIMES.match(line)
        if found is None:
            raise DataError(
                f"{name}, line {number}: {line.strip()[:60]!r} is no time of a subtitle. Expected 00:00:01,500 --> "
                "00:00:04,000, as in SubRip, or with dots, as in WebVTT."
            )
        start, end = _seconds(found.groups()[:4]), _seconds(found.groups()[4:])
        if end < start:
            raise DataError(
                f"{name}, line {number}: the subtitle ends at {end:g} s, before it begins at {start:g} s."
            )
        spoken = []
        # An empty line ends a cue; one of blanks does not, as automatic captions have it.
        while number < len(lines) and lines[number] and "-->" not in lines[number]:
            part = normalize_text(html.unescape(_TAGS.sub("", lines[number])))
            spoken += [part] if part else []
            number += 1
        if number < len(lines) and "-->" in lines[number] and spoken and spoken[-1].isdigit():
            spoken.pop()  # the number of the next cue, where no empty line is between
        new = [part for part in spoken if not (rolls and part in before)]
        if rolls and spoken:
            before = spoken
        text = " ".join(part for part in new if not _NO_SPEECH.match(part))
        text = normalize_text(_HEARD.sub("", text))
        if text and end > start and not _SUNG.search(text):
            cues.append(Stretch(start, end, text))
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def check_given(path: Path, recording: Path, source: str) -> None:
    """Read the text beside a recording as `given_text`, and compare its times with the recording's length.

    Raises:
        DataError: as `given_text`; or subtitles go on behind the recording's end.
    """
    cues, seconds = given_text(path, source).cues, audio_seconds(recording)
    if cues and seconds and cues[-1].start >= seconds:
        raise DataError(
            f"{path}: has subtitles up to {cues[-1].end:.1f} s, but {source} is {seconds:.1f} s long. Expected those of "
            "this recording."
        )


def inside(cues: Sequence[Stretch], seconds: float) -> list[Stretch]:
    """Return subtitles that begin within a recording of so many seconds, ended where it ends."""
    return [replace(cue, end=min(cue.end, seconds)) for cue in cues if cue.start < seconds]


def _seconds(clock: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = clock
    return (
        3600 * int(hours or 0)
        + 60 * int(minutes or 0)
        + int(seconds or 0)
        + int(fraction or 0) / 10 ** len(fraction or "0")
    )


def on_pauses(cues: Sequence[Stretch], speech: Sequence[Stretch]) -> tuple[list[Stretch], float]:
    """Give subtitles the times of the speech that they say, and join those between which nobody pauses.

    Args:
        cues: in order, about where their words are said.
        speech: what a detector found, in order.

    Returns:
        Stretches with their texts, which begin and end where speech does, and how many seconds of speech are in none.
    """
    owners = [_owner(stretch, cues) for stretch in speech]
    stretches: list[Stretch] = []
    joined: list[list[int]] = []
    """Numbers of the cues, those together that a stretch of speech spans."""
    for number in range(len(cues)):
        if joined and any(first <= joined[-1][-1] and last >= number for first, last in owners):
            joined[-1].append(number)
        else:
            joined.append([number])
    unsaid = sum(s.seconds for s, (first, last) in zip(speech, owners, strict=True) if last < first)
    for numbers in joined:
        own = [
            stretch
            for stretch, (first, last) in zip(speech, owners, strict=True)
            if first <= last and first >= numbers[0] and last <= numbers[-1]
        ]
        text = " ".join(str(cues[number].text) for number in numbers)
        if own:
            stretches.append(Stretch(own[0].start, own[-1].end, text))
        else:  # nobody is heard there; what is said tells the filters
            stretches.append(Stretch(cues[numbers[0]].start, cues[numbers[-1]].end, text))
    return stretches, unsaid


def _owner(stretch: Stretch, cues: Sequence[Stretch]) -> tuple[int, int]:
    """Return the numbers of the first and the last cue that a stretch of speech says; the first larger where none.

    A stretch that reaches less than `NEAR_SECONDS` into a cue, most of it being elsewhere, is not of that cue.
    """
    overlaps = [
        (min(stretch.end, cue.end) - max(stretch.start, cue.start), number)
        for number, cue in enumerate(cues)
        if cue.start < stretch.end and cue.end > stretch.start
    ]
    if not overlaps:
        distances = [
            (max(cue.start - stretch.end, stretch.start - cue.end), number)
            for number, cue in enumerate(cues)
        ]
        distance, nearest = min(distances)
        return (nearest, nearest) if distance <= NEAR_SECONDS else (1, 0)
    most = max(overlaps)[1]
    own = [n for overlap, n in overlaps if n == most or overlap > NEAR_SECONDS]
    return min(own), max(own)
