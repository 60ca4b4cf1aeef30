"""Opening a reference recording: silence at its ends goes, too long a one is cut at a pause, its words are transcribed."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from svae.audio import load_audio, resample
from svae.errors import DataError
from svae.judges.asr import load_asr
from svae.synthesis.model import TTS
from svae.synthesis.types import Prompt
from svae.text.lexicon import Lexicon
from svae.text.sentences import prepare_prompt_text
from svae.text.vocabulary import Vocabulary, normalize_text

FRAME_SECONDS = 0.02
SILENCE_DB = 40.0
"""A frame this far below the loudest one is silent."""
MARGIN_SECONDS = 0.1
"""Silence that stays at both ends."""
PAUSE_SECONDS = 0.15
"""Silence that is long enough to cut in."""
MIN_CUT_SECONDS = 2.0
"""A reference is not cut to less than this."""


def frame_size(sample_rate: int) -> int:
    """Return the samples of a frame of `FRAME_SECONDS`."""
    return max(1, round(FRAME_SECONDS * sample_rate))


def silent_frames(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return (frames,) bool, True where a frame of `FRAME_SECONDS` of a waveform (S,) is silent."""
    size = frame_size(sample_rate)
    padded = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % size))
    level = padded.view(-1, size).square().mean(dim=1)
    return level <= level.max() * 10 ** (-SILENCE_DB / 10)


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


def cut_at_pause(
    waveform: Tensor, sample_rate: int, limit_seconds: float, *, has_transcript: bool, name: str
) -> Tensor:
    """Return a waveform (1, S) of at most `limit_seconds`, cut in the middle of the last pause before the limit.

    Raises:
        DataError: it is longer and a transcript was given, which a cut would make wrong; or there is no pause.
    """
    seconds = waveform.shape[1] / sample_rate
    if seconds <= limit_seconds:
        return waveform
    if has_transcript:
        raise DataError(
            f"{name}: {seconds:.1f} s of speech, at most {limit_seconds:g} s are possible, and it cannot be cut because "
            "its transcript was given. Shorten both, or leave --ref-text out: then it is cut at a pause and transcribed."
        )
    silent = silent_frames(waveform[0, : int(limit_seconds * sample_rate)], sample_rate).tolist()
    least = round(PAUSE_SECONDS / FRAME_SECONDS)
    run = 0
    cut = None
    for frame, is_silent in enumerate(silent):
        run = run + 1 if is_silent else 0
        if run >= least and (frame - run / 2) * FRAME_SECONDS >= MIN_CUT_SECONDS:
            cut = frame - run // 2
    if cut is None:
        raise DataError(
            f"{name}: {seconds:.1f} s long, at most {limit_seconds:g} s are possible, and there is no pause to cut at "
            f"between {MIN_CUT_SECONDS:g} and {limit_seconds:g} s. Cut out 3 to 12 s yourself."
        )
    return waveform[:, : round(cut * FRAME_SECONDS * sample_rate)]


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
    ref: Path,
    ref_text: str | None,
    *,
    asr: str,
    console: Console,
    language: str | None = "en",
    lexicon: Lexicon | None = None,
) -> OpenedPrompt:
    """Read a recording of any format, rate and number of channels, trim it, transcribe it if need be, and encode it.

    A text that is given is spelled out in `language` as one that is to be spoken is; a transcript is words already.

    Raises:
        DataError: it is unusable, or too long to be cut; nothing was recognised in it.
    """
    waveform, rate = load_audio(ref)
    found = waveform.shape[1] / rate
    waveform = cut_at_pause(
        trim_silence(waveform, rate),
        rate,
        tts.prompt_limit,
        has_transcript=ref_text is not None,
        name=str(ref),
    )
    used = waveform.shape[1] / rate
    if found > tts.prompt_limit:
        console.print(f"[yellow]Reference cut at a pause: {used:.1f} of {found:.1f} s are used.[/]")
    prompt_waveform = resample(waveform, rate, tts.sample_rate)
    try:
        tts.check_prompt(prompt_waveform)
    except DataError as error:
        raise DataError(str(error).replace("reference", str(ref), 1)) from None
    recognizer = None
    if ref_text is not None:
        ref_text = _spelled_out(tts, ref_text, language, lexicon)
    else:
        ref_text, recognizer = transcribe(tts, waveform, rate, asr, name=str(ref))
        console.print(
            f"Transcript by {asr}: [bold]{escape(ref_text)}[/] (wrong? pass --ref-text)",
            highlight=False,
        )
    started = time.perf_counter()
    prompt = tts.encode_prompt(prompt_waveform, ref_text)
    elapsed = time.perf_counter() - started
    if prompt.note is not None:
        console.print(f"[yellow]{escape(prompt.note)}[/]")
    description = {
        "reference": str(ref),
        "prompt_text_from": "given" if recognizer is None else "asr",
        "asr": recognizer,
    }
    return OpenedPrompt(prompt, prompt_waveform, description, elapsed)


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
