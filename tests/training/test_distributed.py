"""Processes over gloo make the step that one process makes on the whole batch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked_ranks import in_processes
from tiny_runs import TTS, VAE

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.batches import CropBatch, read_utterances, read_waveform
from svae.data.index import ShardIndex, read_index
from svae.errors import ConfigError
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, any_rank, open_world, select_device, sum_over_ranks
from svae.text.vocabulary import Vocabulary
from svae.training.tts import train as tts
from svae.training.vae import train as vae
from svae.training.vae.step import train_step


def vae_gradients(index: ShardIndex, world: World) -> dict[str, torch.Tensor]:
    """Return the gradients that a step ends with, on four crops, one of them with padding; each rank takes its slice."""
    config = recipe.build(
        VAETrainConfig, {"data": {"root": str(index.root)}} | VAE | {"batch_size": 4}, where="test"
    )
    state = vae.build_state(config, None, world)
    state.step = 1  # the discriminator takes part
    size = vae.segment_samples(config)
    waveform = torch.stack([read_waveform(index, s, 0, size) for s in index.samples[:4]])
    lengths = torch.tensor([size, size - 900, size, size])
    waveform[1, :, size - 900 :] = 0
    mine = slice(world.rank * 4 // world.world_size, (world.rank + 1) * 4 // world.world_size)
    places = list(range(4))[mine]
    batch = CropBatch(
        ["k"] * len(places), waveform[mine], lengths[mine], torch.zeros(4)[mine], places=places
    )
    train_step(state, [batch], config, world)
    networks = {"model": state.model, "discriminator": state.discriminator}
    return {
        f"{n}.{k}": p.grad
        for n, net in networks.items()
        for k, p in net.named_parameters()
        if p.grad is not None
    }


def tts_gradients(index: ShardIndex, world: World) -> dict[str, torch.Tensor]:
    """Return the gradients that a step ends with, on four utterances of different lengths; each rank takes its slice."""
    tree = {"data": {"root": str(index.root)}} | TTS | {"dit": TTS["dit"] | {"dropout": 0.0}}
    config = recipe.build(TTSTrainConfig, tree, where="test")
    torch.manual_seed(1)
    model = SpeechVAE(
        recipe.build(VAETrainConfig, {"data": {"root": "x"}} | VAE, where="test").vae
    ).eval()
    vocabulary = Vocabulary.from_characters(index.metadata["characters"])
    state = tts.build_state(config, model, vocabulary, world)
    for parameter in state.model.parameters():  # adaLN starts at zero, which hides most gradients
        torch.nn.init.normal_(parameter, std=0.05)
    mine = slice(world.rank * 4 // world.world_size, (world.rank + 1) * 4 // world.world_size)
    batch = read_utterances(index, index.samples[:4][mine], vocabulary=vocabulary, hop_length=400)
    batch.places = list(range(4))[mine]
    tts.train_step(state, [batch], config, world)
    return {k: p.grad for k, p in state.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("gradients", "count"), [(vae_gradients, 3), (tts_gradients, 2)])
def test_processes_agree_with_one_on_the_whole_batch(
    gradients: Callable[[ShardIndex, World], dict[str, torch.Tensor]],
    count: int,
    tone_shards: Path,
    tmp_path: Path,
) -> None:
    """Four crops among three processes are dealt unevenly."""

    def step(processes: int) -> dict[str, torch.Tensor]:
        path = tmp_path / f"{processes}.pt"

        def work(rank: int) -> str:
            with open_world("cpu") as world:
                found = gradients(read_index(tone_shards), world)
                if world.is_main:
                    torch.save({name: each.contiguous() for name, each in found.items()}, path)
                return f"{rank} of {world.world_size}"

        expected = [f"{rank} of {processes}" for rank in range(processes)]
        assert in_processes(work, processes) == expected
        return torch.load(path, weights_only=True)

    one, several = step(1), step(count)
    assert one.keys() == several.keys() and len(one) > 10
    scale = max(float(gradient.abs().max()) for gradient in one.values())
    for name, gradient in one.items():
        assert torch.allclose(gradient, several[name], rtol=1e-3, atol=1e-5 * scale), name


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
        timeout=300,
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
    errors = [process.communicate(timeout=300)[1] for process in ranks]
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
