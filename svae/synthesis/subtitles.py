"""When each word of new speech is spoken, and subtitles of it: SubRip, WebVTT with a time for each word, or JSON.

A model of frame-level phones decides itself when a word is spoken (`durations`). What another model says is aligned with its
text by the aligner of phones, which knows English (`aligner`), or by a CTC recogniser that the user names (`ctc`). Where
none finds anything, the words share the time of their chunk by their lengths, which is no more than a guess (`spread`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from svae.audio import resample
from svae.errors import ConfigError
from svae.judges.ctc import CTC
from svae.runtime.files import write_text
from svae.synthesis.model import TTS, aligner, audible
from svae.synthesis.types import Prompt
from svae.text.languages import base_language
from svae.text.phone_aligner import SAMPLE_RATE, AlignmentError
from svae.text.phonemes import Word, pieces, without_phones

SubtitleFormat = Literal["srt", "vtt", "json"]
Source = Literal["durations", "aligner", "ctc", "spread"]
MAX_LINE = 42
"""Characters of a line, as broadcasters have it; a cue has two lines."""
MAX_CUE_SECONDS = 6.0
MAX_GAP_SECONDS = 0.8
"""A longer silence ends a cue."""
_TOKEN = re.compile(r"(?:\{[^{}]*\}|[^\s{}]|[{}])+")
_END = re.compile(r"[.!?。！？][\"'”’)\]」』]*$")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Scripts without spaces: each character is a word, with the punctuation behind it."""


@dataclass(frozen=True)
class TimedWord:
    """A word and when it is spoken, in seconds of the file."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Cue:
    """What is shown at a time."""

    words: tuple[TimedWord, ...]

    @property
    def start(self) -> float:
        """When it appears."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """When it goes."""
        return self.words[-1].end

    @property
    def text(self) -> str:
        """The words."""
        return _joined(self.words)


def _spaced(words: Sequence[TimedWord]) -> Iterator[str]:
    """Yield the words, each with the space before it where its script has one."""
    for number, each in enumerate(words):
        glued = _WIDE.match(each.word) and number and _WIDE.match(words[number - 1].word)
        yield each.word if glued else f" {each.word}"


def _joined(words: Sequence[TimedWord]) -> str:
    return "".join(_spaced(words)).strip()


def written_words(text: str) -> list[str]:
    """Return the words of a text as subtitles show them, with their punctuation, in order."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        if _WIDE.search(token):
            found += re.findall(rf"{_WIDE.pattern}[^\w\s]*|[^\u3040-\u30ff\u3400-\u9fff]+", token)
        else:
            found.append(token)
    return found


def deal_times(
    text: str, spoken: Sequence[tuple[float, float]] | None, seconds: float
) -> list[TimedWord]:
    """Return the written words of a text with their times.

    Args:
        text: as it was spoken.
        spoken: start and end of each word as `pieces` has them (`F-B-I` has three); None: not known.
        seconds: how long all of it lasts; what is written and not spoken is at the end of the word before it.
    """
    words = written_words(text)
    counts = [sum(isinstance(piece, Word) for piece in pieces(word)) for word in words]
    if spoken is None or sum(counts) != len(spoken):
        sizes = [max(len(without_phones(word) or word), 1) for word in words]
        scale, now, found = seconds / max(sum(sizes), 1), 0.0, []
        for word, size in zip(words, sizes, strict=True):
            found.append(TimedWord(_shown(word), now, now + scale * size))
            now = found[-1].end
        return found
    found, place, now = [], 0, spoken[0][0] if spoken else 0.0
    for word, count in zip(words, counts, strict=True):
        if not count and found and not word[0].isalnum():
            # A dash or a sign alone belongs to the word before it.
            found[-1] = replace(found[-1], word=f"{found[-1].word} {_shown(word)}")
            continue
        start, end = (spoken[place][0], spoken[place + count - 1][1]) if count else (now, now)
        found.append(TimedWord(_shown(word), start, end))
        now, place = end, place + count
    return found


def _shown(word: str) -> str:
    return without_phones(word) or word


class WordTimes:
    """Gathers the words of speech and their times while its chunks are written.

    Args:
        tts: what speaks.
        prompt: what it continues.
        ctc: aligns other languages than English, and what the aligner does not find; None: nothing does.
        language: of the text.
    """

    def __init__(
        self, tts: TTS, prompt: Prompt, ctc: CTC | None = None, language: str | None = "en"
    ) -> None:
        self._tts, self._prompt, self._ctc = tts, prompt, ctc
        self._english = base_language(language) in ("en", None)
        self.words: list[TimedWord] = []
        self.breaks: set[int] = set()
        """Numbers of words that begin a chunk."""
        self.sources: dict[Source, int] = {}
        """How many words were timed in which way."""

    def add(self, text: str, waveform: Tensor, start: float) -> None:
        """Take a chunk: its text as spoken, its waveform (S,) and where in the file it begins, in seconds."""
        if not text.strip():
            return
        seconds = len(waveform) / self._tts.sample_rate
        words, source = self._timed(text, waveform, seconds)
        self.breaks.add(len(self.words))
        self.sources[source] = self.sources.get(source, 0) + len(words)
        self.words += [
            TimedWord(each.word, round(start + each.start, 3), round(start + each.end, 3))
            for each in words
        ]

    def _timed(self, text: str, waveform: Tensor, seconds: float) -> tuple[list[TimedWord], Source]:
        """Return the words of a chunk with their times in it, by the best means that finds them."""
        count = sum(isinstance(piece, Word) for piece in pieces(text))
        frames = round(len(waveform) / self._tts.hop_length)
        known = self._tts.planner.own.word_times(self._prompt, text, frames)
        if known is not None and len(known) == count:
            return deal_times(text, known, seconds), "durations"
        rate = self._tts.sample_rate
        heard = resample(audible(waveform.reshape(1, -1).cpu()), rate, SAMPLE_RATE)[0]
        if self._english:
            with suppress(AlignmentError):
                found = [(row[0], row[-1]) for row in aligner().align(heard, text)]
                return deal_times(text, found, seconds), "aligner"
        if self._ctc is not None:
            shown = [_shown(word) for word in written_words(text)]
            times = self._ctc.align(heard, shown)
            if times is not None:
                timed = zip(shown, times, strict=True)
                return [TimedWord(word, start, end) for word, (start, end) in timed], "ctc"
        return deal_times(text, None, seconds), "spread"

    @property
    def note(self) -> str | None:
        """What a user should know of how the times were found."""
        spread = self.sources.get("spread", 0)
        if not spread:
            return None
        return (
            f"the times of {spread} of {len(self.words)} words are a guess by their lengths: the aligner knows English only. "
            "--asr ctc:ID, a recogniser of the text's language, finds them"
        )

    def cues(self) -> list[Cue]:
        """Return the words in cues of at most two lines, which end with sentences and long pauses."""
        cues: list[Cue] = []
        gathered: list[TimedWord] = []
        for number, word in enumerate(self.words):
            if gathered and (
                number in self.breaks
                or _END.search(gathered[-1].word)
                or word.start - gathered[-1].end > MAX_GAP_SECONDS
                or word.end - gathered[0].start > MAX_CUE_SECONDS
                or len(Cue((*gathered, word)).text) > 2 * MAX_LINE
            ):
                cues.append(Cue(tuple(gathered)))
                gathered = []
            gathered.append(word)
        if gathered:
            cues.append(Cue(tuple(gathered)))
        return cues

    def render(self, kind: SubtitleFormat) -> str:
        """Return the subtitles as a file holds them."""
        return {"srt": _srt, "vtt": _vtt, "json": _json}[kind](self)


def _srt(times: WordTimes) -> str:
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n"
        + "".join(f"{_joined(line)}\n" for line in _lines(cue))
        for number, cue in enumerate(times.cues(), 1)
    ]
    return "\n".join(blocks)


def _vtt(times: WordTimes) -> str:
    """Return WebVTT in which each word but the first of a cue has its time, for players that show it."""
    blocks = ["WEBVTT\n"]
    for cue in times.cues():
        text = f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n"
        for line in _lines(cue):
            pieces_of_line = [
                ("" if word is cue.words[0] else f"<{_clock(word.start, '.')}>") + _escaped(spaced)
                for word, spaced in zip(line, _spaced(line), strict=True)
            ]
            text += "".join(pieces_of_line).strip() + "\n"
        blocks.append(text)
    return "\n".join(blocks)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(times: WordTimes) -> str:
    tree: dict[str, Any] = {
        "word_times_from": times.sources,
        "words": [asdict(word) for word in times.words],
        "cues": [{"start": c.start, "end": c.end, "text": c.text} for c in times.cues()],
    }
    return json.dumps(tree, ensure_ascii=False, indent=1) + "\n"


def _lines(cue: Cue) -> list[Sequence[TimedWord]]:
    """Return the words of a cue in one line, or in two as equal ones as can be."""
    words = cue.words
    if len(cue.text) <= MAX_LINE or len(words) == 1:
        return [words]
    cut = min(
        range(1, len(words)),
        key=lambda place: abs(len(_joined(words[:place])) - len(_joined(words[place:]))),
    )
    return [words[:cut], words[cut:]]


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


# ----------------------------------------------------------------------------------------------- files


def subtitles_path(out: Path, kind: SubtitleFormat) -> Path:
    """Return where the subtitles of an audio file go: beside it, as players look for them."""
    return out.with_suffix(".words.json" if kind == "json" else f".{kind}")


def check_subtitles(out: Path, kind: SubtitleFormat | None, made_before: Path) -> None:
    """Raise ConfigError where subtitles would replace a file that svae did not write.

    Args:
        out: the audio file.
        kind: what is asked for.
        made_before: the JSON of an earlier run beside it, which names its subtitles.
    """
    if kind is None:
        return
    path = subtitles_path(out, kind)
    if path.exists() and path != _made_subtitles(out, made_before):
        raise ConfigError(
            f"--subtitles {kind}: {path} is there and was not written by svae synthesize; move it away, or choose another --out"
        )


def remove_details(out: Path, made_before: Path) -> None:
    """Remove an audio file's JSON and the subtitles that it names: they tell of what is about to be replaced.

    Subtitles that no JSON names would be taken for somebody else's.
    """
    subtitles = _made_subtitles(out, made_before)
    if subtitles is not None:
        subtitles.unlink(missing_ok=True)
    made_before.unlink(missing_ok=True)


def _made_subtitles(out: Path, made_before: Path) -> Path | None:
    """Return the subtitles that an earlier run wrote beside an audio file, as its JSON says; None: it wrote none."""
    try:
        name = json.loads(made_before.read_text(encoding="utf-8")).get("subtitles")
    except (OSError, ValueError, AttributeError):
        return None
    paths = [subtitles_path(out, kind) for kind in get_args(SubtitleFormat)]
    return next((path for path in paths if path.name == name), None)


def write_subtitles(out: Path, kind: SubtitleFormat, times: WordTimes) -> Path:
    """Write the subtitles of an audio file; return where they are."""
    path = subtitles_path(out, kind)
    write_text(path, times.render(kind))
    return path
