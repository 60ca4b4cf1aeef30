"""What two or more systems said, found in result folders or folders of wavs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from svae.audio import AUDIO_SUFFIXES
from svae.errors import ConfigError, DataError
from svae.evaluation.compare import read_results


@dataclass(frozen=True)
class Material:
    """The recordings that a listening test plays."""

    recordings: dict[str, dict[str, Path]]
    """System → item → file."""
    folders: dict[str, Path]
    """System → where it was found."""
    texts: dict[str, str]
    """Item → what is said, where it is known."""
    references: dict[str, Path]
    """Item → the voice that is wanted, where it is a file."""
    left_out: int
    """Items that not all systems have."""

    @property
    def items(self) -> list[str]:
        """What all systems said."""
        return list(next(iter(self.recordings.values())))


def find_material(systems: Sequence[str]) -> Material:
    """Read what each argument, DIR or NAME=DIR, holds: a result folder of `svae evaluate`, or recordings ID.wav.

    Of a result with several seeds the first is taken.

    Raises:
        ConfigError: a name twice. DataError: nothing there, or nothing that all have said.
    """
    folders: dict[str, Path] = {}
    for text in systems:
        name, equals, folder = text.partition("=")
        named = bool(equals) and not Path(text).is_dir()
        path = Path(folder if named else text)
        label = name if named else path.resolve().name
        if not label or label in folders:
            raise ConfigError(f"listen {text!r}: every system needs a name of its own: NAME={path}")
        folders[label] = path
    found: dict[str, dict[str, Path]] = {}
    texts: dict[str, str] = {}
    references: dict[str, Path] = {}
    for label, place in folders.items():
        if (place / "metrics.json").is_file():
            metrics, rows = read_results(place)
            first = metrics["system_recordings"][0]
            found[label] = {}
            for row in rows:
                scored = row.recordings.get(first)
                # What is missing or unreadable was judged wrong already; nobody can hear it.
                if scored is not None and scored.error is None:
                    found[label][row.id] = Path(scored.audio)
                known = texts.setdefault(row.id, row.text)
                if known != row.text:
                    raise DataError(
                        f"listen {place}: {row.id!r} says another text than in the others"
                    )
                if row.prompt is not None and Path(row.prompt).is_file():
                    references.setdefault(row.id, Path(row.prompt))
        elif place.is_dir():
            files = sorted(p for p in place.iterdir() if p.suffix.lower() in AUDIO_SUFFIXES)
            found[label] = {path.stem: path for path in files}
        else:
            raise DataError(f"listen {place}: no such folder")
        if not found[label]:
            raise DataError(
                f"listen {place}: neither a result of `svae evaluate` nor recordings ID.wav"
            )
    # What no system said is left out too: the texts of results tell of it.
    all_items = list(dict.fromkeys([*(item for of in found.values() for item in of), *texts]))
    common = [item for item in all_items if all(item in of for of in found.values())]
    if not common:
        raise DataError(
            f"listen: no utterance is in all of {', '.join(map(str, folders.values()))}"
        )
    recordings = {label: {item: of[item] for item in common} for label, of in found.items()}
    return Material(recordings, folders, texts, references, len(all_items) - len(common))
