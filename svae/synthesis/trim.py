"""Where a recording is silent, and where it can be cut: its ends, its pauses, its quietest place.

Text that was given is cut with it: between two words, by the times of the words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from svae.text.phonemes import Word, pieces

FRAME_SECONDS = 0.02
SILENCE_DB = 40.0
"""A frame this far below the loudest one is silent."""
MARGIN_SECONDS = 0.1
"""Silence that stays at both ends."""
PAUSE_SECONDS = 0.15
"""Silence that is long enough to cut in."""
MIN_CUT_SECONDS = 2.0
"""A reference is not cut to less than this."""
DIP_SECONDS = 0.1
"""How long the quietest place is, where there is no pause."""
DIP_DB = 20.0
"""A place this far below the loudest one is between words."""
ALIKE_DB = 3.0
"""Places whose levels differ by less are equally quiet; the last one is taken."""

CutPlace = Literal["pause", "quietest place", "between words"]


def frame_size(sample_rate: int) -> int:
    """Return the samples of a frame of `FRAME_SECONDS`."""
    return max(1, round(FRAME_SECONDS * sample_rate))


def frame_levels(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return (frames,), the mean square of each frame of `FRAME_SECONDS` of a waveform (S,)."""
    size = frame_size(sample_rate)
    padded = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % size))
    return padded.view(-1, size).square().mean(dim=1)


def loudest_level(waveform: Tensor, sample_rate: int) -> float:
    """Return the root mean square of the loudest frame of a waveform (S,)."""
    return float(frame_levels(waveform, sample_rate).max().sqrt())


def silent_frames(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return (frames,) bool, True where a frame of `FRAME_SECONDS` of a waveform (S,) is silent."""
    return _silent(frame_levels(waveform, sample_rate))


def _silent(levels: Tensor) -> Tensor:
    return levels <= levels.max() * 10 ** (-SILENCE_DB / 10)


def trim_silence(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return a waveform (1, S) without the silence at its ends, but for a margin; as it is where all is silent."""
    loud = (~silent_frames(waveform[0], sample_rate)).nonzero()
    if not len(loud):
        return waveform
    size = frame_size(sample_rate)
    margin = round(MARGIN_SECONDS * sample_rate)
    first = max(int(loud[0]) * size - margin, 0)
    last = (int(loud[-1]) + 1) * size + margin
    return waveform[:, first:last]


# ----------------------------------------------------------------------------------------------- cutting


@dataclass(frozen=True)
class Cut:
    """Where a recording that is too long is cut."""

    seconds: float
    """What is kept."""
    of_seconds: float
    place: CutPlace
    text: str | None = None
    """What is said in what is kept, where the whole text was given."""
    aligned: bool = True
    """Whether the words of the text were found in the recording, so that the text is cut where the sound is."""


def find_cut(waveform: Tensor, sample_rate: int, limit_seconds: float) -> Cut | None:
    """Return where to cut a waveform (1, S) to at most `limit_seconds`; None where it is no longer.

    In the middle of the last pause of the second half of what may be kept, else at the quietest place there: under
    noise, hum or music too, what is between words is quieter than they are. An earlier pause is better only than a
    place that is hardly quieter than the voice.
    """
    found = waveform.shape[1] / sample_rate
    if found <= limit_seconds:
        return None
    levels = frame_levels(waveform[0, : int(limit_seconds * sample_rate)], sample_rate)
    seconds_a_frame = frame_size(sample_rate) / sample_rate
    earliest, half = min(MIN_CUT_SECONDS, limit_seconds / 2), limit_seconds / 2
    pause = _last_pause(levels, math.ceil(earliest / seconds_a_frame))
    if pause is not None and pause * seconds_a_frame >= half:
        return Cut(pause * seconds_a_frame, found, "pause")
    dips = _dips(levels)
    first = min(math.ceil(half / seconds_a_frame), len(dips) - 1)
    quietest = first + last_of_least(dips[first:].tolist())
    if pause is not None and dips[quietest] > dips.max() - DIP_DB:
        return Cut(pause * seconds_a_frame, found, "pause")
    return Cut(min((quietest + 0.5) * seconds_a_frame, limit_seconds), found, "quietest place")


def _last_pause(levels: Tensor, first: int) -> int | None:
    """Return the middle frame of the last pause at or after a frame."""
    least = round(PAUSE_SECONDS / FRAME_SECONDS)
    run, pause = 0, None
    for frame, is_silent in enumerate(_silent(levels).tolist()):
        run = run + 1 if is_silent else 0
        if run >= least and frame - run / 2 >= first:
            pause = frame - run // 2
    return pause


def _dips(levels: Tensor) -> Tensor:
    """Return (frames,), the level around each frame over `DIP_SECONDS`, in dB."""
    width = 2 * (round(DIP_SECONDS / FRAME_SECONDS) // 2) + 1
    smooth = torch.nn.functional.avg_pool1d(
        levels[None, None], width, 1, width // 2, count_include_pad=False
    )
    return 10 * smooth[0, 0].clamp_min(1e-12).log10()


def last_of_least(levels: Sequence[float]) -> int:
    """Return the place of the last of the least levels, in dB; those within `ALIKE_DB` of the least are alike."""
    least = min(levels)
    alike = [i for i, level in enumerate(levels) if level <= least + ALIKE_DB]
    # Within the last dip, its lowest point.
    dip = [alike[-1]]
    for i in reversed(alike[:-1]):
        if i != dip[-1] - 1:
            break
        dip.append(i)
    lowest = min(levels[i] for i in dip)
    return max(i for i in dip if levels[i] <= lowest + 0.1)


# ----------------------------------------------------------------------------------------------- cutting text with sound


@dataclass(frozen=True)
class TextParts:
    """A text in the parts between which it may be cut, and the gap after each in the recording, in seconds."""

    parts: Sequence[str]
    joint: str
    """What stands between two parts."""
    gaps: Sequence[tuple[float, float]]
    """Where each part ends and the next one begins; one for each part but the last."""

    def first(self, count: int) -> str:
        """Return the first parts as a text."""
        return self.joint.join(self.parts[:count])


def split_text(text: str) -> tuple[list[str], str]:
    """Return words with their marks and a space; or, for a text that blanks hardly divide, its characters and nothing."""
    words = re.findall(r"(?:\{[^}]*\}|\S)+", text)
    if len(words) > 1 and len(text) / len(words) <= 20:
        return words, " "
    return list(text), ""


def parts_by_words(text: str, words: Sequence[Sequence[float]]) -> TextParts:
    """Return the parts of a text by the times that the aligner found: of each word its start and the ends of its phones."""
    parts, joint = split_text(text)
    counts = [sum(isinstance(piece, Word) for piece in pieces(part)) for part in parts]
    if sum(counts) != len(words) or joint == "":
        return TextParts([text], joint, [])
    kept: list[str] = []
    gaps: list[tuple[float, float]] = []
    said = 0
    for part, count in zip(parts, counts, strict=True):
        if count == 0 and kept:
            kept[-1] += joint + part  # a dash belongs to the word before
            continue
        if count and said:
            gaps.append((words[said - 1][-1], words[said][0]))
            kept.append(part)
        else:
            kept = [joint.join([*kept, part])]
        said += count
    return TextParts(kept, joint, gaps)


def parts_by_proportion(text: str, waveform: Tensor, sample_rate: int) -> TextParts:
    """Return the parts of a text as if every character took the same share of what is not silent in (1, S)."""
    parts, joint = split_text(text)
    spoken = (~silent_frames(waveform[0], sample_rate)).double().cumsum(dim=0)
    lengths = torch.tensor([len(part) + len(joint) for part in parts]).double().cumsum(dim=0)
    frames = torch.searchsorted(spoken, lengths[:-1] / lengths[-1] * spoken[-1])
    ends = ((frames + 1) * frame_size(sample_rate) / sample_rate).tolist()
    return TextParts(parts, joint, [(end, end) for end in ends])


def find_cut_between_words(
    waveform: Tensor, sample_rate: int, limit_seconds: float, text: TextParts
) -> Cut | None:
    """Return where to cut a waveform (1, S) between two parts of its text.

    In the last pause before the limit that is in the second half of what may be kept, else between the words of that
    half where it is quietest. None: no two words meet where it could be cut.
    """
    earliest = min(MIN_CUT_SECONDS, limit_seconds / 2)
    places = [
        (middle, end - start, number)
        for number, (start, end) in enumerate(text.gaps, 1)
        if earliest <= (middle := (start + end) / 2) <= limit_seconds
    ]
    places = [place for place in places if place[0] >= limit_seconds / 2] or places
    if not places:
        return None
    pauses = [place for place in places if place[1] >= PAUSE_SECONDS]
    if pauses:
        middle, _, number = pauses[-1]
    else:
        dips = _dips(frame_levels(waveform[0], sample_rate))
        frame = frame_size(sample_rate) / sample_rate
        levels = [float(dips[min(int(place[0] / frame), len(dips) - 1)]) for place in places]
        middle, _, number = places[last_of_least(levels)]
    place: CutPlace = "pause" if pauses else "between words"
    return Cut(middle, waveform.shape[1] / sample_rate, place, text.first(number))


def with_nearest_text(cut: Cut, text: TextParts) -> Cut:
    """Return a cut with the parts of the text that end nearest to it, a mark's end rather than another within a second."""
    distances = [abs(gap[0] - cut.seconds) for gap in text.gaps]
    if not distances:
        return replace(cut, text=text.first(1), aligned=False)
    number = distances.index(min(distances))
    marked = [
        i
        for i, far in enumerate(distances)
        if far <= 1.0 and text.parts[i][-1] in ".!?;:,。！？，；："
    ]
    if cut.place == "pause" and marked:
        number = min(marked, key=lambda i: distances[i])
    return replace(cut, text=text.first(number + 1), aligned=False)
