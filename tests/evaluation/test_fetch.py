"""`svae fetch`: whole and checked, or a message that says what to copy where."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from svae.errors import ConfigError, DataError
from svae.evaluation import fetch as module
from svae.evaluation.fetch import JUDGES, LISTS, fetch
from svae.evaluation.protocols import PROTOCOLS


@pytest.fixture
def small(monkeypatch, server):
    """The published list's place, with another content and its sum."""
    content = b"a list\n"
    entry = LISTS["librispeech-pc"]
    file = dataclasses.replace(
        entry.files[0], digest=f"sha256:{hashlib.sha256(content).hexdigest()}", size=7, about=7
    )
    entry = dataclasses.replace(entry, files=(file,))
    monkeypatch.setitem(module.KINDS, "lists", {"librispeech-pc": entry})
    server.files[file.path] = content
    return server, file


def test_a_list_is_fetched_once_and_checked(small, tmp_path, capsys):
    server, file = small
    folder = fetch("lists", "librispeech-pc", to=tmp_path, mirrors=(server.url,))
    assert (folder / file.name).read_bytes() == b"a list\n"
    assert "whole and checked" in capsys.readouterr().out
    asked = len(server.requests)
    assert fetch("lists", "librispeech-pc", to=tmp_path, mirrors=(server.url,)) == folder
    assert len(server.requests) == asked
    (folder / file.name).write_bytes(b"other\n")
    with pytest.raises(DataError, match=r"another file, or damaged\. Delete it"):
        fetch("lists", "librispeech-pc", to=tmp_path, mirrors=(server.url,))


def test_another_content_is_refused(small, tmp_path):
    server, file = small
    server.files[file.path] = b"b list\n"
    with pytest.raises(DataError, match="expected .*: another file, or damaged on the way"):
        fetch("lists", "librispeech-pc", to=tmp_path, mirrors=(server.url,))
    assert not (tmp_path / "lists/librispeech-pc" / file.name).exists()


def test_offline_it_says_what_to_copy_where(small, tmp_path):
    server, file = small
    server.files.clear()
    with pytest.raises(DataError) as error:
        fetch("lists", "librispeech-pc", to=tmp_path, mirrors=(server.url,))
    text = str(error.value)
    place = tmp_path / "lists/librispeech-pc" / file.name
    assert (
        f"https://raw.githubusercontent.com{file.path}" in text
        and f"to {place} (7 bytes, sha256:" in text
    )
    place.write_bytes(b"a list\n")
    assert fetch("lists", "librispeech-pc", to=tmp_path) == place.parent  # asks nobody


def test_every_entry_says_hash_or_how_by_hand_and_its_licence(capsys, tmp_path):
    for kind, entries in (("lists", LISTS), ("judges", JUDGES)):
        assert fetch(kind, None, to=tmp_path) is None
        printed = capsys.readouterr().out
        for name, entry in entries.items():
            assert name in printed and entry.licence and entry.use
            assert bool(entry.files) != bool(entry.by_hand)
            for file in entry.files:
                assert len(file.digest) == len("sha256:") + 64 and file.about > 0
            if entry.by_hand:
                with pytest.raises(ConfigError, match="Use: "):
                    fetch(kind, name, to=tmp_path)
    assert (
        LISTS["librispeech-pc"].files[0].digest.endswith(PROTOCOLS["f5-librispeech-pc"].list_sha256)
    )


def test_the_published_list_is_the_one_that_is_known(shared):
    file = LISTS["librispeech-pc"].files[0]
    path = shared / "data" / file.name
    content = path.read_bytes()
    assert (
        len(content) == file.size and file.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    )


def test_unknown_names_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="expected one of lists, judges"):
        fetch("models", None, to=tmp_path)
    with pytest.raises(ConfigError, match="unknown; expected one of faster-whisper-large-v3"):
        fetch("judges", "nobody", to=tmp_path)
