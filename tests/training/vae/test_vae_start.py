"""`train-vae --init`: another run's weights as the start, the encoder frozen or not; and an encoder that reads log-mels."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from tiny_runs import VAE, killed_copy, vae_config
from tiny_teachers import write_whisper

from svae import recipe
from svae.checkpoint import open_checkpoint
from svae.config import VAEConfig, VAETrainConfig
from svae.errors import CheckpointError, ConfigError
from svae.models.vae.encoder import LogMel
from svae.models.vae.vae import SpeechVAE, load_vae
from svae.training.loop import TrainOptions
from svae.training.vae.train import teacher_of, train_vae

FROZEN = ("encoder.", "projection.", "mean.", "logvar.")
MEL = VAE["vae"] | {"encoder_strides": [2, 2], "encoder_mel_hop": 100, "encoder_mel_bands": 20}


@pytest.fixture(scope="module")
def start(tone_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_vae(
        TrainOptions(
            vae_config(tone_shards, vae=MEL), tmp_path_factory.mktemp("start") / "run", device="cpu"
        )
    )


def frozen_config(data: Path, start: Path) -> VAETrainConfig:
    return vae_config(data, vae=MEL, init=str(start), freeze_encoder=True)


def test_a_frozen_encoder_keeps_every_bit_and_the_decoder_goes_on(
    tone_shards, start, tmp_path, capsys
):
    run = train_vae(TrainOptions(frozen_config(tone_shards, start), tmp_path / "run", device="cpu"))
    assert "discriminator from there too" in capsys.readouterr().out
    before, after = (
        open_checkpoint(start, kind="vae").model_state(),
        open_checkpoint(run, kind="vae").model_state(),
    )
    same = {name: torch.equal(before[name], after[name]) for name in before}
    assert all(same[name] for name in same if name.startswith(FROZEN))
    assert not any(
        same[name]
        for name in same
        if name.endswith("weight.original1") and not name.startswith(FROZEN)
    )
    a, b = load_vae(start), load_vae(run)
    waveform = torch.randn(1, 1, 4000)
    assert torch.equal(a.encode(waveform).mean, b.encode(waveform).mean)
    assert torch.equal(a.latent_mean, b.latent_mean) and torch.equal(a.latent_std, b.latent_std)


def test_old_latents_get_a_new_decoder(tone_shards, start, tmp_path, capsys):
    decoder = VAE["vae"]["decoder"] | {
        "initial_channels": 2 * VAE["vae"]["decoder"]["initial_channels"]
    }
    config = vae_config(
        tone_shards, vae=MEL | {"decoder": decoder}, init=str(start), freeze_encoder=True
    )
    run = train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert "decoder of other sizes from nothing" in capsys.readouterr().out
    waveform = torch.randn(1, 1, 4000)
    a, b = load_vae(start), load_vae(run)
    latents = a.encode(waveform).mean
    assert torch.equal(latents, b.encode(waveform).mean)
    assert b.decoder.cfg.initial_channels == 2 * a.decoder.cfg.initial_channels
    assert a.decode(latents).shape == b.decode(latents).shape
    joint = vae_config(tone_shards, vae=MEL | {"decoder": decoder}, init=str(start))
    with pytest.raises(CheckpointError, match=r"vae.decoder"):
        train_vae(TrainOptions(joint, tmp_path / "joint", device="cpu"))


def test_a_killed_and_resumed_run_with_a_frozen_encoder_equals_an_uninterrupted_one(
    tone_shards, start, tmp_path
):
    config = frozen_config(tone_shards, start)
    whole = train_vae(TrainOptions(config, tmp_path / "whole", device="cpu"))
    resumed = killed_copy(whole, 2, tmp_path / "resumed")
    train_vae(TrainOptions(config, resumed, device="cpu"))
    a, b = (
        open_checkpoint(whole, kind="vae").model_state(),
        open_checkpoint(resumed, kind="vae").model_state(),
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_another_structure_and_options_that_contradict_are_refused(tone_shards, start, tmp_path):
    other = vae_config(tone_shards, vae=MEL | {"encoder_mel_bands": 24}, init=str(start))
    with pytest.raises(CheckpointError, match=r"vae.encoder_mel_bands: 20 there, 24 in the recipe"):
        train_vae(TrainOptions(other, tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()
    for changes, message in (
        ({"freeze_encoder": True}, "needs `init`"),
        ({"freeze_encoder": True, "init": "x", "loss": {"alignment": 1.0}}, "cannot be aligned"),
    ):
        with pytest.raises(ConfigError, match=message):
            vae_config(tone_shards, **changes)


def test_what_is_advised_for_another_structure_can_be_pasted(tone_shards, start, tmp_path):
    other = vae_config(
        tone_shards, vae=MEL | {"decoder": {"initial_channels": 64}}, init=str(start)
    )
    with pytest.raises(CheckpointError) as caught:
        train_vae(TrainOptions(other, tmp_path / "run", device="cpu"))
    advice = shlex.split(str(caught.value).splitlines()[-1].removeprefix("Pass "))
    tree = recipe.to_tree(other)
    mended = recipe.build(VAETrainConfig, tree, where="test", overrides=advice[1::2])
    assert advice[::2] == ["--set"] * (len(advice) // 2)
    assert recipe.to_tree(mended.vae) == open_checkpoint(start, kind="vae").config["model"]


def test_a_start_that_is_nowhere_is_named_by_its_own_option(tone_shards, tmp_path, asked_hosts):
    config = vae_config(tone_shards, init="nobody/nothing")
    with pytest.raises(CheckpointError, match="^--init nobody/nothing: no such folder here"):
        train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    asked_hosts.clear()


def test_crops_that_are_longer_than_the_teacher_hears_are_refused(tone_shards, tmp_path):
    write_whisper(tmp_path / "whisper")
    teacher = {"model": str(tmp_path / "whisper"), "layer": 2, "context_seconds": 15.0}
    config = vae_config(tone_shards, loss={"alignment": 1.0}, teacher=teacher)
    with pytest.raises(ConfigError, match=r"teacher.context_seconds 15: .*hears at most 30 s"):
        teacher_of(config, "cpu")


def test_log_mel_frames_are_those_of_torchaudio_between_the_ends():
    from torchaudio.transforms import MelSpectrogram

    torch.manual_seed(0)
    waveform, front = 0.1 * torch.randn(2, 1, 4000), LogMel(16000, 100, 40)
    options = {
        "n_fft": 400,
        "hop_length": 100,
        "n_mels": 40,
        "power": 1,
        "center": False,
        "mel_scale": "slaney",
        "norm": None,
    }
    padded = torch.nn.functional.pad(waveform[:, 0], (150, 150))
    expected = (MelSpectrogram(16000, **options)(padded) / 100).clamp(min=1e-5).log()
    torch.testing.assert_close(front(waveform), (expected + 6) / 3, atol=1e-4, rtol=0)
    assert torch.isfinite(front(torch.zeros(1, 1, 400))).all()


def test_an_encoder_on_log_mels_encodes_a_batch_like_each_alone_and_tells_frames_apart():
    cfg = recipe.from_tree(VAEConfig, MEL)
    assert cfg.hop_length == 400
    torch.manual_seed(0)
    vae = SpeechVAE(cfg).eval()
    waveform, lengths = torch.randn(2, 1, 4000), torch.tensor([4000, 2500])
    with torch.no_grad():
        both = vae.encode(waveform, lengths)
        for i, length in enumerate(lengths):
            alone = vae.encode(waveform[i : i + 1, :, :length])
            frames = alone.mean.shape[-1]
            torch.testing.assert_close(
                both.mean[i : i + 1, :, :frames], alone.mean, atol=1e-5, rtol=1e-5
            )
    assert both.lengths.tolist() == [10, 7]
