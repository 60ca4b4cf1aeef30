"""Recordings cut to utterances, each a file of its own with its measures; then what judges say of them.

Both are kept beside the shards, so that an interrupted command begins where it stopped: a JSON a recording, and lines of
answers, which are written as they come.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from svae.audio import SPEECH_RATE, AudioError, encode_flac, load_audio, resample
from svae.errors import DataError
from svae.judges.clips import batches
from svae.recordings.find import Recording
from svae.recordings.given import given_text, inside, on_pauses
from svae.recordings.speech import SpeechDetector, group, shortened, with_margins
from svae.runtime.files import atomic_path, file_sha256, file_stem, write_text
from svae.runtime.jobs import Tick, progress_bar, run_jobs
from svae.synthesis.trim import frame_levels
from svae.text.languages import UNKNOWN, language_code

FORMAT = 1
CLIPPED = 0.99
"""Samples beyond this, where full scale is 1, were cut off, or nearly."""
NO_NOISE_DB = 99.0
"""Above this nothing can be told apart, as beside digital silence."""


@dataclass(frozen=True)
class Segment:
    """A part of a recording with speech in it."""

    key: str
    """Of the recording, and where in it the segment begins, in milliseconds."""
    source: str
    """The recording, relative to the folder."""
    speaker: str
    audio: str
    """The beginning of the sha256 of its file, which judges' answers are of."""
    start: float
    """In seconds."""
    end: float
    speech_seconds: float
    """Without the pauses in it."""
    clipped: float
    """Share of samples at full scale."""
    snr_db: float
    """How far its quiet 10 % lie below its loud 5 %."""
    given: str | None = None
    """What is said, by subtitles."""


@dataclass(frozen=True)
class CutRecording:
    """A recording with its segments, or why there are none."""

    recording: Recording
    segments: list[Segment]
    problem: tuple[str, str] | None = None
    """Reason and detail where it cannot be read."""
    text: str | None = None
    """The plain text beside it, which is still to be dealt to the segments."""
    unsaid: float = 0.0
    """Seconds of speech that its subtitles do not cover."""


@dataclass(frozen=True)
class Cutting:
    """How recordings are cut."""

    folder: Path
    """Where segments go."""
    sample_rate: int
    max_seconds: float
    detector: Callable[[], SpeechDetector]
    """Opened once in each process."""
    detector_description: dict[str, Any]


def cut_all(
    recordings: Sequence[Recording], how: Cutting, *, workers: int | None, console: Console
) -> list[CutRecording]:
    """Cut recordings in several processes; those that an earlier run has cut are read."""
    done: dict[int, CutRecording] = {}
    missing: dict[int, tuple[Any, ...]] = {}
    for number, recording in enumerate(recordings):
        made_of = _made_of(recording, how)
        there = _read_cut(recording, how, made_of)
        if there is not None:
            done[number] = there
        else:
            missing[number] = (recording, how, made_of)
    done |= run_jobs(
        _cut,
        missing,
        workers=workers,
        description="Cutting recordings",
        console=console,
        total=len(recordings),
        completed=len(done),
    )
    return [done[number] for number in range(len(recordings))]


def audio_name(key: str) -> str:
    """Return the name of a segment's file."""
    return f"{key}.flac"


def _made_of(recording: Recording, how: Cutting) -> dict[str, Any]:
    """Return everything that decides the segments of a recording."""
    return {
        "format": FORMAT,
        "source": recording.source,
        "speaker": recording.speaker,
        "sha256": _sha256(recording.path),
        "text": None if recording.text is None else _sha256(recording.text),
        "sample_rate": how.sample_rate,
        "max_seconds": how.max_seconds,
        "vad": how.detector_description,
    }


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        return f"not readable: {error.strerror}"  # reading it says so too


def _report(recording: Recording, how: Cutting) -> Path:
    return how.folder / f"{recording.key}.cut.json"


def _read_cut(recording: Recording, how: Cutting, made_of: dict[str, Any]) -> CutRecording | None:
    """Return what an earlier run made of a recording; None where that is not there, or of other things."""
    try:
        row = json.loads(_report(recording, how).read_text(encoding="utf-8"))
        if row["made_of"] != made_of:
            return None
        segments = [Segment(**each) for each in row["segments"]]
        if not all((how.folder / audio_name(each.key)).is_file() for each in segments):
            return None
        return CutRecording(recording, segments, None, row["text"], row["unsaid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _cut(recording: Recording, how: Cutting, made_of: dict[str, Any], tick: Tick) -> CutRecording:
    """Cut one recording, write its segments, then the report that says that they are there."""
    try:
        waveform, rate = load_audio(recording.path, name=recording.source)
    except AudioError as error:
        tick()
        return CutRecording(recording, [], (error.reason, str(error)))
    seconds = waveform.shape[1] / rate
    given = given_text(recording.text, recording.source)
    stretches = _opened(how.detector).stretches(resample(waveform, rate, SPEECH_RATE)[0])
    unsaid = 0.0
    if given.cues:
        stretches, unsaid = on_pauses(inside(given.cues, seconds), stretches)
    else:
        stretches = shortened(stretches, waveform, rate, how.max_seconds)
    groups = group(stretches, how.max_seconds)
    bounds = with_margins(groups, seconds)
    segments = []
    for part, (start, end) in zip(groups, bounds, strict=True):
        samples = waveform[:, round(start * rate) : round(end * rate)]
        samples = resample(samples, rate, how.sample_rate)
        key = file_stem(f"{recording.key}-{round(1000 * start):07d}")
        data = encode_flac(samples, how.sample_rate)
        with atomic_path(how.folder / audio_name(key)) as temporary:
            temporary.write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()[:16]
        clipped, snr_db = _levels(samples, how.sample_rate)
        segments.append(
            Segment(
                key=key,
                source=recording.source,
                speaker=recording.speaker,
                audio=digest,
                start=round(start, 3),
                end=round(end, 3),
                speech_seconds=round(sum(each.seconds for each in part), 3),
                clipped=clipped,
                snr_db=snr_db,
                given=" ".join(str(each.text) for each in part) if given.cues else None,
            )
        )
    row = {
        "made_of": made_of,
        "text": given.text,
        "unsaid": round(unsaid, 3),
        "segments": [asdict(segment) for segment in segments],
    }
    write_text(_report(recording, how), json.dumps(row, ensure_ascii=False, indent=1) + "\n")
    tick()
    return CutRecording(recording, segments, None, given.text, unsaid)


@functools.lru_cache(maxsize=1)
def _opened(detector: Callable[[], SpeechDetector]) -> SpeechDetector:
    return detector()


def _levels(samples: Tensor, sample_rate: int) -> tuple[float, float]:
    """Return of (1, S) the share of samples at full scale, and how far its quiet 10 % lie below its loud 5 %, in dB."""
    levels = 10 * frame_levels(samples[0], sample_rate).clamp_min(1e-12).log10()
    quiet, loud = (float(levels.quantile(share)) for share in (0.1, 0.95))
    clipped = float((samples.abs() >= CLIPPED).float().mean())
    return round(clipped, 6), round(min(loud - quiet, NO_NOISE_DB), 1)


# ----------------------------------------------------------------------------------------------- asking judges


@dataclass(frozen=True)
class Question:
    """What a judge is asked about segments; answers are kept and asked for once."""

    name: str
    """The file of its answers, and beside the progress bar."""
    by: dict[str, Any]
    """Who answers."""
    answer: Callable[[Sequence[Segment], Sequence[Tensor], int], Sequence[Any]]
    """From segments with their waveforms (S,) and sample rate, one answer each that JSON holds."""
    batch_size: int = 1
    about: Mapping[str, str] | None = None
    """Key → a text that the answer depends on."""


def ask(
    segments: Sequence[Segment],
    question: Question,
    folder: Path,
    *,
    console: Console,
) -> dict[str, Any]:
    """Return key → answer about each segment; those of an earlier run are read, new ones written as they come."""
    about = question.about or {}
    by = json.loads(json.dumps(question.by))
    path = folder / f"{question.name.lower()}.jsonl"
    audio = {segment.key: segment.audio for segment in segments}
    answers = {
        row["key"]: row["answer"]
        for row in _lines(path)
        if (key := row["key"]) in audio
        and row["audio"] == audio[key]
        and row["by"] == by
        and row["about"] == about.get(key)
    }
    missing = [segment for segment in segments if segment.key not in answers]
    if not missing:
        return answers
    if question.batch_size > 1:  # those of about one length go together
        missing.sort(key=lambda segment: segment.end - segment.start)
    with progress_bar(console) as progress, open(path, "a", encoding="utf-8") as file:
        if file.tell():
            file.write("\n")  # ends a line that was cut off; an empty one means nothing
        task = progress.add_task(
            question.name, total=len(segments), completed=len(segments) - len(missing)
        )
        for batch in batches(missing, question.batch_size):
            loaded = [load_audio(folder / audio_name(each.key)) for each in batch]
            clips = [waveform[0] for waveform, _ in loaded]
            for segment, answer in zip(
                batch, question.answer(batch, clips, loaded[0][1]), strict=True
            ):
                answers[segment.key] = answer
                row = {
                    "key": segment.key,
                    "answer": answer,
                    "about": about.get(segment.key),
                    "audio": segment.audio,
                    "by": by,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            progress.advance(task, len(batch))
    return answers


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of lines, without those that were cut off."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line) if line else None
        except ValueError:
            continue
        if isinstance(row, dict) and row.keys() >= {"key", "answer", "about", "audio", "by"}:
            yield row


def check_same(folder: Path, settings: dict[str, Any]) -> None:
    """Claim the folder of segments, or check that it was begun alike.

    Raises:
        DataError: it was begun with other settings, or what lies there is not ours.
    """
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings))
    advice = f"Choose another --out, or delete {folder.parent} and run again."
    if path.is_file():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            if "language" in there:  # which was taken as it was given once
                there["language"] = language_code(str(there["language"])) or UNKNOWN
            changed = [name for name in settings if there[name] != settings[name]]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path}: damaged. {advice}") from None
        if changed:
            shown = "; ".join(
                f"{name} {there[name]} there, {settings[name]} now" for name in changed
            )
            raise DataError(f"{folder.parent}: was begun with other options: {shown}.\n{advice}")
        return
    there = set(folder.parent.iterdir()) if folder.parent.is_dir() else set()
    if folder.is_dir() and not any(folder.glob("*")):  # killed before it wrote anything
        there.discard(folder)
    if others := sorted(path.name for path in there):
        raise DataError(
            f"{folder.parent}: holds {', '.join(others[:3])}, not by `svae prepare recordings`. Choose another --out."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(settings, indent=1) + "\n")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror or error}). Choose another --out or make room."
        ) from error
