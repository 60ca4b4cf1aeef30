"""What every audio file of svae says about itself: that it is synthetic, and what made it.

The words stand where a format keeps them: LIST INFO of WAV, comments of FLAC, Ogg Vorbis and Opus, ID3 of MP3. They are easily
removed; they tell an honest reader, no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import soundfile
from torch import Tensor

import svae
from svae.audio import FORMATS, pcm16
from svae.errors import DataError
from svae.runtime.files import atomic_path

SYNTHETIC = "AI-generated speech"
"""How the comment of a file begins; a JSON object follows."""
_COMMENT = re.compile(rf"{SYNTHETIC} (\{{.*\}})", re.DOTALL)


def mark(
    identity: Mapping[str, Any], seed: int, description: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is said of speech: tool, hashes of model and VAE, seed, the voice's note of consent.

    The same speech has the same mark: no time, no name and no path stand in it.

    Args:
        identity: of the model, as `TTS.identity`.
        seed: of the speech.
        description: of the voice, as `OpenedPrompt.description`: its note of consent is taken.
    """
    said = {
        "tool": f"svae {svae.__version__}",
        "model": identity.get("hash"),
        "vae": identity.get("vae_hash"),
        "seed": seed,
        "consent": (description or {}).get("consent"),
    }
    return {name: value for name, value in said.items() if value is not None}


def tags(
    identity: Mapping[str, Any], seed: int, description: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return `software` and `comment` of an audio file, which hold its `mark`."""
    said = mark(identity, seed, description)
    # ASCII, as the formats disagree about anything else.
    return {"software": f"svae {svae.__version__}", "comment": f"{SYNTHETIC} {json.dumps(said)}"}


def write_tags(file: soundfile.SoundFile, content: Mapping[str, str]) -> None:
    """Write tags into a file that is open for writing, before its samples."""
    for name, value in content.items():
        setattr(file, name, value)


def save_speech(path: Path, waveform: Tensor, sample_rate: int, content: Mapping[str, str]) -> None:
    """Write new speech (S,), (1, S) or (1, 1, S) as `svae.audio.save_audio` does, with its tags.

    Raises:
        DataError: NaN samples.
    """
    if not bool(waveform.isfinite().all()):
        raise DataError(f"{path}: the speech holds NaN or infinite samples; nothing was written.")
    kind = FORMATS[path.suffix.lower()]
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, "PCM_16", format=kind) as file,
    ):
        write_tags(file, content)
        file.write(pcm16(waveform.detach().cpu().reshape(-1)).numpy())


def read_tags(path: Path) -> dict[str, str]:
    """Return all tags of an audio file, by their names in small letters.

    Raises:
        DataError: it cannot be read as audio.
    """
    import av

    try:
        # No protocols: a playlist could otherwise open any other file or address.
        with av.open(str(path), container_options={"protocol_whitelist": "file"}) as container:
            streams = [stream.metadata for stream in container.streams.audio]
            if not streams:
                raise DataError(f"{path}: holds no audio track")
            found = {**container.metadata, **streams[0]}
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read as audio ({reason})") from None
    return {name.lower(): value for name, value in found.items()}


def read_mark(path: Path) -> dict[str, Any] | None:
    """Return what a file says of how it was made; None where it does not say that it is synthetic. Raises as `read_tags`."""
    match = _COMMENT.search(read_tags(path).get("comment", ""))
    if match is None:
        return None
    try:
        said = json.loads(match[1])
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
