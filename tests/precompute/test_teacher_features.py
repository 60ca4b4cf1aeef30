"""Stored teacher features: those of the right moment, and the loss of the teacher running online."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import VAE, vae_config
from tiny_teachers import write_whisper
from tone_shards import write_tone_shards

from svae.config import TeacherConfig
from svae.data.batches import CachedTeacherFeatures, read_waveform
from svae.data.features import open_cache
from svae.data.index import read_index
from svae.data.loaders import validation_crops
from svae.errors import ConfigError, DataError
from svae.models.teacher import load_teacher
from svae.precompute.teacher_features import cache_teacher
from svae.training.loop import TrainOptions
from svae.training.vae.losses import alignment_loss
from svae.training.vae.train import train_vae

TEACHER = TeacherConfig(model="embedded", layer=3)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> TeacherConfig:
    """A Whisper that hears one second at once, where the published ones hear thirty."""
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder, max_source_positions=50)
    return TeacherConfig(model=str(folder), layer=1, context_seconds=0.1)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve utterances of the embedded sample as shards."""
    from svae.assets import asset_path
    from svae.data.prepare import prepare
    from svae.data.prepare_plan import PrepareOptions

    folder = tmp_path_factory.mktemp("speech")
    rows = (asset_path("sample") / "metadata.jsonl").read_text().splitlines()[::12]
    rows = [json.loads(row) for row in rows]
    for row in rows:
        row["audio"] = str(asset_path("sample") / row["audio"])
    (folder / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    prepare(
        PrepareOptions(
            corpus="jsonl", root=folder / "list.jsonl", out=folder / "shards", shards=2, workers=1
        )
    )
    return folder / "shards"


@pytest.fixture(scope="module")
def features(speech: Path) -> Path:
    out = speech.parent / "features"
    return cache_teacher(speech, out, TEACHER, dtype="float32", workers=1, device="cpu")


def test_the_features_of_a_whole_utterance_are_the_teachers_own(speech, features):
    index, teacher = read_index(speech), load_teacher(TEACHER)
    cache = open_cache(features, index, model="embedded", layer=3)
    for sample in index.samples[:4]:
        frames = sample.num_samples // 400
        expected = teacher.aligned_features(read_waveform(index, sample)[None], 0, frames, 400)[0]
        torch.testing.assert_close(
            cache.read(sample.key, 0, frames, 400), expected, atol=1e-4, rtol=1e-4
        )
        middle = cache.read(sample.key, 4000, 10, 400)  # the same moments, wherever the crop begins
        torch.testing.assert_close(middle, expected[10:20], atol=1e-4, rtol=1e-4)


def test_stored_features_give_nearly_the_loss_of_the_teacher_online(speech, features):
    """Tolerance: 0.05 in the cosine; online the teacher hears only the crop and its context."""
    index, teacher = read_index(speech), load_teacher(TEACHER)
    cache = open_cache(features, index, model="embedded", layer=3)
    torch.manual_seed(0)
    project = torch.nn.Conv1d(teacher.feature_dim, 16, 1)
    crops = validation_crops(
        index, count=12, batch_size=12, segment_samples=32000, context_samples=8000, samples=index.samples,
        cached_features=CachedTeacherFeatures(cache, 400),
    )  # fmt: skip
    (batch,) = list(crops)
    mask = torch.arange(80) < ((batch.lengths + 399) // 400)[:, None]
    online = teacher.aligned_features(batch.waveform, 8000, 80, 400)
    assert batch.teacher_features.shape == online.shape
    with torch.no_grad():
        latents = project(online.transpose(1, 2)) + 0.5 * torch.randn(12, 16, 80)
        loss = [
            alignment_loss(latents, project(features.transpose(1, 2)), mask)
            for features in (online, batch.teacher_features)
        ]
        shifted = alignment_loss(
            latents, project(batch.teacher_features.roll(8, dims=1).transpose(1, 2)), mask
        )
    assert float(loss[1] - loss[0]) == pytest.approx(0.0, abs=0.05)
    assert float(shifted - loss[0]) > 0.1  # another moment would be seen


def test_training_reads_them_instead_of_running_the_teacher(
    speech, features, tmp_path, monkeypatch
):
    import svae.training.vae.train as module

    monkeypatch.setattr(
        module, "load_teacher", lambda *a, **k: pytest.fail("the teacher was loaded")
    )
    config = vae_config(speech, loss={"adversarial_start_step": 1})
    teacher = TeacherConfig(model="embedded", layer=3, cache=str(features), context_seconds=0.0)
    config = replace(config, teacher=teacher, trainer=replace(config.trainer, steps=2))
    train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(-1 <= row["loss/alignment"] <= 1 for row in rows) and rows


def test_utterances_longer_than_a_teacher_hears_are_refused_before_anything_is_made(
    whisper, tone_shards, tmp_path
):
    """Tones of 0.85 to 1.05 s, every fifth is longer than a second; and some of a second exactly."""
    long = write_tone_shards(tmp_path / "long", seconds=0.85)
    options = {"workers": 1, "device": "cpu"}
    with pytest.raises(DataError, match="1 of 8 .* 1 s .*'tone-004' of 1.05 s") as caught:
        cache_teacher(long, tmp_path / "out", whisper, **options)
    assert "--max-seconds 1`" in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))
    just = write_tone_shards(tmp_path / "just", seconds=0.8)
    assert len(read_index(cache_teacher(just, tmp_path / "ok", whisper, **options)).samples) == 8
    assert cache_teacher(long, tmp_path / "other", TEACHER, **options)


def test_anchored_latents_start_from_what_a_teacher_hears_of_long_utterances(
    whisper, tmp_path, capsys
):
    long = write_tone_shards(tmp_path / "long", seconds=1.3)
    config = vae_config(
        long,
        vae=VAE["vae"] | {"anchored_latents": 3},
        loss={"alignment": 1.0, "alignment_form": "mse"},
        trainer=VAE["trainer"] | {"steps": 1},
    )
    train_vae(TrainOptions(replace(config, teacher=whisper), tmp_path / "run", device="cpu"))
    printed = capsys.readouterr().out
    assert "Anchored latents: 3" in printed and "Skipped" not in printed


def test_features_of_other_data_or_another_teacher_are_refused(speech, features, tmp_path):
    index = read_index(speech)
    with pytest.raises(ConfigError, match="layer 3 instead of 2"):
        open_cache(features, index, model="embedded", layer=2)
    with pytest.raises(
        ConfigError, match="holds waveforms; expected a folder of `svae cache-teacher`"
    ):
        open_cache(speech, index, model="embedded", layer=3)
    other = read_index(write_tone_shards(tmp_path / "tones"))
    with pytest.raises(ConfigError, match="features of other waveforms"):
        open_cache(features, other, model="embedded", layer=3)
    with pytest.raises(DataError, match=r"made otherwise \(dtype differ\)"):
        cache_teacher(speech, features, TEACHER, device="cpu")
    with pytest.raises(DataError, match="needs waveform shards from `svae prepare`"):
        cache_teacher(features, tmp_path / "out", TEACHER, device="cpu")
    cache = open_cache(features, index, model="embedded", layer=3)
    with pytest.raises(DataError, match="no teacher features of utterance 'nobody'"):
        cache.read("nobody", 0, 3, 400)
