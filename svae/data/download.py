"""`svae download`: published corpora, fetched, checked and unpacked; what was interrupted goes on where it was.

TO/downloads/CORPUS/NAME.part    what has come so far
TO/downloads/CORPUS/NAME         whole and checked
TO/downloads/CORPUS/SUBSET.json  that it is unpacked, or just being moved to its place
TO/FOLDER                        the corpus as `svae prepare` reads it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from svae.data.archives import PUBLISHED, Archive, Published
from svae.data.unpack import unpack
from svae.errors import DataError
from svae.runtime.files import (
    folder_lock,
    remove_leftovers,
    sync,
    writable_folder,
    write_text,
)
from svae.runtime.http import HttpFile, RemoteError

BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class DownloadOptions:
    """Options of `svae download`."""

    corpus: str
    """One of `svae.data.archives.PUBLISHED`."""
    subsets: tuple[str, ...] = ()
    """Which, where the corpus has several; at least one."""
    to: Path = Path("data")
    """The folder of all corpora."""
    mirrors: tuple[str, ...] = ()
    """`http://host` or `http://host/path`, in place of the hosts that are known; asked in this order."""
    keep_archives: bool = False
    """Whether the archives stay when they are unpacked."""


def download(options: DownloadOptions, console: Console | None = None) -> Path:
    """Fetch a corpus, or go on with it; return its folder.

    Raises:
        DataError: no such corpus or subset, no space, no server that has it whole, a damaged archive.
        ConfigError: the folder cannot be written, or another process downloads to it.
    """
    console = console if console is not None else Console(stderr=True)
    published = _published(options)
    subsets = _chosen(options, published)
    work = writable_folder(options.to / "downloads" / options.corpus, option="--to")
    folder = options.to / published.folder
    with folder_lock(work):
        remove_leftovers(work)
        missing = [subset for subset in subsets if not _is_done(subset, published, work, folder)]
        for subset in subsets:
            if subset not in missing:
                _say(console, f"{_place(folder, subset, published)} is there already.")
        _check_space(options.to, work, published, missing)
        for subset in missing:
            archive = published.archives[subset]
            path = work / archive.name
            if not path.exists():
                fetch_archive(
                    archive, archive_urls(archive, options.mirrors), path, published, console
                )
            _install(subset, published, path, folder, console)
            if not options.keep_archives:
                path.unlink()
    _say(console, f"Next: svae prepare {published.prepare.format(folder=folder)}{_root(options)}")
    return folder


def _published(options: DownloadOptions) -> Published:
    if options.corpus not in PUBLISHED:
        raise DataError(
            f"corpus {options.corpus!r}: svae cannot download it. Expected one of {', '.join(PUBLISHED)}."
        )
    for mirror in options.mirrors:
        if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).netloc:
            raise DataError(f"--mirror {mirror}: expected http://host or https://host/path.")
    return PUBLISHED[options.corpus]


def _chosen(options: DownloadOptions, published: Published) -> list[str]:
    """Return the subsets to fetch. Raises DataError: none given where there are several, or one that is not there."""
    if not published.has_subsets:
        if options.subsets:
            raise DataError(
                f"--subset {' '.join(options.subsets)}: {options.corpus} has no subsets. Leave the option out."
            )
        return list(published.archives)
    there = ", ".join(
        f"{name} ({_gigabytes(archive.about)})" for name, archive in published.archives.items()
    )
    unknown = [subset for subset in options.subsets if subset not in published.archives]
    if unknown or not options.subsets:
        problem = f"--subset {unknown[0]}: unknown" if unknown else "--subset is missing"
        raise DataError(
            f"{problem}. {options.corpus} has {there}; one is enough to train. Give one or several."
        )
    return list(dict.fromkeys(options.subsets))


def _root(options: DownloadOptions) -> str:
    """Return the option that says where the corpus is, where `svae prepare` would not look by itself."""
    published = PUBLISHED[options.corpus]
    if options.to == Path("data") or "{folder}" in published.prepare:
        return ""
    return f" --root {options.to / published.folder}"


# ------------------------------------------------------------------------------ what is there, and what there is room for


def _place(folder: Path, subset: str, published: Published) -> Path:
    return folder / subset if published.has_subsets else folder


def _is_done(subset: str, published: Published, work: Path, folder: Path) -> bool:
    """Tell whether a subset is unpacked.

    Raises:
        DataError: something lies in its place that did not come from here.
    """
    place, record = _place(folder, subset, published), work / f"{subset}.json"
    if not place.exists():
        return False
    if not record.exists():
        raise DataError(
            f"{place}: exists, and not from `svae download`. Use it as it is, move it away, or choose another --to."
        )
    return bool(json.loads(record.read_text(encoding="utf-8"))["complete"])


def _check_space(to: Path, work: Path, published: Published, subsets: list[str]) -> None:
    """Compare what is still to come, packed and unpacked, with the space there is.

    Raises:
        DataError: it is too little.
    """
    needed = 0
    for subset in subsets:
        archive = published.archives[subset]
        size = archive.about
        here = [work / archive.name, _part(work / archive.name)]
        needed += max(size - sum(path.stat().st_size for path in here if path.exists()), 0)
        needed += round(size * published.unpacked)
    _require_space(to, needed, ", ".join(subsets))


def _require_space(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {_gigabytes(free)} free, but {what} needs about {_gigabytes(needed)}, packed and unpacked. "
            "Make room or choose another --to."
        )


# ------------------------------------------------------------------------------ fetching


def archive_urls(archive: Archive, mirrors: tuple[str, ...]) -> list[str]:
    """Return where an archive is asked for, in this order."""
    return [host.rstrip("/") + archive.path for host in mirrors or archive.hosts]


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def fetch_archive(
    archive: Archive, urls: list[str], path: Path, published: Published, console: Console
) -> None:
    """Fetch an archive from the first server that has it whole, and give it its name.

    Raises:
        DataError: none has; says what was wrong with each.
    """
    part, problems = _part(path), []
    for url in urls:
        resumed = part.exists()
        problem = _fetch_and_check(archive, url, part, published, console)
        if problem and resumed and not part.exists():  # the beginning was from elsewhere, perhaps
            problem = _fetch_and_check(archive, url, part, published, console)
        if problem is None:
            part.replace(path)
            sync(path.parent)
            return
        problems.append(problem)
        if url != urls[-1]:
            _say(console, f"{problem}\nTrying the next server.")
    raise DataError(
        "\n".join(problems)
        + f"\n{archive.name} came from none of {len(urls)} server{'s' if len(urls) > 1 else ''}. "
        + (
            f"What has come is kept in {part}: the same command goes on (delete it to begin anew); "
            if part.exists()
            else ""
        )
        + "--mirror http://host names another server."
    )


def _fetch_and_check(
    archive: Archive, url: str, part: Path, published: Published, console: Console
) -> str | None:
    """Go on with a part until it is whole, and check it; return what is wrong, having deleted what is no good."""
    try:
        _receive(archive, url, part, published, console)
    except RemoteError as error:
        return str(error)
    if archive.size is not None and part.stat().st_size != archive.size:
        size = part.stat().st_size
        part.unlink()
        return f"{url}: {size} bytes came, expected {archive.size}."
    algorithm, _, expected = archive.digest.partition(":")
    if not algorithm:
        _say(console, f"{archive.name}: no checksum is known; only its size was compared.")
        return None
    with console.status(f"Checking {archive.name} ({algorithm}) …"), open(part, "rb") as file:
        found = hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()
    if found != expected:
        part.unlink()
        return f"{url}: its {algorithm} is {found}, expected {expected}: another file, or damaged on the way."
    return None


def _receive(
    archive: Archive, url: str, part: Path, published: Published, console: Console
) -> None:
    """Append to a part what it lacks.

    Raises:
        RemoteError: the server was given up, or does not have the file.
        DataError: no space.
    """
    here = part.stat().st_size if part.exists() else 0
    if archive.size is not None and here > archive.size:
        part.unlink()
        here = 0
    with _bar(console) as bar:
        task = bar.add_task(archive.name, total=archive.size, completed=here)

        def retried(text: str) -> None:
            _say(bar.console, text)

        with HttpFile(url, offset=here, size=archive.size, on_retry=retried) as file:
            file.open()
            if file.size is not None and archive.size is None:
                needed = file.size - here + round(file.size * published.unpacked)
                _require_space(part.parent, needed, archive.name)
                bar.update(task, total=file.size)
            _append(file, part, lambda count: bar.advance(task, count))


def _append(file: HttpFile, part: Path, advance: Callable[[int], Any]) -> None:
    try:
        with open(part, "ab") as target:
            while data := file.read(BLOCK):
                target.write(data)
                advance(len(data))
            target.flush()
            os.fsync(target.fileno())
    except OSError as error:
        raise DataError(
            f"{part}: cannot be written ({error.strerror or error}). Make room: the same command goes on."
        ) from error


# ------------------------------------------------------------------------------ unpacking


def _install(subset: str, published: Published, path: Path, folder: Path, console: Console) -> None:
    """Unpack an archive beside itself, and move what is in it to its place when all of it is there.

    Raises:
        DataError: the archive is damaged, or holds something else than it should.
    """
    record = path.parent / f"{subset}.json"
    unpacked = path.parent / f".{subset}.tmp-unpacked"
    unpacked.mkdir()
    try:
        with _bar(console) as bar:
            task = bar.add_task(f"Unpacking {path.name}", total=path.stat().st_size)
            files = unpack(path, unpacked, lambda count: bar.advance(task, count))
        top = unpacked / published.inside
        if not top.is_dir() or not any(top.iterdir()):
            raise DataError(
                f"{path}: holds no {published.inside}/, but {', '.join(sorted(os.listdir(unpacked))[:5])}. "
                "Not the archive that was expected; delete it."
            )
        said = {"archive": path.name, "files": files}
        write_text(record, json.dumps({**said, "complete": False}) + "\n")
        _move(top, folder)
        os.sync()  # all at once: one by one hundreds of thousands of files take an hour
        write_text(record, json.dumps({**said, "complete": True}) + "\n")
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    _say(console, f"{files} files in {_place(folder, subset, published)}")


def _move(source: Path, target: Path) -> None:
    """Move a file or folder; where both are folders what is in it, where both are files in its place."""
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _move(entry, target / entry.name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


# ------------------------------------------------------------------------------ saying


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
