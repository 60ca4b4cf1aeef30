"""The five commands on the embedded sample, as a user types them, with fewer steps."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest
import soundfile
import torch
from typer.testing import CliRunner

from svae.assets import asset_path
from svae.cli import app

SMALL_VAE = (
    "vae.encoder_channels=4 vae.decoder.initial_channels=32 batch_size=2 validation_crops=2 segment_seconds=0.3 "
    "statistics_utterances=16"
)
SMALL_TTS = "dit.dim=48 dit.depth=2 dit.text_dim=32 batch_frames=600 validation_utterances=2 dit.conv_pos_groups=8"


@pytest.fixture(scope="module")
def svae(tmp_path_factory):
    """Call svae in a folder of its own: as a program of its own (`svae(…)`), or without starting one (`svae.here(…)`)."""
    folder = tmp_path_factory.mktemp("work")

    def _svae(*arguments: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "svae", *arguments],
            cwd=folder,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    def here(*arguments: str) -> str:
        with contextlib.chdir(folder):
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    _svae.folder, _svae.here = folder, here
    return _svae


def settings(text: str) -> list[str]:
    return [part for setting in text.split() for part in ("--set", setting)]


@pytest.fixture(scope="module")
def chain(svae):
    """Run the whole chain once; the tests look at what it left."""
    said = {"prepare": svae("prepare", "sample", "--workers", "2")}
    steps = settings(
        "trainer.steps=4 trainer.validate_every=4 trainer.checkpoint_every=4 trainer.log_every=2"
    )
    said["dry"] = svae.here("train-vae", *steps, *settings(SMALL_VAE), "--dry-run")
    start = settings("loss.adversarial_start_step=1")
    said["vae"] = svae.here("train-vae", *steps, *start, *settings(SMALL_VAE))
    said["encode"] = svae.here(
        "encode",
        "data/shards/sample",
        "--vae",
        "runs/tiny-vae",
        "--out",
        "latents",
        "--dtype",
        "float32",
    )
    said["tts"] = svae.here("train-tts", "--vae", "runs/tiny-vae", *steps, *settings(SMALL_TTS))
    said["tts-latents"] = svae.here(
        "train-tts", "--data", "latents", "--out", "runs/stored", *steps, *settings(SMALL_TTS)
    )
    ref = str(asset_path("references", "flite-slt.wav"))
    speak = [
        "synthesize",
        "--model",
        "runs/tiny-tts",
        "--ref",
        ref,
        "--text",
        "Good morning to you all.",
        "--steps",
        "4",
    ]
    said["synthesize"] = svae(*speak, "--out", "one.wav")
    said["again"] = svae.here(*speak, "--out", "two.wav")
    said["evaluate"] = svae.here(
        "evaluate",
        "--model",
        "runs/tiny-tts",
        "--limit",
        "2",
        "--steps",
        "2",
        "--seeds",
        "0",
        "--out",
        "report",
    )
    said["reconstruction"] = svae.here(
        "evaluate",
        "--reconstruction",
        "--model",
        "runs/tiny-vae",
        "--limit",
        "2",
        "--out",
        "reconstruction",
    )
    return said


def metrics(folder, name):
    return [
        json.loads(line)
        for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    ]


def test_every_command_prints_what_to_do_next(chain):
    for name, following in (
        ("prepare", "train-vae"),
        ("vae", "train-tts"),
        ("tts", "synthesize"),
        ("synthesize", "evaluate"),
    ):
        assert f"Next: svae {following}" in chain[name], chain[name]


def test_the_dry_run_shows_recipe_parameters_shards_and_batch(chain):
    for part in (
        "latent_dim: 32",
        "discriminators",
        "teacher (frozen)",
        "144 utterances",
        "Worst-case batch",
        "start at step 0",
    ):
        assert part in chain["dry"], part


def test_training_leaves_curves_audio_pictures_and_statistics(chain, svae):
    run = svae.folder / "runs" / "tiny-vae"
    rows = metrics(svae.folder, "tiny-vae")
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert all(
        torch.isfinite(torch.tensor([v for v in row.values() if isinstance(v, float)])).all()
        for row in rows
    )
    samples = {path.name for path in (run / "samples" / "step-00000004").iterdir()}
    assert {"0-input.wav", "0-reconstruction.wav", "0-mel.png"} <= samples
    config = json.loads((run / "checkpoints" / "step-00000004" / "config.json").read_text())
    assert len(config["latent_mean"]) == 32 and min(config["latent_std"]) > 0


def test_stored_latents_give_the_loss_of_encoding_online(chain, svae):
    online, stored = (metrics(svae.folder, name) for name in ("tiny-tts", "stored"))
    for a, b in zip(online, stored, strict=True):
        assert (a["step"], a["split"]) == (b["step"], b["split"])
        assert a["loss/flow"] == pytest.approx(b["loss/flow"], rel=1e-3)


def test_the_same_command_gives_the_same_bytes_and_says_how_it_was_made(chain, svae):
    assert (svae.folder / "one.wav").read_bytes() == (svae.folder / "two.wav").read_bytes()
    report = json.loads((svae.folder / "one.json").read_text())
    assert report["seed"] == 0 and report["steps"] == 4 and len(report["model"]["hash"]) == 64
    assert report["real_time_factors"]["total"] > 0 and report["asr"]["asr"] == "pocketsphinx"
    audio, rate = soundfile.read(svae.folder / "one.wav")
    assert rate == 16000 and len(audio) / rate == pytest.approx(report["generated_seconds"])
    assert "Transcript" in chain["synthesize"]


def test_the_evaluation_stands_beside_the_originals(chain, svae):
    found = json.loads((svae.folder / "report" / "metrics.json").read_text())
    assert found["system"]["utterances"] == found["originals"]["utterances"] == 2
    assert found["originals"]["wer"] < 0.7 and -1 <= found["system"]["sim_ecapa"] <= 1
    assert found["judges"]["asr"]["asr"] == "pocketsphinx"
    assert (
        "originals" in chain["evaluate"]
        and (svae.folder / "report" / "report.html").stat().st_size > 10_000
    )


def test_the_reconstruction_has_its_measures(chain, svae):
    found = json.loads((svae.folder / "reconstruction" / "metrics.json").read_text())
    assert found["task"] == "reconstruction" and found["system"]["mel_distance"] > 0
    assert {"stoi", "pesq_wb", "pesq_nb", "mcd", "f0_rmse", "stft_distance"} <= found[
        "system"
    ].keys()


def test_the_models_work_from_python(chain, svae):
    import svae as package

    vae = package.load_vae(svae.folder / "runs" / "tiny-vae", "cpu")
    waveform = torch.randn(2, 1, 16123, generator=torch.Generator().manual_seed(0)) * 0.1
    posterior = vae.encode(waveform)
    assert posterior.mean.shape == posterior.logvar.shape == (2, 32, 41)
    assert vae.decode(posterior.mean).shape == (2, 1, 41 * 400)
    tts = package.load_tts(svae.folder / "runs" / "tiny-tts", "cpu")
    speech = tts.synthesize("Hello.", waveform[:1], "Some noise.", seed=3, num_steps=2)
    assert speech.dim() == 3 and torch.equal(
        speech, tts.synthesize("Hello.", waveform[:1], "Some noise.", seed=3, num_steps=2)
    )
