"""Files and folders that are whole or absent: atomic writes, hashes, locks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svae.errors import ConfigError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends without an error.

    A reader never sees half a file. What a killed process leaves has a name that `leftovers` finds and no pattern like
    `*.tar` does.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all, and wait until it is on the disk."""
    with atomic_path(path) as temporary:
        # The line ends of the text as they are, on every system: hashes depend on them.
        temporary.write_text(text, encoding="utf-8", newline="\n")


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files that killed processes left in a folder."""
    return sorted(folder.glob(".*.tmp-*"))


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

    Args:
        path: The folder.
        option: The option or field that named it, for the message.

    Raises:
        ConfigError: It cannot be created or written to.
    """
    folder = Path(path)
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
