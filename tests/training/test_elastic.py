"""`torchrun --nnodes MIN:MAX`: what is left goes on from the last checkpoint, and so does what comes together anew."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import VAE, rows_of, vae_config

from svae import recipe
from svae.config import VAETrainConfig
from svae.training.loop import TrainOptions
from svae.training.vae.train import train_vae

pytestmark = pytest.mark.slow

JOB = "an elastic job"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
    # Without it torchrun's agents keep where they first met, and those who come later wait for it in vain (torch 2.4 and later).
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


class Agent:
    """torchrun of one node with one process, in a group of processes of its own."""

    def __init__(self, port: int, log: Path, command: list[str]) -> None:
        self.log = log
        rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"]
        rendezvous += ["--rdzv-id", JOB, "--rdzv-conf", "last_call_timeout=3,join_timeout=120"]
        sizes = ["--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", *rendezvous, *sizes]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [*torchrun, "--local-addr", "127.0.0.1", "-m", "svae", *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | ENVIRONMENT,
            )

    def kill(self) -> None:
        """End it and its process as a power cut does."""
        for number in [self.process.pid, *self._children()]:
            os.kill(number, signal.SIGKILL)
        self.process.wait()

    def _children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(number) for path in tasks for number in path.read_text().split()]


@pytest.fixture
def agents():
    started: list[Agent] = []
    yield started
    for agent in started:
        if agent.process.poll() is None:
            agent.kill()


@pytest.fixture
def config(tone_shards: Path) -> VAETrainConfig:
    trainer = VAE["trainer"] | {
        "steps": 100_000,  # more than there is time for
        "checkpoint_every": 5,
        "log_every": 1,
        "validate_every": 100_000,
        "keep_checkpoints": 2,
        "accumulate": "auto",
    }
    # So slow a learner that its losses say which crops it was given.
    return vae_config(
        tone_shards,
        trainer=trainer,
        loader={"num_workers": 0},
        optimizer={"learning_rate": 1e-6},
        batch_size=4,
    )


def with_steps(config: VAETrainConfig, steps: int) -> VAETrainConfig:
    return replace(config, trainer=replace(config.trainer, steps=steps, validate_every=steps))


@pytest.fixture
def command(config: VAETrainConfig, tmp_path: Path) -> list[str]:
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.dump(config))
    return ["train-vae", str(file), "--out", str(tmp_path / "run"), "--device", "cpu"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(reached, agents: list[Agent], seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        logs = "\n".join(agent.log.read_text()[-3000:] for agent in agents)
        assert time.monotonic() < deadline, logs
        time.sleep(0.2)


def test_a_run_goes_on_with_the_nodes_that_there_are(agents, command, config, tmp_path):
    run, port = tmp_path / "run", free_port()

    def trains_on(processes: int) -> bool:
        facts = run / "environment.json"
        return facts.exists() and json.loads(facts.read_text())["world_size"] == processes

    def step() -> int:
        latest = run / "checkpoints" / "latest"
        return int(latest.read_text()[5:]) if latest.exists() else 0

    def start(name: str) -> Agent:
        agents.append(Agent(port, tmp_path / name, command))
        return agents[-1]

    start("first")  # keeps what the nodes know of each other, so it is the one that may not go
    wait_for(lambda: trains_on(1) and step() > 0, agents)
    second = start("second")
    wait_for(lambda: trains_on(2), agents)
    reached = step()
    wait_for(lambda: step() > reached, agents)
    second.kill()
    wait_for(lambda: trains_on(1), agents)
    reached = step()
    wait_for(lambda: step() > reached, agents)
    start("third")
    wait_for(lambda: trains_on(2), agents)
    reached = step()
    wait_for(lambda: step() > reached, agents)
    for agent in agents:
        agent.process.send_signal(signal.SIGTERM)
    for agent in agents:
        agent.process.wait(timeout=60)
    said = "\n".join(agent.log.read_text() for agent in agents)
    assert said.count("Resuming from") == 3 and "2 process(es) became 1" in said
    assert "Stopped at step" in said  # where a node came, nothing was lost

    # What they have learned from is what one process would have.
    train_vae(TrainOptions(with_steps(config, step()), tmp_path / "whole", device="cpu"))
    went, expected = (
        {row["step"]: row["loss/mel"] for row in rows_of(folder, "train")}
        for folder in (run, tmp_path / "whole")
    )
    assert list(went) == list(expected) and len(went) > 3
    assert went == pytest.approx(expected, rel=0.02)
    assert len({round(value, 3) for value in went.values()}) > 3  # steps differ by more than that
