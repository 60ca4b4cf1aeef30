"""The voices of a server: those that are saved, those that come with svae, and a model's own; opened ones are kept.

No name from a request becomes a path before it is found among the names that there are.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import soundfile
from rich.console import Console

from svae.assets import asset_path
from svae.audio import UNKNOWN_FRAMES
from svae.errors import ConfigError, DataError, SvaeError
from svae.synthesis.loudness import TARGET_LUFS, Leveller, measure
from svae.synthesis.model import TTS
from svae.synthesis.reference import OpenedPrompt, open_reference
from svae.synthesis.voices import (
    OWN_NAME,
    check_consent,
    delete_voice,
    load_voice,
    new_voice_path,
    own_voice,
    save_voice,
    saved_voices,
    voice_path,
)

MAX_SAVED = 1000
"""Saved voices beyond this are refused: the disk is not the client's."""
MAX_SAMPLES_A_SECOND = 2 * 96_000
"""Samples in all channels that a recording may have for each second of the longest one: they take 20 bytes each while it is opened."""
_QUIET = Console(quiet=True)


class NoSuchVoice(SvaeError):
    """There is no voice of a name."""


@dataclass(frozen=True)
class Voice:
    """A voice, ready to speak."""

    opened: OpenedPrompt
    loudness: float | None
    """LUFS of its recording."""

    def leveller(self, sample_rate: int) -> Leveller:
        """Return what decides the loudness of one text."""
        return Leveller(TARGET_LUFS, self.loudness, sample_rate)


class Voices:
    """The voices of one model.

    Args:
        tts: the model.
        asr: transcribes recordings that come without a text.
        max_seconds: longer recordings are refused.
        kept: how many opened voices stay in memory; the one that was used longest ago goes first.
    """

    def __init__(self, tts: TTS, asr: str, max_seconds: float, kept: int) -> None:
        self.tts = tts
        self.asr = asr
        self.max_seconds = max_seconds
        self.kept = kept
        self._open: OrderedDict[tuple[str, str, int], Voice] = OrderedDict()
        self._kept = threading.Lock()  # of the opened voices; held for a moment
        self._opening = threading.Lock()  # aligner and recogniser hear one at a time
        self._shipped = {
            row["speaker"]: row
            for row in json.loads(_shipped("references.json").read_text("utf-8"))
        }

    def __len__(self) -> int:
        return len(self._open)

    def names(self) -> dict[str, str]:
        """Return the names of all voices, the one that speaks where none is named first, and where each is from.

        The saved ones are those of all models, and of the command: none takes the place of another voice.
        """
        names = {} if self.tts.prompt_file is None else {OWN_NAME: "model"}
        names |= dict.fromkeys(self._shipped, "svae")
        return names | {name: "saved" for name in saved_voices() if name not in names}

    def open(self, name: str | None) -> Voice:
        """Return a voice; None: the first of `names`.

        Raises:
            NoSuchVoice: there is none of that name.
            DataError: its file is damaged, or it is of no use to this model.
        """
        key = self._key(name)
        if (voice := self._take(key)) is not None:
            return voice
        with self._opening:
            if (voice := self._take(key)) is None:
                voice = self._read(key[0], key[1])
                with self._kept:
                    self._open[key] = voice
                    while len(self._open) > self.kept:
                        self._open.popitem(last=False)
        return voice

    def opened(self, name: str | None) -> Voice | None:
        """Return a voice that is in memory; None where it has to be opened, which may wait for another recording's.

        Raises:
            NoSuchVoice: there is none of that name.
        """
        return self._take(self._key(name))

    def _key(self, name: str | None) -> tuple[str, str, int]:
        """Return a voice's name, where it is from, and which one of that name it is. Raises NoSuchVoice."""
        names = self.names()
        name = next(iter(names)) if name is None else name
        if name not in names:
            raise NoSuchVoice(
                f"voice {name[:100]!r}: not there; expected one of {', '.join(names)}"
            )
        try:
            # A voice that is saved again is another one.
            stamp = voice_path(name).stat().st_mtime_ns if names[name] == "saved" else 0
        except OSError:
            raise NoSuchVoice(f"voice {name!r}: was deleted just now") from None
        return name, names[name], stamp

    def _take(self, key: tuple[str, str, int]) -> Voice | None:
        """Return an opened voice, which becomes the one that was used last."""
        with self._kept:
            if key in self._open:
                self._open.move_to_end(key)
            return self._open.get(key)

    def save(
        self,
        name: str,
        recording: bytes,
        label: str,
        *,
        text: str | None = None,
        language: str | None = "en",
        consent: str | None = None,
    ) -> dict[str, Any]:
        """Open a recording and save it under a name, as `svae voice save` does; return what was made of it.

        Raises:
            ConfigError: no name that a voice can have, or the folder cannot be written; nobody can read the language; a
                note of consent that says nothing.
            DataError: the recording is of no use.
        """
        path = new_voice_path(name)
        tts = self.tts.in_language(language)
        consent = check_consent(consent)
        before = self.names()
        if before.get(name, "saved") != "saved":
            raise ConfigError(f"voice {name!r}: comes with svae; choose another name")
        if name not in before and len(before) >= MAX_SAVED:
            raise ConfigError(f"voice {name!r}: there are {len(before)} voices; delete some first")
        check_length(recording, label, self.max_seconds)
        with self._opening:
            opened = open_reference(
                tts,
                BytesIO(recording),
                text,
                asr=self.asr,
                console=_QUIET,
                language=language,
                name=label,
            )
            replaced = path.is_file()
            opened.description["consent"] = consent
            save_voice(name, opened, tts)
        return {
            "id": name,
            "name": name,
            "object": "audio.voice",
            "replaced": replaced,
            "text": opened.prompt.text.rstrip(),
            "text_from": opened.description["prompt_text_from"],
            "seconds": opened.prompt.seconds,
            "consent": consent,
            "warnings": opened.description["reference_warnings"],
        }

    def delete(self, name: str) -> None:
        """Delete a saved voice. Raises NoSuchVoice for any other."""
        if self.names().get(name) != "saved":
            raise NoSuchVoice(f"voice {name[:100]!r}: not among the saved ones")
        delete_voice(name)

    def _read(self, name: str, origin: str) -> Voice:
        if origin == "saved":
            opened = load_voice(name, self.tts, _QUIET)
        elif origin == "model":
            opened = own_voice(self.tts, _QUIET)
        else:
            row = self._shipped[name]
            recording = _shipped(row["audio"])
            opened = open_reference(
                self.tts, recording, row["text"], asr=self.asr, console=_QUIET, name=name
            )
        return Voice(opened, measure(opened.waveform.reshape(-1), self.tts.sample_rate))


def check_length(recording: bytes, label: str, max_seconds: float) -> None:
    """Raise DataError for a recording that is too long, or has too many samples in all channels, before it is in memory.

    A few megabytes can hold hours, and headers lie: it is decoded, and nothing kept. What is no recording passes; whoever
    reads it says so.
    """
    seconds, samples = 0.0, 0
    most = round(MAX_SAMPLES_A_SECOND * max_seconds)
    with suppress(soundfile.SoundFileError), soundfile.SoundFile(BytesIO(recording)) as file:
        if file.frames < UNKNOWN_FRAMES:
            seconds, samples = file.frames / file.samplerate, file.frames * file.channels
    # No protocols, as in svae.audio.
    options = {"protocol_whitelist": "none"}
    if seconds <= max_seconds and samples <= most:
        seconds, samples = 0.0, 0
        with (
            suppress(av.FFmpegError, IndexError, ValueError),
            av.open(BytesIO(recording), "r", container_options=options) as container,
        ):
            for frame in container.decode(audio=0):
                seconds += frame.samples / frame.sample_rate
                samples += frame.samples * frame.layout.nb_channels
                if seconds > max_seconds or samples > most:
                    break
    if seconds > max_seconds:
        raise DataError(
            f"{label}: longer than the {max_seconds:g} s that are allowed; 3 to 12 s are best"
        )
    if samples > most:
        raise DataError(
            f"{label}: more than the {most} samples in all channels that are allowed; send it with one channel, at 48 kHz or less"
        )


def _shipped(name: str) -> Path:
    return asset_path("references", name)
