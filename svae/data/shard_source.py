"""Where a folder of shards lies: on a disk, or on a server with a cache before it. The index asks here for every file.

A local shard is opened where it is. One from elsewhere is fetched whole into the cache of the machine (`runtime/file_cache`), checked by
the sha256 in index.json, and opened there; reads by offset are the same then.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from svae.data.shard_writer import REMAKE, parse_rows, read_rows
from svae.errors import DataError
from svae.runtime import remote
from svae.runtime.file_cache import IN_USE, SIZE_VARIABLE, Ahead, cache_folder, open_cache
from svae.runtime.files import atomic_folder
from svae.runtime.http import RemoteError
from svae.runtime.remote import Url, place_of

Shard = dict[str, Any]
"""An entry of index.json: name, utterances, seconds, bytes, sha256, rows_sha256 of the jsonl (not in folders made before 2026-12)."""
Planned = TypeVar("Planned")

AHEAD_SHARDS = 4
"""New shards that a reader asks for before it needs them."""
AHEAD_BATCHES = 500
"""Batches that are planned ahead, at most, to find them."""
LISTINGS = 16
"""Files of rows that are fetched at the same time."""


class ShardFiles(Protocol):
    """The files of a folder of shards."""

    root: Path

    def index_text(self) -> str:
        """Return index.json. Raises DataError where it is not there or cannot be read."""

    def all_rows(self, shards: Sequence[Shard]) -> Iterator[list[dict[str, Any]]]:
        """Yield the rows of every shard, once it is known to be there with the right number of bytes.

        Raises:
            DataError: a shard or its rows are missing, or of another size.
        """

    def open(self, shard: Shard) -> AbstractContextManager[FileIO]:
        """Give a shard, open for reading by offset. Raises OSError, or DataError where it cannot be fetched."""

    def need(self, shards: Iterable[Shard]) -> None:
        """Hear which shards will be opened soon."""

    def folder(self, name: str, *, version: str) -> Path:
        """Return a folder beside the shards, whose content has a version by which it is known again."""


class LocalShards:
    """A folder on a disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def index_text(self) -> str:
        """See the protocol."""
        path = self.root / "index.json"
        if not self.root.is_dir():
            raise DataError(
                f"{self.root}: no such folder (looked from {Path.cwd()}). `svae prepare` makes folders of waveforms, "
                "`svae encode` of latents, `svae cache-teacher` of a teacher's features; --out names them."
            )
        if not path.is_file():
            unfinished = any(self.root.glob("shard-*.tar")) or (self.root / "plan.json").exists()
            raise DataError(
                f"{self.root}: no index.json. "
                + ("Preparation was interrupted: run the same `svae prepare` command again, it goes on where it stopped."
                   if unfinished else "Expected a folder written by `svae prepare` or `svae encode`.")
            )  # fmt: skip
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: damaged or not an index of shards ({type(error).__name__}: {error}). {REMAKE}"
            ) from error

    def all_rows(self, shards: Sequence[Shard]) -> Iterator[list[dict[str, Any]]]:
        """See the protocol."""
        for shard in shards:
            path = self.root / shard["name"]
            _check_size(path, shard, path.stat().st_size if path.is_file() else None)
            yield read_rows(path.with_suffix(".jsonl"))

    def open(self, shard: Shard) -> AbstractContextManager[FileIO]:
        """See the protocol."""
        return open(self.root / shard["name"], "rb", buffering=0)

    def need(self, shards: Iterable[Shard]) -> None:
        """Do nothing: they are here."""

    def folder(self, name: str, *, version: str) -> Path:
        """See the protocol."""
        return self.root / name


class RemoteShards:
    """A folder on a server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache = open_cache()
        self._ahead = Ahead()
        self._fetched: dict[str, float] = {}
        """Name → when this process fetched it last."""
        self._said_small = False
        self._report = partial(print, "note:", file=sys.stderr, flush=True)

    def index_text(self) -> str:
        """See the protocol."""
        try:
            return remote.read_bytes(self.root / "index.json", on_retry=self._report).decode()
        except FileNotFoundError:
            raise DataError(
                f"{self.root}: no index.json there. Expected a folder written by `svae prepare` or `svae encode` and "
                "copied whole."
            ) from None
        except UnicodeDecodeError as error:
            raise DataError(f"{self.root}/index.json: damaged ({error}). {REMAKE}") from None

    def all_rows(self, shards: Sequence[Shard]) -> Iterator[list[dict[str, Any]]]:
        """See the protocol; rows with a known hash are kept in the cache."""
        found = remote.sizes(self.root)
        if found is not None:
            for shard in shards:
                _check_size(self.root / shard["name"], shard, found.get(shard["name"]))
        if any("rows_sha256" not in shard for shard in shards):
            self._report(
                f"{self.root}: index.json has no hashes of the rows, so they are checked by their number alone and "
                "fetched each time."
            )
        with ThreadPoolExecutor(LISTINGS) as pool:
            yield from pool.map(self._rows, shards)

    def _rows(self, shard: Shard) -> list[dict[str, Any]]:
        path = (self.root / shard["name"]).with_suffix(".jsonl")
        if "rows_sha256" in shard:
            digest, size = shard["rows_sha256"], shard["rows_bytes"]
            fetch = partial(self._fetch, path, size, digest)
            with self._cache.open(f"{digest}.jsonl", size, fetch) as file:
                data = file.read()
        else:
            try:
                data = remote.read_bytes(path, on_retry=self._report)
            except FileNotFoundError:
                raise _not_there(path) from None
        return parse_rows(data, path)

    def open(self, shard: Shard) -> AbstractContextManager[FileIO]:
        """See the protocol."""
        return self._cache.open(_cached_name(shard), shard["bytes"], self._fetch_shard(shard))

    def need(self, shards: Iterable[Shard]) -> None:
        """See the protocol."""
        for shard in shards:
            get = partial(self._cache.get, _cached_name(shard), shard["bytes"])
            self._ahead.submit(partial(get, self._fetch_shard(shard), ahead=True))

    def folder(self, name: str, *, version: str) -> Path:
        """See the protocol: fetched beside the cache, which does not count it."""
        here = cache_folder() / "folders" / f"{name}-{version}"
        if not here.is_dir():
            here.parent.mkdir(parents=True, exist_ok=True)
            there = self.root / name
            listed = remote.sizes(there)
            if listed is None:
                raise DataError(
                    f"{there}: its server does not list folders; copy it here and pass it as an option"
                )
            if not listed:
                raise _not_there(there)
            with atomic_folder(here) as temporary:
                for file, size in listed.items():
                    with open(temporary / file, "wb") as out:
                        self._fetch(there / file, size, None, out)
        return here

    def _fetch_shard(self, shard: Shard) -> Callable[[BinaryIO], None]:
        name, size, sha256 = shard["name"], shard["bytes"], shard["sha256"]

        def fetch(file: BinaryIO) -> None:
            now = time.monotonic()
            if now - self._fetched.get(name, -IN_USE) < IN_USE and not self._said_small:
                self._said_small = True
                self._report(
                    f"{self.root / name}: is fetched again within a minute: more is read at the same time than the cache "
                    f"holds ({self._cache.limit / 1e9:.3g} GB). Raise {SIZE_VARIABLE}, or lower loader.num_workers or "
                    "loader.shuffle_shards."
                )
            self._fetched[name] = now
            self._fetch(self.root / name, size, sha256, file)

        return fetch

    def _fetch(self, url: Path, size: int, sha256: str | None, file: BinaryIO) -> None:
        try:
            remote.fetch(url, file, size=size, sha256=sha256, on_retry=self._report)
        except FileNotFoundError:
            raise _not_there(url) from None

    # What is on its way belongs to a process; another one that is given this begins anew.
    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteShards, (self.root,)


class JoinedShards:
    """The shards of several folders under names of their own."""

    def __init__(self, root: Path, parts: Sequence[tuple[ShardFiles, Shard, str]]) -> None:
        self.root = root
        self._first = parts[0][0]
        self._of = {name: (files, shard) for files, shard, name in parts}

    def index_text(self) -> str:
        """Raise DataError: a mixture is made of indexes."""
        raise DataError(f"{self.root}: several folders have no index.json in common")

    def all_rows(self, shards: Sequence[Shard]) -> Iterator[list[dict[str, Any]]]:
        """See the protocol."""
        for shard in shards:
            files, own = self._of[shard["name"]]
            yield from files.all_rows([own])

    def open(self, shard: Shard) -> AbstractContextManager[FileIO]:
        """See the protocol."""
        files, own = self._of[shard["name"]]
        return files.open(own)

    def need(self, shards: Iterable[Shard]) -> None:
        """See the protocol."""
        for shard in shards:
            files, own = self._of[shard["name"]]
            files.need([own])

    def folder(self, name: str, *, version: str) -> Path:
        """Return that of the first folder: those of all have the same version."""
        return self._first.folder(name, version=version)


def shard_files(root: str | Path) -> ShardFiles:
    """Return the files of a folder or a URL.

    Raises:
        ConfigError: the cache's size is none.
    """
    place = place_of(root)
    return RemoteShards(place) if isinstance(place, Url) else LocalShards(place)


def read_text(path: Path) -> str:
    """Return a small text file of a folder or a URL. Raises FileNotFoundError, UnicodeDecodeError, OSError, RemoteError."""
    place = place_of(path)
    if isinstance(place, Url):
        return remote.read_bytes(place).decode()
    return place.read_text(encoding="utf-8")


def announced(
    batches: Iterator[Planned],
    shards_of: Callable[[Planned], Iterable[int]],
    need: Callable[[list[int]], None],
) -> Iterator[Planned]:
    """Yield planned batches unchanged, and call `need` with the shards of coming ones before their turn.

    So many batches are planned ahead that `AHEAD_SHARDS` shards beyond those in use have been asked for.
    """
    waiting: deque[tuple[Planned, set[int], int]] = deque()
    used: Counter[int] = Counter()
    fresh = 0
    while True:
        while fresh <= AHEAD_SHARDS and len(waiting) < AHEAD_BATCHES:
            batch = next(batches, None)
            if batch is None:
                break
            shards = set(shards_of(batch))
            new = [number for number in dict.fromkeys(shards_of(batch)) if not used[number]]
            if new:
                need(new)
            used.update(shards)
            waiting.append((batch, shards, len(new)))
            fresh += len(new)
        if not waiting:
            return
        batch, shards, new_count = waiting.popleft()
        fresh -= new_count
        yield batch
        used.subtract(shards)


def _cached_name(shard: Shard) -> str:
    return f"{shard['sha256']}.tar"


def _check_size(path: Path, shard: Shard, size: int | None) -> None:
    if size is None:
        raise DataError(
            f"{path}: missing, but index.json lists it ({shard['utterances']} utterances). {REMAKE}"
        )
    if size != shard["bytes"]:
        state = "truncated" if size < shard["bytes"] else "changed"
        raise DataError(
            f"{path}: {state}: {size} bytes, index.json says {shard['bytes']}. {REMAKE}"
        )


def _not_there(url: Path) -> RemoteError:
    return RemoteError(
        f"{url}: not there, but index.json lists it. Copy the folder again, index.json last."
    )
