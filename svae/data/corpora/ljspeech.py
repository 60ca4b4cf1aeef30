"""LJSpeech: metadata.csv and wavs/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from svae.data.corpora.corpus import Corpus, Utterance, possible_folders, sanitize_key
from svae.errors import DataError
from svae.runtime.text_files import read_utf8


class LJSpeech(Corpus):
    """24 hours of one speaker at 22.05 kHz."""

    name = "ljspeech"
    title = "LJSpeech"
    folder = Path("data/LJSpeech-1.1")
    how_to_get = (
        "Download LJSpeech-1.1.tar.bz2 from https://keithito.com/LJ-Speech-Dataset/ (public domain, 2.6 GB, one "
        "speaker, 24 hours, 22.05 kHz). Unpack with `tar -xjf LJSpeech-1.1.tar.bz2 -C data`."
    )
    layout = "metadata.csv (ID|text|normalised text) and wavs/ID.wav"

    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List the rows of metadata.csv, with the normalised text where there is one."""
        for base in possible_folders(root, "LJSpeech-1.1"):
            if (base / "metadata.csv").is_file():
                return _read_list(base)
        raise self.missing(root, "no metadata.csv")


def _read_list(base: Path) -> list[Utterance]:
    path = base / "metadata.csv"
    found = []
    # Not the csv module: the texts hold quotation marks that mean nothing to the format. Not splitlines: it also cuts
    # at U+2028 and its like, and a text would lose its end.
    for number, line in enumerate(read_utf8(path).split("\n"), 1):
        if not line.strip():
            continue
        fields = line.split("|")
        if len(fields) < 2 or not fields[0].strip():
            raise DataError(
                f"{path}, line {number}: expected ID|text|normalised text, got {line[:80]!r}."
            )
        audio = base / "wavs" / f"{fields[0].strip()}.wav"
        found.append(
            Utterance(
                key=sanitize_key(audio.stem),
                audio=audio,
                text=fields[2] if len(fields) > 2 and fields[2].strip() else fields[1],
                speaker="LJ",
                language="en",
                source=audio.relative_to(base).as_posix(),
            )
        )
    return found


CORPORA = (LJSpeech(),)
