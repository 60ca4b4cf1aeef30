"""Unpacking tars and zips that came from elsewhere: files and folders below one folder, and nothing else."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from svae.errors import DataError


def unpack(archive: Path, folder: Path, advance: Callable[[int], object]) -> int:
    """Write what is in an archive to an empty folder; return the number of files.

    Args:
        archive: .zip, or a tar that may be compressed.
        folder: what it is unpacked to; links, devices and names that lead out of it are refused.
        advance: hears how many bytes of the archive were read since it was called last.

    Raises:
        DataError: such a name, a damaged archive, or no space left.
    """
    files = 0
    try:
        reader = _zip_members if archive.suffix == ".zip" else _tar_members
        with reader(archive, advance) as members:
            for name, content in members:
                target = _place(folder, name, archive)
                if content is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as file:  # nothing is written twice
                    shutil.copyfileobj(content, file, 1 << 20)
                files += 1
    except OSError as error:
        # A damaged gzip or bzip2 is an OSError too, but one without a number.
        if error.errno is None:
            raise _damaged(archive, error) from error
        raise DataError(
            f"{archive}: cannot be unpacked to {folder} ({error.strerror}{_of(error)}). Make room, or choose another --to; "
            "the archive is kept."
        ) from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise _damaged(archive, error) from error
    return files


@contextmanager
def _tar_members(
    archive: Path, advance: Callable[[int], object]
) -> Iterator[Iterator[tuple[str, IO[bytes] | None]]]:
    """Give the names of a tar's members, each with its content; None for a folder."""
    with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:

        def members() -> Iterator[tuple[str, IO[bytes] | None]]:
            read = 0
            for member in tar:
                if not (member.isdir() or member.isreg()):
                    raise DataError(
                        f"{archive}: {member.name!r} is a link or a device. Expected files and folders; not unpacked."
                    )
                yield member.name, None if member.isdir() else tar.extractfile(member)
                # tarfile keeps all members: a gigabyte for a million files
                tar.members = []  # type: ignore[attr-defined]  # not in typeshed
                advance(file.tell() - read)
                read = file.tell()

        yield members()


@contextmanager
def _zip_members(
    archive: Path, advance: Callable[[int], object]
) -> Iterator[Iterator[tuple[str, IO[bytes] | None]]]:
    with zipfile.ZipFile(archive) as whole:

        def members() -> Iterator[tuple[str, IO[bytes] | None]]:
            for member in whole.infolist():
                if member.is_dir():
                    yield member.filename, None
                else:
                    with whole.open(member) as content:
                        yield member.filename, content
                advance(member.compress_size)

        yield members()


def _place(folder: Path, name: str, archive: Path) -> Path:
    """Return where a member goes. Raises DataError where that is not below the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise DataError(
            f"{archive}: {name!r} leads out of the folder that it is unpacked to. Nothing of it is used."
        )
    return folder.joinpath(*path.parts)


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"{archive}: damaged ({error}). Delete it and download it again.")


def _of(error: OSError) -> str:
    return f": {error.filename}" if error.filename else ""
