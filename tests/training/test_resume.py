"""A run that was killed and resumed equals an uninterrupted one, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tiny_runs import VAE, assert_equal_runs, killed_copy, tts_config, vae_config
from tone_shards import write_tone_shards

from svae import recipe
from svae.checkpoint import checkpoint_folder, open_checkpoint
from svae.errors import CheckpointError, ConfigError, DataError
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae import train as train_module
from svae.training.vae.train import train_vae


@pytest.fixture(scope="module")
def vae_run(tone_shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("vae") / "run"
    return train_vae(TrainOptions(vae_config(tone_shards), out, device="cpu"))


@pytest.fixture(scope="module")
def tts_run(tone_shards, vae_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("tts") / "run"
    return train_tts(TrainOptions(tts_config(tone_shards, vae_run), out, device="cpu"))


def steps_in_metrics(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["split"]) for row in rows]


@pytest.mark.parametrize("step", [2, 4])
def test_a_resumed_vae_run_equals_an_uninterrupted_one(vae_run, tone_shards, tmp_path, step):
    run = killed_copy(vae_run, step, tmp_path / "run")
    train_vae(TrainOptions(vae_config(tone_shards), run, device="cpu"))
    assert_equal_runs(vae_run, run, "vae")
    assert steps_in_metrics(run) == steps_in_metrics(vae_run)
    assert not list((run / "checkpoints").glob(".step-*"))


def test_a_resumed_tts_run_equals_an_uninterrupted_one(tts_run, vae_run, tone_shards, tmp_path):
    run = killed_copy(tts_run, 2, tmp_path / "run")
    train_tts(TrainOptions(tts_config(tone_shards, vae_run), run, device="cpu"))
    assert_equal_runs(tts_run, run, "tts")


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_is_resumed_with_the_statistics_that_it_has_learned_with(
    vae_run, tone_shards, tmp_path, finished
):
    """Those are in its checkpoints; the VAE's own come only when its training ends, and are of other utterances."""
    vae = shutil.copytree(checkpoint_folder(vae_run, 2), tmp_path / "vae")
    stored = json.loads((vae / "config.json").read_text())
    assert stored["latent_mean"] is None
    config = tts_config(tone_shards, vae)
    run = train_tts(TrainOptions(config, tmp_path / "tts", device="cpu"))
    own = open_checkpoint(open_checkpoint(run, kind="tts").folder / "vae", kind="vae").config
    assert own["latent_mean"] is not None
    if finished:
        others = {"latent_mean": [9.0] * 8, "latent_std": [0.1] * 8}
        (vae / "config.json").write_text(json.dumps(stored | others))
    gone, elsewhere, attempt = (killed_copy(run, 2, tmp_path / name) for name in "gea")
    shutil.rmtree(gone / "vae")
    shutil.copytree(vae, attempt / "vae", dirs_exist_ok=True)
    for out, resume in (
        (gone, "auto"),
        (tmp_path / "new", str(checkpoint_folder(elsewhere, 2))),
        (attempt, "auto"),
    ):
        train_tts(TrainOptions(config, out, resume=resume, device="cpu"))
        assert_equal_runs(run, out, "tts")
        for folder in (out, open_checkpoint(out, kind="tts").folder):
            assert open_checkpoint(folder / "vae", kind="vae").config == own


def test_a_run_killed_by_the_system_resumes_to_the_same_weights(vae_run, tone_shards, tmp_path):
    run, config = tmp_path / "run", vae_config(tone_shards)
    latest, step = run / "checkpoints" / "latest", train_module.train_step

    def until_killed(*arguments):
        if latest.exists():  # it would come to its end before this process looks
            signal.pause()
        return step(*arguments)

    def train() -> None:
        os.setsid()  # the processes that read shards are killed with it
        torch.set_num_threads(1)
        train_module.train_step = until_killed
        train_vae(TrainOptions(config, run, device="cpu"))

    process = multiprocessing.get_context("fork").Process(target=train)
    process.start()
    try:
        deadline = time.monotonic() + 300
        while not latest.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_vae(TrainOptions(config, run, device="cpu"))
        uninterrupted = train_vae(TrainOptions(config, tmp_path / "whole", device="cpu"))
    finally:
        torch.set_num_threads(threads)
    assert_equal_runs(uninterrupted, run, "vae")


def test_ctrl_c_finishes_the_step_saves_and_exits_cleanly(tone_shards, tmp_path):
    recipe_file, run = tmp_path / "r.yaml", tmp_path / "run"
    trainer = VAE["trainer"] | {"steps": 100000, "checkpoint_every": 100000, "log_every": 1}
    recipe_file.write_text(recipe.dump(vae_config(tone_shards, trainer=trainer)))
    command = [
        sys.executable,
        "-m",
        "svae",
        "train-vae",
        str(recipe_file),
        "--out",
        str(run),
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    )
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while (
        not (metrics.exists() and '"train"' in metrics.read_text()) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "Stopped at step" in output
    assert open_checkpoint(run, kind="vae").step > 0


@pytest.mark.parametrize("ending", [KeyboardInterrupt, DataError])
def test_what_ends_a_run_while_its_latents_are_measured_costs_no_step(
    vae_run, tone_shards, tmp_path, monkeypatch, ending
):
    def fail(*arguments, **more):
        raise ending("while measuring")

    config = vae_config(tone_shards, loader={"num_workers": 0})
    options = TrainOptions(config, tmp_path / "run", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr("svae.training.vae.train.measure_statistics", fail)
        with pytest.raises(ending, match="while measuring"):
            train_vae(options)
    left = open_checkpoint(options.out, kind="vae")
    assert left.step == 5 and left.config["latent_mean"] is None
    train_vae(options)
    # The weights' hash and the statistics are those of a run that nothing ended.
    assert (
        open_checkpoint(options.out, kind="vae").config
        == open_checkpoint(vae_run, kind="vae").config
    )
    # Of a run that is whole nothing is measured or written again.
    written = (left.folder / "config.json").stat().st_mtime_ns
    train_vae(options)
    assert (left.folder / "config.json").stat().st_mtime_ns == written


def test_another_recipe_cannot_continue_a_run(vae_run, tone_shards):
    other = vae_config(tone_shards, segment_seconds=0.25)
    with pytest.raises(ConfigError, match=r"segment_seconds: 0\.2 in the run, 0\.25 now"):
        train_vae(TrainOptions(other, vae_run, device="cpu"))


def test_resume_never_refuses_to_touch_a_run(vae_run, tone_shards):
    with pytest.raises(ConfigError, match="already holds a run"):
        train_vae(TrainOptions(vae_config(tone_shards), vae_run, resume="never", device="cpu"))


def test_resuming_on_other_data_is_refused(vae_run, tmp_path):
    other = write_tone_shards(tmp_path / "other", seconds=0.7)
    run = killed_copy(vae_run, 2, tmp_path / "run")
    with pytest.raises(CheckpointError, match="other shards"):
        train_vae(TrainOptions(vae_config(other), run, device="cpu"))


def test_a_refused_resumption_touches_no_row(vae_run, tone_shards, tmp_path):
    """Of an earlier checkpoint, whose later rows a resumption drops: its training state is damaged, or the data are others."""
    run = shutil.copytree(vae_run, tmp_path / "run")
    earlier = run / "checkpoints" / "step-00000002"
    rows, boards = (run / "metrics.jsonl").read_bytes(), sorted((run / "tensorboard").glob("*"))
    other = write_tone_shards(tmp_path / "other", seconds=0.7)
    resumed = {"out": run, "resume": str(earlier), "device": "cpu"}
    with pytest.raises(CheckpointError, match="other shards"):
        train_vae(TrainOptions(vae_config(other), **resumed))
    (earlier / "training" / "state.pt").rename(run / "state.pt")
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train_vae(TrainOptions(vae_config(tone_shards), **resumed))
    assert (run / "metrics.jsonl").read_bytes() == rows
    assert sorted((run / "tensorboard").glob("*")) == boards
    (run / "state.pt").rename(earlier / "training" / "state.pt")
    train_vae(TrainOptions(vae_config(tone_shards), **resumed))
    assert steps_in_metrics(run) == steps_in_metrics(vae_run)


def test_a_tts_run_refuses_another_vae(tts_run, tone_shards, tmp_path):
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 1, "seed": 5})
    other = train_vae(TrainOptions(config, tmp_path / "other", device="cpu"))
    run = shutil.copytree(tts_run, tmp_path / "run")
    with pytest.raises(CheckpointError, match="was trained on VAE"):
        train_tts(TrainOptions(tts_config(tone_shards, other), run, device="cpu"))
    resume = str(checkpoint_folder(tts_run, 2))
    with pytest.raises(CheckpointError, match="was trained on VAE"):
        options = TrainOptions(tts_config(tone_shards, other), tmp_path / "new", resume=resume, device="cpu")  # fmt: skip
        train_tts(options)
