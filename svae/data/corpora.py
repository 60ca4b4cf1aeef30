"""Speech corpora as lists of utterances: which files, who speaks, what is said. No audio is read here."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from svae.assets import asset_path
from svae.errors import DataError


@dataclass(frozen=True)
class Utterance:
    """One recording and its transcript."""

    key: str
    """Unique in the corpus; letters, digits, `-` and `_` only."""
    audio: Path
    text: str | None
    """As the corpus has it; None where the corpus has no transcript of it at all."""
    speaker: str
    language: str
    source: str
    """The audio file relative to the corpus folder, as stored in the shards."""


@dataclass(frozen=True)
class Corpus:
    """What a person needs to know to get a corpus."""

    title: str
    folder: Path
    """Where it is looked for by default."""
    how_to_get: str
    layout: str


CORPORA = {
    "sample": Corpus(
        title="embedded sample",
        folder=asset_path("sample"),
        how_to_get="It is part of the package: the installation is damaged; install svae again.",
        layout="metadata.jsonl and audio/",
    ),
    "libritts": Corpus(
        title="LibriTTS",
        folder=Path("data/LibriTTS"),
        how_to_get=(
            "Download from https://www.openslr.org/60/ (licence CC BY 4.0, 585 hours, 24 kHz): train-clean-100 7.7 GB, "
            "train-clean-360 27 GB, train-other-500 44 GB, dev-clean 1.2 GB, dev-other 0.9 GB, test-clean 1.2 GB, "
            "test-other 1.0 GB; one is enough. Unpack with `tar -xzf train-clean-100.tar.gz -C data`."
        ),
        layout="SUBSET/SPEAKER/CHAPTER/ID.wav with ID.normalized.txt beside it",
    ),
    "librispeech": Corpus(
        title="LibriSpeech",
        folder=Path("data/LibriSpeech"),
        how_to_get=(
            "Download from https://www.openslr.org/12/ (licence CC BY 4.0, 1000 hours, 16 kHz): train-clean-100 6.3 GB, "
            "train-clean-360 23 GB, train-other-500 30 GB, dev-clean, dev-other, test-clean and test-other about "
            "0.3 GB each; one is enough. Unpack with `tar -xzf train-clean-100.tar.gz -C data`."
        ),
        layout="SUBSET/SPEAKER/CHAPTER/ID.flac with SPEAKER-CHAPTER.trans.txt beside them",
    ),
    "ljspeech": Corpus(
        title="LJSpeech",
        folder=Path("data/LJSpeech-1.1"),
        how_to_get=(
            "Download LJSpeech-1.1.tar.bz2 from https://keithito.com/LJ-Speech-Dataset/ (public domain, 2.6 GB, one "
            "speaker, 24 hours, 22.05 kHz). Unpack with `tar -xjf LJSpeech-1.1.tar.bz2 -C data`."
        ),
        layout="metadata.csv (ID|text|normalised text) and wavs/ID.wav",
    ),
    "vctk": Corpus(
        title="VCTK",
        folder=Path("data/VCTK-Corpus-0.92"),
        how_to_get=(
            "Download VCTK-Corpus-0.92.zip from https://datashare.ed.ac.uk/handle/10283/3443 (licence CC BY 4.0, 11 GB, "
            "110 speakers, 44 hours, 48 kHz). Unpack with `unzip VCTK-Corpus-0.92.zip -d data/VCTK-Corpus-0.92`."
        ),
        layout="wav48_silence_trimmed/pNNN/pNNN_NNN_mic1.flac (or wav48/pNNN/pNNN_NNN.wav) and txt/pNNN/pNNN_NNN.txt",
    ),
}
"""Corpora that `svae prepare` knows; `jsonl` besides is any list of a user's own."""


def iter_corpus(name: str, root: Path, subsets: Sequence[str] = ()) -> list[Utterance]:
    """List the utterances of a corpus, sorted by key.

    Args:
        name: `sample`, `libritts`, `librispeech`, `ljspeech`, `vctk` or `jsonl`.
        root: the corpus' folder or the one it lies in; for jsonl the file, or a folder with one .jsonl file.
        subsets: for LibriTTS and LibriSpeech, which to take. None given: the train-* subsets that are there, so that
            test speakers do not get into training unasked; all that are there where none begins with train-.

    Raises:
        DataError: nothing is found (says how to get the corpus), an unknown subset, a malformed list, or a file
            that is listed twice.
    """
    root = Path(root)
    if subsets and name not in ("libritts", "librispeech"):
        raise DataError(
            f"--subset {' '.join(subsets)}: {name} has no subsets. Leave the option out."
        )
    match name:
        case "libritts" | "librispeech":
            found = _libri(name, root, subsets)
        case "ljspeech":
            found = _ljspeech(root)
        case "vctk":
            found = _vctk(root)
        case "sample" | "jsonl":
            found = _jsonl(name, root)
        case _:
            raise DataError(
                f"corpus {name!r}: unknown. Expected one of {', '.join(CORPORA)}, jsonl."
            )
    if not found:
        raise _missing(name, root, "no utterance was found there")
    return sorted(_unique(found, root), key=lambda utterance: utterance.key)


def sanitize_key(name: str) -> str:
    """Replace everything but letters, digits, `-` and `_` by `_`: a key must survive in a webdataset member's name."""
    return re.sub(r"[^\w-]", "_", name)


def _missing(name: str, root: Path, what: str) -> DataError:
    if name == "jsonl":
        return DataError(
            f"{root}: {what}. Expected one JSON object a line with audio, text and, if known, speaker."
        )
    corpus = CORPORA[name]
    return DataError(
        f"{corpus.title} was not found in {root.absolute()}: {what}.\n{corpus.how_to_get}\n"
        f"Expected layout: {corpus.layout}.\nThen run: svae prepare {name} --root {corpus.folder}"
    )


def _unique(utterances: list[Utterance], root: Path) -> list[Utterance]:
    """Refuse a file listed twice; add a hash of the path to the keys of different files that would have the same."""
    twice = [source for source, count in Counter(u.source for u in utterances).items() if count > 1]
    if twice:
        raise DataError(
            f"{root}: {twice[0]} is listed more than once ({len(twice)} such files). Every recording must occur once."
        )
    counts = Counter(utterance.key for utterance in utterances)
    return [
        u
        if counts[u.key] == 1
        else replace(u, key=f"{u.key}-{hashlib.sha256(u.source.encode()).hexdigest()[:10]}")
        for u in utterances
    ]


def _base(root: Path, *names: str) -> list[Path]:
    """Return where a corpus may begin: at the root, or in a folder of its own name below."""
    return [folder for folder in (root, *(root / name for name in names)) if folder.is_dir()]


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None


def _read_texts(paths: list[Path]) -> list[str | None]:
    """Read many small files; on a network disk each one waits, so many wait at once."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(_read_text, paths))


# ----------------------------------------------------------------------------------------------- LibriTTS, LibriSpeech


def _libri(name: str, root: Path, subsets: Sequence[str]) -> list[Utterance]:
    suffix = {"libritts": ".wav", "librispeech": ".flac"}[name]
    available = {
        folder.name: folder
        for base in reversed(_base(root, CORPORA[name].title))
        for folder in sorted(base.iterdir())
        if folder.is_dir() and next(folder.glob(f"*/*/*{suffix}"), None) is not None
    }
    if not available:
        raise _missing(
            name, root, f"no folder of the form SUBSET/SPEAKER/CHAPTER with {suffix} files"
        )
    unknown = [subset for subset in subsets if subset not in available]
    if unknown:
        raise DataError(
            f"--subset {unknown[0]}: not in {root.absolute()}. There: {', '.join(sorted(available))}.\n"
            f"{CORPORA[name].how_to_get}"
        )
    chosen = (
        sorted(set(subsets))
        or [n for n in available if n.startswith("train-")]
        or sorted(available)
    )
    chapters = [chapter for subset in chosen for chapter in sorted(available[subset].glob("*/*"))]
    recordings = [audio for chapter in chapters for audio in sorted(chapter.glob(f"*{suffix}"))]
    if name == "libritts":
        texts = _read_texts([audio.with_suffix(".normalized.txt") for audio in recordings])
    else:
        spoken = {key: text for chapter in chapters for key, text in _transcripts(chapter).items()}
        texts = [spoken.get(audio.stem) for audio in recordings]
    return [
        Utterance(
            key=sanitize_key(audio.stem),
            audio=audio,
            text=text,
            speaker=audio.parent.parent.name,
            language="en",
            source="/".join(audio.parts[-4:]),
        )
        for audio, text in zip(recordings, texts, strict=True)
    ]


def _transcripts(chapter: Path) -> dict[str, str]:
    """Read the .trans.txt of a LibriSpeech chapter: `ID TEXT` a line."""
    lines = [
        line
        for path in sorted(chapter.glob("*.trans.txt"))
        for line in (_read_text(path) or "").splitlines()
    ]
    pairs = (line.partition(" ") for line in lines)
    return {key: text for key, _, text in pairs if key}


# ----------------------------------------------------------------------------------------------- LJSpeech, VCTK


def _ljspeech(root: Path) -> list[Utterance]:
    base = next(
        (base for base in _base(root, "LJSpeech-1.1") if (base / "metadata.csv").is_file()), None
    )
    if base is None:
        raise _missing("ljspeech", root, "no metadata.csv")
    found = []
    # Not the csv module: the texts hold quotation marks that mean nothing to the format.
    for number, line in enumerate((_read_text(base / "metadata.csv") or "").splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split("|")
        if len(fields) < 2 or not fields[0].strip():
            raise DataError(
                f"{base / 'metadata.csv'}, line {number}: expected ID|text|normalised text, got {line[:80]!r}."
            )
        audio = base / "wavs" / f"{fields[0].strip()}.wav"
        text = fields[2] if len(fields) > 2 and fields[2].strip() else fields[1]
        found.append(
            Utterance(
                sanitize_key(audio.stem),
                audio,
                text,
                "LJ",
                "en",
                audio.relative_to(base).as_posix(),
            )
        )
    return found


def _vctk(root: Path) -> list[Utterance]:
    for base in _base(root, "VCTK-Corpus-0.92", "VCTK-Corpus"):
        for folder, pattern in (
            ("wav48_silence_trimmed", "*/*_mic[12].flac"),
            ("wav48", "*/*.wav"),
        ):
            # Sorted: where both microphones are there, mic1 comes first and stays.
            takes: dict[str, Path] = {}
            for audio in sorted((base / folder).glob(pattern)):
                takes.setdefault(re.sub(r"_mic\d$", "", audio.stem), audio)
            if takes:
                texts = _read_texts(
                    [
                        base / "txt" / audio.parent.name / f"{take}.txt"
                        for take, audio in takes.items()
                    ]
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
    raise _missing("vctk", root, "no wav48_silence_trimmed/ or wav48/ with audio")


# ----------------------------------------------------------------------------------------------- lists


def _jsonl(name: str, root: Path) -> list[Utterance]:
    path = _jsonl_file(name, root)
    found = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"{path}, line {number}")
        audio = Path(row["audio"])
        place = audio.as_posix()
        if audio.is_absolute() and audio.is_relative_to(path.parent.absolute()):
            place = audio.relative_to(path.parent.absolute()).as_posix()
        found.append(
            Utterance(
                key=sanitize_key(re.sub(r"(?<=[^/])\.[^./]*$", "", place).strip("/")),
                audio=path.parent / audio,
                text=row.get("text"),
                speaker=row.get("speaker") or "unknown",
                language=row.get("language") or "unknown",
                source=place,
            )
        )
    return found


def _jsonl_file(name: str, root: Path) -> Path:
    if root.is_file():
        return root
    if not root.is_dir():
        raise _missing(name, root, "no such file or folder")
    lists = sorted(root.glob("*.jsonl"))
    if (root / "metadata.jsonl") in lists:
        return root / "metadata.jsonl"
    if len(lists) != 1:
        raise _missing(
            name,
            root,
            f"{len(lists)} .jsonl files there; give one with --root, or call it metadata.jsonl",
        )
    return lists[0]


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}). Expected one object a line.") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{place}: got {type(row).__name__}. Expected an object with audio, text, speaker."
        )
    if not isinstance(row.get("audio"), str) or not row["audio"]:
        raise DataError(
            f"{place}: `audio` is {row.get('audio')!r}. Expected the path of a file, from {place.split(',')[0]}."
        )
    for field in ("text", "speaker", "language"):
        if row.get(field) is not None and not isinstance(row[field], str):
            raise DataError(
                f"{place}: `{field}` is {row[field]!r}. Expected text in quotation marks."
            )
    return row
