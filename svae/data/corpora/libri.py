"""LibriTTS and LibriSpeech: SUBSET/SPEAKER/CHAPTER/RECORDING."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from svae.data.corpora.corpus import (
    Corpus,
    Utterance,
    possible_folders,
    read_text,
    read_texts,
    sanitize_key,
)
from svae.errors import DataError


class _Libri(Corpus):
    """What the two have in common; they differ in the audio format and in where the texts are."""

    suffix: str
    has_subsets = True

    @abstractmethod
    def texts(self, recordings: list[Path]) -> list[str | None]:
        """Return the text of each recording."""

    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List the chosen subsets; none chosen: those for training, or all where there is none for training."""
        available = self._subsets(root)
        if not available:
            raise self.missing(
                root, f"no folder of the form SUBSET/SPEAKER/CHAPTER with {self.suffix} files"
            )
        unknown = [subset for subset in subsets if subset not in available]
        if unknown:
            raise DataError(
                f"--subset {unknown[0]}: not in {root.absolute()}. There: {', '.join(sorted(available))}.\n"
                f"{self.how_to_get}"
            )
        training = [subset for subset in available if subset.startswith("train-")]
        recordings = [
            recording
            for subset in sorted(set(subsets)) or training or sorted(available)
            for chapter in sorted(available[subset].glob("*/*"))
            for recording in sorted(chapter.glob(f"*{self.suffix}"))
        ]
        return [
            Utterance(
                key=sanitize_key(recording.stem),
                audio=recording,
                text=text,
                speaker=recording.parent.parent.name,
                language="en",
                source="/".join(recording.parts[-4:]),
            )
            for recording, text in zip(recordings, self.texts(recordings), strict=True)
        ]

    def _subsets(self, root: Path) -> dict[str, Path]:
        """Return the folders that hold recordings, those at the root before those in a folder below."""
        return {
            folder.name: folder
            for base in reversed(possible_folders(root, self.title))
            for folder in sorted(base.iterdir())
            if folder.is_dir() and next(folder.glob(f"*/*/*{self.suffix}"), None) is not None
        }


class LibriTTS(_Libri):
    """585 hours at 24 kHz, cut at sentences, texts with punctuation."""

    name = "libritts"
    title = "LibriTTS"
    folder = Path("data/LibriTTS")
    how_to_get = (
        "Download from https://www.openslr.org/60/ (licence CC BY 4.0, 585 hours, 24 kHz): train-clean-100 7.7 GB, "
        "train-clean-360 27 GB, train-other-500 44 GB, dev-clean 1.2 GB, dev-other 0.9 GB, test-clean 1.2 GB, "
        "test-other 1.0 GB; one is enough. Unpack with `tar -xzf train-clean-100.tar.gz -C data`. "
        "Or: svae download libritts --subset train-clean-100."
    )
    layout = "SUBSET/SPEAKER/CHAPTER/ID.wav with ID.normalized.txt beside it"
    suffix = ".wav"

    def texts(self, recordings: list[Path]) -> list[str | None]:
        """Read the file beside each recording."""
        return read_texts([recording.with_suffix(".normalized.txt") for recording in recordings])


class LibriSpeech(_Libri):
    """1000 hours at 16 kHz, texts in capitals."""

    name = "librispeech"
    title = "LibriSpeech"
    folder = Path("data/LibriSpeech")
    how_to_get = (
        "Download from https://www.openslr.org/12/ (licence CC BY 4.0, 1000 hours, 16 kHz): train-clean-100 6.3 GB, "
        "train-clean-360 23 GB, train-other-500 30 GB, dev-clean, dev-other, test-clean and test-other about "
        "0.3 GB each; one is enough. Unpack with `tar -xzf train-clean-100.tar.gz -C data`. "
        "Or: svae download librispeech --subset train-clean-100."
    )
    layout = "SUBSET/SPEAKER/CHAPTER/ID.flac with SPEAKER-CHAPTER.trans.txt beside them"
    suffix = ".flac"

    def texts(self, recordings: list[Path]) -> list[str | None]:
        """Read the .trans.txt of every chapter: `ID TEXT` a line.

        Raises:
            DataError: an id has two texts.
        """
        texts: dict[str, str] = {}
        for chapter in dict.fromkeys(recording.parent for recording in recordings):
            for path in sorted(chapter.glob("*.trans.txt")):
                # Not splitlines: it also cuts at U+2028 and its like, and a text would lose its end.
                for number, line in enumerate((read_text(path) or "").split("\n"), 1):
                    key, text = [*re.split("[ \t]+", line.strip(), maxsplit=1), ""][:2]
                    if texts.setdefault(key, text) != text:
                        raise DataError(
                            f"{path}, line {number}: {key} has the text {text[:60]!r} here and {texts[key][:60]!r} "
                            "before. Expected one text an id; delete the wrong line."
                        )
        return [texts.get(recording.stem) for recording in recordings]


CORPORA = (LibriTTS(), LibriSpeech())
