"""Why segments are left out: what cannot be learned from, and what was most likely transcribed wrongly."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from svae.recordings.match import tokens
from svae.recordings.segments import Segment

LETTERS_A_SECOND = (3.0, 30.0)
"""People read 12 to 20 letters a second of English, German or Spanish; less is hardly speech, more is not what is said."""
SIGNS_A_SECOND = (1.0, 12.0)
"""The same of Chinese and Japanese signs."""
MAX_COMPRESSION = 2.4
"""A text that zlib makes so many times shorter repeats itself, as Whisper does where it hears none. Source: Whisper's own
limit for hearing again (`compression_ratio_threshold`)."""


@dataclass(frozen=True)
class Limits:
    """Beyond which segments are left out."""

    min_seconds: float = 0.5
    max_seconds: float = 20.0
    max_clipped: float = 0.001
    """Share of samples."""
    min_snr_db: float = 15.0
    """Between its loud 5 % and its quiet 10 %; noise 5 dB below a voice gives 13 to 14, 25 dB below it 16 to 20."""
    min_agreement: float = 0.5
    """Of a text that was given with what was recognised."""
    min_fit: float = -35.0
    """Of a text to the sound, by the aligner of phones (English)."""
    min_distillmos: float | None = None


@dataclass(frozen=True)
class Judged:
    """A segment with what is known of its words."""

    segment: Segment
    text: str | None
    """What goes into the shards, normalised; None: a long text was given, and this is not in it."""
    text_from: str
    """heard, text, subtitles or review."""
    heard: str | None
    agreement: float | None = None
    fit: float | None = None
    """None where it was not asked; minus infinity has no JSON, so what does not align at all has `unfit`."""
    unfit: str | None = None
    """Why the aligner of phones found nothing."""
    distillmos: float | None = None
    spoken: str | None = None
    """The text with its numbers as words, where its language has rules for that; None: it has none."""


def reasons(judged: Judged, limits: Limits) -> list[tuple[str, str]]:
    """Return why a segment is left out, as a word or two for counting and a detail; empty where it is kept."""
    segment, text = judged.segment, judged.text
    seconds = segment.end - segment.start
    found = []
    if seconds < limits.min_seconds:
        found.append(("too short", f"{seconds:.2f} s, limit {limits.min_seconds:g} s"))
    if seconds > limits.max_seconds:
        found.append(("too long", f"{seconds:.1f} s, limit {limits.max_seconds:g} s"))
    if segment.clipped > limits.max_clipped:
        found.append(
            (
                "clipped",
                f"{100 * segment.clipped:.2g} % of samples, limit {100 * limits.max_clipped:g} %",
            )
        )
    if segment.snr_db < limits.min_snr_db:
        found.append(
            (
                "noisy",
                f"{segment.snr_db:.0f} dB between loud and quiet, limit {limits.min_snr_db:g} dB",
            )
        )
    if judged.distillmos is not None and limits.min_distillmos is not None:
        if judged.distillmos < limits.min_distillmos:
            found.append(
                ("distillmos", f"{judged.distillmos:.2f}, limit {limits.min_distillmos:g}")
            )
    # What a person wrote while listening is not doubted.
    return found if judged.text_from == "review" else found + _of_text(judged, limits, text)


def _of_text(judged: Judged, limits: Limits, text: str | None) -> list[tuple[str, str]]:
    if text is None:
        return [("not in its text", "what is heard is not in the text beside the recording")]
    words = tokens(judged.spoken or text)
    if not words:
        return [
            ("no words", "nothing was recognised" if judged.text_from == "heard" else "no letters")
        ]
    found = []
    letters = "".join(words)
    signs = sum("\u3040" <= letter <= "\u9fff" for letter in letters)
    least, most = SIGNS_A_SECOND if 2 * signs > len(letters) else LETTERS_A_SECOND
    # Digits of a language without rules stand for more letters than they are; how many, is not known.
    if any(map(str.isdigit, letters)):
        least = 0.0
    rate = len(letters) / max(judged.segment.speech_seconds, 0.1)
    if not least <= rate <= most:
        found.append(
            (
                "length of text",
                f"{rate:.1f} letters a second of speech, expected {least:g} to {most:g}",
            )
        )
    data = text.encode()
    if len(data) / len(zlib.compress(data)) > MAX_COMPRESSION:
        found.append(("repeats itself", text[:60]))
    if judged.agreement is not None and judged.agreement < limits.min_agreement:
        found.append(
            (
                "heard otherwise",
                f"{100 * judged.agreement:.0f} % of the words agree, limit {100 * limits.min_agreement:g} %",
            )
        )
    if judged.unfit is not None:
        found.append(("does not fit the sound", judged.unfit))
    elif judged.fit is not None and judged.fit < limits.min_fit:
        found.append(
            ("does not fit the sound", f"{judged.fit:.0f} a frame, limit {limits.min_fit:g}")
        )
    return found
