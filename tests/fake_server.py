"""A file server on the loopback that can be told to fail: it cuts connections, forgets ranges and lies."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from svae.runtime import http

PAGE = b"<!DOCTYPE html><html><title>Please log in</title></html>"


class FakeServer:
    """Serves `files`; `faults` of a path are used up one a request, but for the last where it is in `always`.

    `status N`; `page` and `hidden-page`: a page in the file's place; `ignores-range` and `wrong-range`; `cut N`: N bytes come, then
    the connection ends; `says N`: another length than there is; `no-length`; `stall SECONDS`.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header of every request."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def fault(self, path: str) -> str:
        waiting = self.faults.get(path, [])
        return waiting.pop(0) if waiting else self.always.get(path, "")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked = self.headers.get("Range")
            fake.requests.append((path, asked))
            fault, _, value = fake.fault(path).partition(" ")
            data = fake.files.get(path)
            if data is None:
                return self.answer(404, b"no")
            if fault == "status":
                return self.answer(int(value), b"not now")
            if fault == "page":
                return self.answer(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
            if fault == "hidden-page":
                return self.answer(200, PAGE)
            if fault == "stall":
                time.sleep(float(value))
            start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked else 0
            headers = {"ETag": '"1"'}
            status = 200
            if fault == "ignores-range":
                start = 0
            elif asked and start >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            elif asked:
                status = 206
                shown = start + int(value) if fault == "wrong-range" else start
                headers["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
            body = data[start:]
            length: int | None = len(body)
            if fault == "cut":
                body = body[: int(value)]
            elif fault == "says":  # another length than there is
                length = int(value) - start
                if status == 206:
                    headers["Content-Range"] = f"bytes {start}-{int(value) - 1}/{value}"
            elif fault == "no-length":
                length = None
            self.answer(status, body, headers, length=length)

        def answer(
            self, status: int, body: bytes, headers: dict | None = None, length: int | None = -1
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if length is not None:
                self.send_header("Content-Length", str(len(body) if length == -1 else length))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
            self.close_connection = True
            with contextlib.suppress(OSError):  # the client may be gone
                self.connection.shutdown(socket.SHUT_WR)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that is asked again at once."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(http, "TIMEOUT", (2.0, 2.0))
    fake = FakeServer()
    yield fake
    fake.close()
