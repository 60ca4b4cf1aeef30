"""DistillMOS: the package's own scores, in every report of an evaluation and in the rows of both trainings."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_runs import TTS, VAE, rows_of, tts_config, vae_config, vae_of

from svae.errors import ConfigError
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate
from svae.judges.distillmos import DistillMOS
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae

SPEAK = {"synthesize_every": 5, "synthesize_utterances": 1, "synthesize_steps": 2}


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip("distillmos", reason="pip install 'svae[mos]'")


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "distillmos", None)


def test_scores_of_people_are_those_of_the_package_s_own_code(package, shared, tmp_path):
    """Short, and longer than the 7.68 s that it hears at a time; alone, and beside others."""
    folder = shared / "data" / "real-speech"
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    kinds = [
        ("librispeech-test-other", lambda s: 9 < s < 12),
        ("speechocean762-child", lambda s: s < 3),
    ]
    paths = [
        folder / next(r["audio"] for r in rows if r["corpus"] == corpus and fits(r["duration"]))
        for corpus, fits in kinds
    ]
    wavs = []
    for i, path in enumerate(paths):  # which the package's reader takes anywhere
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == 16000
        wavs.append(tmp_path / f"{i}.wav")
        soundfile.write(wavs[-1], samples, rate, subtype="FLOAT")
    waveforms = [torch.from_numpy(soundfile.read(wav, dtype="float32")[0]) for wav in wavs]
    with torch.inference_mode():
        model = package.ConvTransformerSQAModel().eval()
        expected = [float(model(waveform[None])) for waveform in waveforms]
    judge = DistillMOS()
    together = [scores["distillmos"] for scores in judge.predict(waveforms)]
    assert together == pytest.approx(expected, abs=1e-5)
    assert judge.predict(waveforms[1:]) == [{"distillmos": together[1]}]
    assert 3 < together[0] < 5 and len(set(together)) == 2


def asked_of_three(folder: Path) -> EvaluateOptions:
    """Return what asks about three recordings of a system, the first of which is missing, and their originals."""
    wavs, originals = folder / "wavs", folder / "originals"
    rows, rng = [], np.random.default_rng(0)
    for each in (wavs, originals):
        each.mkdir()
    for i in range(3):
        tone = 0.5 * np.sin(np.arange(8000) * (0.05 + 0.01 * i))
        soundfile.write(originals / f"{i}.wav", tone, 16000)
        if i:
            soundfile.write(wavs / f"{i}.wav", 0.1 * rng.standard_normal(8000), 16000)
        rows.append({"id": str(i), "text": "hello", "target": f"originals/{i}.wav"})
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluateOptions(
        wavs=wavs, list_file=folder / "list.jsonl", speaker="none", out=folder / "out",
        device="cpu", distillmos=True,
    )  # fmt: skip


def test_without_the_package_the_extra_is_named_before_anything_is_scored(
    without_package, tmp_path
):
    with pytest.raises(ConfigError, match=r"--distillmos: needs .*pip install 'svae\[mos\]'"):
        evaluate(asked_of_three(tmp_path))
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("run", [dry_run, None])
def test_a_training_that_asks_for_it_says_so_before_its_first_step(
    without_package, tone_shards, tmp_path, run
):
    asked = vae_config(tone_shards, trainer=VAE["trainer"] | {"naturalness": "distillmos"})
    options = TrainOptions(asked, tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match=r"trainer.naturalness=distillmos: needs"):
        (run or train_vae)(options)
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_evaluate_has_it_with_intervals_in_table_page_and_json(package, tmp_path, capsys):
    options = asked_of_three(tmp_path)
    metrics = evaluate(options)
    said = capsys.readouterr().out
    clips = [
        torch.from_numpy(soundfile.read(tmp_path / f"wavs/{i}.wav", dtype="float32")[0])
        for i in (1, 2)
    ]
    expected = [scores["distillmos"] for scores in DistillMOS().predict(clips)]
    assert metrics["system"]["distillmos"] == pytest.approx((1 + sum(expected)) / 3, abs=1e-5)
    low, high = metrics["system"]["intervals"]["distillmos"]
    assert low <= metrics["system"]["distillmos"] <= high
    judge = metrics["judges"]["distillmos"]
    assert judge["distillmos"] in judge["model"] and len(judge["sha256"]) == 64
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored["judges"]["distillmos"] == judge
    for text in (said, *((tmp_path / "out" / n).read_text() for n in ("table.md", "report.html"))):
        assert "DistillMOS" in text and f"package distillmos {judge['distillmos']}" in " ".join(
            text.split()
        )


def test_a_vae_s_validation_crops_and_their_reconstructions_are_judged(
    package, tone_shards, tmp_path, capsys
):
    changed = {"naturalness": "distillmos", "steps": 1}
    config = vae_config(tone_shards, trainer=VAE["trainer"] | changed)
    run = train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    rows = rows_of(run, "validation")
    assert rows and all(1 <= row[key] <= 5 for row in rows for key in ("mos", "mos_input"))
    assert rows[-1]["mos"] != rows[-1]["mos_input"]
    assert "judged by DistillMOS" in " ".join(capsys.readouterr().out.split())


def test_what_a_tts_says_while_training_is_judged_and_a_judge_that_breaks_ends_nothing(
    package, toy_tts, tone_shards, tmp_path, monkeypatch, capsys
):
    trainer = TTS["trainer"] | SPEAK | {"naturalness": "distillmos"}
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=trainer)
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    (row,) = rows_of(run, "synthesis")
    assert 1 <= row["mos"] <= 5 and "wer" in row

    def fails(self, waveforms):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(DistillMOS, "predict", fails)
    run = train_tts(TrainOptions(config, tmp_path / "other", device="cpu"))
    (row,) = rows_of(run, "synthesis")
    assert "mos" not in row and row["utterances"] == 1 and "wer" in row
    assert "predicting naturalness failed" in " ".join(capsys.readouterr().out.split())
