"""Recordings, or parts of them, as a corpus names them: how long they are, and reading no more of them than is meant."""

from __future__ import annotations

import io
from typing import BinaryIO

import soundfile
from torch import Tensor

from svae.audio import UNKNOWN_FRAMES, audio_seconds, load_audio, resample
from svae.data.corpora.corpus import Utterance
from svae.errors import DataError

SEEKABLE = {"WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF", "AU", "CAF"}
"""Formats of libsndfile that can be entered at any sample; others are decoded from their beginning."""
END_TOLERANCE = 0.05
"""Seconds that a part may end behind its recording: lists round to hundredths, or to frames. It then ends with it."""


def expected_seconds(utterance: Utterance) -> float:
    """Return about how long an utterance is, as can be told without decoding it; 0 where it cannot."""
    if utterance.duration is not None:
        return utterance.duration
    return max(audio_seconds(utterance.audio) - utterance.offset, 0.0)


def segment_problem(utterance: Utterance, seconds: float) -> str | None:
    """Return what is wrong with the part of a recording of so many seconds (0: unknown) that is meant; None: nothing."""
    if seconds == 0 or not utterance.is_segment:
        return None
    end = utterance.offset + (utterance.duration or 0.0)
    if utterance.offset < seconds and end <= seconds + END_TOLERANCE:
        return None
    given = f"`offset` {utterance.offset:g}"
    if utterance.duration is not None:
        given += f" and `duration` {utterance.duration:g} s end at {end:.3f} s"
    return f"{given}, but {utterance.source} is {seconds:.3f} s long"


def read_audio(utterance: Utterance, sample_rate: int, *, notes: list[str] | None = None) -> Tensor:
    """Read what is meant of a recording, (1, S) at `sample_rate`; `notes` are as those of `load_audio`.

    Raises:
        AudioError: as `load_audio`.
        DataError: the part that is meant ends behind the recording.
    """
    if not utterance.is_segment:
        return load_audio(
            utterance.audio, sample_rate=sample_rate, name=utterance.source, notes=notes
        )[0]
    part = _read_part(utterance)
    if part is not None:
        return load_audio(part, sample_rate=sample_rate, name=utterance.segment, notes=notes)[0]
    waveform, rate = load_audio(utterance.audio, name=utterance.source, notes=notes)
    first, last = _bounds(utterance, rate, waveform.shape[-1])
    return resample(waveform[:, first:last], rate, sample_rate)


def _read_part(utterance: Utterance) -> BinaryIO | None:
    """Return a part of a recording as a file of its own; None where that takes decoding all of it."""
    try:
        with soundfile.SoundFile(str(utterance.audio)) as file:
            if file.format not in SEEKABLE or file.frames >= UNKNOWN_FRAMES:
                return None
            first, last = _bounds(utterance, file.samplerate, file.frames)
            file.seek(first)
            part, rate = file.read(last - first, dtype="float32", always_2d=True), file.samplerate
    except (soundfile.SoundFileError, OSError):
        return None  # load_audio says what is wrong
    if len(part) < last - first:  # cut off: how much there is shows when all is decoded
        return None
    buffer = io.BytesIO()
    soundfile.write(buffer, part, rate, format="WAV", subtype="FLOAT")
    buffer.seek(0)
    return buffer


def _bounds(utterance: Utterance, rate: int, samples: int) -> tuple[int, int]:
    """Return the first sample that is meant and the one behind the last."""
    problem = segment_problem(utterance, samples / rate)
    if problem:
        raise DataError(f"{utterance.place}: {problem}. Expected seconds inside the recording.")
    first = round(utterance.offset * rate)
    if utterance.duration is None:
        return first, samples
    return first, min(round((utterance.offset + utterance.duration) * rate), samples)
