"""Jobs over shards on a cluster: lost ones are done again, and what is asked of no cluster is said."""

from __future__ import annotations

import io
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from svae.errors import ConfigError, DataError
from svae.runtime import ray_jobs
from svae.runtime.ray_jobs import LostJob, RayOptions, open_cluster, run_on


class FakeCluster:
    """Does two jobs at a time, in this process; loses those that `lose` says, each so many times."""

    def __init__(self, lose: dict[int, int] | None = None) -> None:
        self.lose = dict(lose or {})
        self.submitted: list[int] = []
        self.called_off: list[object] = []
        self.most = 0
        self._there: dict[str, tuple] = {}
        self._ticks: dict[int, int] = {}

    def slots(self) -> int:
        return 2

    def submit(self, number, function, job):
        self.submitted.append(number)
        handle = f"{number}-{len(self.submitted)}"
        self._there[handle] = (number, function, job)
        self.most = max(self.most, len(self._there))
        return handle

    def finished(self, handles):
        return handles[:1]

    def result(self, handle):
        number, function, job = self._there.pop(handle)
        count = 0

        def tick() -> None:
            nonlocal count
            count += 1
            self._ticks[number] = count

        value = function(*job, tick)
        if self.lose.get(number, 0) > 0:
            self.lose[number] -= 1
            raise LostJob("NodeDiedError: gone")
        return value, count

    def ticks(self):
        return self._ticks

    def cancel(self, handles) -> None:
        self.called_off += handles


def square(number: int, tick) -> int:
    for _ in range(3):
        tick()
    return number * number


def jobs(count: int) -> dict[int, tuple[int]]:
    return {number + 10: (number,) for number in range(count)}


def run(cluster: FakeCluster, count: int = 7, function=square) -> tuple[dict[int, int], str]:
    console = Console(file=io.StringIO(), width=200)
    results = run_on(
        cluster, function, jobs(count), description="Squaring", console=console, total=3 * count
    )
    return results, console.file.getvalue()


def test_every_job_is_done_and_few_wait_at_the_cluster():
    cluster = FakeCluster()
    results, shown = run(cluster)
    assert results == {number + 10: number * number for number in range(7)}
    assert sorted(cluster.submitted) == list(jobs(7))
    assert cluster.most == 2 * ray_jobs.AHEAD
    assert "21/21" in shown and cluster.called_off == []


def test_lost_jobs_are_done_again_and_counted_once():
    cluster = FakeCluster(lose={11: 1, 16: 3})
    results, shown = run(cluster)
    assert results == {number + 10: number * number for number in range(7)}
    assert cluster.submitted.count(11) == 2 and cluster.submitted.count(16) == 4
    assert len(cluster.submitted) == 7 + 4
    assert "job 16 was lost (NodeDiedError: gone); it is done again elsewhere" in shown
    assert "21/21" in shown


def test_a_job_that_is_lost_again_and_again_ends_the_run_and_calls_off_the_others():
    cluster = FakeCluster(lose={12: 99})
    with pytest.raises(DataError, match=r"job 12 was lost 4 times .* NodeDiedError(.|\n)*same com"):
        run(cluster, count=40)
    assert cluster.submitted.count(12) == 4
    assert len(cluster.called_off) == 2 * ray_jobs.AHEAD - 1


def test_what_a_job_raises_ends_the_run_and_calls_off_the_others():
    def failing(number: int, tick) -> int:
        if number == 3:
            raise DataError("shard 3 is damaged")
        return number

    cluster = FakeCluster()
    with pytest.raises(DataError, match="shard 3 is damaged"):
        run(cluster, function=failing)
    assert cluster.called_off and 13 not in {int(str(h).split("-")[0]) for h in cluster.called_off}


def test_without_jobs_nothing_is_asked_of_the_cluster():
    assert run(FakeCluster(), count=0) == ({}, "")


# ----------------------------------------------------------------------------------------------- no cluster


def opened(tmp_path: Path, address: str, device: str = "cpu") -> None:
    with open_cluster(RayOptions(address), folder=tmp_path, device=device):
        raise AssertionError("there is no cluster")


@pytest.fixture
def fake_ray(monkeypatch):
    """A module in the place of ray, which takes seconds to import; joins nothing."""

    class Module:
        class exceptions:
            RayError = OSError

        @staticmethod
        def init(address, **_):
            raise ConnectionError(f"Could not find any running Ray instance: {address}\nmore")

    monkeypatch.setitem(sys.modules, "ray", Module)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_the_extra_is_named_where_ray_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--ray auto: needs ray.*pip install 'svae\[ray\]'"):
        opened(tmp_path, "auto")


@pytest.mark.parametrize("address", ["", "head", "head:", "head:x", "ray://head:10001", "h:70000"])
def test_what_is_no_address_is_said(fake_ray, tmp_path, address):
    with pytest.raises(ConfigError, match=r"expected auto .* or HOST:PORT"):
        opened(tmp_path, address)


@pytest.mark.parametrize("by_environment", [False, True])
def test_an_address_where_nobody_answers_is_said(fake_ray, tmp_path, monkeypatch, by_environment):
    with socket.socket() as held:  # bound, not listening: refused, and nobody else's
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        if by_environment:
            monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match=rf"--ray {address}: nobody answers \(.*refused"):
            opened(tmp_path, "auto" if by_environment else address)
    assert list(tmp_path.iterdir()) == []


def test_no_cluster_on_this_machine_is_said_in_one_message(fake_ray, tmp_path):
    with pytest.raises(ConfigError, match=r"--ray auto: no Ray cluster .*auto\)\.\nStart one"):
        opened(tmp_path, "auto")


@pytest.mark.parametrize("device", ["cuda:1", "mps", "tpu"])
def test_the_cluster_says_which_gpu(fake_ray, tmp_path, device):
    with pytest.raises(ConfigError, match=f"--device {device}: expected auto, cpu or cuda"):
        opened(tmp_path, "auto", device)


def test_not_under_torchrun(fake_ray, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="--ray: not under torchrun"):
        opened(tmp_path, "auto")


def test_a_node_that_does_not_see_the_folder_or_has_another_svae_is_named(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(ConfigError, match=rf"does not see {tmp_path}\. .*all nodes share"):
        ray_jobs._work(square, (1,), 1, None, mark, tmp_path, ray_jobs.svae.__version__)
    mark.touch()
    with pytest.raises(ConfigError, match=r"this command is 0\.0\.none; install the same"):
        ray_jobs._work(square, (1,), 1, None, mark, tmp_path, "0.0.none")
