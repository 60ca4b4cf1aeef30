"""Shards on a real S3 server that fails, behind the cache of the machine."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from svae.data.index import read_index, read_member, verify_shards
from svae.data.shard_source import AHEAD_SHARDS, announced
from svae.errors import ConfigError, DataError
from svae.runtime import http
from svae.runtime.file_cache import open_cache, parse_size
from svae.runtime.remote import Url, place_of


def contents(root) -> dict[str, bytes]:
    index = read_index(root)
    return {sample.key: read_member(index, sample, "flac") for sample in index.samples}


def cached(tmp_path: Path) -> list[str]:
    return sorted(
        path.name for path in (tmp_path / "cache/files").iterdir() if path.name != ".room"
    )


def test_a_url_survives_being_taken_for_a_path_and_joins_as_one():
    for given in ("s3://b/x", Path("s3://b/x"), Url("s3://b/x")):
        place = place_of(given)
        assert isinstance(place, Url) and str(place) == "s3://b/x"
        assert str(place / "shard-0.tar") == "s3://b/x/shard-0.tar"
        assert str((place / "shard-0.tar").with_suffix(".jsonl")) == "s3://b/x/shard-0.jsonl"
    for local in ("data/x", "/data/s3:/x", "C:/x", "x:y"):
        assert not isinstance(place_of(local), Url)


def test_shards_on_s3_read_as_those_on_the_disk(s3, tone_shards):
    url = s3.put(tone_shards, "tones")
    assert contents(url) == contents(tone_shards)
    assert contents(Path(url)) == contents(tone_shards)  # as the command line has it
    verify_shards(read_index(url))
    tars = [key for key in s3.gets if key.endswith(".tar")]
    assert len(tars) == len(set(tars)) == 2, "fetched once, whole"


@pytest.mark.parametrize(
    "fault", ["status 500", "status 503", "cut 100", "wrong", "length 7", "stall 2"]
)
def test_a_server_that_fails_and_recovers_is_asked_again(
    s3, tone_shards, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr(http, "TIMEOUT", (2.0, 0.5))
    url = s3.put(tone_shards, "tones")
    for pattern in ("tones/*.tar", "tones/*.jsonl"):
        s3.faults[pattern] = [fault, fault] if fault != "stall 2" else [fault]
    assert contents(url) == contents(tone_shards)
    assert not any(name.endswith(".part") for name in cached(tmp_path))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status 500", "Internal Server Error"),
        ("cut 100", "shard-00001.tar"),
        ("wrong", "sha256"),
        ("length 7", "bytes came"),
        ("status 404", "not there"),
        ("status 403", "does not allow"),
    ],
)
def test_a_server_that_stays_wrong_is_given_up_with_shard_and_cause(
    s3, tone_shards, tmp_path, fault, said
):
    url = s3.put(tone_shards, "tones")
    s3.always["tones/shard-00001.tar"] = fault
    with pytest.raises(DataError, match="s3://bucket/tones/shard-00001.tar") as caught:
        contents(url)
    assert said in str(caught.value)
    hashes = [shard["sha256"] for shard in read_index(url).shards]
    assert f"{hashes[0]}.tar" in cached(tmp_path)
    assert not any(hashes[1] in name for name in cached(tmp_path)), "no half file, no wrong file"


def test_what_is_missing_or_cut_on_the_server_is_found_before_anything_starts(s3, tone_shards):
    url = s3.put(tone_shards, "tones")
    with pytest.raises(DataError, match="s3://bucket/nothing: no index.json"):
        read_index("s3://bucket/nothing")
    tar = (tone_shards / "shard-00001.tar").read_bytes()
    s3.client.put_object(Bucket="bucket", Key="tones/shard-00001.tar", Body=tar[:-512])
    with pytest.raises(DataError, match="shard-00001.tar: truncated"):
        read_index(url)
    s3.client.delete_object(Bucket="bucket", Key="tones/shard-00001.tar")
    with pytest.raises(DataError, match="shard-00001.tar: missing"):
        read_index(url)


def test_rows_that_were_changed_on_the_server_are_refused(s3, tone_shards, capsys):
    url = s3.put(tone_shards, "tones")
    rows = (tone_shards / "shard-00000.jsonl").read_bytes()
    s3.client.put_object(
        Bucket="bucket", Key="tones/shard-00000.jsonl", Body=rows.replace(b"tone a", b"tone b")
    )
    with pytest.raises(DataError, match=r"shard-00000\.jsonl: other bytes came"):
        read_index(url)
    # A folder of an older svae has no hashes of rows: it is read, and that is said.
    metadata = json.loads((tone_shards / "index.json").read_text())
    for shard in metadata["shards"]:
        del shard["rows_sha256"], shard["rows_bytes"]
    s3.client.put_object(
        Bucket="bucket", Key="tones/index.json", Body=json.dumps(metadata).encode()
    )
    assert read_index(url).samples[0].text.endswith("tone b")
    assert "no hashes of the rows" in capsys.readouterr().err


def test_the_cache_stays_within_its_size_and_drops_what_was_not_used_for_longest(
    s3, tone_shards, tmp_path, monkeypatch
):
    url = s3.put(tone_shards, "tones")
    index = read_index(url)
    sizes = [shard["bytes"] for shard in index.shards]
    rows = sum(shard["rows_bytes"] for shard in index.shards)
    monkeypatch.setenv("SVAE_CACHE_SIZE", f"{rows + max(sizes)}")
    index = read_index(url)
    for _ in range(2):
        for sample in index.samples:
            read_member(index, sample, "flac")
            for path in (tmp_path / "cache/files").glob("*.jsonl"):
                os.utime(path)
            assert sum(
                p.stat().st_size for p in (tmp_path / "cache/files").iterdir()
            ) <= rows + max(sizes)
    assert sum(key.endswith(".tar") for key in s3.gets) == 4
    monkeypatch.setenv("SVAE_CACHE_SIZE", "1000")
    with pytest.raises(DataError, match="one file alone"):
        open_cache().get("large.tar", 2000, lambda file: None)


def test_what_is_fetched_ahead_pushes_nothing_out_that_is_in_use(
    s3, tone_shards, tmp_path, monkeypatch, capsys
):
    url = s3.put(tone_shards, "tones")
    shards = read_index(url).shards
    room = sum(s["rows_bytes"] for s in shards) + max(s["bytes"] for s in shards)
    monkeypatch.setenv("SVAE_CACHE_SIZE", str(room))
    index = read_index(url)
    first, second = index.samples[0], index.samples[-1]
    read_member(index, first, "flac")
    fetch = index.files._fetch_shard(shards[1])
    open_cache().get("ahead.tar", shards[1]["bytes"], fetch, ahead=True)
    assert f"{shards[0]['sha256']}.tar" in cached(tmp_path) and "ahead.tar" not in cached(tmp_path)
    read_member(index, second, "flac")
    assert f"{shards[0]['sha256']}.tar" not in cached(tmp_path)
    assert "again" not in capsys.readouterr().err
    for sample in (first, second):
        read_member(index, sample, "flac")
    assert capsys.readouterr().err.count("Raise SVAE_CACHE_SIZE") == 1


def test_sizes_are_read_as_people_write_them():
    assert (
        parse_size("20G") == 20 * 10**9 and parse_size("1.5 tb") == 1.5e12 and parse_size("7") == 7
    )
    for wrong in ("", "much", "0G", "-1G", "5X"):
        with pytest.raises(ConfigError, match="20G"):
            parse_size(wrong)


def _read_all(url: str, queue) -> None:
    queue.put(sum(len(data) for data in contents(url).values()))


def test_processes_that_want_the_same_shards_fetch_each_once(s3, tone_shards):
    url = s3.put(tone_shards, "tones")
    s3.always["tones/*.tar"] = "stall 0.1"  # long enough that all of them ask
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_read_all, args=(url, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    found = {queue.get(timeout=300) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert sum(key.endswith(".tar") for key in s3.gets) == 2


def test_a_process_killed_while_it_fetches_leaves_no_half_file_and_nobody_waits_for_it(
    s3, tone_shards, tmp_path
):
    url = s3.put(tone_shards, "tones")
    s3.faults["tones/*.tar"] = ["stall 100"]  # until it is killed, however late that is
    command = "import sys; from svae.data.index import *; i = read_index(sys.argv[1]); print('go', flush=True)\n"
    command += "from svae.runtime import http; http.TIMEOUT = (200, 200); read_member(i, i.samples[0], 'flac')"
    process = subprocess.Popen([sys.executable, "-c", command, url], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"go\n"
    deadline = time.monotonic() + 300
    while not any(name.endswith(".part") for name in cached(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not any(name.endswith(".tar") for name in cached(tmp_path))
    assert contents(url) == contents(tone_shards)
    assert not any(name.endswith(".part") for name in cached(tmp_path))


def test_shards_are_asked_for_before_their_turn_and_batches_stay_as_they_are():
    plan = [[n // 10] * 3 for n in range(200)]  # a new shard every ten batches
    asked: list[int] = []
    seen = []
    for batch in announced(iter(plan), lambda batch: batch, asked.extend):
        wanted = min(batch[0] + AHEAD_SHARDS, 19)
        assert wanted in asked
        seen.append(batch)
    assert seen == plan
    assert asked == list(range(20)), "each once, in order, not again while it is in use"


def test_needed_shards_come_in_the_background(s3, tone_shards, tmp_path):
    index = read_index(s3.put(tone_shards, "tones"))
    before = threading.active_count()  # other tests may have left some
    for _ in range(20):
        index.need([1, 0])
    deadline = time.monotonic() + 300
    while sum(name.endswith(".tar") for name in cached(tmp_path)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    s3.always["*.tar"] = "status 404"  # from here on the cache is all there is
    for sample in index.samples:
        read_member(index, sample, "flac")
    assert threading.active_count() < before + 20


def test_an_http_server_will_do_too(server, tone_shards, tmp_path, monkeypatch):
    monkeypatch.setenv("SVAE_CACHE", str(tmp_path / "cache"))
    server.files = {f"/x/{path.name}": path.read_bytes() for path in tone_shards.iterdir()}
    server.faults = {"/x/shard-00000.tar": ["cut 500", "status 503"]}
    assert contents(f"{server.url}/x") == contents(tone_shards)
    with pytest.raises(DataError, match="no index.json"):
        read_index(f"{server.url}/y")


def test_a_scheme_without_its_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"svae\[remote\]"):
        read_index("s3://bucket/x")
    with pytest.raises(ConfigError, match="not a URL"):
        read_index("nosuch://bucket/x")
