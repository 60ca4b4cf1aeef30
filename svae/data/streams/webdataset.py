"""Webdatasets: tars whose members belong together by their names, on a disk, a server, in a bucket or out of a command.

Members are read by webdataset and stay bytes: none is unpacked, and none is decoded but JSON, text and, by svae itself,
audio. A decoder of webdataset's own is never asked: among them are some that run what a pickle says.
"""

from __future__ import annotations

import bz2
import contextlib
import glob
import gzip
import hashlib
import lzma
import os
import re
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from svae.data.corpora.corpus import sanitize_key
from svae.data.streams.fields import FieldError, Fields, choose_fields, parse_json, values
from svae.data.streams.source import Recording, Source, SourceError, grouped
from svae.errors import ConfigError, DataError
from svae.runtime import remote
from svae.runtime.files import file_stem, files_below
from svae.runtime.http import RemoteError, public_url

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
FIRST_SAMPLES = 32
"""Looked at to learn which fields there are."""
MAX_WAITING = 256 * 2**20
"""Bytes of samples of which a member has not come yet: tars that were not sorted by name have them anywhere."""
_END = bytes(512)
"""What a tar ends with, at least."""


@dataclass
class WebDataset(Source):
    """Tars as a source; several of them make a part where there are very many."""

    urls: list[str]
    fields: Fields
    identity: dict[str, Any]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._groups = grouped(self.urls)
        self.parts = [self._called(group) for group in self._groups]
        self.has_text = self.fields.text is not None
        self._names = _stored_names(self.urls)

    def _called(self, group: range) -> str:
        first, last = label(self.urls[group[0]]), label(self.urls[group[-1]])
        return first if len(group) == 1 else f"{first} … {last}"

    def read(self, part: int) -> Iterator[Recording]:
        """Read the tars of a part, one behind the other."""
        for number in self._groups[part]:
            url = self.urls[number]
            keys: dict[str, str] = {}
            for path, members in samples_of(url, self.fields):
                name = printable(path)
                key, new = _new_key(name, keys)
                recording = _recording(
                    file_stem(f"{number:05d}-{key}"),
                    f"{self._names[number]}/{name}",
                    members,
                    self.fields,
                )
                if not new:
                    problem = ("repeated", "a sample of this name came before it in the tar")
                    recording = replace(recording, audio=b"", problem=problem)
                yield recording


def open_webdataset(sources: Sequence[str], asked: Fields) -> WebDataset:
    """Find the tars that are meant, and look into the first to learn what is in it.

    Args:
        sources: files, folders, URLs of fsspec, or `pipe:COMMAND`, each with braces or stars.
        asked: fields that the user named; others are found.

    Raises:
        DataError: nothing there, something twice, a field that is missing; a source that cannot be read.
    """
    urls = [url for source in sources for url in _expanded(source)]
    if not urls:
        raise DataError("svae prepare webdataset: no source given. Expected tars, folders or URLs.")
    if len(set(urls)) < len(urls):
        twice = Counter(urls).most_common(1)[0][0]
        raise DataError(f"{label(twice)}: given more than once. Every tar must occur once.")
    first = []
    for url in urls:
        with contextlib.closing(samples_of(url, None)) as samples:
            first = [_readable_tree(members) for _, members in islice(samples, FIRST_SAMPLES)]
        if first:
            break
    else:
        raise DataError(
            f"{label(urls[0])}: no samples in {len(urls)} tar{'s' if len(urls) > 1 else ''}. "
            "Expected members such as a.mp3 and a.json."
        )
    fields, notes = choose_fields(asked, first, label(url))
    identity = {
        "sources": _stored_names(urls),
        "sizes": [Path(url).stat().st_size for url in urls if is_local(url)],
        "fields": asdict(fields),
    }
    return WebDataset(urls, fields, identity, notes)


# ------------------------------------------------------------------------------ which tars


def label(url: str) -> str:
    """Return what a tar is called in messages and files: without passwords and signatures."""
    return url if url.startswith("pipe:") or is_local(url) else public_url(url)


def _stored_names(urls: Sequence[str]) -> list[str]:
    """Return what is kept of where tars lie: from the folder they are all in, so that it may lie anywhere.

    Of a command, which may hold a password, a hash is kept.
    """
    local = [os.path.dirname(os.path.abspath(url)) for url in urls if is_local(url)]
    base = os.path.commonpath(local) if local else ""

    def name(url: str) -> str:
        if url.startswith("pipe:"):
            return f"pipe:{hashlib.sha256(url.encode()).hexdigest()[:12]}"
        return printable(os.path.relpath(url, base)) if is_local(url) else public_url(url)

    return [name(url) for url in urls]


def is_local(url: str) -> bool:
    """Tell whether something is a path on this machine."""
    return "://" not in url and not url.startswith("pipe:")


def _expanded(source: str) -> list[str]:
    """Return the tars that a source names, sorted where their order is not given."""
    import braceexpand
    from webdataset.shardlists import expand_urls

    if is_local(source) and Path(source).is_dir():
        tars = [path for path in files_below(Path(source)) if path.name.endswith(TAR_SUFFIXES)]
        if not tars:
            raise DataError(
                f"{source}: a folder without {', '.join(TAR_SUFFIXES[:3])} files (looked below it too)."
            )
        return [str(path) for path in tars]
    if is_local(source) and Path(source).is_file():
        return [source]  # whatever characters are in its name
    try:
        # Of a command only the braces: its variables are the shell's.
        expand = braceexpand.braceexpand if source.startswith("pipe:") else expand_urls
        urls = list(expand(source))
    except (
        AssertionError,
        ValueError,
    ) as error:  # an unknown variable, or braces that do not match
        raise DataError(
            f"{source}: {error}. Expected braces as in train-{{000..099}}.tar."
        ) from None
    return [found for url in urls for found in _globbed(url.removeprefix("file://"))]


def _globbed(url: str) -> list[str]:
    if url.startswith(("pipe:", "http://", "https://")):
        return [url]
    if is_local(url):
        found = sorted(glob.glob(url, recursive=True)) if glob.has_magic(url) else [url]
        missing = next((path for path in found if not Path(path).is_file()), None)
        if missing is not None or not found:
            raise DataError(
                f"{missing or url}: no such file (looked from {Path.cwd()}). Expected a tar, or a folder of tars."
            )
        return found
    if not glob.has_magic(url):
        return [url]
    try:
        found = remote.matching(url)
    except Exception as error:  # every file system has errors of its own
        raise _unreadable(url, error) from error
    if not found:
        raise DataError(f"{url}: nothing matches.")
    return found


# ------------------------------------------------------------------------------ reading one


@contextlib.contextmanager
def open_tar(url: str) -> Iterator[_Watched]:
    """Give the bytes of a tar, from front to back, unpacked if it is compressed.

    Raises:
        SourceError: in the block too: it is not there, or cannot be read to its end.
    """
    file: Any = None
    try:
        file = _opened(url)
        yield _Watched(_decompressed(file))
        file.close()
    except Exception as error:  # tarfile, commands and every file system have errors of their own
        if url.startswith("pipe:") and file is not None:
            error = _status_of(file) or error
        raise _unreadable(url, error) from error
    finally:
        # A reader that has seen enough leaves a command with a pipe that nobody reads.
        with contextlib.suppress(Exception):
            if file is not None:
                file.close()


def _opened(url: str) -> Any:
    if url.startswith("pipe:"):
        from webdataset.gopen import gopen

        return gopen(url)
    if is_local(url):
        return open(url, "rb")
    return remote.open_stream(url)


def _status_of(pipe: Any) -> Exception | None:
    """Return how the command of a pipe failed; None if it did not."""
    try:
        pipe.close()
    except OSError as error:
        found = re.search(r"exit (-?\d+)", str(error))
        return OSError(f"its command ended with status {found[1] if found else '?'}")
    return None


def _unreadable(url: str, error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    if isinstance(error, RemoteError | ConfigError):
        return SourceError(str(error))
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    reason = re.sub(r" @ <.*", "", reason).strip().rstrip(".")
    if isinstance(error, tarfile.TarError | EOFError | gzip.BadGzipFile | lzma.LZMAError):
        reason = f"not a whole tar ({reason}): it was cut off or damaged; get it again"
    if isinstance(error, ImportError):
        reason = f"{reason}: reading {url.partition('://')[0]}:// takes that package"
    return SourceError(f"{label(url)}: cannot be read: {reason}.")


class _Prefixed:
    """A file of which the first bytes were read already."""

    def __init__(self, head: bytes, file: Any) -> None:
        self._head, self._file = head, file

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._file.read(size)
        if size < 0:
            size = len(self._head)
        data, self._head = self._head[:size], self._head[size:]
        return data + self._file.read(size - len(data)) if len(data) < size else data


def _decompressed(file: Any) -> Any:
    """Return the bytes of a tar that may be compressed."""
    head = file.read(6)
    whole: Any = _Prefixed(head, file)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=whole)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(whole)
    if head.startswith(b"\xfd7zXZ"):
        return lzma.LZMAFile(whole)
    return whole


class _Watched:
    """The bytes of a tar on their way; remembers the last ones."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        data: bytes = self._file.read(size)
        self._tail = (self._tail + data[-len(_END) :])[-len(_END) :]
        return data

    def check_end(self, url: str) -> None:
        """Read what is left, and see whether that is the end of a tar: for tarfile a cut or damage can look like one.

        Raises:
            SourceError: the end is missing, or more follows.
        """
        while data := self.read(1 << 20):
            if data.strip(b"\0"):
                raise SourceError(
                    f"{label(url)}: more follows behind what looks like the end of the tar: it is damaged, or several "
                    "were joined by cat. Get it again; give several one by one."
                )
        if self._tail != _END:
            raise SourceError(
                f"{label(url)}: ends without the mark that ends a tar: it was cut off, or its writer never closed it. "
                "Get it again, or write it again."
            )


def samples_of(
    url: str, fields: Fields | None
) -> Generator[tuple[str, dict[str, bytes]], None, None]:
    """Read a tar: the name of each sample and its members by their extension, as soon as those that count are there.

    Args:
        url: of the tar.
        fields: which count, and are read at all; None: all, and members of a sample must lie together.

    Raises:
        SourceError: the tar cannot be read to its end.
    """
    from webdataset.tariterators import base_plus_ext, tar_file_iterator

    def wanted(path: str) -> bool:
        _, extension = base_plus_ext(path)
        return extension is not None and (fields is None or _is_named(extension.lower(), fields))

    waiting: dict[str, dict[str, bytes]] = {}
    size = 0
    with open_tar(url) as file:
        for member in tar_file_iterator(file, select_files=wanted):
            name, extension = base_plus_ext(member["fname"])
            if fields is None and waiting and name not in waiting:
                yield waiting.popitem()
            if extension.lower() in waiting.get(name, ()):
                yield (
                    name,
                    waiting.pop(name),
                )  # twice in the tar: which is meant is not for svae to say
            waiting.setdefault(name, {})[extension.lower()] = member["data"]
            if fields is None:
                continue
            size += len(member["data"])
            if _is_complete(waiting[name], fields):
                complete = waiting.pop(name)
                size -= sum(map(len, complete.values()))
                yield name, complete
            while size > MAX_WAITING:  # the oldest, as it is
                oldest = next(iter(waiting))
                members = waiting.pop(oldest)
                size -= sum(map(len, members.values()))
                yield oldest, members
        file.check_end(url)
    yield from waiting.items()


def _is_named(extension: str, fields: Fields) -> bool:
    return any(name == extension or name.startswith(f"{extension}.") for name in fields.named)


def _is_complete(members: dict[str, bytes], fields: Fields) -> bool:
    """Tell whether a sample has its audio and all that is said of it."""
    return any(name in members for name in fields.audio) and all(
        any(name == member or name.startswith(f"{member}.") for member in members)
        for name in fields.metadata
    )


def _tree(members: dict[str, bytes]) -> dict[str, Any]:
    """Return the members as fields: JSON as what it holds, everything else as it is.

    Raises:
        FieldError: JSON that is none.
    """
    return {
        name: parse_json(data, name) if name.split(".")[-1] == "json" else data
        for name, data in members.items()
    }


def _readable_tree(members: dict[str, bytes]) -> dict[str, Any]:
    """Return the fields of a sample, or only the members where it holds JSON that is none: that is for later."""
    try:
        return _tree(members)
    except FieldError:
        return dict(members)


def _recording(key: str, source: str, members: dict[str, bytes], fields: Fields) -> Recording:
    audio = next((name for name in fields.audio if name in members), None)
    if audio is None:
        detail = f"no {' or '.join(fields.audio)}, only {', '.join(members)}"
        return Recording(key, source, b"", problem=("missing", detail))
    source = f"{source}.{audio}"
    try:
        return Recording(key, source, members[audio], **values(_tree(members), fields, source))
    except FieldError as error:
        return Recording(key, source, b"", problem=("malformed", str(error)))


def _new_key(name: str, keys: dict[str, str]) -> tuple[str, bool]:
    """Return the key of a sample in its tar, and whether it is new there; `keys` remembers whose each is."""
    key = sanitize_key(name)
    while keys.get(key, name) != name:
        key += "-2"  # of a name that differs in other characters only
    new = key not in keys
    keys[key] = name
    return key, new


def printable(name: str) -> str:
    """Return a member's name as valid Unicode; tars may hold any bytes."""
    return name.removeprefix("./").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
