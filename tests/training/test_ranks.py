"""Ranks that see different folders, or that wait for each other, end with a message and do not hang."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_runs import VAE, vae_config

from svae.errors import CheckpointError, SvaeError
from svae.runtime.distributed import World, barrier, open_world, share_of
from svae.training.loop import TrainOptions, agreed_resume
from svae.training.vae.train import train_vae


def in_two_processes(work: Callable[[int], str]) -> list[str]:
    """Return what a function says in each of two ranks; forked, so that nothing is imported again."""
    context = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        os.environ |= place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        torch.set_num_threads(1)
        try:
            said.put((rank, work(rank)))
        except SvaeError as error:
            said.put((rank, f"{type(error).__name__}: {error}"))

    processes = [context.Process(target=run, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        found = dict(said.get(timeout=100) for _ in processes)
    finally:
        for process in processes:
            process.join(timeout=20)
            process.kill()
    return [found[rank] for rank in range(2)]


@pytest.fixture(scope="module")
def run_at_step_two(tone_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("ranks") / "run"
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 2})
    return train_vae(TrainOptions(config, run, device="cpu"))


@pytest.mark.parametrize("main_has_it", [True, False])
def test_ranks_that_see_different_folders_are_named_at_once(
    run_at_step_two: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    main_has_it: bool,
) -> None:
    monkeypatch.setattr("svae.training.loop.STALE_SECONDS", 0.0)
    folders = [run_at_step_two, tmp_path / "elsewhere"]
    folders = folders if main_has_it else folders[::-1]
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 4})

    def work(rank: int) -> str:
        train_vae(TrainOptions(config, folders[rank], device="cpu"))
        return "trained"

    for message in in_two_processes(work):
        assert "CheckpointError" in message and "the ranks see different checkpoints" in message
        one, other = ("0", "1") if main_has_it else ("1", "0")
        assert f"rank {other}: no checkpoint" in message and f"rank {one}: step" in message
    assert not (tmp_path / "elsewhere" / "metrics.jsonl").exists()


def test_a_disk_that_shows_a_checkpoint_late_is_waited_for(
    run_at_step_two: Path, tone_shards: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 4})

    def work(rank: int) -> str:
        with open_world("cpu") as world:
            if rank == 1:
                hidden = tmp_path / "hidden"
                shutil.copytree(run_at_step_two, hidden)
                os.fork() or _appear(hidden, late)
            options = TrainOptions(config, late if rank else run_at_step_two, device="cpu")
            found = agreed_resume(options, "vae", world)
            assert found is not None
            return f"step {found.step}"

    assert in_two_processes(work) == ["step 2", "step 2"]


def _appear(hidden: Path, late: Path) -> None:
    time.sleep(1.5)
    hidden.rename(late)
    os._exit(0)


def test_a_refused_folder_is_the_same_error_on_all_ranks(
    run_at_step_two: Path, tone_shards: Path
) -> None:
    options = TrainOptions(vae_config(tone_shards), run_at_step_two, resume="never", device="cpu")

    def work(rank: int) -> str:
        train_vae(options)
        return "trained"

    for message in in_two_processes(work):
        assert message.startswith("ConfigError") and "--resume is never" in message


def test_one_process_agrees_with_itself(run_at_step_two: Path, tone_shards: Path) -> None:
    world = World(rank=0, world_size=1, device=torch.device("cpu"))
    options = TrainOptions(vae_config(tone_shards), run_at_step_two / "none", device="cpu")
    assert agreed_resume(options, "vae", world) is None
    broken = TrainOptions(vae_config(tone_shards), run_at_step_two, resume="/none", device="cpu")
    with pytest.raises(CheckpointError):
        agreed_resume(broken, "vae", world)


def test_a_rank_that_does_not_come_is_waited_for_as_long_as_the_recipe_says() -> None:
    def work(rank: int) -> str:
        with open_world("cpu", timeout_minutes=2 / 60) as world:
            barrier(world)
            time.sleep(6 * rank)
            barrier(world)
        return "met"

    first, _ = in_two_processes(work)
    assert "trainer.collective_minutes" in first


def test_commands_whose_ranks_work_apart_wait_for_days(
    tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svae.data.index import read_index
    from svae.precompute import driver

    minutes = []

    def noted(device: str, *, timeout_minutes: float = 30.0):  # noqa: ANN202
        minutes.append(timeout_minutes)
        return open_world(device)

    monkeypatch.setattr(driver, "open_world", noted)
    with driver.open_run(read_index(tone_shards), tmp_path / "out"):
        pass
    assert minutes[0] >= 24 * 60


@pytest.mark.parametrize(("total", "ranks"), [(24, 16), (4, 3), (7, 7), (8, 2)])
def test_a_batch_is_dealt_evenly(total: int, ranks: int) -> None:
    cpu = torch.device("cpu")
    shares = [share_of(total, World(rank, ranks, cpu)) for rank in range(ranks)]
    assert sum(shares) == total and max(shares) - min(shares) <= 1 and min(shares) > 0
