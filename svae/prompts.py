"""The voice to speak in: a reference recording and its transcript, or a voice that was saved.

A saved voice is one safetensors file: the recording, its transcript, and its latents with the hash of the VAE that made
them, so that nothing is encoded again. With another VAE the recording is encoded anew, which is said.
"""

from __future__ import annotations

import json
import os
import re
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from svae.audio import load_audio, resample
from svae.checkpoint import writable_folder
from svae.distributed import select_device
from svae.errors import ConfigError, DataError
from svae.reference import cut_at_pause, trim_silence
from svae.speech import Prompt
from svae.text import Vocabulary, normalize_text
from svae.tts import TTS, load_tts

ASR_SAMPLE_RATE = 16000


@dataclass(frozen=True)
class OpenedPrompt:
    """A prompt and what a report should say of it."""

    prompt: Prompt
    waveform: Tensor
    """(1, S) at the model's rate: what was encoded."""
    description: dict[str, Any]
    encode_seconds: float
    """Wall-clock time of encoding, or of reading what was saved."""


def open_reference(tts: TTS, ref: Path, ref_text: str | None, *, asr: str, console: Console) -> OpenedPrompt:
    """Read a recording of any format, rate and number of channels, trim it, transcribe it if need be, and encode it.

    Raises:
        DataError: it is unusable, or too long to be cut; nothing was recognised in it.
    """
    waveform, rate = load_audio(ref)
    found = waveform.shape[1] / rate
    waveform = cut_at_pause(
        trim_silence(waveform, rate), rate, tts.prompt_limit, has_transcript=ref_text is not None, name=str(ref)
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
    if ref_text is None:
        ref_text, recognizer = transcribe(tts, resample(waveform, rate, ASR_SAMPLE_RATE), asr, name=str(ref))
        console.print(f"Transcript by {asr}: [bold]{escape(ref_text)}[/] (wrong? pass --ref-text)", highlight=False)
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


def transcribe(tts: TTS, waveform: Tensor, asr: str, *, name: str) -> tuple[str, dict[str, Any]]:
    """Return what is said in a reference (1, S) at 16 kHz, in the model's characters, and which recogniser heard it.

    Raises:
        DataError: nothing was recognised, or it cannot be spelled with the model's characters.
    """
    from svae.evaluation.asr import load_asr  # only this path needs a recogniser

    recognizer = load_asr(asr, str(tts.device))
    heard = normalize_text(recognizer.transcribe([waveform.reshape(-1)])[0])
    if not heard:
        raise DataError(f"{name}: {asr} recognised no words in it. Pass what is said with --ref-text.")
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


# ----------------------------------------------------------------------------------------------- saved voices


def voices_folder() -> Path:
    """Return where voices are kept: $SVAE_VOICES, else svae/voices in the user's data folder."""
    if "SVAE_VOICES" in os.environ:
        return Path(os.environ["SVAE_VOICES"])
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "svae" / "voices"


def voice_path(name: str) -> Path:
    """Return the file of a voice. Raises ConfigError for a name that is not letters, digits, `-` and `_`."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(f"voice {name!r}: a name has letters, digits, - and _ only")
    return voices_folder() / f"{name}.safetensors"


def saved_voices() -> list[str]:
    """Return the names of all saved voices."""
    return sorted(path.stem for path in voices_folder().glob("*.safetensors"))


def keep_voice(name: str, ref: Path, ref_text: str | None, model: Path, *, asr: str, device: str) -> Path:
    """Run `svae voice save`: open a recording with a model and save it; return the file."""
    console, path = Console(), voice_path(name)
    tts = load_tts(model, select_device(device))
    known = path.is_file()
    path = save_voice(name, open_reference(tts, ref, ref_text, asr=asr, console=console), tts)
    console.print(f"Voice {name} {'replaced' if known else 'saved'}: {escape(str(path))}", soft_wrap=True)
    console.print(f'Next: svae synthesize --voice {name} --model {model} --text "…"', highlight=False, soft_wrap=True)
    return path


def save_voice(name: str, opened: OpenedPrompt, tts: TTS) -> Path:
    """Keep an opened prompt under a name, in place of what had that name; return the file.

    Raises:
        ConfigError: not a name, or the folder cannot be written.
    """
    path = voice_path(name)
    writable_folder(path.parent, option="voices folder")
    tensors = {
        "waveform": (opened.waveform.clamp(-1, 1) * 32767).round().to(torch.int16).cpu(),
        "mean": tts.vae.denormalize(opened.prompt.latents).float().cpu().contiguous(),
    }
    metadata = {
        "format": "svae voice 1",
        "text": opened.prompt.text.rstrip(),
        "gain": repr(opened.prompt.gain),
        "sample_rate": str(tts.sample_rate),
        "vae_hash": tts.identity["vae_hash"],
        "reference": opened.description["reference"],
        "words": json.dumps(opened.prompt.words),
    }
    temporary = path.with_suffix(f".tmp-{os.getpid()}")
    save_file(tensors, temporary, metadata=metadata)
    temporary.replace(path)
    return path


def load_voice(name: str, tts: TTS, console: Console) -> OpenedPrompt:
    """Read a saved voice for a model; encode its recording anew where the model has another VAE.

    Raises:
        ConfigError: there is no such voice.
        DataError: the file is damaged.
    """
    path = voice_path(name)
    if not path.is_file():
        known = ", ".join(saved_voices()) or "none yet"
        raise ConfigError(
            f"--voice {name}: no such voice in {path.parent} (there: {known}). "
            f"Save it with `svae voice save {name} --ref a.wav --model DIR`."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            waveform, mean = file.get_tensor("waveform"), file.get_tensor("mean")
        text, gain, rate = metadata["text"], float(metadata["gain"]), int(metadata["sample_rate"])
        words = json.loads(metadata.get("words", "null"))
        same_vae = metadata["vae_hash"] == tts.identity.get("vae_hash")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged voice file ({error}); save the voice again") from None
    started = time.perf_counter()
    waveform = resample(waveform.float() / 32767, rate, tts.sample_rate)
    description = {"voice": name, "reference": metadata.get("reference"), "prompt_text_from": "voice", "asr": None}
    if same_vae:
        latents = tts.vae.normalize(mean.to(tts.device))
        text = tts.end_prompt_text(text)
        words, note = (words, None) if words else tts.align_prompt(waveform, text)
        prompt = Prompt(latents, text, gain, waveform.shape[-1] / tts.sample_rate, words, note)
    else:
        console.print(f"[yellow]Voice {name} was saved with another VAE: its recording is encoded again.[/]")
        prompt = tts.encode_prompt(waveform, text)
    return OpenedPrompt(prompt, waveform, description, time.perf_counter() - started)
