"""`svae listen --serve`: the page on the loopback, sheets dealt out, answers written to disk as they come."""

from __future__ import annotations

import itertools
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rich.console import Console

from svae.errors import ConfigError
from svae.evaluation.listening.key import read_key
from svae.runtime.files import writable_folder, write_text

MOST_BYTES = 1_000_000
"""Of one listener's answers."""
LOOPBACK = "127.0.0.1"
HOSTS = frozenset({"127.0.0.1", "localhost"})


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of FOLDER/listen.html; answers come into FOLDER/answers.

    Raises:
        ConfigError: no test there, or the port is taken. DataError: its key is damaged.
    """
    page, key = folder / "listen.html", folder / "key.json"
    if not (page.is_file() and key.is_file()):
        raise ConfigError(f"listen --serve: no listening test in {folder}; make one first")
    found = read_key(folder)
    sheets = max(trial["sheet"] for trial in found["trials"])
    answers = writable_folder(folder / "answers", option="--out")
    handler = _handler(page, found["test"], sheets, answers)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as error:
        raise ConfigError(f"listen --serve: port {port} cannot be had ({error.strerror})") from None


def serve(folder: Path, port: int) -> None:
    """Serve until interrupted."""
    server = open_server(folder, port)
    Console().print(
        f"http://{LOOPBACK}:{server.server_port} (Ctrl-C ends it); answers come to {folder / 'answers'}. From elsewhere it is "
        "reached through a tunnel, e.g. ssh -L",
        highlight=False,
        soft_wrap=True,
    )
    with server:
        server.serve_forever()


def _handler(page: Path, test: str, sheets: int, answers: Path) -> type[BaseHTTPRequestHandler]:
    dealt = itertools.count(len(list(answers.glob("*.json"))))
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self._from_here():
                return
            path = self.path.partition("?")[0]
            if path == "/":
                self._answer(200, page.read_bytes(), "text/html; charset=utf-8")
            elif path == "/sheet":
                with lock:
                    number = next(dealt) % sheets + 1
                self._answer(200, json.dumps({"sheet": number}).encode(), "application/json")
            else:
                self._answer(404, b"no such page")

        def do_POST(self) -> None:
            if not self._from_here():
                return
            length = self.headers.get("Content-Length", "")
            # A form of another site can post text, but no JSON without asking first, which is not allowed here.
            is_json = self.headers.get("Content-Type", "").startswith("application/json")
            if self.path != "/answers" or not is_json:
                return self._answer(404, b"only answers as JSON are taken here")
            if not length.isdigit() or int(length) > MOST_BYTES:
                return self._answer(413, b"too long")
            try:
                found: Any = json.loads(self.rfile.read(int(length)))
                listener, sheet = found["listener"], found["sheet"]
                good = found["test"] == test and isinstance(listener, str) and type(sheet) is int
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                return self._answer(400, b"not answers to this test")
            stem = f"{sheet}-{re.sub('[^A-Za-z0-9]+', '_', listener)[:40]}"
            with lock:
                for number in itertools.count(1):
                    path = answers / f"{stem}{'' if number == 1 else f'-{number}'}.json"
                    if not path.exists():
                        break
                write_text(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
            self._answer(200, b"thank you")

        def _from_here(self) -> bool:
            """Refuse names that another site may have had resolved to this machine."""
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            if host in HOSTS:
                return True
            self._answer(403, b"ask for 127.0.0.1")
            return False

        def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
