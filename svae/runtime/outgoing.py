"""`--out URL`: a folder is made here, then uploaded file by file, the one that completes it last."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from svae.errors import ConfigError, DataError
from svae.runtime import remote
from svae.runtime.file_cache import cache_folder
from svae.runtime.files import LOCK_NAME, leftovers, write_text
from svae.runtime.remote import Url, place_of

COMPLETING = ("timings.json", "index.json")
"""Without these nothing reads a folder; they are uploaded last, in this order."""
UPLOADS = 4
"""Files on their way at the same time."""


@contextmanager
def destination(
    out: Path, *, is_main: bool = True, meet: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Give the folder to work in: `out`, or one on this machine whose content goes to the URL `out` when the block ends well.

    That one is kept until everything has arrived, so that the same command goes on where it was stopped. `is_main` is
    true of the one process of several that uploads, and `meet` waits for the others.

    Raises:
        ConfigError: nothing can be written to the URL.
        DataError: a finished folder lies there already, or the server was given up.
    """
    url = place_of(out)
    if not isinstance(url, Url):
        yield out
        return
    if os.environ.get("LOCAL_WORLD_SIZE", "1") != os.environ.get("WORLD_SIZE", "1"):
        raise ConfigError(
            f"--out {url}: ranks on several nodes share a folder; copy it there when it is whole."
        )
    work = _work_folder(url)
    if is_main:
        _check(url, work)
        work.mkdir(parents=True, exist_ok=True)
        write_text(work.with_suffix(".url"), str(url))
    meet()  # whether the folder is there tells the first process what an earlier run left
    yield work
    if is_main:
        _upload(work, url)
        # Away at once: half a folder, or the log of one that is gone, would mislead the next run, should this one end here.
        _delete_done(work)
        work.rename(work.with_suffix(".done"))
        _forget(work)


def shown(folder: Path) -> Path:
    """Return where a folder of `destination` will be: what messages should name, and what comes after should read."""
    marker = folder.with_suffix(".url")
    if folder.parent == cache_folder() / "outgoing" and marker.is_file():
        return Url(marker.read_text(encoding="utf-8"))
    return folder


def _work_folder(url: Url) -> Path:
    return cache_folder() / "outgoing" / hashlib.sha256(str(url).encode()).hexdigest()[:24]


def _forget(work: Path) -> None:
    """Delete what is left of a work folder that is no longer there."""
    for suffix in (".uploaded", ".url"):
        work.with_suffix(suffix).unlink(missing_ok=True)
    _delete_done(work)


def _delete_done(work: Path) -> None:
    """Delete a work folder that was uploaded; a run that was killed leaves a part of it."""
    if (done := work.with_suffix(".done")).is_dir():
        shutil.rmtree(done)


def _check(url: Url, work: Path) -> None:
    """See that the URL can be written to, and holds nothing finished."""
    if not work.is_dir():
        _forget(work)
    remote.check_uploads(url)
    there = remote.sizes(url) or {}
    finished = [name for name in COMPLETING if name in there]
    if finished and not work.is_dir():
        raise DataError(
            f"--out {url}: {finished[0]} lies there already: it is finished. Choose another --out, or delete it there."
        )
    work.parent.mkdir(parents=True, exist_ok=True)
    probe = work.with_suffix(".write-test")
    probe.write_bytes(b"")
    try:
        remote.upload(probe, url / ".write-test")
        remote.remove(url / ".write-test")
    finally:
        probe.unlink()


def _upload(work: Path, url: Url) -> None:
    """Upload what an earlier run has not."""
    log = work.with_suffix(".uploaded")
    done = set(log.read_text(encoding="utf-8").splitlines()) if log.is_file() else set()
    left = set(leftovers(work))
    names = [
        path.relative_to(work).as_posix()
        for path in sorted(work.rglob("*"))
        if path.is_file() and path.name != LOCK_NAME and not left & {path, *path.parents}
    ]
    console = Console(stderr=True)
    size = sum((work / name).stat().st_size for name in names) / 1e6
    console.print(
        f"Uploading {len(names)} files, {size:.1f} MB, to {url}", highlight=False, soft_wrap=True
    )

    def send(name: str) -> None:
        if name not in done:
            remote.upload(
                work / name,
                url / name,
                on_retry=lambda said: console.print(f"note: {said}", markup=False, soft_wrap=True),
            )
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{name}\n")

    with ThreadPoolExecutor(UPLOADS) as pool:
        for _ in pool.map(send, [name for name in names if name not in COMPLETING]):
            pass
    for name in COMPLETING:
        if name in names:
            send(name)
