"""Processes over gloo make the step that one process makes on the whole batch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from svae.errors import ConfigError
from svae.runtime.distributed import World, any_rank, open_world, select_device, sum_over_ranks

STEP = Path(__file__).with_name("distributed_step.py")


def gradients(kind: str, processes: int, data: Path, folder: Path) -> dict[str, torch.Tensor]:
    out = folder / f"{kind}-{processes}.pt"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
    ]
    result = subprocess.run(
        [*command, str(STEP), kind, str(data), str(out)],
        env=killed_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize(("kind", "processes"), [("vae", 3), ("tts", 2)])
def test_processes_agree_with_one_on_the_whole_batch(kind, processes, tone_shards, tmp_path):
    """Four crops among three processes are dealt unevenly."""
    one, two = (gradients(kind, count, tone_shards, tmp_path) for count in (1, processes))
    assert one.keys() == two.keys() and len(one) > 10
    scale = max(float(g.abs().max()) for g in one.values())
    for name, gradient in one.items():
        assert torch.allclose(gradient, two[name], rtol=1e-3, atol=1e-5 * scale), name


KILLED = """
import os, signal
import torch
from svae.cli.app import Commands
from svae.runtime.distributed import open_world, sum_over_ranks
import typer

app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

@app.callback()
def options(): pass

@app.command()
def collectives():
    with open_world("cpu") as world:
        for step in range(10**6):
            if world.rank == 1 and step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            sum_over_ranks(torch.ones(3), world)

app()
"""


def killed_environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[n]) for n in (2, 1)),
    }


def test_a_killed_rank_ends_the_job_with_a_message_that_names_it(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    result = subprocess.run(
        [*command, str(script), "collectives"],
        env=killed_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode != 0
    assert "[rank0]: Traceback" not in result.stderr
    root_cause = result.stderr.split("Root Cause")[1]
    assert "rank      : 1" in root_cause and "SIGKILL" in root_cause


def test_the_rank_that_is_left_says_in_one_message_that_it_lost_the_other(tmp_path):
    """Without torchrun, which may end this rank before it has spoken."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), "collectives"],
            env=killed_environment() | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in ranks]
    assert ranks[0].returncode == 2 and ranks[1].returncode == -signal.SIGKILL
    assert (
        "error (rank 0): lost contact with another rank" in errors[0]
        and "Traceback" not in errors[0]
    )


def test_one_process_needs_no_process_group():
    with open_world("cpu") as world:
        assert world == World(rank=0, world_size=1, device=torch.device("cpu"))
        assert any_rank(True, world) and not any_rank(False, world)
        assert sum_over_ranks(torch.tensor(3.0), world) == 3


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(ConfigError, match="--device"):
        select_device(name)
