"""`svae inspect`: the numbers against cases whose answer is known, and the command on real folders."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from svae.analysis.inspect_latents import (
    InspectOptions,
    effective_rank,
    inspect,
    measure,
    teacher_cosine,
)
from svae.checkpoint import write_checkpoint
from svae.config import TeacherConfig
from svae.data.batches import read_waveform
from svae.data.index import read_index
from svae.errors import ConfigError, DataError
from svae.models.teacher import load_teacher
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.recipe import to_tree


def test_effective_rank_counts_equal_directions():
    basis = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    for rank in (1, 3, 8):
        values = torch.tensor([5.0] * rank + [0.0] * (8 - rank), dtype=torch.float64)
        assert effective_rank(basis @ torch.diag(values) @ basis.T) == pytest.approx(rank, rel=1e-6)


def test_channels_kl_and_dead_ones_are_found():
    torch.manual_seed(0)
    scales, centres = torch.tensor([2.0, 1.0, 0.05, 0.0]), torch.tensor([0.5, -1.0, 3.0, 0.0])
    means = [centres[:, None] + scales[:, None] * torch.randn(4, 3000) for _ in range(3)]
    logvars = [torch.full((4, 3000), value) for value in (-2.0, -1.0, 0.0)]
    found = measure(means, logvars)
    assert found.mean == pytest.approx(centres.tolist(), abs=0.1)
    assert found.std == pytest.approx(scales.tolist(), rel=0.05)
    assert found.dead_channels == [2, 3]
    prior = Normal(0.0, 1.0)
    posteriors = [Normal(m, (0.5 * v).exp()) for m, v in zip(means, logvars, strict=True)]
    expected = torch.cat([kl_divergence(q, prior) for q in posteriors], dim=1).mean(dim=1)
    assert found.kl == pytest.approx(expected.tolist(), rel=1e-5)
    average = math.sqrt(sum(math.exp(v) for v in (-2, -1, 0)) / 3)
    assert found.posterior_std == pytest.approx([average] * 4, rel=1e-5)
    assert all(abs(value) < 0.05 for value in found.autocorrelation.values())


def test_autocorrelation_of_a_known_process_and_no_leak_between_utterances():
    torch.manual_seed(1)
    rho, utterances = 0.9, []
    for _ in range(40):
        x = torch.empty(2, 400)
        x[:, 0] = torch.randn(2)
        for t in range(1, 400):
            x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * torch.randn(2)
        utterances.append(x)
    found = measure(utterances, None).autocorrelation
    for lag in (1, 2, 4, 8):
        assert found[lag] == pytest.approx(rho**lag, abs=0.05)
    constant = [torch.full((1, 20), float(sign)) for sign in (1, -1, 1, -1)]
    assert measure(constant, None).autocorrelation[16] == pytest.approx(1.0)
    assert 32 not in measure(constant, None).autocorrelation


@pytest.fixture
def aligned_vae(tiny_vae_config, tmp_path):
    """A VAE with random weights and the regulator for the embedded teacher."""
    torch.manual_seed(0)
    teacher = TeacherConfig(model="embedded", layer=2)
    width = load_teacher(teacher).feature_dim
    config = {"kind": "vae", "step": 1, "model": to_tree(tiny_vae_config), "teacher_dim": width}
    config |= {
        "teacher": to_tree(teacher),
        "sample_rate": 16000,
        "hop_length": 400,
        "latent_mean": None,
    }
    write_checkpoint(
        tmp_path / "vae", config=config, model_state=SpeechVAE(tiny_vae_config, width).state_dict()
    )
    return tmp_path / "vae"


def test_latents_and_their_checkpoint_give_the_same_numbers(aligned_vae, tone_shards, tmp_path):
    from svae.precompute.latents import EncodeOptions, encode_shards

    vae = aligned_vae
    latents = encode_shards(
        EncodeOptions(tone_shards, vae, tmp_path / "latents", dtype="float32", device="cpu")
    )
    options = InspectOptions(vae, data=tone_shards, out=tmp_path / "a", device="cpu")
    online = inspect(options)
    stored = inspect(replace(options, path=latents, out=tmp_path / "b"))
    assert stored.kl == pytest.approx(online.kl, rel=1e-3)
    assert stored.teacher_cosine == pytest.approx(online.teacher_cosine, rel=1e-3)
    assert -1 <= online.teacher_cosine <= 1 and "layer" in online.teacher
    written = json.loads((tmp_path / "a" / "inspection.json").read_text())
    assert written["effective_rank"] == online.effective_rank and len(written["mean"]) == len(
        online.mean
    )
    assert (tmp_path / "a" / "inspection.png").read_bytes().startswith(b"\x89PNG")
    without = inspect(InspectOptions(latents, out=tmp_path / "c", device="cpu"))
    assert without.teacher_cosine is None and without.kl == stored.kl


def test_why_there_is_no_cosine_is_said_truly(
    aligned_vae, tiny_vae_config, tone_shards, tmp_path, capsys
):
    options = InspectOptions(aligned_vae, data=tone_shards, out=tmp_path / "a", device="cpu")
    config = json.loads((aligned_vae / "config.json").read_text()) | {"teacher_dim": None}
    for teacher, reason in (
        (config["teacher"], "its teacher embedded is not in the checkpoint"),
        (None, "was trained without a teacher"),
    ):
        folder = tmp_path / f"{teacher is None}"
        config["teacher"] = teacher
        write_checkpoint(folder, config=config, model_state=SpeechVAE(tiny_vae_config).state_dict())
        assert inspect(replace(options, path=folder)).teacher_cosine is None
        assert reason in " ".join(re.findall("[a-z]+", capsys.readouterr().out))


def test_of_an_utterance_too_long_for_the_teacher_its_beginning_counts(
    aligned_vae, tone_shards, tmp_path, monkeypatch
):
    options = InspectOptions(aligned_vae, data=tone_shards, out=tmp_path / "a", device="cpu")
    vae, teacher = load_vae(aligned_vae), load_teacher(TeacherConfig(model="embedded", layer=2))
    index = read_index(tone_shards)
    waveform = read_waveform(index, index.samples[0])
    mean = vae.encode(waveform[None]).mean[0]
    teacher.max_samples = 10 * vae.hop_length
    heard = teacher_cosine(vae, teacher, waveform, mean)
    begun = teacher_cosine(vae, teacher, waveform[:, : 10 * vae.hop_length], mean[:, :10])
    torch.testing.assert_close(heard, begun)
    monkeypatch.setattr("svae.analysis.inspect_latents.load_teacher", lambda *a, **k: teacher)
    assert inspect(options).teacher_cosine is not None


def test_what_cannot_be_inspected_is_said(toy_tts, tone_shards, tmp_path):
    options = InspectOptions(toy_tts.parent / "vae", out=tmp_path, device="cpu")
    with pytest.raises(ConfigError, match="pass --data DIR"):
        inspect(options)
    assert inspect(replace(options, data=tone_shards)).teacher_cosine is None
    with pytest.raises(DataError, match="no such folder"):
        inspect(replace(options, data=tmp_path / "nothing"))
    with pytest.raises(ConfigError, match="--layer 9: is a layer of --teacher"):
        inspect(replace(options, data=tone_shards, layer=9))
