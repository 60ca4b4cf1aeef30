"""Files on web servers, read as streams that go on where a connection broke, or end with a message that says why not."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import svae
from svae.errors import DataError

TRIES = 6
"""In a row without a byte gained; then a server is given up."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds between tries: each time twice as long. A server that says how long to wait (Retry-After) is heard, up to the longest."""
TIMEOUT = (15.0, 60.0)
"""Seconds until a connection must stand, and between two pieces of an answer."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524})


class RemoteError(DataError):
    """A file elsewhere that cannot be read; the message names it and the cause."""


class OtherFile(RemoteError):
    """Another file is there than was expected."""


class _Failure(Exception):
    """One try that failed; another may succeed."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def public_url(url: str) -> str:
    """Return a URL for messages and files: without passwords, and without the query, which may be a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class HttpFile(io.RawIOBase):
    """The bytes of a URL from `offset` on, to be read once from front to back.

    A connection that fails, stalls or ends early is made again from the byte that was reached, with growing waits. A
    server that ignores the range sends everything again, of which what is known is passed over. What no other try can
    mend is an error at once: a file that is not there, or that is not the one that was begun.

    Args:
        url: http or https. Proxies and .netrc are those of the environment.
        offset: of the first byte that is wanted.
        size: bytes that the whole file must have, where that is known.
        on_retry: hears of every failure, in words.
    """

    def __init__(
        self,
        url: str,
        *,
        offset: int = 0,
        size: int | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        import requests  # half a second, which only who reads from a server pays

        self.url, self.label = url, public_url(url)
        self.position = self._offset = offset
        self.size = self._given_size = size
        """Bytes of the whole file; None until a server has said it, or where none does."""
        self._on_retry = on_retry
        self._session = requests.Session()
        self._response: Any = None
        self._validator: str | None = None
        self._failures = 0

    def open(self) -> HttpFile:
        """Connect now, so that what is wrong with a server shows before anything is done with its bytes.

        Raises:
            RemoteError: as reading does.
        """
        while self._response is None and not self._at_end():
            self._try(self._connect)
        return self

    def readable(self) -> bool:
        """Return True: it is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes, as many as have come; 0 at the end.

        Raises:
            RemoteError: the server was given up, the file is not there, or it changed.
        """
        view = memoryview(buffer).cast("B")
        while len(view) and not self._at_end():
            data = self._try(lambda: self._receive(len(view)))
            if data is None:
                continue
            view[: len(data)] = data
            self.position += len(data)
            if data:
                self._failures = 0
            return len(data)
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        self._disconnect()
        if not self.closed:
            self._session.close()
        super().close()

    # ---------------------------------------------------------------------------------------- one try

    def _try(self, action: Callable[[], Any]) -> Any:
        """Return what `action` does; None where it failed and can be tried again. Raises RemoteError when it cannot."""
        import requests
        import urllib3

        try:
            return action()
        except _Failure as failure:
            reason, wait = str(failure), failure.wait
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise RemoteError(f"{self.label}: not a URL that can be opened ({error}).") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            reason, wait = _cause(error), None
        self._disconnect()
        if self.position == self._offset:  # what came was not the file, and nor was its length
            self.size = self._given_size
        self._failures += 1
        if self._failures >= TRIES:
            raise RemoteError(
                f"{self.label}: {reason}, at byte {self.position}{self._of_size()}; given up after {TRIES} tries. "
                "What is finished is kept: try again later, or from elsewhere."
            )
        if wait is None:
            wait = FIRST_WAIT * 2 ** (self._failures - 1)
        if self._on_retry is not None:
            self._on_retry(f"{self.label}: {reason} at byte {self.position}; trying again")
        time.sleep(min(wait, LONGEST_WAIT))
        return None

    def _receive(self, most: int) -> bytes:
        if self._response is None:
            self._connect()
        if self._at_end():
            return b""
        first = self.position == 0
        data: bytes = self._response.raw.read(most, decode_content=False)
        if self.size is None:
            if not data:  # without a length, the end of the answer is the end of the file
                self.size = self.position
        elif not data:
            raise _Failure(f"the connection ended{self._of_size()}")
        elif self.position + len(data) > self.size:
            raise self._changed(f"more than its {self.size} bytes came")
        if first and re.match(rb"\s*<(!doctype html|html)", data[:200], re.IGNORECASE):
            raise _Failure("a web page came in place of the file")
        return data

    def _connect(self) -> None:
        """Ask for everything from `position` on, and check what is about to come."""
        # Not compressed on the way: positions are those of the file.
        headers = {"Accept-Encoding": "identity", "User-Agent": f"svae/{svae.__version__}"}
        if self.position:
            headers["Range"] = f"bytes={self.position}-"
            if self._validator:
                headers["If-Range"] = self._validator
        self._response = self._session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT)
        status = self._response.status_code
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._end_is_here()
            return
        if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            self._refused(status)
        if self._response.headers.get("Content-Type", "").startswith("text/html"):
            raise _Failure("a web page came in place of the file")
        start, total = self._announced(status)
        if total is not None and self.size is not None and total != self.size:
            raise self._changed(f"the server says {total} bytes, expected {self.size}")
        if start > self.position or (
            status == HTTPStatus.PARTIAL_CONTENT and start != self.position
        ):
            raise _Failure(f"the server sent bytes from {start} on, asked for from {self.position}")
        self.size = total if self.size is None else self.size
        etag = self._response.headers.get("ETag", "")
        self._validator = etag if etag.startswith('"') else None  # a weak one vouches for no bytes
        self._pass_over(self.position - start)

    def _announced(self, status: int) -> tuple[int, int | None]:
        """Return where the bytes that are about to come begin, and how many the whole file has, where that is said."""
        length = self._response.headers.get("Content-Length", "")
        if status == HTTPStatus.OK:
            return 0, int(length) if length.isdigit() else None
        said = self._response.headers.get("Content-Range", "")
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said.strip())
        if found is None:
            raise _Failure(f"the server sent a part without saying which (Content-Range {said!r})")
        return int(found[1]), None if found[2] == "*" else int(found[2])

    def _pass_over(self, count: int) -> None:
        """Read and forget what is known already, of a server that knows no ranges."""
        while count > 0:
            data = self._response.raw.read(min(count, 1 << 20), decode_content=False)
            if not data:
                raise _Failure(f"the connection ended{self._of_size()}")
            count -= len(data)

    def _end_is_here(self) -> None:
        """Take the answer that nothing lies behind `position`: the end, if the file is as long as that."""
        said = re.search(r"/(\d+)$", self._response.headers.get("Content-Range", ""))
        total = int(said[1]) if said else self.size
        self._disconnect()
        if total is None:
            total = self.position
        if total != self.position or (self.size is not None and self.size != total):
            expected = self.position if self.size is None else self.size
            raise self._changed(f"the server says {total} bytes, expected {expected}")
        self.size = total

    def _refused(self, status: int) -> None:
        phrase = f"{status} {self._response.reason or ''}".strip()
        if status in _TRANSIENT:
            after = self._response.headers.get("Retry-After", "")
            raise _Failure(
                f"the server answered {phrase}", float(after) if after.isdigit() else None
            )
        hints = {
            401: " It asks for a login.",
            403: " It asks for a login or a licence to be accepted.",
        }
        raise RemoteError(f"{self.label}: the server answered {phrase}.{hints.get(status, '')}")

    def _changed(self, what: str) -> OtherFile:
        return OtherFile(f"{self.label}: not the file that was expected: {what}.")

    def _at_end(self) -> bool:
        return self.size is not None and self.position >= self.size

    def _of_size(self) -> str:
        return "" if self.size is None else f" of {self.size}"

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _cause(error: BaseException) -> str:
    """Reduce the nested errors of requests and urllib3 to what happened."""
    text = str(error)
    for known, said in (
        ("timed out", "no answer in time"),
        ("IncompleteRead", "the connection ended early"),
        ("Connection refused", "the connection was refused"),
        ("Connection reset", "the connection was cut"),
        ("Connection aborted", "the connection was cut"),
        ("Name or service not known", "its name is not known (is there a network?)"),
        (
            "Temporary failure in name resolution",
            "its name cannot be looked up (is there a network?)",
        ),
        ("Failed to resolve", "its name cannot be looked up (is there a network?)"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not valid"),
    ):
        if known in text:
            return said
    return f"{type(error).__name__}: {text[:200]}"
