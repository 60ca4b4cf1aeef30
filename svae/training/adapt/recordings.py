"""What `svae adapt` is given: recordings of one person, listed, checked, cut to the speech in them, and their words.

Each recording is finished by itself and kept in the run, so that an interrupted command begins with the next one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from svae.audio import AUDIO_SUFFIXES, AudioError, audio_seconds, save_audio
from svae.config import JudgesConfig
from svae.data.corpora import list_utterances
from svae.data.corpora.corpus import Utterance, read_texts
from svae.data.excerpt import read_audio
from svae.errors import ConfigError, DataError
from svae.judges.asr import Recognizer
from svae.recordings.command import LIST, RecordingsOptions, prepare_recordings
from svae.recordings.filters import Limits
from svae.recordings.find import audio_files, keys_of
from svae.runtime.files import file_sha256, file_stem, write_text
from svae.synthesis.clean import clean
from svae.synthesis.model import PROMPT_RMS, SILENT_RMS
from svae.synthesis.reference import fit_transcript
from svae.synthesis.trim import trim_silence
from svae.text.languages import UNKNOWN
from svae.text.sentences import prepare_prompt_text
from svae.text.vocabulary import Vocabulary, normalize_text

MAX_SECONDS, MIN_SECONDS = 20.0, 0.5
"""A recording is one utterance, of a length between these."""
CUT_SECONDS = 8.0
"""Longer recordings are cut to utterances of up to this: short enough for prompts, long enough to speak in one breath."""
LEAST_RECORDINGS, LEAST_SECONDS = 6, 20.0
"""Fewer recordings, or less speech in all, are refused."""
LOUDEST = 0.99
"""Recordings are brought to the level of prompts, but never beyond this peak."""
FLOOR_DB = 40.0
"""Noise this far below the speech is put under every recording, as other recordings have it. Where a gate or a codec left
silence in the pauses, how deep it is cannot be foretold, and an adapter learns little else (docs/adapt.md)."""
SPEAKER = "voice"
NAMED = 10
"""So many of the files that something is the matter with are named in a message."""


@dataclass
class Survey:
    """The recordings that can be used, and the others with the reason."""

    utterances: list[Utterance]
    """Texts as they were given; None: to be transcribed."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Source → why it is not used."""

    @property
    def has_texts(self) -> bool:
        """Whether the texts were given."""
        return self.utterances[0].text is not None


@dataclass(frozen=True)
class Take:
    """A recording that is ready: cut to the speech in it, at the model's sample rate, with its words."""

    name: str
    """Of its file."""
    text: str
    seconds: float
    removed: str | None
    """Hum and the like that was taken out of it, in words."""


# ----------------------------------------------------------------------------------------------- what is there


def survey(root: Path, out: Path) -> Survey:
    """List recordings and look at their headers; nothing is read or written.

    Args:
        root: a folder of audio files with or without `name.txt` beside each, or with a list as `svae prepare jsonl` or
            `svae prepare ljspeech` read it; or such a list.
        out: the run folder, which may lie inside and is passed over.

    Raises:
        DataError: nothing is there, or nothing usable; only some recordings have a text; several speakers are named.
    """
    utterances = _listed(root, out)
    names = sorted({u.speaker for u in utterances})
    if len(names) > 1:
        raise DataError(
            f"{root}: names {len(names)} speakers ({', '.join(names[:3])}{' …' if len(names) > 3 else ''}), but a voice "
            "is one person's. Give the recordings of one."
        )
    found = Survey([])
    for utterance in utterances:
        reason = _unusable(utterance)
        if reason is None:
            found.utterances.append(utterance)
        else:
            found.left_out[utterance.segment] = reason
    if not found.utterances:
        raise DataError(f"{root}: no usable recording.\n{listed(found.left_out)}")
    _check_texts(root, found.utterances)
    return found


def must_be_cut(root: Path, out: Path) -> bool:
    """Tell whether recordings are more than one utterance a file: one file is given, or a folder holds one that is too long.

    A list says itself what is one utterance.
    """
    if root.is_file():
        return root.suffix.lower() in AUDIO_SUFFIXES
    if not root.is_dir() or (root / "metadata.csv").is_file() or any(root.glob("*.jsonl")):
        return False
    return any(audio_seconds(path) > MAX_SECONDS for path in audio_files(root, out))


def cut(
    root: Path,
    into: Path,
    judges: JudgesConfig,
    *,
    sample_rate: int,
    language: str | None,
    device: str,
    console: Console,
) -> Path:
    """Cut recordings of any length to utterances with their texts, as `svae prepare recordings` does, and return their list.

    Raises:
        ConfigError, DataError: what `prepare_recordings` raises.
    """
    if language is None:
        raise ConfigError(f"{root}: is cut by what is said in it; name --language")
    prepare_recordings(
        RecordingsOptions(
            root=root,
            out=into,
            speaker=SPEAKER,
            asr=judges.asr,
            language=language,
            device=device,
            limits=Limits(min_seconds=MIN_SECONDS, max_seconds=CUT_SECONDS),
            sample_rate=sample_rate,
        ),
        console,
    )
    return into / LIST


def listed(reasons: dict[str, str]) -> str:
    """Return lines that name files with their reasons, the first ones."""
    lines = [f"  {source}: {reason}" for source, reason in list(reasons.items())[:NAMED]]
    if len(reasons) > NAMED:
        lines.append(f"  … and {len(reasons) - NAMED} more")
    return "\n".join(lines)


def check_enough(root: Path, count: int, seconds: float | None = None) -> None:
    """Raise DataError where there is too little to learn a voice from; the seconds may not be known yet."""
    if count < LEAST_RECORDINGS or (seconds is not None and seconds < LEAST_SECONDS):
        length = "" if seconds is None else f", {seconds:.0f} s in all"
        raise DataError(
            f"{root}: too little: {count} usable recordings{length}; at least {LEAST_RECORDINGS} and "
            f"{LEAST_SECONDS:.0f} s are needed, some minutes are good.\n"
            "To speak like one short recording, nothing need be trained: svae synthesize --ref RECORDING"
        )


def _listed(root: Path, out: Path) -> list[Utterance]:
    if not root.exists():
        raise DataError(f"{root}: no such file or folder. Expected a folder of recordings.")
    if root.is_file():
        if root.suffix.lower() == ".csv":
            return list_utterances("ljspeech", root.parent)
        return list_utterances("jsonl", root)
    if (root / "metadata.csv").is_file():
        return list_utterances("ljspeech", root)
    if any(root.glob("*.jsonl")):
        return list_utterances("jsonl", root)
    return _beside(root, out)


def _beside(root: Path, out: Path) -> list[Utterance]:
    """List the audio files below a folder, with the texts beside them."""
    paths = audio_files(root, out)
    if not paths:
        raise DataError(
            f"{root}: no recording in it. Expected audio files ({', '.join(sorted(AUDIO_SUFFIXES)[:8])} …), each one "
            "utterance, with its words in NAME.txt beside it or without."
        )
    texts = read_texts([path.with_suffix(".txt") for path in paths])
    return [
        Utterance(key, path, text, SPEAKER, "en", path.relative_to(root).as_posix())
        for path, key, text in zip(paths, keys_of(root, paths), texts, strict=True)
    ]


def _unusable(utterance: Utterance) -> str | None:
    """Return why a recording cannot be used, as far as its header tells."""
    if not utterance.audio.is_file():
        return "no such file"
    seconds = utterance.duration
    if seconds is None:
        seconds = audio_seconds(utterance.audio)
        if seconds == 0:
            return None  # it does not say; reading it will tell
        seconds -= utterance.offset
    return _wrong_length(seconds)


def _wrong_length(seconds: float) -> str | None:
    if seconds > MAX_SECONDS:
        return f"{seconds:.1f} s long; at most {MAX_SECONDS:g} s a row of a list"
    if seconds < MIN_SECONDS:
        return f"{seconds:.2f} s long; at least {MIN_SECONDS:g} s"
    return None


def _check_texts(root: Path, utterances: Sequence[Utterance]) -> None:
    """Raise DataError where some recordings have a text and others do not: which is a mistake cannot be known."""
    missing = [u.segment for u in utterances if not normalize_text(u.text or "")]
    if missing and (len(missing) < len(utterances) or any(u.text is not None for u in utterances)):
        shown = ", ".join(missing[:NAMED]) + (" …" if len(missing) > NAMED else "")
        raise DataError(
            f"{root}: {len(missing)} of {len(utterances)} recordings have no text, or an empty one: {shown}.\n"
            "Write what is said in them, or take these recordings away; without any text all are transcribed by --asr."
        )


# ----------------------------------------------------------------------------------------------- made ready


@dataclass(frozen=True)
class Studio:
    """How recordings are made ready for a model."""

    folder: Path
    """Where they are kept, each with a JSON that says what it was made of."""
    sample_rate: int
    vocabulary: Vocabulary
    language: str | None
    recognizer: Recognizer | None
    """Transcribes what comes without a text."""

    def make(self, found: Survey, console: Console) -> list[Take]:
        """Make all recordings ready; those that turn out to be unusable go to `found.left_out`.

        Raises:
            ConfigError: the folder holds other recordings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        takes: list[Take] = []
        with console.status("Reading recordings") as status:
            for number, utterance in enumerate(found.utterances, 1):
                status.update(f"Reading recordings: {number} of {len(found.utterances)}")
                try:
                    takes.append(self._take(utterance))
                except DataError as error:
                    found.left_out[utterance.segment] = str(error)
        if not takes:
            raise DataError(f"no usable recording.\n{listed(found.left_out)}")
        self._claim(takes)
        if cleaned := [take for take in takes if take.removed]:
            console.print(
                f"Cleaned: {len(cleaned)} recordings, e.g. {escape(cleaned[0].name)}: {cleaned[0].removed}",
                highlight=False,
            )
        return takes

    def _take(self, utterance: Utterance) -> Take:
        """Make one recording ready, or find that it is. Raises DataError where it cannot be used."""
        audio = self.folder / f"{file_stem(utterance.key)}.flac"
        report = audio.with_suffix(".json")
        made_of = {
            "source": utterance.segment,
            "sha256": file_sha256(utterance.audio),
            "given": utterance.text,
            "asr": None if self.recognizer is None else self.recognizer.description,
            "sample_rate": self.sample_rate,
            "language": self.language,
        }
        made_of = json.loads(json.dumps(made_of))
        try:
            before = json.loads(report.read_text(encoding="utf-8"))
            if before["made_of"] == made_of and audio.is_file():
                return Take(audio.name, before["text"], before["seconds"], before["removed"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not made yet, or not whole
        waveform, removed = self._speech(utterance)
        text = self._text(utterance, waveform)
        save_audio(audio, waveform, self.sample_rate)
        seconds = waveform.shape[1] / self.sample_rate
        row = {"text": text, "seconds": seconds, "removed": removed, "made_of": made_of}
        write_text(report, json.dumps(row, ensure_ascii=False, indent=1) + "\n")
        return Take(audio.name, text, seconds, removed)

    def _speech(self, utterance: Utterance) -> tuple[Tensor, str | None]:
        """Return a recording (1, S) as references are made ready, at their level, and what was removed, in words."""
        try:
            waveform = read_audio(utterance, self.sample_rate)
        except AudioError as error:
            raise DataError(f"{error.reason}: {error}") from None
        if problem := _wrong_length(waveform.shape[1] / self.sample_rate):
            raise DataError(problem)
        waveform, removed = clean(waveform, self.sample_rate)
        waveform = trim_silence(waveform, self.sample_rate)
        level = float(waveform.square().mean().sqrt())
        if level < SILENT_RMS:
            raise DataError("silent")
        if waveform.shape[1] / self.sample_rate < MIN_SECONDS:
            raise DataError(f"less than {MIN_SECONDS:g} s of sound in it")
        gain = min(PROMPT_RMS / level, LOUDEST / float(waveform.abs().max()))
        return with_floor(waveform * gain), str(removed) if removed else None

    def _text(self, utterance: Utterance, waveform: Tensor) -> str:
        """Return what is said, spelled as the model reads it."""
        if utterance.text is not None:
            return prepare_prompt_text(utterance.text, self.vocabulary, language=self.language)
        assert self.recognizer is not None
        heard = self.recognizer.transcribe([waveform[0]], self.sample_rate)[0]
        text = fit_transcript(normalize_text(heard), self.vocabulary)
        if not text:
            raise DataError("no words were recognised in it")
        if unknown := self.vocabulary.unknown(text):
            raise DataError(f"heard {text!r}, but the model does not know {unknown!r}")
        return text

    def list_file(self) -> Path:
        """Return the list of what is ready, as `svae prepare jsonl` reads it and `svae adapt` too."""
        return self.folder.parent / "recordings.jsonl"

    def _claim(self, takes: Sequence[Take]) -> None:
        rows = [
            {"audio": f"{self.folder.name}/{take.name}", "text": take.text}
            | {"speaker": SPEAKER, "language": self.language or UNKNOWN}
            for take in takes
        ]
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path = self.list_file()
        if path.is_file() and path.read_text(encoding="utf-8") != content:
            raise ConfigError(
                f"{path.parent.parent}: was begun with other recordings or texts than these; choose another --out, or "
                "delete it to begin anew"
            )
        write_text(path, content)


def with_floor(waveform: Tensor) -> Tensor:
    """Return speech (1, S) with noise `FLOOR_DB` below it, the same at every call."""
    level = waveform.square().mean().sqrt() * 10 ** (-FLOOR_DB / 20)
    noise = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(0))
    return waveform + level * noise


def show_left_out(found: Survey, console: Console) -> None:
    """Name what is not used."""
    if found.left_out:
        console.print(
            f"[yellow]Left out: {len(found.left_out)} recordings[/]\n{escape(listed(found.left_out))}",
            highlight=False,
        )
