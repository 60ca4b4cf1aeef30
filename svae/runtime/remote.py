"""Folders on servers: files read whole and in order, written whole, and a name for them that goes wherever a path goes.

`http(s)` is read by `http.HttpFile`; every other scheme (`s3`, `gs`, `hf`, …) by fsspec, in blocks that are asked for again when a
server fails. `Url` is a path that says its URL, so that what joins, compares, prints or sends paths need not know.
"""

from __future__ import annotations

import errno
import hashlib
import io
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from svae.errors import ConfigError
from svae.runtime import http
from svae.runtime.http import HttpFile, OtherFile, RemoteError, public_url

Result = TypeVar("Result")
OnRetry = Callable[[str], None]

BLOCK = 8 << 20
"""Bytes that are asked for at once: so much is lost where a connection breaks."""
# A path that was made of a URL has lost one of its slashes.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])")
_HTTP = ("http://", "https://")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}

_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "memory"})
"""Schemes of stores whose objects are there whole or not at all."""


class Url(type(Path())):  # type: ignore[misc]  # the concrete class of this system's paths
    """A URL in the place of a path: it joins as one, and says `s3://bucket/folder`."""

    def __str__(self) -> str:
        return _URL.sub(r"\1://", super().__str__(), count=1)

    def __fspath__(self) -> str:
        return str(self)

    def absolute(self) -> Url:
        """Return the same: a URL depends on no folder."""
        return self

    def resolve(self, strict: bool = False) -> Url:
        """Return the same."""
        return self


def place_of(path: str | Path) -> Path:
    """Return where something is: a `Url` for a URL, also one that was taken for a path on its way, else the path."""
    return Url(path) if _URL.match(str(path)) else Path(path)


def is_url(path: str | Path) -> bool:
    """Return whether a path is a URL."""
    return isinstance(place_of(path), Url)


def read_bytes(url: Path, *, on_retry: OnRetry | None = None) -> bytes:
    """Return a whole file.

    Raises:
        FileNotFoundError: the server says that there is none.
        RemoteError: the server was given up.
    """
    name = str(url)
    if name.startswith(_HTTP):
        try:
            with HttpFile(name, on_retry=on_retry).open() as file:
                return file.readall()
        except RemoteError as error:
            if " 404" in str(error):
                raise _absent(name) from error
            raise
    return _patiently(name, lambda system, path: system.cat_file(path), on_retry)


def open_stream(url: str, *, on_retry: OnRetry | None = None) -> BinaryIO:
    """Return a file that is read once from front to back.

    Raises:
        FileNotFoundError, RemoteError: as `read_bytes`; from reading too.
    """
    if url.startswith(_HTTP):
        return io.BufferedReader(HttpFile(url, on_retry=on_retry), 1 << 20)
    size = _patiently(url, lambda system, path: system.info(path)["size"], on_retry)
    return io.BufferedReader(_Blocks(_blocks(Url(url), size, on_retry)), 1 << 20)


def matching(url: str) -> list[str]:
    """Return the URLs that a pattern with stars stands for, in order. Raises RemoteError where the server was given up."""
    scheme = url.partition("://")[0]
    found = _patiently(url, lambda system, path: system.glob(path), None)
    return sorted(f"{scheme}://{name.removeprefix('/')}" for name in found)


def fetch(
    url: Path, file: BinaryIO, *, size: int, sha256: str | None, on_retry: OnRetry | None = None
) -> None:
    """Write a whole file of known size and, where given, hash into an open one, from its beginning.

    Raises:
        FileNotFoundError: the server says that there is none.
        RemoteError: the server was given up, or has other bytes than it should, at every try.
    """
    wrong = ""
    for attempt in range(http.TRIES):
        if attempt:
            _report(url, wrong, on_retry)
            time.sleep(_wait(attempt))
        digest = hashlib.sha256()
        file.seek(0)
        try:
            for block in _blocks(url, size, on_retry):
                file.write(block)
                digest.update(block)
        except (
            OtherFile
        ) as error:  # as the index knows the file, this may be a lie that another try mends
            wrong = str(error).partition(": ")[2].rstrip(".")
            continue
        found = file.tell()
        if found != size:
            wrong = f"{found} bytes came, the index says {size}"
        elif sha256 is not None and digest.hexdigest() != sha256:
            wrong = f"other bytes came: sha256 {digest.hexdigest()[:16]}…, the index says {sha256[:16]}…"
        else:
            file.flush()
            return
    raise RemoteError(f"{public_url(str(url))}: {wrong}; given up after {http.TRIES} tries.")


def sizes(folder: Path) -> dict[str, int] | None:
    """Return name → bytes of the files that lie in a folder; None where its server has no lists."""
    name = str(folder)
    if name.startswith(_HTTP):
        return None

    def listed(system: Any, path: str) -> dict[str, int]:
        system.invalidate_cache()
        rows = system.ls(path, detail=True)
        return {
            row["name"].rpartition("/")[2]: row["size"] for row in rows if row["type"] == "file"
        }

    try:
        return _patiently(name, listed, None)
    except FileNotFoundError:
        return {}


def upload(file: Path, url: Path, *, on_retry: OnRetry | None = None) -> None:
    """Copy a local file to a server, where it appears whole or not at all; its size there is checked.

    Raises:
        ConfigError: the scheme is one that is only read.
        RemoteError: the server was given up.
    """
    check_uploads(url)
    size = file.stat().st_size

    def put(system: Any, path: str) -> None:
        if str(url).partition("://")[0] in _WHOLE:
            system.put_file(str(file), path)
        else:  # a file like on a disk: it gets its name when all of it is there
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(str(file), f"{path}.tmp")
            system.mv(f"{path}.tmp", path)
        system.invalidate_cache()
        found = system.info(path)["size"]
        if found != size:
            raise OSError(f"{found} of {size} bytes arrived")

    try:
        _patiently(str(url), put, on_retry)
    except FileNotFoundError as error:
        raise RemoteError(
            f"{public_url(str(url))}: cannot be written: no such bucket ({_said(error.__cause__ or error)})."
        ) from error


def remove(url: Path) -> None:
    """Delete a file on a server. Raises RemoteError where the server was given up."""
    _patiently(str(url), lambda system, path: system.rm_file(path), None)


def check_uploads(url: Path) -> None:
    """Raise ConfigError where nothing can be written to a URL, or the package is missing that could."""
    if str(url).startswith(_HTTP):
        raise ConfigError(
            f"--out {url}: nothing can be written over http; choose a folder or a bucket (s3://, gs://)."
        )
    _filesystem(str(url))


# ----------------------------------------------------------------------------------------------- one try and the next


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def _blocks(url: Path, size: int, on_retry: OnRetry | None) -> Iterator[bytes]:
    """Yield the bytes of a file in order, at most one block more than it should have."""
    name = str(url)
    if name.startswith(_HTTP):
        with HttpFile(name, size=size, on_retry=on_retry).open() as file:
            while block := file.read(BLOCK):
                yield block
        return
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)

        def block_of(system: Any, path: str, start: int = start, end: int = end) -> bytes:
            block = system.cat_file(path, start=start, end=end)
            if len(block) != end - start:
                raise OSError(f"{len(block)} bytes came, asked for {end - start}")
            return block

        yield _patiently(name, block_of, on_retry, at=f" at byte {start} of {size}")


def _patiently(
    url: str, action: Callable[[Any, str], Result], on_retry: OnRetry | None, at: str = ""
) -> Result:
    """Do something with a server, again with growing waits where it fails in a way that another try may mend."""
    system, path = _filesystem(url)
    for attempt in range(1, http.TRIES + 1):
        try:
            return action(system, path)
        except (FileNotFoundError, PermissionError) as error:
            if isinstance(error, FileNotFoundError):
                raise _absent(url) from error
            raise RemoteError(
                f"{public_url(url)}: the server does not allow it ({_said(error)}). Are the keys those of this bucket?"
            ) from error
        except (TypeError, AttributeError, NameError):
            raise  # a bug, which keeps its traceback
        except Exception as error:  # every file system has errors of its own
            if "Credentials" in type(error).__name__:
                raise RemoteError(
                    f"{public_url(url)}: no keys for this server ({_said(error)}). Set them as its own tools "
                    "take them, e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                ) from error
            reason = f"{_said(error)}{at}"
            if attempt == http.TRIES:
                raise RemoteError(
                    f"{public_url(url)}: {reason}; given up after {attempt} tries. What is finished is kept: try "
                    "again later."
                ) from error
            _report(url, reason, on_retry)
            time.sleep(_wait(attempt))
    raise AssertionError("unreachable")


def _absent(url: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "not there", public_url(url))


def _wait(attempt: int) -> float:
    return min(http.FIRST_WAIT * 2 ** (attempt - 1), http.LONGEST_WAIT)


def _report(url: str | Path, reason: str, on_retry: OnRetry | None) -> None:
    if on_retry is not None:
        on_retry(f"{public_url(str(url))}: {reason}; trying again")


def _said(error: BaseException) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(told.split())[:200]
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}"


def _filesystem(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path there.

    Asked for at every use: fsspec keeps one for each process and thread, and one that was open before a fork cannot be used after.

    Raises:
        ConfigError: no such scheme, or its package is missing.
    """
    import fsspec

    scheme = url.partition("://")[0]
    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        # Trying again is done here, where it is reported; a stall counts as a failure after as long as over http.
        connect, read = http.TIMEOUT
        own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {
            "connect_timeout": connect,
            "read_timeout": read,
            "retries": {"total_max_attempts": 1},
            **own,
        }
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme, scheme)
        extra = "'svae[remote]'" if package == "s3fs" else package
        raise ConfigError(
            f"{public_url(url)}: {scheme}:// needs {package} ({error}): pip install {extra}."
        ) from None
    except ValueError as error:
        raise ConfigError(f"{public_url(url)}: not a URL that can be opened ({error}).") from None
    if scheme in ("s3", "s3a"):
        system.retries = 1
    return system, path
