"""Reading from a server that cuts, forgets and lies: the right bytes come, or an error that says what and where."""

from __future__ import annotations

import random
import socket
from types import SimpleNamespace

import pytest

from svae.errors import DataError
from svae.runtime import http
from svae.runtime.http import HttpFile, RemoteError, public_url

DATA = random.Random(0).randbytes(300_000)


def read(server, path="/a.tar", **changes) -> bytes:
    server.files.setdefault("/a.tar", DATA)
    with HttpFile(server.url + path, **changes) as file:
        return file.read()


def test_a_file_is_read_whole_and_from_an_offset(server):
    assert read(server) == DATA
    assert read(server, offset=1234) == DATA[1234:]
    assert read(server, offset=len(DATA)) == b""
    assert [asked for _, asked in server.requests] == [None, "bytes=1234-", f"bytes={len(DATA)}-"]


@pytest.mark.parametrize(
    "faults",
    [
        ["cut 1000", "cut 50000", "cut 0"],
        ["status 503", "status 429", "status 500"],
        ["page", "hidden-page"],
        ["cut 70000", "ignores-range"],
        ["cut 70000", "wrong-range 5", "wrong-range -5"],
        ["cut 1", "cut 1", "cut 1", "cut 1", "cut 1", "cut 1", "cut 1", "cut 1"],
        ["no-length"],
    ],
    ids=lambda faults: faults[-1],
)
def test_faults_that_pass_leave_the_bytes_as_they_are(server, faults):
    server.faults["/a.tar"] = list(faults)
    heard = []
    assert read(server, on_retry=heard.append) == DATA
    assert len(heard) >= len(faults) - 1
    assert all("/a.tar" in text and "trying again" in text for text in heard)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("status 503", "answered 503 Service Unavailable, at byte 0; given up after 6 tries"),
        ("page", "a web page came in place of the file"),
        ("hidden-page", "a web page came in place of the file"),
        ("says 400000", "the server says 300000 bytes, expected 400000"),
    ],
)
def test_faults_that_stay_are_an_error_that_names_file_and_cause(server, fault, message):
    server.always["/a.tar"] = fault
    with pytest.raises(RemoteError, match=message) as error:
        read(server)
    assert f"{server.url}/a.tar" in str(error.value)
    assert len(server.requests) <= 2 * http.TRIES


def test_what_no_other_try_mends_is_an_error_at_once(server):
    with pytest.raises(RemoteError, match=r"/b\.tar: the server answered 404 Not Found"):
        read(server, "/b.tar")
    server.always["/a.tar"] = "status 403"
    with pytest.raises(RemoteError, match="403 Forbidden. It asks for a login"):
        read(server)
    assert len(server.requests) == 2
    with pytest.raises(RemoteError, match="not a URL"):
        HttpFile("http://").read()


def test_another_file_than_the_one_that_was_begun_is_refused(server):
    server.always["/a.tar"] = ""
    with pytest.raises(RemoteError, match="the server says 300000 bytes, expected 299999"):
        read(server, size=len(DATA) - 1)
    with pytest.raises(RemoteError, match="the server says 300000 bytes, expected 400000"):
        read(server, size=400_000, offset=350_000)
    server.faults["/a.tar"] = ["cut 1000", "says 5000"]
    with pytest.raises(RemoteError, match="the server says 5000 bytes, expected 300000"):
        read(server)


def test_a_server_that_is_not_there_or_does_not_answer(monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(http, "TIMEOUT", (0.05, 0.05))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar"
        with pytest.raises(RemoteError, match="the connection was refused, at byte 0"):
            HttpFile(url).read()
        silent.listen()
        with pytest.raises(RemoteError, match="no answer in time, at byte 0"):
            HttpFile(url).read()


def test_a_long_wait_that_a_server_asks_for_is_not_longer_than_ours(server, monkeypatch):
    waits = []
    # Not `time.sleep` itself, which other threads call, too.
    monkeypatch.setattr(http, "time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr(http, "FIRST_WAIT", 1.0)
    server.always["/a.tar"] = "status 500"
    with pytest.raises(DataError):
        read(server)
    assert waits == [1, 2, 4, 8, 16]


def test_messages_show_no_password_and_no_signature():
    assert public_url("https://me:secret@host/a.tar?X-Signature=1#x") == "https://host/a.tar"
