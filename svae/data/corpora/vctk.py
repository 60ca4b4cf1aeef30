"""VCTK, version 0.92 (two microphones, FLAC) and older ones (one, WAV)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from svae.data.corpora.corpus import Corpus, Utterance, possible_folders, read_texts, sanitize_key


class VCTK(Corpus):
    """44 hours of 110 speakers at 48 kHz."""

    name = "vctk"
    title = "VCTK"
    folder = Path("data/VCTK-Corpus-0.92")
    how_to_get = (
        "Download VCTK-Corpus-0.92.zip from https://datashare.ed.ac.uk/handle/10283/3443 (licence CC BY 4.0, 11 GB, "
        "110 speakers, 44 hours, 48 kHz). Unpack with `unzip VCTK-Corpus-0.92.zip -d data/VCTK-Corpus-0.92`. "
        "Or: svae download vctk."
    )
    layout = "wav48_silence_trimmed/pNNN/pNNN_NNN_mic1.flac (or wav48/pNNN/pNNN_NNN.wav) and txt/pNNN/pNNN_NNN.txt"

    def utterances(self, root: Path, subsets: Sequence[str]) -> list[Utterance]:
        """List one recording a sentence: the first microphone's, or the second's where that is the only one."""
        for base in possible_folders(root, "VCTK-Corpus-0.92", "VCTK-Corpus"):
            takes = _takes(base)
            if takes:
                return _with_texts(base, takes)
        raise self.missing(root, "no wav48_silence_trimmed/ or wav48/ with audio")


def _takes(base: Path) -> dict[str, Path]:
    for folder, pattern in (("wav48_silence_trimmed", "*/*_mic[12].flac"), ("wav48", "*/*.wav")):
        takes: dict[str, Path] = {}
        # Sorted: where both microphones are there, mic1 comes first and stays.
        for audio in sorted((base / folder).glob(pattern)):
            takes.setdefault(re.sub(r"_mic\d$", "", audio.stem), audio)
        if takes:
            return takes
    return {}


def _with_texts(base: Path, takes: dict[str, Path]) -> list[Utterance]:
    texts = read_texts(
        [base / "txt" / audio.parent.name / f"{take}.txt" for take, audio in takes.items()]
    )
    return [
        Utterance(
            key=sanitize_key(take),
            audio=audio,
            text=text,
            speaker=audio.parent.name,
            language="en",
            source=audio.relative_to(base).as_posix(),
        )
        for (take, audio), text in zip(takes.items(), texts, strict=True)
    ]


CORPORA = (VCTK(),)
