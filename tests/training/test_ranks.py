"""Ranks that see different folders, or that wait for each other, end with a message and do not hang."""

from __future__ import annotations

import importlib
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_ranks import in_processes
from tiny_runs import TTS, VAE, tts_config, vae_config, vae_of
from tone_shards import write_tone_shards

from svae.errors import CheckpointError, SvaeError
from svae.runtime.distributed import World, barrier, open_world, share_of
from svae.training.loop import TrainOptions, agreed_resume
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae


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
    monkeypatch.setattr("svae.training.loop.RACE_SECONDS", 0.0)
    folders = [run_at_step_two, tmp_path / "elsewhere"]
    folders = folders if main_has_it else folders[::-1]
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 4})

    def work(rank: int) -> str:
        train_vae(TrainOptions(config, folders[rank], device="cpu"))
        return "trained"

    for message in in_processes(work):
        assert "CheckpointError" in message and "the ranks see different checkpoints" in message
        one, other = ("0", "1") if main_has_it else ("1", "0")
        assert f"rank {other}: no checkpoint" in message and f"rank {one}: step" in message
    assert not (tmp_path / "elsewhere" / "metrics.jsonl").exists()


def on_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: f"node{os.environ.get('RANK')}")


def test_ranks_of_two_nodes_are_named_before_the_disk_is_waited_for(
    run_at_step_two: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    on_two_nodes(monkeypatch)
    monkeypatch.setattr("svae.training.loop.STALE_SECONDS", 0.5)
    config = vae_config(tone_shards)

    def work(rank: int) -> str:
        with open_world("cpu") as world:
            out = tmp_path / "none" if rank else run_at_step_two
            agreed_resume(TrainOptions(config, out, device="cpu"), "vae", world)
        return "agreed"

    assert all("the ranks see different" in message for message in in_processes(work))
    printed = capfd.readouterr().out
    assert "looking again for 0.5 s" in printed and "rank 1: no checkpoint" in printed


def test_a_disk_that_shows_a_checkpoint_late_is_waited_for(
    run_at_step_two: Path, tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_two_nodes(monkeypatch)
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

    assert in_processes(work) == ["step 2", "step 2"]


def _appear(hidden: Path, late: Path) -> None:
    time.sleep(1.5)
    hidden.rename(late)
    os._exit(0)


def test_ranks_that_read_different_shards_or_starts_are_named(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    """Each rank would otherwise train on its own part of other data, or from other weights."""
    data = [tone_shards, write_tone_shards(tmp_path / "other", mark="!", seconds=0.5)]
    starts = [vae_of(toy_tts), shutil.copytree(vae_of(toy_tts), tmp_path / "vae")]
    stored = json.loads((starts[1] / "config.json").read_text())
    stored["files"]["model.safetensors"] = "0" * 64
    (starts[1] / "config.json").write_text(json.dumps(stored))

    def other_shards(rank: int) -> str:
        train_vae(TrainOptions(vae_config(data[rank]), tmp_path / "a", device="cpu"))
        return "trained"

    def other_start(rank: int) -> str:
        config = vae_config(tone_shards, init=str(starts[rank]))
        train_vae(TrainOptions(config, tmp_path / "b", device="cpu"))
        return "trained"

    def other_vae(rank: int) -> str:
        config = tts_config(tone_shards, starts[rank])
        train_tts(TrainOptions(config, tmp_path / "c", device="cpu"))
        return "trained"

    for work, what in ((other_shards, "shards "), (other_start, "init "), (other_vae, "VAE ")):
        for message in in_processes(work):
            assert message.startswith("DataError") and "the ranks read different files" in message
            assert "rank 0: " in message and "rank 1: " in message and what in message
    assert not any((tmp_path / name).exists() for name in "abc")


def test_nodes_that_do_not_share_a_disk_can_train_text_to_speech(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    """The VAE that rank 0 keeps in the run is not seen by the other node, which has the original."""
    trainer = TTS["trainer"] | {"steps": 2}
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=trainer)
    vae = shutil.copytree(vae_of(toy_tts), tmp_path / "vae")
    stored = json.loads((vae / "config.json").read_text())
    unmeasured = stored | {"latent_mean": None, "latent_std": None}
    (vae / "config.json").write_text(json.dumps(unmeasured))

    def work(rank: int) -> str:
        folder = tmp_path / f"node{rank}" / "run"
        train_tts(TrainOptions(replace(config, vae=str(vae)), folder, device="cpu"))
        return "trained"

    assert in_processes(work) == ["trained", "trained"]
    assert (tmp_path / "node0/run/checkpoints/latest").is_file()
    assert not (tmp_path / "node1/run/vae").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"WORLD_SIZE": "2"}, "not where the ranks meet"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, "not meet"),
    ],
)  # fmt: skip
def test_ranks_that_cannot_meet_are_an_error(
    monkeypatch: pytest.MonkeyPatch, place: dict[str, str], message: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SvaeError, match=message), open_world("cpu", timeout_minutes=0.02):
        pass


def test_a_refused_folder_is_the_same_error_on_all_ranks(
    run_at_step_two: Path, tone_shards: Path
) -> None:
    options = TrainOptions(vae_config(tone_shards), run_at_step_two, resume="never", device="cpu")

    def work(rank: int) -> str:
        train_vae(options)
        return "trained"

    for message in in_processes(work):
        assert message.startswith("ConfigError") and "--resume is never" in message


def test_one_process_agrees_with_itself(run_at_step_two: Path, tone_shards: Path) -> None:
    world = World(rank=0, world_size=1, device=torch.device("cpu"))
    options = TrainOptions(vae_config(tone_shards), run_at_step_two / "none", device="cpu")
    assert agreed_resume(options, "vae", world) is None
    broken = TrainOptions(vae_config(tone_shards), run_at_step_two, resume="/none", device="cpu")
    with pytest.raises(CheckpointError):
        agreed_resume(broken, "vae", world)


def test_a_rank_that_does_not_come_is_waited_for_as_long_as_the_recipe_says() -> None:
    context = multiprocessing.get_context("fork")
    started, given_up = context.Barrier(2), context.Event()

    def work(rank: int) -> str:
        started.wait(60)  # they have no longer to meet at first than to wait for each other then
        with open_world("cpu", timeout_minutes=4 / 60) as world:
            barrier(world)
            if rank == 1:
                assert given_up.wait(60)
                return "did not come"
            try:
                barrier(world)
            finally:
                given_up.set()
        return "met"

    first, _ = in_processes(work)
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


Read = dict[int, dict[int, tuple[str, int]]]
"""Step → place in the step's batch → utterance and where its crop begins."""


@pytest.mark.parametrize("kind", ["vae", "tts"])
def test_two_ranks_read_what_one_reads_and_either_goes_on_where_the_other_stopped(
    kind: str, toy_tts: Path, tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"svae.training.{kind}.train")
    step_of, read = module.train_step, []

    def noted(state: Any, pieces: Any, *arguments: Any) -> Any:
        for batch in pieces:
            starts = getattr(batch, "starts", torch.zeros(len(batch.keys)))
            if batch.weight:
                rows = zip(batch.places, batch.keys, starts.tolist(), strict=True)
                read.append((state.step, [(place, key, int(start)) for place, key, start in rows]))
        return step_of(state, pieces, *arguments)

    monkeypatch.setattr(module, "train_step", noted)

    def train(steps: int, folder: Path, workers: int) -> list[Any]:
        read.clear()
        changes = {"trainer": VAE["trainer"] | {"steps": steps}, "loader": {"num_workers": workers}}
        if kind == "vae":
            train_vae(
                TrainOptions(vae_config(tone_shards, batch_size=3, **changes), folder, device="cpu")
            )
        else:
            dit = TTS["dit"] | {"dropout": 0.0}  # the one thing that processes draw on their own
            config = tts_config(tone_shards, vae_of(toy_tts), dit=dit, **changes)
            train_tts(TrainOptions(config, folder, device="cpu"))
        return read

    def losses(folder: Path) -> dict[str, float]:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return {
            f"{row['step']} {name}": value
            for row in rows
            if row["split"] == "train"
            for name, value in row.items()
            if name.startswith("loss/")
        }

    def together(parts: list[list[Any]]) -> Read:
        steps: Read = {}
        for step, rows in itertools.chain.from_iterable(parts):
            for place, key, start in rows:
                assert place not in steps.setdefault(step, {})
                steps[step][place] = (key, start)
        return steps

    def on_two(steps: int, folder: Path) -> Read:
        said = in_processes(lambda rank: json.dumps(train(steps, folder, rank)))
        return together([json.loads(each) for each in said])

    alone = together([train(6, tmp_path / "one", 2)])
    assert len(alone) == 6 and all(
        sorted(step) == list(range(len(step))) for step in alone.values()
    )
    first = on_two(2, tmp_path / "two")
    then = together([train(4, tmp_path / "two", 0)])
    last = on_two(6, tmp_path / "two")
    assert sorted(then) == [2, 3] and sorted(last) == [4, 5]
    assert first | then | last == alone
    found = losses(tmp_path / "two")
    assert len(found) >= 3 and found == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
