"""The voice to speak in: a reference recording and its transcript, or a voice that was saved.

A saved voice is one safetensors file: the recording, its transcript, and its latents with the hash of the VAE that made
them. A model with the same VAE takes the latents; for another one the recording is encoded again, with a notice.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from svae.audio import pcm16, resample
from svae.errors import ConfigError, DataError
from svae.runtime.distributed import select_device
from svae.runtime.files import MAX_STEM_BYTES, atomic_path, writable_folder
from svae.synthesis.load import load_tts
from svae.synthesis.model import TTS, audible
from svae.synthesis.reference import OpenedPrompt, open_reference
from svae.synthesis.types import Prompt

MAX_CONSENT = 500
"""Characters of a note of consent, which goes into each file made with the voice."""
NO_CONSENT = (
    'No note of consent is kept with this voice; --consent "who agreed to what, and when" adds one to it and to all that it '
    "says."
)
OWN_NAME = "own"
"""The name of a model's own voice among those of a server; no saved voice can have it."""
OWN_VOICE = "the model's own"
"""What reports call the voice that comes with a model."""
VOICE_SCALE = 32767
"""What 1.0 is in the recording of a saved voice."""
_KEPT = (
    "reference_seconds",
    "reference_removed",
    "reference_cut",
    "reference_warnings",
    "consent",
)
"""What a saved voice remembers of how its recording was opened."""


def voices_folder() -> Path:
    """Return where voices are kept: $SVAE_VOICES, else svae/voices in the user's data folder."""
    if "SVAE_VOICES" in os.environ:
        return Path(os.environ["SVAE_VOICES"])
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "svae" / "voices"


def voice_path(name: str) -> Path:
    """Return the file of a voice. Raises ConfigError for a name that is not letters, digits, `-` and `_`, or no file's."""
    if not re.fullmatch(r"[\w-]+", name):
        raise ConfigError(f"voice {name!r}: a name has letters, digits, - and _ only")
    if len(name.encode()) > MAX_STEM_BYTES:
        raise ConfigError(f"voice {name[:40]!r}…: a name is not longer than {MAX_STEM_BYTES} bytes")
    return voices_folder() / f"{name}.safetensors"


def new_voice_path(name: str) -> Path:
    """Return the file of a voice that is to be saved. Raises ConfigError for a name that a saved one cannot have."""
    if name == OWN_NAME:
        raise ConfigError(f"voice {name!r}: is a model's own voice; choose another name")
    return voice_path(name)


def saved_voices() -> list[str]:
    """Return the names of all saved voices."""
    return sorted(path.stem for path in voices_folder().glob("*.safetensors"))


def delete_voice(name: str) -> Path:
    """Delete a saved voice and return the file that it was. Raises ConfigError where there is none of that name."""
    path = _saved_path(name, "voice")
    try:
        path.unlink()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be deleted ({error.strerror})") from None
    return path


def _saved_path(name: str, option: str) -> Path:
    """Return the file of a saved voice. Raises ConfigError where there is none of that name."""
    path = voice_path(name)
    if not path.is_file():
        known = ", ".join(saved_voices()) or "none yet"
        raise ConfigError(
            f"{option} {name}: no such voice in {path.parent} (there: {known}). "
            f"`svae voice save {name} --ref a.wav --model DIR` makes one."
        )
    return path


def keep_voice(
    name: str,
    ref: Path,
    ref_text: str | None,
    model: Path,
    *,
    asr: str,
    device: str,
    language: str | None = "en",
    consent: str | None = None,
) -> Path:
    """Run `svae voice save`: open a recording with a model and save it; return the file.

    Raises:
        ConfigError: a note of consent that says nothing.
    """
    console = Console()
    consent = check_consent(consent)
    path = new_voice_path(name)
    tts = load_tts(model, select_device(device))
    known = path.is_file()
    tts = tts.in_language(language)
    opened = open_reference(tts, ref, ref_text, asr=asr, console=console, language=language)
    opened.description["consent"] = consent
    if consent is None:
        console.print(NO_CONSENT, highlight=False)
    path = save_voice(name, opened, tts)
    console.print(
        f"Voice {name} {'replaced' if known else 'saved'}: {escape(str(path))}", soft_wrap=True
    )
    console.print(
        f'Next: svae synthesize --voice {name} --model {model} --text "…"',
        highlight=False,
        soft_wrap=True,
    )
    return path


def check_consent(note: str | None) -> str | None:
    """Return a note of consent without white space at its ends. Raises ConfigError where nothing is left of it."""
    if note is None:
        return None
    plain = " ".join(note.split())
    if not plain or len(plain) > MAX_CONSENT:
        raise ConfigError(
            f"--consent: {len(plain)} characters; expected who agreed to what, and when, in at most {MAX_CONSENT}"
        )
    return plain


def save_voice(name: str, opened: OpenedPrompt, tts: TTS) -> Path:
    """Keep an opened prompt under a name, in place of what had that name; return the file.

    Raises:
        ConfigError: not a name, or the folder cannot be written.
    """
    path = new_voice_path(name)
    writable_folder(path.parent, option="voices folder")
    write_voice(path, opened, tts)
    return path


def write_voice(path: Path, opened: OpenedPrompt, tts: TTS) -> None:
    """Write an opened prompt to a file that `read_voice` reads."""
    recording = audible(opened.waveform)
    tensors = {
        "waveform": pcm16(recording, full_scale=VOICE_SCALE),
        "mean": tts.representation.denormalize(opened.prompt.latents).float().cpu().contiguous(),
    }
    metadata = {
        "format": "svae voice 1",
        "text": opened.prompt.text.rstrip(),
        "gain": repr(opened.prompt.gain),
        "sample_rate": str(tts.sample_rate),
        "vae_hash": tts.identity["vae_hash"],
        "reference": opened.description["reference"],
        "words": json.dumps(opened.prompt.words),
        "raised": repr(float(recording.abs().max() / opened.waveform.abs().max().clamp_min(1e-9))),
        "opened": json.dumps({name: opened.description.get(name) for name in _KEPT}),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


@dataclass(frozen=True)
class KeptVoice:
    """What a voice file says without a model."""

    text: str
    seconds: float
    """Of its recording."""
    consent: str | None


def kept_voice(path: Path) -> KeptVoice:
    """Return what a voice file says of itself. Raises DataError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            samples = file.get_slice("waveform").get_shape()[-1]
        consent = json.loads(metadata.get("opened", "{}")).get("consent")
        return KeptVoice(metadata["text"], samples / int(metadata["sample_rate"]), consent)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged voice file ({error}); save the voice again") from None


def load_voice(name: str, tts: TTS, console: Console) -> OpenedPrompt:
    """Read a saved voice for a model; where the model has another VAE, encode the recording again and say so.

    Raises:
        ConfigError: there is no such voice.
        DataError: the file is damaged.
    """
    return read_voice(_saved_path(name, "--voice"), name, tts, console)


def own_voice(tts: TTS, console: Console) -> OpenedPrompt:
    """Return the voice that a model speaks in by itself, as those of `svae adapt` do.

    Raises:
        ConfigError: it has none.
        DataError: its file is damaged.
    """
    if tts.prompt_file is None:
        raise ConfigError(
            "pass --ref RECORDING or --voice NAME (`svae voice save` makes one): this model has no voice of its own, "
            "as one of `svae adapt` has"
        )
    return read_voice(tts.prompt_file, OWN_VOICE, tts, console)


def read_voice(path: Path, name: str, tts: TTS, console: Console) -> OpenedPrompt:
    """Read a voice file for a model; see `load_voice`.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            waveform, mean = file.get_tensor("waveform"), file.get_tensor("mean")
        text, gain, rate = metadata["text"], float(metadata["gain"]), int(metadata["sample_rate"])
        words = json.loads(metadata.get("words", "null"))
        raised = float(metadata.get("raised", "1"))  # files from before 2026-11-28 have none
        kept = json.loads(metadata.get("opened", "{}"))
        same_vae = metadata["vae_hash"] == tts.identity.get("vae_hash")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: damaged voice file ({error}); save the voice again") from None
    started = time.perf_counter()
    waveform = resample(waveform.float() / (VOICE_SCALE * raised), rate, tts.sample_rate)
    description = {
        "voice": name,
        "reference": metadata.get("reference"),
        **{name: kept.get(name) for name in _KEPT},
        "prompt_text_from": "voice",
        "asr": None,
    }
    if same_vae:
        latents = tts.representation.normalize(mean.to(tts.device))
        text = tts.end_prompt_text(text)
        words, note = (words, None) if words else tts.align_prompt(waveform, text)
        prompt = Prompt(latents, text, gain, waveform.shape[-1] / tts.sample_rate, words, note)
    else:
        console.print(
            f"[yellow]Voice {name} was saved with another VAE: its recording is encoded again.[/]"
        )
        prompt = tts.encode_prompt(waveform, text)
    return OpenedPrompt(prompt, waveform, description, time.perf_counter() - started)
