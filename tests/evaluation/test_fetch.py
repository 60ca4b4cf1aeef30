"""`svae fetch`: whole and checked, or a message that says what to copy where."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile

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
    assert "whole. Licence: MIT" in capsys.readouterr().out
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


def test_every_entry_says_size_sum_licence_source_and_use(capsys, tmp_path):
    for kind, entries in (("lists", LISTS), ("judges", JUDGES)):
        assert fetch(kind, None, to=tmp_path) is None
        printed = capsys.readouterr().out
        for name, entry in entries.items():
            assert f"{name} (" in printed and entry.licence in printed and entry.source in printed
            assert entry.files or entry.note
            about = module._about(name, entry, tmp_path)
            head = about.splitlines()[0]
            sizes = [file.size for file in entry.files]
            assert about.count(module.UNKNOWN_SIZE) == sizes.count(None) + (set(sizes) == {None})
            assert ("MB" in head) == any(sizes) and ("of unknown size" in head) == (
                any(sizes) and None in sizes
            )
            for file in entry.files:
                assert file.digest == "" or len(file.digest) == len("sha256:") + 64
                assert file.path.count("/") > 2 and file.hosts[0].startswith("https://")
            assert any(not file.digest for file in entry.files) == (
                "sha256 not published" in module._about(name, entry, tmp_path)
            )
    with pytest.raises(ConfigError, match=r"svae\[mos\].*\nUse: --dnsmos speechmos"):
        fetch("judges", "dnsmos", to=tmp_path)
    assert (
        LISTS["librispeech-pc"].files[0].digest.endswith(PROTOCOLS["f5-librispeech-pc"].list_sha256)
    )


@pytest.fixture
def unsummed(monkeypatch, server):
    """A list and its prompts, of which no sum is published."""
    entry = LISTS["minimax-multilingual"]
    monkeypatch.setitem(module.KINDS, "lists", {"minimax-multilingual": entry})
    table, pack = entry.files
    server.files[table.path] = b'{"id": "1"}\n'
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("prompt/a.wav")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    server.files[pack.path] = buffer.getvalue()
    return server, table, pack


def test_a_sum_nobody_publishes_is_kept_at_first_and_compared_then(unsummed, tmp_path, capsys):
    server, table, pack = unsummed
    folder = fetch("lists", "minimax-multilingual", to=tmp_path, mirrors=(server.url,))
    found = hashlib.sha256(server.files[table.path]).hexdigest()
    assert f"sha256 {found}, the one it had when it first came" in capsys.readouterr().out
    assert json.loads((folder / "first-seen.json").read_text())[table.name] == found
    assert (folder / "minimax_multilingual_24/prompt/a.wav").read_bytes() == b"abc"
    assert fetch("lists", "minimax-multilingual", to=tmp_path) == folder  # asks nobody
    (folder / table.name).write_bytes(b"{}\n")
    with pytest.raises(DataError, match=f"expected {found}, the one it had when it first came"):
        fetch("lists", "minimax-multilingual", to=tmp_path)
    assert json.loads((folder / "first-seen.json").read_text())[table.name] == found


def test_a_damaged_pack_leaves_no_folder(unsummed, tmp_path):
    server, _, pack = unsummed
    server.files[pack.path] = server.files[pack.path][:-20]
    with pytest.raises(DataError, match="damaged"):
        fetch("lists", "minimax-multilingual", to=tmp_path, mirrors=(server.url,))
    assert not (tmp_path / "lists/minimax-multilingual/minimax_multilingual_24").exists()


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
