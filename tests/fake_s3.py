"""A real S3 server (moto's) on the loopback, with a layer before it that fails on request."""

from __future__ import annotations

import fnmatch
import functools
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from svae.runtime import http

BUCKET = "bucket"


class FakeS3:
    """`faults` of a key's pattern are used up one a download, those in `always` never end.

    `status N`; `cut N`: N bytes come, then the connection ends; `wrong`: other bytes of the same number; `length N`: so many
    fewer bytes, said to be all; `stall SECONDS`.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.faults: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.gets: list[str] = []
        """Keys that were downloaded, each as often as it was asked for."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")
        if environ["REQUEST_METHOD"] != "GET" or "list-type" in environ["QUERY_STRING"]:
            return self._app(environ, start_response)
        self.gets.append(key)
        kind, _, value = self._fault(key).partition(" ")
        if kind == "status":
            start_response(f"{value} Sorry", [("Content-Length", "0")])
            return [b""]
        answer: list[Any] = []
        body = b"".join(self._app(environ, lambda *a: answer.extend(a[:2])))
        status, headers = answer
        if kind in ("wrong", "length"):  # the server itself stands by what it sends
            headers = [h for h in headers if not h[0].lower().startswith("x-amz-checksum")]
        if kind == "wrong":
            body = bytes(byte ^ 1 for byte in body)
        elif kind == "length":
            body = body[: -int(value)]
            headers = [
                h for h in headers if h[0].lower() not in ("content-length", "content-range")
            ]
            headers.append(("Content-Length", str(len(body))))
        start_response(status, headers)
        return self._cut(body, int(value)) if kind == "cut" else self._late(body, kind, value)

    @staticmethod
    def _late(body: bytes, kind: str, value: str) -> Iterator[bytes]:
        if kind == "stall":
            time.sleep(float(value))
        yield body

    @staticmethod
    def _cut(body: bytes, size: int) -> Iterator[bytes]:
        yield body[:size]
        raise ConnectionAbortedError

    def _fault(self, key: str) -> str:
        for pattern, waiting in self.faults.items():
            if waiting and fnmatch.fnmatch(key, pattern):
                return waiting.pop(0)
        return next((f for p, f in self.always.items() if fnmatch.fnmatch(key, p)), "")

    def put(self, folder: Path, prefix: str) -> str:
        """Upload a folder; return its URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def keys(self, prefix: str) -> list[str]:
        """Return the names below a prefix."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
        return sorted(row["Key"].removeprefix(f"{prefix}/") for row in found)

    @functools.cached_property
    def client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)


@pytest.fixture(scope="session")
def _s3_server() -> FakeS3:
    for package in ("moto", "flask_cors", "s3fs"):
        pytest.importorskip(package, reason="pip install 'svae[dev,remote]'")
    return FakeS3()


@pytest.fixture
def s3(_s3_server: FakeS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeS3]:
    """An empty bucket, a cache of its own, and servers that are asked again at once."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(
        http, "TIMEOUT", (30.0, 30.0)
    )  # asked again is what fails, not what is slow
    for name, value in {
        "AWS_ENDPOINT_URL": _s3_server.url,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SVAE_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SVAE_CACHE_SIZE", raising=False)
    client = _s3_server.client
    client.create_bucket(Bucket=BUCKET)
    _s3_server.faults, _s3_server.always, _s3_server.gets = {}, {}, []
    yield _s3_server
    for row in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=row["Key"])
    client.delete_bucket(Bucket=BUCKET)
