"""Which recordings a folder holds, who speaks in each, and which text lies beside it."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from svae.audio import AUDIO_SUFFIXES
from svae.data.corpora.corpus import sanitize_key
from svae.errors import DataError
from svae.runtime.files import file_stem, files_below
from svae.runtime.text_files import check_characters

TEXT_SUFFIXES = (".txt",)
SUBTITLE_SUFFIXES = (".srt", ".vtt")
_LANGUAGE = re.compile(r"\.[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
NAMED = 5
"""So many files are named in a message."""


@dataclass(frozen=True)
class Recording:
    """A file in which somebody speaks, as long as it may be."""

    key: str
    """Unique in the folder; its segments are named after it."""
    path: Path
    source: str
    """Relative to the folder."""
    speaker: str
    text: Path | None
    """The text or the subtitles beside it."""


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    recordings: list[Recording]
    notes: list[str]
    """What is not used, for printing."""


def audio_files(root: Path, out: Path | None = None) -> list[Path]:
    """Return the audio files below a folder in the order of their names; not those in `out`, nor hidden ones."""
    return [path for path in _files(root, out) if path.suffix.lower() in AUDIO_SUFFIXES]


def keys_of(root: Path, paths: Sequence[Path]) -> list[str]:
    """Return a key for each file below a folder; a hash where names differ only in what a key does not tell apart."""
    names = [path.relative_to(root).as_posix() for path in paths]
    keys = [sanitize_key(path.relative_to(root).with_suffix("").as_posix()) for path in paths]
    counts = Counter(keys)
    return [
        file_stem(
            key if counts[key] == 1 else f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"
        )
        for name, key in zip(names, keys, strict=True)
    ]


def find_recordings(root: Path, out: Path, speaker: str | None = None) -> Found:
    """List the recordings in a folder; only names are looked at.

    Args:
        root: below it, one folder a speaker, in which files lie as deep as they may; or anything, with `speaker`, also one file.
        out: where the result goes; may lie inside and is passed over.
        speaker: who speaks in all of them; None: the folder's name says.

    Raises:
        DataError: no such folder, nothing in it, recordings that no folder gives a speaker, or two subtitles for one.
    """
    if not root.exists():
        raise DataError(
            f"--root {root}: no such folder (looked from {Path.cwd()}). Expected a folder of recordings."
        )
    if speaker is not None:
        check_characters(speaker, "--speaker")
        if not speaker.strip():
            raise DataError("--speaker: empty. Expected a name, or leave the option out.")
    if root.is_file():
        root, files = root.parent, _same_name(root)
    else:
        files = _files(root, out)
    paths = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not paths:
        raise DataError(
            f"--root {root}: no recording in it ({len(files)} other files). Expected audio files: "
            f"{', '.join(AUDIO_SUFFIXES)}."
        )
    for path in paths:
        check_characters(path.relative_to(root).as_posix(), f"{root}: the name of a file")
    alone = [path.name for path in paths if path.parent == root]
    if alone and speaker is None:
        raise DataError(
            f"--root {root}: who speaks in {_shown(alone)}? A folder below it is a speaker, but "
            f"{len(alone)} of {len(paths)} recordings lie in no such folder. Move them into one, or pass --speaker NAME if "
            "one person speaks in all."
        )
    beside = _texts_of(files)
    recordings, used, notes = [], set(), []
    for path, key in zip(paths, keys_of(root, paths), strict=True):
        text, others = _text_beside(path, beside)
        used |= {text, *others}
        source = path.relative_to(root).as_posix()
        if others:
            notes.append(
                f"{source}: {text.name if text else ''} is taken, which has times, and "
                f"{_shown([other.name for other in others])} not."
            )
        name = speaker if speaker is not None else path.relative_to(root).parts[0]
        recordings.append(Recording(key, path, source, name, text))
    rest = [p.relative_to(root).as_posix() for p in files if p not in used and p not in set(paths)]
    if rest:
        notes.append(
            f"not used, since it is neither audio nor a text of that name: {_shown(rest)}."
        )
    return Found(recordings, notes)


def _files(root: Path, out: Path | None) -> list[Path]:
    return [
        path
        for path in files_below(root, without=out)
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]


def _same_name(path: Path) -> list[Path]:
    """Return a recording and what lies beside it under its name, but no other recording."""
    return [
        other
        for other in sorted(path.parent.glob(f"{glob.escape(path.stem)}.*"))
        if other == path or (other.is_file() and other.suffix.lower() not in AUDIO_SUFFIXES)
    ]


def _texts_of(files: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return name → its texts: `talk` has talk.txt, talk.srt, and talk.en.vtt, which says its language; talk.mp3 has talk.mp3.srt."""
    beside: dict[Path, list[Path]] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix in TEXT_SUFFIXES + SUBTITLE_SUFFIXES:
            bare = path.with_suffix("")
            beside.setdefault(bare, []).append(path)
            if suffix in SUBTITLE_SUFFIXES and _LANGUAGE.fullmatch(bare.suffix):
                beside.setdefault(bare.with_suffix(""), []).append(path)
    return beside


def _text_beside(path: Path, beside: dict[Path, list[Path]]) -> tuple[Path | None, list[Path]]:
    """Return the text of a recording, subtitles rather than plain, and those that are not needed then."""
    there = [*beside.get(path.with_suffix(""), []), *beside.get(path, [])]
    timed = [text for text in there if text.suffix.lower() in SUBTITLE_SUFFIXES]
    plain = [text for text in there if text.suffix.lower() in TEXT_SUFFIXES]
    for texts in (timed, plain):
        if len(texts) > 1:
            raise DataError(
                f"{path}: which is its text, {_shown([text.name for text in texts])}? Expected one; take the other away."
            )
    if timed:
        return timed[0], plain
    return (plain[0] if plain else None), []


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (
        f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    )
