"""Opening a reference recording: hum and silence at its ends go, too long a one is cut, its words are transcribed."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console
from rich.markup import escape
from torch import Tensor

from svae.audio import SPEECH_RATE, load_audio, resample
from svae.errors import DataError
from svae.judges.asr import load_asr
from svae.synthesis.clean import clean
from svae.synthesis.model import TTS, aligner, audible
from svae.synthesis.trim import (
    FRAME_SECONDS,
    Cut,
    find_cut,
    find_cut_between_words,
    frame_levels,
    parts_by_proportion,
    parts_by_words,
    trim_silence,
    with_nearest_text,
)
from svae.synthesis.types import Prompt
from svae.text.languages import base_language
from svae.text.lexicon import Lexicon
from svae.text.phone_aligner import AlignmentError
from svae.text.sentences import prepare_prompt_text
from svae.text.vocabulary import Vocabulary, normalize_text

SHORT_SECONDS = 1.0
"""Less tells little of a voice."""
EDGE_SECONDS = 0.06
EDGE_DB = 15.0
"""A recording that is within this of its speech at an end was cut off there."""
NOISE_DB = 12.0
"""A recording whose quiet parts are within this of its loud ones is noisy."""


@dataclass(frozen=True)
class OpenedPrompt:
    """A prompt, the recording that it is, and what a report should say of it."""

    prompt: Prompt
    waveform: Tensor
    """(1, S) at the model's rate: what was encoded."""
    description: dict[str, Any]
    """Fields of the JSON beside the speech."""
    encode_seconds: float
    """Wall-clock time of encoding, or of reading what was saved."""


def open_reference(
    tts: TTS,
    ref: Path | BinaryIO,
    ref_text: str | None,
    *,
    asr: str,
    console: Console,
    language: str | None = "en",
    lexicon: Lexicon | None = None,
    name: str | None = None,
) -> OpenedPrompt:
    """Read a recording of any format, rate and number of channels; clean, trim, cut, transcribe if need be, encode it.

    `name` is what messages and the description call it, by default its path.

    A text that is given is spelled out in `language` as one that is to be spoken is; a transcript is words already.
    What was removed and cut, and what is wrong with the recording, is printed and in the description.

    Raises:
        DataError: it is unusable; nothing was recognised in it.
    """
    warnings: list[str] = []
    name = str(ref) if name is None else name
    loaded, rate = load_audio(ref, notes=warnings, name=name)
    if ref_text is not None:
        ref_text = _spelled_out(tts, ref_text, language, lexicon)
    cleaned, removed = clean(loaded, rate)
    if removed:
        console.print(f"Removed from the reference: {removed}.", highlight=False)
    waveform = trim_silence(cleaned, rate)
    cut = find_reference_cut(waveform, rate, tts.prompt_limit, ref_text, language)
    if cut is not None:
        waveform, ref_text = waveform[:, : int(cut.seconds * rate)], cut.text
        console.print(f"[yellow]{escape(_describe_cut(cut))}[/]", highlight=False)
    prompt_waveform = resample(waveform, rate, tts.sample_rate)
    try:
        tts.check_prompt(prompt_waveform)
    except DataError as error:
        raise DataError(str(error).replace("reference", name, 1)) from None
    warnings += recording_warnings(cleaned, waveform, rate, was_cut=cut is not None)
    if cut is not None and not cut.aligned:
        warnings.append(
            "its text was not found in the recording and is cut by its length; read `prompt_text` in the result, and if "
            "it is not what is said in what is kept, shorten recording and --ref-text yourself"
        )
    recognizer = None
    if ref_text is None:
        ref_text, recognizer = transcribe(tts, audible(waveform), rate, asr, name=name)
        console.print(
            f"Transcript by {asr}: [bold]{escape(ref_text)}[/] (wrong? pass --ref-text)",
            highlight=False,
        )
    started = time.perf_counter()
    prompt = tts.encode_prompt(prompt_waveform, ref_text)
    elapsed = time.perf_counter() - started
    if prompt.note is not None:
        warnings.append(f"{prompt.note}. {_NOT_ALIGNED}")
    for warning in warnings:
        console.print(f"[yellow]Reference {escape(name)}: {escape(warning)}.[/]", highlight=False)
    description = {
        "reference": name,
        "reference_seconds": loaded.shape[1] / rate,
        "reference_removed": asdict(removed) if removed else None,
        "reference_cut": None if cut is None else asdict(cut),
        "reference_warnings": warnings,
        "prompt_text_from": "given" if recognizer is None else "asr",
        "asr": recognizer,
    }
    return OpenedPrompt(prompt, prompt_waveform, description, elapsed)


_NOT_ALIGNED = "Check that --ref-text is what is said, or record again with less noise and no music; 3 to 12 s are best"


def find_reference_cut(
    waveform: Tensor, sample_rate: int, limit_seconds: float, text: str | None, language: str | None
) -> Cut | None:
    """Return where a reference (1, S) is cut, with its text where one is given; None where it is short enough.

    A text is cut where the aligner of phones finds its words. Where it finds none, as in another language or under
    loud music, the sound is cut in a pause and the text in proportion.
    """
    cut = find_cut(waveform, sample_rate, limit_seconds)
    if cut is None or text is None:
        return cut
    by_proportion = parts_by_proportion(text, waveform, sample_rate)
    if base_language(language) in ("en", None):
        # Of a chapter only the beginning is aligned: what the text of a stretch is need only be known roughly at its end.
        stretch, beginning = waveform, text
        far = [n for n, gap in enumerate(by_proportion.gaps, 1) if gap[0] > 3 * limit_seconds]
        if far:
            stretch = waveform[:, : int(3 * limit_seconds * sample_rate)]
            beginning = by_proportion.first(far[0])
        try:
            heard = resample(audible(stretch), sample_rate, SPEECH_RATE)
            words = aligner().align(heard[0], beginning)
        except AlignmentError:
            words = []
        parts = parts_by_words(beginning, words)
        found = find_cut_between_words(stretch, sample_rate, limit_seconds, parts)
        if found is not None:
            return replace(found, of_seconds=cut.of_seconds)
    return with_nearest_text(cut, by_proportion)


def _describe_cut(cut: Cut) -> str:
    where = {
        "pause": "in a pause",
        "quietest place": "at its quietest place, since there is no pause",
        "between words": "between two words, since there is no pause",
    }[cut.place]
    text = "" if cut.text is None else f" Its text is cut with it: {cut.text}"
    return f"Reference cut {where}: {cut.seconds:.1f} of {cut.of_seconds:.1f} s are used.{text}"


def recording_warnings(
    recording: Tensor, used: Tensor, sample_rate: int, *, was_cut: bool
) -> list[str]:
    """Return what is wrong with a reference that can be used, and what to do about each.

    Args:
        recording: (1, S), cleaned.
        used: (1, S'), what is left of it.
        sample_rate: of both, in Hz.
        was_cut: whether its end is not the recording's.
    """
    warnings = []
    seconds = used.shape[1] / sample_rate
    if seconds < SHORT_SECONDS:
        warnings.append(
            f"only {seconds:.1f} s of speech, which tell little of a voice and its speed. Record 3 to 12 s"
        )
    decibels = 10 * frame_levels(recording[0], sample_rate).clamp_min(1e-12).log10()
    quiet, loud = (float(decibels.quantile(share)) for share in (0.1, 0.95))
    if loud - quiet < NOISE_DB:
        warnings.append(
            f"noise or music under the voice, at most {loud - quiet:.0f} dB below it, will be in the new speech too. "
            "Record again in a quiet room, or clean the recording"
        )
    edge = round(EDGE_SECONDS / FRAME_SECONDS)
    threshold = max(loud - EDGE_DB, quiet + NOISE_DB)
    # The last frame is filled up with zeros.
    ends = {"begins": decibels[:edge], "ends": decibels[-edge - 1 : -1]}
    cut_off = [end for end, part in ends.items() if len(part) and float(part.mean()) > threshold]
    if was_cut and "ends" in cut_off:
        cut_off.remove("ends")
    if cut_off:
        warnings.append(
            f"it {' and '.join(cut_off)} in the middle of a sound. Cut it in a pause, with some silence at both ends, "
            "and let --ref-text hold whole words only"
        )
    return warnings


def _spelled_out(tts: TTS, ref_text: str, language: str | None, lexicon: Lexicon | None) -> str:
    if not normalize_text(ref_text):
        raise DataError("--ref-text: empty; pass what is said, or leave the option out")
    try:
        return prepare_prompt_text(ref_text, tts.vocabulary, language=language, lexicon=lexicon)
    except DataError as error:
        raise DataError(f"--ref-text: {error}") from None


def transcribe(
    tts: TTS, waveform: Tensor, sample_rate: int, asr: str, *, name: str
) -> tuple[str, dict[str, Any]]:
    """Return what is said in a reference (1, S), in the model's characters, and which recogniser heard it.

    Raises:
        DataError: nothing was recognised, or it cannot be spelled with the model's characters.
    """
    recognizer = load_asr(asr, str(tts.device))
    heard = normalize_text(recognizer.transcribe([waveform.reshape(-1)], sample_rate)[0])
    if not heard:
        raise DataError(
            f"{name}: {asr} recognised no words in it. Pass what is said with --ref-text."
        )
    fitted = fit_transcript(heard, tts.vocabulary)
    unknown = tts.vocabulary.unknown(fitted)
    if unknown or not fitted:
        raise DataError(
            f"{name}: {asr} heard {heard!r}, but the model does not know "
            f"{', '.join(map(repr, unknown))}. Pass what is said, spelled with the model's characters, with --ref-text."
        )
    return fitted, dict(recognizer.description)


def fit_transcript(text: str, vocabulary: Vocabulary) -> str:
    """Spell a recogniser's text with a model's characters as far as that loses no sound.

    Punctuation the model does not know goes (dashes become spaces); letters change case, all of them, if only the
    other case is known.
    """
    kept = []
    for char in text:
        if char in vocabulary or not unicodedata.category(char).startswith("P"):
            kept.append(char)
        elif unicodedata.category(char) == "Pd":
            kept.append(" ")
    text = normalize_text("".join(kept))
    return next((t for t in (text, text.lower(), text.upper()) if not vocabulary.unknown(t)), text)
