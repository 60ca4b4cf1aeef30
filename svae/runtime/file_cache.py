"""A bounded folder of files from elsewhere, shared by the processes of a machine: each is fetched once, and whole or absent.

A file is called by the sha256 of its content. `.part` files are being fetched: whoever fetches one holds its lock (flock, which the
kernel lets go when a process dies), the others wait for it. They count towards the limit with the size that they will have.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from svae.errors import ConfigError, DataError

FOLDER_VARIABLE, SIZE_VARIABLE = "SVAE_CACHE", "SVAE_CACHE_SIZE"
DEFAULT_SIZE = "50G"
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_POLL = 0.05
"""Seconds between looks at whether room was made by another process."""
_TOUCH = 5.0
"""Seconds for which a file counts as just used: a file read thousands of times is not marked at each."""
IN_USE = 60.0
"""Seconds in which a file counts as in use, or as about to be: what is fetched ahead of need does not push it out."""
THREADS = 2
"""Files that a process fetches at a time ahead of need."""

Fetch = Callable[[BinaryIO], None]
"""Writes a file's content into the open file, checked, or raises."""


@dataclass(frozen=True)
class FileCache:
    """A folder of at most `limit` bytes, from which what was not used for longest goes first."""

    folder: Path
    limit: int

    @contextlib.contextmanager
    def open(self, name: str, size: int, fetch: Fetch) -> Iterator[FileIO]:
        """Give a file, open for reading and unbuffered; fetch it if it is not there.

        Raises:
            DataError: it is larger than the whole cache, the disk is full, or what `fetch` raises.
        """
        path = self.folder / name
        while True:
            try:
                file = open(path, "rb", buffering=0)
            except FileNotFoundError:
                self.get(name, size, fetch)
                continue  # another process may have removed it again by now
            with file:
                found = os.fstat(file.fileno())
                if found.st_size != size:
                    path.unlink(missing_ok=True)
                    continue
                if time.time() - found.st_mtime > _TOUCH:
                    os.utime(file.fileno())
                yield file
                return

    def get(self, name: str, size: int, fetch: Fetch, *, ahead: bool = False) -> None:
        """See that a file is there; `ahead` of need only where nothing goes for it that is in use. Raises what `open` does."""
        path, part = self.folder / name, self.folder / f"{name}.part"
        if path.exists():
            return
        if size > self.limit:
            raise DataError(
                f"{self.folder}: the cache may take {self.limit / 1e9:.3g} GB, and one file alone has {size / 1e9:.3g} GB. "
                f"Raise {SIZE_VARIABLE}."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(part) as file:
                if path.exists():  # by whoever had the lock before
                    _remove_own(part, file)
                    return
                try:
                    if not self._make_room(size, file, keep=IN_USE if ahead else 0.0):
                        return
                    fetch(file)
                    file.flush()
                    os.fsync(file.fileno())
                    part.replace(path)
                finally:
                    _remove_own(part, file)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise DataError(
                f"{path}: cannot be written ({error.strerror or error}). Make room, or choose another folder "
                f"by {FOLDER_VARIABLE} or a lower {SIZE_VARIABLE}."
            ) from error

    def _make_room(self, size: int, file: BinaryIO, *, keep: float) -> bool:
        """Remove what was not used for longest until `size` bytes fit, and take them for the open file.

        What was used in the last `keep` seconds stays; where that leaves no room, the answer is False.
        """
        while True:
            with _locked(self.folder / ".room"):
                own = os.fstat(file.fileno()).st_ino
                total = size
                ready: list[tuple[float, int, Path]] = []
                for entry in os.scandir(self.folder):
                    if entry.name.startswith(".") or entry.is_dir() or entry.inode() == own:
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        state = entry.stat()
                        if not entry.name.endswith(".part"):
                            ready.append((state.st_mtime, state.st_size, Path(entry.path)))
                        elif _removed_if_abandoned(Path(entry.path)):
                            continue
                        total += state.st_size
                for used, freed, path in sorted(ready):
                    if total <= self.limit or time.time() - used < keep:
                        break
                    path.unlink(missing_ok=True)
                    total -= freed
                if total <= self.limit:
                    # Not written yet, but counted by whoever looks next.
                    os.ftruncate(file.fileno(), size)
                    return True
                if keep:
                    return False
            time.sleep(_POLL)  # others are fetching; one of them will be done


class Ahead:
    """Fetches files in threads of this process before they are asked for. What fails here fails where it is needed."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._process = -1

    def submit(self, task: Callable[[], None]) -> None:
        """Do something soon; its errors are dropped."""
        if (
            self._process != os.getpid()
        ):  # the first time, or after a fork, which takes no threads along
            self._process = os.getpid()
            self._tasks = queue.SimpleQueue()
            for _ in range(THREADS):
                threading.Thread(target=self._work, args=(self._tasks,), daemon=True).start()
        self._tasks.put(task)

    @staticmethod
    def _work(tasks: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            task = tasks.get()
            with contextlib.suppress(Exception):
                task()


def open_cache() -> FileCache:
    """Return the cache of this machine, as the environment says.

    Raises:
        ConfigError: a size that is none.
    """
    return FileCache(
        cache_folder() / "files", parse_size(os.environ.get(SIZE_VARIABLE) or DEFAULT_SIZE)
    )


def cache_folder() -> Path:
    """Return the folder for what is kept of other places: $SVAE_CACHE, or ~/.cache/svae."""
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given) if given else Path.home() / ".cache" / "svae"


def parse_size(text: str) -> int:
    """Return the bytes of `20G`, `500M` and the like. Raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ConfigError(f"{SIZE_VARIABLE}={text!r}: expected a size such as 20G or 500M.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


# ----------------------------------------------------------------------------------------------- locks


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Give a file that no other process has locked, made if need be."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):
                continue  # whoever had it took it away
            try:
                yield file
            finally:
                # Said, not left to closing: a process forked meanwhile has the file open too.
                fcntl.flock(file, fcntl.LOCK_UN)
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _remove_own(part: Path, file: BinaryIO) -> None:
    if _is_at(part, file):
        part.unlink(missing_ok=True)


def _removed_if_abandoned(part: Path) -> bool:
    """Remove a `.part` file that nobody fetches any more, as its process died; return whether it was one."""
    try:
        with open(part, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_own(part, file)
            return True
    except BlockingIOError:
        return False
