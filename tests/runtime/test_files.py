"""Files and folders that are whole or absent, and folders that one process holds alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from svae.errors import ConfigError, SvaeError
from svae.runtime import files
from svae.runtime.files import (
    LOCK_NAME,
    atomic_folder,
    atomic_path,
    file_stem,
    files_below,
    folder_lock,
    leftovers,
    remove_leftovers,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert leftovers(tmp_path) == [temporary]
        raise ValueError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_kept(tmp_path):
    folder = tmp_path / "folder"
    with atomic_folder(folder) as temporary:
        (temporary / "below").mkdir()
        (temporary / "below" / "file").write_text("one")
        assert not folder.exists() and leftovers(tmp_path) == [temporary]
    with pytest.raises(ValueError), atomic_folder(folder) as temporary:
        (temporary / "file").write_text("half")
        raise ValueError
    assert (folder / "below" / "file").read_text() == "one"
    with atomic_folder(folder) as temporary:
        (temporary / "file").write_text("two")
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert list(tmp_path.iterdir()) == [folder]


def test_what_killed_processes_left_is_found_and_deleted(tmp_path):
    (tmp_path / ".a.tar.tmp-1").write_text("half")
    (tmp_path / ".b.tmp-2").mkdir()
    (tmp_path / ".b.tmp-2" / "file").write_text("half")
    (tmp_path / "kept.tmp").write_text("whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.tmp"]


# ----------------------------------------------------------------------------------------------- the lock

HOLD = """
import sys, time
from svae.runtime.files import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen:
    """Start a process that holds a folder, and wait until it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def write_lock(folder: Path, **changes) -> None:
    (folder / LOCK_NAME).write_text(json.dumps(files._this_process() | changes))


def ended_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_process_is_refused_with_host_and_number_of_the_first(tmp_path):
    process = hold(tmp_path, 60)
    try:
        message = rf"process {process.pid} on host {socket.gethostname()} .*working in this folder"
        with pytest.raises(SvaeError, match=message), folder_lock(tmp_path):
            pytest.fail("two processes in one folder")
    finally:
        process.terminate()
        process.wait()


def test_the_lock_ends_with_the_block_also_on_an_error(tmp_path):
    with folder_lock(tmp_path):
        assert (tmp_path / LOCK_NAME).exists()
        with pytest.raises(ConfigError, match="working in this folder"), folder_lock(tmp_path):
            pytest.fail("locked twice")
        assert (tmp_path / LOCK_NAME).exists()  # who was refused did not delete it
    with pytest.raises(ValueError), folder_lock(tmp_path):
        raise ValueError
    with folder_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    process = hold(tmp_path, 60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_lock_whose_number_belongs_to_another_process_by_now_is_taken_over(tmp_path):
    write_lock(tmp_path, started="1")
    with folder_lock(tmp_path):
        pass
    write_lock(tmp_path)  # this very process, which lives
    with pytest.raises(ConfigError, match=f"process {os.getpid()}"), folder_lock(tmp_path):
        pytest.fail("a living process lost its lock")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_lock_that_says_nothing_is_respected(tmp_path, text):
    (tmp_path / LOCK_NAME).write_text(text)
    with pytest.raises(ConfigError, match="another process is working.*delete "):
        with folder_lock(tmp_path):
            pytest.fail("the lock was not respected")


def test_the_lock_of_another_host_is_respected_even_if_its_number_is_free_here(tmp_path):
    write_lock(tmp_path, host="elsewhere", pid=ended_process())
    asks = r"on host elsewhere.* cannot be seen from .*if it no longer runs, delete .*\.lock"
    with pytest.raises(ConfigError, match=asks), folder_lock(tmp_path):
        pytest.fail("the lock was not respected")


@pytest.mark.parametrize(
    ("held_by", "own", "taken"),
    [
        ("4711", "4711", True),
        ("4711", "4712", False),
        ("4711", None, False),
        (None, None, False),
        (None, "4711", False),
        ("none", "none", False),  # torchrun's word for no id
    ],
)
def test_the_lock_of_a_lost_host_is_taken_over_by_the_same_job_of_torchrun(
    tmp_path, monkeypatch, held_by, own, taken
):
    def of_job(name: str | None) -> None:
        if name is None:
            monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        else:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)

    of_job(held_by)
    write_lock(tmp_path, host="elsewhere")
    of_job(own)
    if taken:
        with folder_lock(tmp_path):
            assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(ConfigError, match="on host elsewhere"), folder_lock(tmp_path):
            pytest.fail("the lock was not respected")


def test_a_living_process_of_the_same_job_on_this_host_keeps_its_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "4711")
    with folder_lock(tmp_path):
        with pytest.raises(ConfigError, match="working in this folder"), folder_lock(tmp_path):
            pytest.fail("locked twice")


def test_of_many_that_find_a_dead_lock_at_once_one_gets_the_folder(tmp_path):
    write_lock(tmp_path, pid=ended_process())
    all_tried = threading.Barrier(8, timeout=60)  # whoever has the folder keeps it until then

    def attempt(_: int) -> bool:
        try:
            with folder_lock(tmp_path):
                all_tried.wait()
                return True
        except ConfigError:
            all_tried.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path):
    with pytest.raises(ConfigError, match="cannot be locked"), folder_lock(tmp_path / "nowhere"):
        pytest.fail("locked")


def test_files_in_linked_folders_are_found_once(tmp_path):
    root, elsewhere, out = tmp_path / "root", tmp_path / "elsewhere", tmp_path / "root" / "out"
    for path in (root / "anna" / "1", root / "anna" / "deep" / "2", elsewhere / "3", out / "4"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "ben").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(tmp_path)  # to its own parent
    (root / "a").symlink_to(root / "anna")  # which lies there itself
    (root / "results").symlink_to(out)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "5").symlink_to(elsewhere / "3")
    found = [path.relative_to(root).as_posix() for path in files_below(root, without=out)]
    assert found == ["5", "anna/1", "anna/deep/2", "ben/3"]
    assert files_below(out, without=root) == []
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    assert [p.relative_to(linked).as_posix() for p in files_below(linked, without=out)] == found


@pytest.mark.parametrize("char", "aéあ😀")
def test_names_after_keys_fit_the_file_system_and_stay_different(tmp_path, char):
    for count in (1, 60, 100, 240, 255, 400, 5000):
        stems = {file_stem(char * count + end) for end in ("", "x", "y")}
        assert len(stems) == 3
        for stem in stems:
            assert len(stem.encode()) <= 240 and file_stem(stem) == stem
            write_text(tmp_path / f"{stem}.json", "whole")
            assert (tmp_path / f"{stem}.json").read_text() == "whole"
    assert file_stem("kept as it is é") == "kept as it is é"


def test_a_name_of_all_the_bytes_that_fit_can_be_written(tmp_path):
    for size in (230, 245, 255):
        write_text(tmp_path / ("x" * size), "whole")
        with atomic_folder(tmp_path / ("y" * size)) as folder:
            (folder / "a").write_text("b")
    assert len(list(tmp_path.iterdir())) == 6
