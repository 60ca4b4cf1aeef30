"""A stub of the Hugging Face hub on the loopback: commits of models and data sets, whose files can be asked for and sent."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest


class FakeHub:
    """Holds `commits` of each repository, oldest first; `refuses` answers every request with a status.

    `faults` of a file are used up one a download: `cut N` (N bytes come, then the connection ends) and `wrong` (other bytes).
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.tags: dict[str, str] = {}
        self.refuses: int | None = None
        self.faults: dict[str, list[str]] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit with these files beside those of the last; return its hash."""
        before = self.commits.setdefault(repo, [])
        everything = {**(before[-1][1] if before else {}), **files}
        content = repr((len(before), sorted(everything.items()))).encode()
        before.append((hashlib.sha1(content).hexdigest(), everything))
        return before[-1][0]

    def commit_folder(self, repo: str, folder: Path) -> str:
        """Add a commit with all files of a folder."""
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return self.commit(repo, {str(p.relative_to(folder)): p.read_bytes() for p in paths})

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits.get(repo, [])
        wanted = self.tags.get(revision, revision)
        if wanted == "main" and commits:
            return commits[-1]
        return next((each for each in commits if each[0] == wanted), None)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            path = unquote(self.path.partition("?")[0])
            if hub.refuses:
                return self.answer(hub.refuses, b"{}")
            if match := re.fullmatch(
                r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?",
                path,
            ):
                return self.describe(match[1], match[2] or "revision", match[3] or "main", match[4])
            if match := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                found = hub.find(match[1], match[2])
                if found is None or match[3] not in found[1]:
                    return self.missing("EntryNotFound" if found else "RevisionNotFound")
                data = found[1][match[3]]
                etag = hashlib.sha256(data).hexdigest()
                headers = {"ETag": f'"{etag}"', "X-Repo-Commit": found[0]}
                return self.send_file(match[3], data, headers)
            self.answer(404, b"{}")

        def send_file(self, name: str, data: bytes, headers: dict[str, str]) -> None:
            status = 200
            if asked := re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):
                first, last = int(asked[1]), min(int(asked[2]), len(data) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
                status, data = 206, data[first : last + 1]
            waiting = hub.faults.get(name, []) if self.command == "GET" else []
            kind, _, value = (waiting.pop(0) if waiting else "").partition(" ")
            if kind == "wrong":
                data = bytes(byte ^ 1 for byte in data)
            if kind == "cut":
                headers["Content-Length"] = str(len(data))
                data = data[: int(value)]
                self.close_connection = True
            self.answer(status, data, headers)

        def describe(self, repo: str, what: str, revision: str, below: str | None = None) -> None:
            if repo not in hub.commits:
                return self.missing("RepoNotFound")
            found = hub.find(repo, revision)
            if found is None:
                return self.missing("RevisionNotFound")
            if what == "tree":
                rows = self.tree(found[1], f"{below}/" if below else "")
                if below is not None and not rows:
                    return self.missing("EntryNotFound")
                return self.answer(200, json.dumps(rows).encode())
            siblings = [{"rfilename": name} for name in found[1]]
            tree = {
                "id": repo,
                "modelId": repo,
                "sha": found[0],
                "siblings": siblings,
                "private": False,
            }
            self.answer(200, json.dumps({**tree, "tags": [], "downloads": 0, "likes": 0}).encode())

        def tree(self, files: dict[str, bytes], above: str) -> list[dict[str, object]]:
            """Return what lies below a folder; the folders in it, not what is in them, unless that is asked for."""
            everything = "recursive=true" in self.path.lower()
            rows: dict[str, dict[str, object]] = {}
            for name, data in files.items():
                if not name.startswith(above):
                    continue
                inner, _, rest = name.removeprefix(above).partition("/")
                oid = hashlib.sha1(data).hexdigest()
                if rest and not everything:
                    rows[inner] = {"type": "directory", "path": f"{above}{inner}", "size": 0, "oid": oid}  # fmt: skip
                else:
                    rows[name] = {"type": "file", "path": name, "size": len(data), "oid": oid}
            return list(rows.values())

        def do_POST(self) -> None:
            hub.requests.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self.chunks()
            if hub.refuses:
                return self.answer(hub.refuses, b'{"error": "no"}')
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                repo = (
                    f"{asked['organization']}/{asked['name']}"
                    if asked.get("organization")
                    else asked["name"]
                )
                hub.commits.setdefault(repo, [])
                return self.answer(200, json.dumps({"url": f"{hub.url}/{repo}"}).encode())
            if self.path == "/api/validate-yaml":
                return self.answer(200, b'{"errors": [], "warnings": []}')
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.+", self.path):
                rows = [
                    {
                        "path": each["path"],
                        "uploadMode": "regular",
                        "shouldIgnore": False,
                        "oid": None,
                    }
                    for each in json.loads(body)["files"]
                ]
                return self.answer(200, json.dumps({"files": rows}).encode())
            if match := re.fullmatch(
                r"/api/models/([^/]+/[^/]+)/commit/.+", self.path.partition("?")[0]
            ):
                rows = [json.loads(line) for line in body.splitlines()]
                files = {
                    row["value"]["path"]: base64.b64decode(row["value"]["content"])
                    for row in rows
                    if row["key"] == "file"
                }
                commit = hub.commit(match[1], files)
                url = f"{hub.url}/{match[1]}/commit/{commit}"
                tree = {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""}
                return self.answer(200, json.dumps(tree).encode())
            self.answer(404, b"{}")

        def chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def missing(self, code: str) -> None:
            self.answer(404, b"{}", {"X-Error-Code": code})

        def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that huggingface_hub asks, with an empty cache, as HF_ENDPOINT and HF_HOME would have it."""
    with asked_hub(monkeypatch, tmp_path / "hub-cache") as fake:
        yield fake


@contextmanager
def asked_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """Have huggingface_hub ask a stub, and keep what it gets in a folder."""
    from huggingface_hub import constants

    fake = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", fake.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        fake.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    try:
        yield fake
    finally:
        fake.close()
