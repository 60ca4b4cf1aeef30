"""Files and folders that are whole or absent: atomic writes, hashes, and the lock of a folder."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svae.errors import ConfigError
from svae.runtime.remote import is_url, place_of

MAX_NAME_BYTES = 255
"""Of a file's name on ext4, XFS, APFS, NTFS (in characters there) and network file systems; bytes, not characters."""
MAX_STEM_BYTES = 240
"""Of a name without its suffix: room for `.normalized.txt` and the like."""
LOCK_NAME = ".lock"
"""The file in a folder that says which process works there."""


# ----------------------------------------------------------------------------------------------- whole or absent


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends without an error.

    A reader never sees half a file. What a killed process leaves has a name that `leftovers` finds and no pattern like
    `*.tar` does.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; put it in the place of `path` when the block ends without an error.

    Everything in it is on the disk before it gets its name.
    """
    path = Path(path)
    temporary = _temporary(path)
    # A process that had the same number may have left one.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for entry in temporary.rglob("*"):
            sync(entry)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all, and wait until it is on the disk."""
    with atomic_path(path) as temporary:
        # The line ends of the text as they are, on every system: hashes depend on them.
        temporary.write_text(text, encoding="utf-8", newline="\n")


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files and folders that killed processes left in a folder."""
    return sorted(folder.glob(".*.tmp-*"))


def remove_leftovers(folder: Path) -> None:
    """Delete what killed processes left in a folder, where nobody else is writing now."""
    for leftover in leftovers(folder):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    ending = f".tmp-{os.getpid()}"
    name = f".{path.name}{ending}"
    if len(os.fsencode(name)) > MAX_NAME_BYTES >= len(os.fsencode(path.name)):
        # The name itself fits, and so must this one.
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{ending}"
    return path.with_name(name)


def file_stem(key: str) -> str:
    """Return what files of a key are called, before a suffix like `.flac`: the key itself wherever that fits.

    A longer one is cut at a whole character and gets a hash of all of it, so that different keys stay different.
    """
    data = key.encode()
    if len(data) <= MAX_STEM_BYTES:
        return key
    digest = hashlib.sha256(data).hexdigest()[:16]
    head = data[: MAX_STEM_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{head}-{digest}"


def telling_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of different paths that tell them apart."""
    parts = [path.resolve().parts for path in paths]
    size = next(n for n in itertools.count(1) if len({p[-n:] for p in parts}) == len(parts))
    return ["/".join(p[-size:]) for p in parts]


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def writable_folder(path: str | Path, *, option: str) -> Path:
    """Create an output folder and prove that it can be written to.

    `option` is what named it, for the message.

    Raises:
        ConfigError: It cannot be created or written to.
    """
    folder = Path(path)
    _refuse_url(folder, option)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{option} {folder}: cannot write there: {error.strerror}. Choose another {option}."
        ) from None
    return folder


def check_writable(path: str | Path, *, option: str) -> None:
    """Tell, without creating anything, whether `writable_folder` would succeed.

    Raises:
        ConfigError: it would not.
    """
    _refuse_url(Path(path), option)
    folder = Path(path).absolute()
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "not writable" if existing.is_dir() else "not a folder"
        raise ConfigError(
            f"{option} {path}: cannot write there: {existing} is {reason}. Choose another {option}."
        )


def _refuse_url(path: Path, option: str) -> None:
    # A folder of the name `s3:` is what nobody means.
    if is_url(path):
        raise ConfigError(
            f"{option} {place_of(path)}: has to be a folder on this machine; only shards go to a URL."
        )


def files_below(folder: Path, without: Path | None = None) -> list[Path]:
    """Return the files below a folder, sorted; in linked folders too, each of which is looked into once.

    Args:
        folder: where to look.
        without: a folder, which need not exist, whose files are not meant.
    """
    unwanted = None if without is None else os.path.realpath(without)
    seen: set[str] = set()
    found: list[Path] = []
    starts = [str(folder)]
    for (
        start
    ) in starts:  # which grows: links wait, so that a folder is met first where it lies itself
        for path, folders, names in os.walk(start):
            real = os.path.realpath(path)
            if real in seen or (unwanted is not None and Path(real).is_relative_to(unwanted)):
                folders.clear()
                continue
            seen.add(real)
            below = sorted(os.path.join(path, name) for name in folders)
            starts += [each for each in below if os.path.islink(each)]
            found += [Path(path, name) for name in names]
    return sorted(path for path in found if path.is_file())


# ----------------------------------------------------------------------------------------------- one job in a folder


@contextmanager
def folder_lock(path: str | Path) -> Iterator[None]:
    """Keep other processes out of an existing folder until the block ends, with or without an error.

    The lock is a file that names host and process. It is created exclusively, which is atomic on network file systems
    too, where flock is not to be relied on. A lock whose process no longer runs on this host is taken over; whether a
    process on another host still runs cannot be seen from here, so its lock is respected, unless it is of the same job of
    torchrun (`--rdzv-id`): torchrun starts that job's processes again only when those before have ended or are cut off.

    Raises:
        ConfigError: Another process holds the folder, or the lock cannot be written.
    """
    lock = Path(path) / LOCK_NAME
    own = json.dumps(_this_process()) + "\n"
    try:
        try:
            _create(lock, own)
        except FileExistsError:
            _take_over(lock, own)
    except OSError as error:
        raise ConfigError(
            f"{lock}: the folder cannot be locked: {error.strerror}. Choose another folder or make room."
        ) from None
    try:
        yield
    finally:
        # Not where somebody deleted the lock by hand and another process holds the folder now.
        if _read(lock) == own:
            lock.unlink(missing_ok=True)


def check_unlocked(path: str | Path) -> None:
    """Raise ConfigError where a living process holds the lock of a folder, which need not exist."""
    lock = Path(path) / LOCK_NAME
    if lock.exists() and not _is_dead(_read(lock)):
        raise _in_use(lock)


def _create(path: Path, text: str) -> None:
    """Write a file that must not exist yet.

    Raises:
        FileExistsError: It exists.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)


def _take_over(lock: Path, own: str) -> None:
    """Put this process into the place of a dead one.

    Raises:
        ConfigError: The process lives, is on another host, or another process is just taking its place.
    """
    if not _is_dead(_read(lock)):
        raise _in_use(lock)
    # Of several processes that see the dead one at the same time only the first may replace it, and the lock itself
    # is never absent meanwhile: it can neither be created anew nor be taken from who just took it.
    claim = lock.with_name(f"{LOCK_NAME}-takeover")
    try:
        _create(claim, own)
    except FileExistsError:
        raise ConfigError(
            f"{lock.parent}: another process is just taking this folder over from one that died. "
            f"Wait for it, or delete {claim} if none is running."
        ) from None
    try:
        if not _is_dead(_read(lock)):
            raise _in_use(lock)
        with atomic_path(lock) as temporary:
            temporary.write_text(own, encoding="utf-8")
    finally:
        claim.unlink(missing_ok=True)


def _in_use(lock: Path) -> ConfigError:
    holder = _parsed(_read(lock))
    who = (
        f"process {holder['pid']} on host {holder['host']} since {holder['since']}"
        if holder
        else "another process"
    )
    unseen = ""
    if holder and holder["host"] != socket.gethostname():
        unseen = f" Whether it still runs cannot be seen from {socket.gethostname()}: look there."
    return ConfigError(
        f"{lock.parent}: {who} is working in this folder.{unseen} "
        f"Wait for it or choose another folder; if it no longer runs, delete {lock}."
    )


def _read(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _parsed(text: str) -> dict[str, Any] | None:
    """Return what a lock says; None where it is empty, as in the moment after it was created, or damaged."""
    try:
        holder = json.loads(text)
        return holder if {"host", "pid", "started", "since"} <= holder.keys() else None
    except (ValueError, AttributeError):
        return None


def _is_dead(text: str) -> bool:
    """Return whether a lock names a process of this host that has ended, or one of this job on a host that was lost."""
    holder = _parsed(text)
    if holder is None:
        return False
    if holder["host"] != socket.gethostname():
        return holder.get("job") is not None and holder["job"] == _torchrun_job()
    try:
        os.kill(holder["pid"], 0)
    except OSError as error:
        # EPERM: it runs, and belongs to somebody else.
        return error.errno == errno.ESRCH
    # Another process may have the number by now: in a restarted container that is the rule.
    return holder["started"] is not None and _start_of(holder["pid"]) != holder["started"]


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "job": _torchrun_job(),
    }


def _torchrun_job() -> str | None:
    """Return the id of the job of torchrun that this process is of; None where there is none of its own."""
    job = os.environ.get("TORCHELASTIC_RUN_ID")
    # `none` is what torchrun says without --rdzv-id.
    return None if job in (None, "", "none") else job


def _start_of(pid: int) -> str | None:
    """Return when a process began, in the kernel's clock ticks; None where /proc does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Field 22; the second one, the program's name, may hold blanks and ends with the last parenthesis.
    return stat.rpartition(")")[2].split()[19]
