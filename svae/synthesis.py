"""`svae synthesize`: a text and a reference recording to an audio file with a JSON beside it."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from torch import Tensor

from svae.audio import load_audio, resample, save_audio
from svae.checkpoint import writable_folder
from svae.distributed import describe_device, select_device
from svae.errors import ConfigError, DataError
from svae.text import Vocabulary, normalize_text
from svae.tracking import environment
from svae.tts import TTS, Synthesis, load_tts

__all__ = ["TTS", "Synthesis", "SynthesizeOptions", "load_tts", "synthesize_file"]

ASR_SAMPLE_RATE = 16000


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """Options of `svae synthesize`."""

    ref: Path
    """Recording of the voice: any format, rate and number of channels that libsndfile reads."""
    text: str
    model: Path
    """Checkpoint or run folder of `svae train-tts`."""
    ref_text: str | None = None
    """What is said in the recording. None: the recogniser `asr` transcribes it."""
    out: Path = Path("out.wav")
    """.wav or .flac."""
    seed: int = 0
    steps: int = 32
    guidance: float = 2.0
    speed: float = 1.0
    duration: float | None = None
    """Seconds of new speech; None: predicted."""
    device: str = "auto"
    asr: str = "pocketsphinx"
    """Recogniser for the reference: pocketsphinx, whisper:ID_OR_PATH or ctc:ID_OR_PATH."""


def synthesize_file(options: SynthesizeOptions) -> Path:
    """Speak a text in the voice of a recording; write the audio and, under the same name, a JSON that says how.

    Returns:
        The audio file.

    Raises:
        ConfigError: the output cannot be written, the device is not there, or a number is out of range.
        CheckpointError: the model is unusable.
        DataError: the recording or a text is unusable.
    """
    console = Console()
    _check_output(options)
    if not normalize_text(options.text):
        raise DataError("--text: empty. Expected at least one character that is not white space.")
    device = select_device(options.device)
    reference, rate = load_audio(options.ref)
    tts = load_tts(options.model, device)
    console.print(
        f"Model [bold]{escape(tts.identity['path'])}[/] ({tts.identity['hash'][:12]}…) on {describe_device(device)}"
    )
    prompt = tts.check_prompt(resample(reference, rate, tts.sample_rate))
    prompt_text, recognizer = options.ref_text, None
    if prompt_text is None:
        prompt_text, recognizer = transcribe_reference(tts, resample(reference, rate, ASR_SAMPLE_RATE), options)
        console.print(
            f"Transcript by {options.asr}: [bold]{escape(prompt_text)}[/] (wrong? pass --ref-text)", highlight=False
        )
    result = tts.generate(
        options.text,
        prompt,
        prompt_text,
        seed=options.seed,
        num_steps=options.steps,
        guidance_scale=options.guidance,
        speed=options.speed,
        duration_seconds=options.duration,
    )
    save_audio(options.out, result.waveform, result.sample_rate)
    report = options.out.with_suffix(".json")
    row = {**describe(result, tts), "reference": str(options.ref), "audio": options.out.name}
    row |= {"prompt_text_from": "given" if recognizer is None else "asr", "asr": recognizer}
    report.write_text(json.dumps(row, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _print_result(console, result, options, report)
    return options.out


def describe(result: Synthesis, tts: TTS) -> dict[str, Any]:
    """Return everything about a result but the samples, for JSON."""
    return {
        "model": tts.identity,
        "seed": result.seed,
        "steps": result.num_steps,
        "guidance": result.guidance_scale,
        "speed": result.speed,
        "text": result.text,
        "prompt_text": result.prompt_text,
        "sample_rate": result.sample_rate,
        "prompt_seconds": result.prompt_seconds,
        "generated_seconds": result.generated_seconds,
        "seconds_by_stage": result.timings,
        "real_time_factors": result.real_time_factors,
        "environment": environment(tts.device),
    }


def transcribe_reference(tts: TTS, waveform: Tensor, options: SynthesizeOptions) -> tuple[str, dict[str, Any]]:
    """Return what is said in a reference (1, S) at 16 kHz, in the model's characters, and which recogniser heard it.

    Raises:
        DataError: nothing was recognised, or it cannot be spelled with the model's characters.
    """
    from svae.evaluation.asr import load_asr  # only this path needs a recogniser

    recognizer = load_asr(options.asr, str(tts.device))
    heard = normalize_text(recognizer.transcribe([waveform.reshape(-1)])[0])
    if not heard:
        raise DataError(f"{options.ref}: {options.asr} recognised no words in it. Pass what is said with --ref-text.")
    fitted = fit_transcript(heard, tts.vocabulary)
    unknown = tts.vocabulary.unknown(fitted)
    if unknown or not fitted:
        raise DataError(
            f"{options.ref}: {options.asr} heard {heard!r}, but the model does not know "
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


def _check_output(options: SynthesizeOptions) -> None:
    if options.out.suffix.lower() not in (".wav", ".flac"):
        raise ConfigError(f"--out {options.out}: must end in .wav or .flac")
    if options.out.is_dir():
        raise ConfigError(f"--out {options.out}: is a folder; name a file in it")
    writable_folder(options.out.parent, option="--out")


def _print_result(console: Console, result: Synthesis, options: SynthesizeOptions, report: Path) -> None:
    stages = ", ".join(f"{stage} {factor:.2f}" for stage, factor in result.real_time_factors.items())
    console.print(
        f"Reference {result.prompt_seconds:.2f} s, new speech {result.generated_seconds:.2f} s, "
        f"{result.num_steps} steps, guidance {result.guidance_scale:g}, seed {result.seed}"
    )
    console.print(f"Real-time factor: {stages}")
    console.print(f"Speech in [bold]{escape(str(options.out))}[/], details in {escape(str(report))}")
    console.print(f"Next: svae evaluate --model {escape(str(options.model))}", highlight=False, soft_wrap=True)
