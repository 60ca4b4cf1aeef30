"""Datasets of the hub or of a folder, by the package datasets: rows are streamed, their audio stays bytes until svae decodes it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from svae.data.corpora.corpus import sanitize_key
from svae.data.streams.fields import FieldError, Fields, choose_fields, lookup, values
from svae.data.streams.source import MAX_PARTS, Recording, Source, SourceError
from svae.errors import ConfigError, DataError
from svae.runtime.files import file_stem

FIRST_ROWS = 32
"""Looked at to learn which fields there are."""


@dataclass
class HuggingFace(Source):
    """A split of a dataset as a source; its files are the parts."""

    dataset: Any
    """An IterableDataset that decodes nothing."""
    name: str
    """Of the dataset and its split, for people."""
    local: bool
    """Whether it lies in a folder here, whose rows may name other files of this machine."""
    labels: Mapping[str, Sequence[str]]
    """Columns of numbers that stand for names."""
    fields: Fields
    identity: dict[str, Any]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        count = min(self.dataset.num_shards, MAX_PARTS)
        self.parts = [f"{self.name}, part {number} of {count}" for number in range(count)]
        self.has_text = self.fields.text is not None

    def read(self, part: int) -> Iterator[Recording]:
        """Read the rows of a part."""
        rows = self.dataset.shard(num_shards=len(self.parts), index=part)
        with _named(self.parts[part]):
            for number, row in enumerate(rows):
                yield self._recording(f"{part:05d}-{number:07d}", part, number, row)

    def _recording(self, key: str, part: int, number: int, row: dict[str, Any]) -> Recording:
        found = next((v for n in self.fields.audio if (v := lookup(row, n)) is not None), None)
        path = found.get("path") if isinstance(found, Mapping) else None
        file = (
            PurePosixPath(str(path).replace("\\", "/")).name
            if path
            else str(row.get("__key__", ""))
        )
        source = f"{self.name}/{part:05d}/{number}" + (f"/{file}" if file else "")
        stem = sanitize_key(file.partition(".")[0])
        key = file_stem(f"{key}-{stem}" if stem else key)
        try:
            audio = self._audio(found)
            return Recording(
                key, source, audio, **values(named(row, self.labels), self.fields, source)
            )
        except FieldError as error:
            return Recording(key, source, b"", problem=("malformed", str(error)))
        except FileNotFoundError as error:
            return Recording(key, source, b"", problem=("missing", str(error)))

    def _audio(self, value: Any) -> bytes:
        """Return the bytes of an audio file, from the row or from where it points.

        Raises:
            FieldError: the row has no audio, or none that is a file.
            FileNotFoundError: it points to nothing that may be read.
        """
        if isinstance(value, bytes):
            return value
        if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
            return bytes(value["bytes"])
        path = value.get("path") if isinstance(value, Mapping) else value
        if path is None:
            raise FileNotFoundError(f"no {' or '.join(self.fields.audio)} in this row")
        if not isinstance(path, str):
            raise FieldError(
                f"{self.fields.audio[0]} is {type(path).__name__}. Expected the bytes or the path of an audio file"
            )
        anchor = path.rpartition("::")[2]  # zip://a.wav::/folder/audio.zip lies in the folder
        remote = "://" in anchor
        if remote == self.local or (not remote and not Path(anchor).is_file()):
            raise FileNotFoundError(f"{path}: no such file in this dataset")
        if anchor == path and not remote:
            return Path(path).read_bytes()
        from datasets.utils.file_utils import xopen

        with xopen(path, "rb") as file:
            return bytes(file.read())


def open_huggingface(
    repository: str,
    asked: Fields,
    *,
    subset: str | None = None,
    split: str | None = None,
    revision: str | None = None,
) -> HuggingFace:
    """Open a dataset, and look at its first rows to learn what is in it.

    Args:
        repository: `owner/name` on the hub, or a folder here: parquet, audio files with metadata, or one by save_to_disk.
        asked: fields that the user named; others are found.
        subset: configuration, where the dataset has several.
        split: None: train, or the only one.
        revision: branch, tag or commit on the hub; None: the newest. What it stands for now is kept.

    Raises:
        ConfigError: the package datasets is not installed.
        DataError: no such dataset, split or field.
    """
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            "svae prepare huggingface takes the package datasets: pip install 'svae[huggingface]'."
        ) from None
    folder = Path(repository)
    local = folder.is_dir()
    if not folder.exists() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository):
        raise DataError(
            f"{repository}: no such folder (looked from {Path.cwd()}), and no name on the hub, which is OWNER/NAME."
        )
    with _named(repository):
        if not local:
            if folder.is_file():
                raise DataError(
                    f"{repository}: a file. Expected a folder, or owner/name on the hub."
                )
            revision = _commit(repository, revision)
        loaded = _loaded(datasets, repository, subset, revision)
        found, dataset = _split(loaded, split, repository)
        features = dataset.features or {}
        sounds = [name for name, kind in features.items() if isinstance(kind, datasets.Audio)]
        if len(sounds) == 1 and not asked.audio:
            asked = replace(asked, audio=tuple(sounds))
        labels = {
            name: list(kind.names)
            for name, kind in features.items()
            if isinstance(kind, datasets.ClassLabel)
        }
        from svae.data.streams.hub_audio import StoredAudio

        # Nothing is decoded: not audio, which svae reads by itself, and not images or videos, which nobody asked for.
        for name in sounds:
            dataset = dataset.cast_column(name, StoredAudio(decode=False))
        dataset = dataset.decode(False)
        first = [named(row, labels) for row in dataset.take(FIRST_ROWS)]
    if not first:
        raise DataError(f"{repository}, {found}: no rows.")
    fields, notes = choose_fields(asked, first, f"{repository}, {found}")
    columns = sorted(
        {_column(name, first[0]) for name in fields.named} | ({"__key__"} & first[0].keys())
    )
    called = folder.resolve().name if local else repository
    identity = {
        "repository": called,
        "subset": subset,
        "split": found,
        "revision": None if local else revision,
        "files": _files(folder) if local else None,
        "fields": asdict(fields),
    }
    if not local:
        notes = [f"{repository} at {revision}.", *notes]
    return HuggingFace(
        dataset.select_columns(columns), f"{called}/{found}", local, labels, fields, identity, notes
    )


def named(row: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return a row with the names that numbers in it stand for; -1 stands for none."""
    return {
        name: (labels[name][value] if 0 <= value < len(labels[name]) else None)
        if name in labels and isinstance(value, int)
        else value
        for name, value in row.items()
    }


def _loaded(datasets: Any, repository: str, subset: str | None, revision: str | None) -> Any:
    """Return the splits of a dataset by name."""
    folder = Path(repository)
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        saved = datasets.load_from_disk(repository)
        splits = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
        return {
            name: split.to_iterable_dataset(num_shards=max(len(split.cache_files), 1))
            for name, split in splits.items()
        }
    return datasets.load_dataset(repository, name=subset, revision=revision, streaming=True)


def _split(loaded: Mapping[str, Any], split: str | None, repository: str) -> tuple[str, Any]:
    """Return the split that is meant. Raises DataError where it is not there, or is not said."""
    there = ", ".join(loaded)
    if split is None:
        split = "train" if "train" in loaded or len(loaded) != 1 else next(iter(loaded))
    if split not in loaded:
        raise DataError(f"{repository}: no split {split!r}. There: {there}. Choose with --split.")
    return split, loaded[split]


def _commit(repository: str, revision: str | None) -> str:
    """Return what a revision stands for now, so that a resumed run reads the same."""
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(repository, revision=revision).sha)


def _files(folder: Path) -> str:
    """Return a hash of the names and sizes of a folder's files."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(folder).as_posix()}\n{path.stat().st_size}\n".encode())
    return found.hexdigest()


def _column(name: str, row: Mapping[str, Any]) -> str:
    """Return the column that a field is in."""
    return max(
        (column for column in row if name == column or name.startswith(f"{column}.")), key=len
    )


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn what datasets, the hub and Arrow raise into an error that names the source."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:  # each of the three has errors of its own, and many
        reason = str(error).strip() or type(error).__name__
        lines = [line.strip() for line in reason.splitlines() if line.strip()]
        raise SourceError(f"{where}: cannot be read: {' '.join(lines)[:500]}") from error
