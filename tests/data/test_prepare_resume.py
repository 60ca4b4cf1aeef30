"""A run of `svae prepare` that is killed or interrupted goes on where it was, and leaves nothing half done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_corpora import files, make_bad_corpus, make_corpus, run

from svae.data.index import read_index
from svae.errors import DataError

ROOT = Path(__file__).resolve().parents[2]

STALLING = """
import os, sys, time
from pathlib import Path
import svae.data.prepare as prepare
from svae.runtime import jobs as pool

read = prepare._read

def stalling_read(utterance, raw_text, options):
    Path(sys.argv[3], str(os.getpid())).touch()
    finished = len(list(options.out.glob("*.tar")))
    while finished >= 2 and not pool._stop.is_set():
        time.sleep(0.01)
    return read(utterance, raw_text, options)

prepare._read = stalling_read
prepare.prepare(prepare.PrepareOptions(
    corpus="jsonl", root=Path(sys.argv[1]), out=Path(sys.argv[2]), shards=6, workers=2))
"""


def start_stalling(corpus: Path, out: Path, pids: Path) -> subprocess.Popen:
    """Start a run whose workers wait for ever once two shards are finished, and wait for that."""
    pids.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", STALLING, corpus, out, pids],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while len(list(out.glob("*.tar"))) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def is_running(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends while it is read
        return False


def wait_for_end(pids: Path) -> None:
    """Wait until no worker process is left."""
    deadline = time.monotonic() + 300
    for pid in (int(path.name) for path in pids.iterdir()):
        while is_running(pid):
            assert time.monotonic() < deadline, f"worker {pid} outlived its parent"
            time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(tmp_path):
    corpus, out = make_corpus(tmp_path / "corpus", 24), tmp_path / "out"
    make_bad_corpus(corpus / "bad")
    rows = (corpus / "metadata.jsonl").read_text().splitlines()
    rows += [
        json.dumps({"audio": f"bad/{name}.wav", "text": "t"})
        for name in ("silent", "short", "nan", "text")
    ]
    (corpus / "metadata.jsonl").write_text("\n".join(rows))
    process = start_stalling(corpus, out, tmp_path / "pids")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for_end(tmp_path / "pids")
    finished = {path: path.stat().st_mtime_ns for path in out.glob("shard-*.tar")}
    assert 2 <= len(finished) < 6 and not (out / "index.json").exists()
    with pytest.raises(DataError, match="interrupted: run the same"):
        read_index(out)
    (out / ".shard-00005.tar.tmp-1").write_bytes(b"half a shard")

    report, printed = run(corpus, out, shards=6)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert (
        report.shards_made == 6 - len(finished)
        and f"{len(finished)} of 6 shards are finished" in printed
    )
    run(corpus, tmp_path / "whole", shards=6)
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(tmp_path):
    corpus, out = make_corpus(tmp_path / "corpus", 24), tmp_path / "out"
    process = start_stalling(corpus, out, tmp_path / "pids")
    os.kill(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=300)
    wait_for_end(tmp_path / "pids")
    finished = len(list(out.glob("*.tar")))
    assert (
        process.returncode != 0 and f"Interrupted: {finished} of 6 shards are finished" in printed
    )
    assert not list(out.glob(".*.tmp-*"))
    assert run(corpus, out, shards=6)[0].shards_made == 6 - finished
