"""One shard: a plain tar file that webdataset reads, and beside it a jsonl that says where each sample lies in it.

The same samples give the same bytes on any machine. No file appears under its final name before it is complete.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from svae.errors import DataError
from svae.runtime.files import atomic_path, file_sha256, write_text

REMAKE = "Run `svae prepare` (or `svae encode`) again with another --out, or copy the folder again."


@dataclass(frozen=True)
class ShardItem:
    """One sample to be written."""

    key: str
    """Unique over the folder; letters, digits, `-` and `_` are safe; no `.`, `/` or white space."""
    members: dict[str, bytes]
    """Extension → content, e.g. `flac` or `npy`. `json` is added from `metadata`."""
    num_samples: int
    sample_rate: int
    speaker: str
    language: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    """More for key.json: source, raw_text, …"""


def shard_name(number: int) -> str:
    """Return the file name of shard `number`."""
    return f"shard-{number:05d}.tar"


def write_shard(root: str | Path, number: int, items: Iterable[ShardItem]) -> dict[str, Any]:
    """Write one shard and its jsonl under temporary names, then rename both, the tar last.

    The samples are consumed one at a time, so that a generator keeps memory small. The shard's entry for index.json
    is returned.

    Raises:
        DataError: a key that cannot be in a webdataset, or the folder cannot be written.
    """
    root = Path(root)
    tar_path = root / shard_name(number)
    rows_path = tar_path.with_suffix(".jsonl")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with atomic_path(tar_path) as temporary:
            with open(temporary, "wb") as file:
                rows = _write_tar(file, number, items)
            _locate_members(temporary, rows)
            # The rows first: a shard counts as finished when its tar is there.
            write_text(
                rows_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            )
    except OSError as error:
        raise DataError(
            f"{tar_path}: cannot be written ({error.strerror or error}). Free space or choose another --out."
        ) from error
    return describe_shard(root, number)


def describe_shard(root: str | Path, number: int) -> dict[str, Any]:
    """Compute the entry for index.json of a shard that lies in `root` (reads it all for the sha256)."""
    path = Path(root) / shard_name(number)
    rows = read_rows(path.with_suffix(".jsonl"))
    return {
        "name": path.name,
        "utterances": len(rows),
        "seconds": round(sum(row["duration_seconds"] for row in rows), 3),
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        **describe_rows(path.with_suffix(".jsonl")),
    }


def describe_rows(path: Path) -> dict[str, Any]:
    """Return what an entry for index.json says of a shard's jsonl: by it a copy from elsewhere is checked."""
    return {"rows_bytes": path.stat().st_size, "rows_sha256": file_sha256(path)}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a jsonl file of shard rows. Raises DataError where it is missing or damaged."""
    try:
        return parse_rows(path.read_bytes(), path)
    except FileNotFoundError:
        raise DataError(
            f"{path}: missing; it says where the samples lie in the tar. {REMAKE}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: damaged ({error}). {REMAKE}") from error


def parse_rows(data: bytes, path: Path) -> list[dict[str, Any]]:
    """Return the rows of a jsonl file's content. Raises DataError, which names `path`, where it is damaged."""
    try:
        # Not splitlines: a text may hold a separator of lines that JSON leaves as it is.
        return [json.loads(line) for line in data.decode().split("\n") if line]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}). {REMAKE}") from error


def _write_tar(file: BinaryIO, number: int, items: Iterable[ShardItem]) -> list[dict[str, Any]]:
    """Write the samples; return the rows of the jsonl, without the members' places."""
    import webdataset  # imports torch and more: only writers pay for it

    rows = []
    # encoder=False: contents are bytes already. Everything that could differ between two runs is fixed.
    with webdataset.TarWriter(file, user="svae", group="svae", mtime=0, encoder=False) as writer:
        for item in items:
            if not item.key or any(char in "./\\" or char.isspace() for char in item.key):
                raise DataError(
                    f"sample key {item.key!r}: must not be empty nor hold '.', '/' or white space."
                )
            row = {
                "key": item.key,
                "shard": number,
                "duration_seconds": round(item.num_samples / item.sample_rate, 6),
                "num_samples": item.num_samples,
                "speaker": item.speaker,
                "language": item.language,
                "text": item.text,
            }
            public = {name: value for name, value in row.items() if name != "shard"}
            public |= {"sample_rate": item.sample_rate, **item.metadata}
            members = {**item.members, "json": json.dumps(public, ensure_ascii=False).encode()}
            writer.write({"__key__": item.key, **members})
            row["crc32"] = {name: zlib.crc32(members[name]) for name in sorted(members)}
            rows.append(row)
    return rows


def _locate_members(tar_path: Path, rows: list[dict[str, Any]]) -> None:
    """Fill in offset and size of every member, as the tar itself tells them."""
    places: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    with tarfile.open(tar_path, "r:") as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            places[key][extension] = (member.offset_data, member.size)
    if len(places) != len(rows):
        raise DataError(
            f"{tar_path}: {len(rows)} samples, but only {len(places)} different keys. Keys must be unique."
        )
    for row in rows:
        row["members"] = places[row["key"]]
