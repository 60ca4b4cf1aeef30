"""The VAE: published size, reference vectors' shapes in any batch, masks, sampling, statistics, loading."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch.nn.utils import parametrize

from svae.checkpoint import write_checkpoint
from svae.config import VAEConfig
from svae.errors import CheckpointError
from svae.models.vae.regulator import Regulator
from svae.models.vae.vae import SpeechVAE, load_vae


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def perturbed(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


@pytest.fixture
def vae(tiny_vae_config) -> SpeechVAE:
    torch.manual_seed(0)
    return perturbed(SpeechVAE(tiny_vae_config, teacher_dim=6)).eval()


@pytest.mark.parametrize(
    ("latent_dim", "projection", "head", "decoder", "regulator", "total"),
    [
        (64, 3_246_784, 4_160, 50_638_305, 451_392, 72_753_377),
        (32, 3_192_160, 1_056, 50_408_929, 211_360, 72_223_137),
        (16, 3_170_224, 272, 50_294_241, 102_096, 71_975_681),
    ],
)
def test_published_sizes(latent_dim, projection, head, decoder, regulator, total):
    with torch.device("meta"):
        vae = SpeechVAE(VAEConfig(latent_dim=latent_dim), teacher_dim=1024)
    assert parameters(vae.encoder) == 18_408_576
    found = [
        parameters(m)
        for m in (vae.projection, vae.mean, vae.logvar, vae.decoder, vae.regulator, vae)
    ]
    assert found == [projection, head, head, decoder, regulator, total]
    assert vae.hop_length == 400
    with torch.device("meta"):
        assert parameters(SpeechVAE(VAEConfig(latent_dim=latent_dim))) == total - regulator


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 1203])
def test_frames_are_the_hops_begun_and_the_output_is_as_long_as_the_input(vae, samples):
    waveform = 0.1 * torch.randn(2, 1, samples)
    frames = -(-samples // 400)
    with torch.no_grad():
        output = vae(waveform)
    assert output.posterior.mean.shape == output.latents.shape == (2, 8, frames)
    assert output.posterior.lengths.tolist() == [frames] * 2
    assert output.reconstruction.shape == waveform.shape
    assert output.projected_features is None
    assert vae.decode(output.latents).shape == (2, 1, 400 * frames)


def test_a_batch_of_unequal_lengths_encodes_as_each_item_alone(vae):
    lengths = [2500, 399, 1600, 801]
    waveform = torch.randn(4, 1, 2500)  # what lies beyond an item's end is garbage here
    waveform[1, :, 399:] = float("nan")
    with torch.no_grad():
        batch = vae.encode(waveform, torch.tensor(lengths))
        assert batch.lengths.tolist() == [7, 1, 4, 3]
        for i, (length, frames) in enumerate(zip(lengths, batch.lengths.tolist(), strict=True)):
            alone = vae.encode(waveform[i : i + 1, :, :length])
            torch.testing.assert_close(
                batch.mean[i : i + 1, :, :frames], alone.mean, atol=1e-5, rtol=0
            )
            torch.testing.assert_close(
                batch.logvar[i : i + 1, :, :frames], alone.logvar, atol=1e-5, rtol=0
            )
            for values in (batch.mean, batch.logvar, batch.sample()):
                assert not values[i, :, frames:].any()
    assert batch.mask.sum(dim=1).tolist() == [7, 1, 4, 3]


def test_forward_leaves_zeros_beyond_each_item_and_normalises_guidance_over_valid_frames_only(vae):
    waveform, lengths = torch.randn(2, 1, 2000), torch.tensor([2000, 900])
    teacher_features = torch.randn(2, 5, 6)
    with torch.no_grad():
        output = vae(waveform, lengths, teacher_features)
        alone = vae(waveform[1:, :, :900], teacher_features=teacher_features[1:, :3])
    assert not output.reconstruction[1, :, 900:].any()
    assert output.reconstruction[0].any()
    assert not output.projected_features[1, :, 3:].any()
    torch.testing.assert_close(
        output.projected_features[1:, :, :3], alone.projected_features, atol=1e-5, rtol=0
    )


def test_sampling_follows_the_posterior_and_its_generator(vae):
    with torch.no_grad():
        posterior = vae.encode(torch.randn(1, 1, 800))
    draws = torch.stack([posterior.sample() for _ in range(4000)])
    std = torch.exp(0.5 * posterior.logvar)
    torch.testing.assert_close(draws.mean(dim=0) / std, posterior.mean / std, atol=0.08, rtol=0)
    torch.testing.assert_close(draws.std(dim=0) / std, torch.ones_like(std), atol=0.06, rtol=0)
    first, second = (posterior.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_logvar_is_clamped(vae):
    with torch.no_grad():
        vae.logvar.bias[0], vae.logvar.bias[1] = 100.0, -100.0
        logvar = vae.encode(torch.randn(1, 1, 800)).logvar
    assert (logvar[:, 0] == 12).all()
    assert (logvar[:, 1] == -12).all()


def test_every_parameter_learns_from_one_step(tiny_vae_config):
    torch.manual_seed(0)
    vae = SpeechVAE(tiny_vae_config, teacher_dim=6)
    output = vae(0.1 * torch.randn(2, 1, 1600), teacher_features=torch.randn(2, 4, 6))
    total = output.reconstruction.square().sum() + output.posterior.logvar.sum()
    (total + (output.projected_features * output.latents).sum()).backward()
    assert [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_regulator_interpolates_other_rates_and_leaves_equal_ones():
    torch.manual_seed(0)
    regulator = Regulator(6, 4, layers=0)  # a single 1x1 convolution: what it sees can be read off
    ramp = torch.arange(10.0)[None, :, None].expand(1, 10, 6)
    assert torch.equal(regulator(ramp, 10), regulator.out(ramp.transpose(1, 2)))
    expected = ((torch.arange(8.0) + 0.5) * 1.25 - 0.5)[None, None].expand(
        1, 6, 8
    )  # 50 Hz to 40 Hz, edges aligned
    torch.testing.assert_close(regulator(ramp, 8), regulator.out(expected))


def test_guidance_without_a_regulator_is_a_programming_error(tiny_vae_config):
    with pytest.raises(ValueError, match="without teacher_dim"):
        SpeechVAE(tiny_vae_config)(torch.randn(1, 1, 400), teacher_features=torch.randn(1, 1, 6))
    with pytest.raises(ValueError, match=r"must be \(B, 1, S\)"):
        SpeechVAE(tiny_vae_config).encode(torch.randn(1, 400))


def test_normalization_is_undone_and_stays_out_of_the_state_dict(vae):
    latents = torch.randn(2, 8, 5)
    assert torch.equal(vae.normalize(latents), latents)
    mean, std = torch.randn(8), torch.rand(8) + 0.5
    vae.set_latent_statistics(mean, std)
    torch.testing.assert_close(vae.normalize(latents)[:, 3], (latents[:, 3] - mean[3]) / std[3])
    torch.testing.assert_close(vae.denormalize(vae.normalize(latents)), latents)
    assert not any("latent_" in key for key in vae.state_dict())
    with pytest.raises(ValueError, match="positive"):
        vae.set_latent_statistics(mean, torch.zeros(8))


def write(folder, vae: SpeechVAE, **changes):
    config = {
        "kind": "vae",
        "model": json.loads(json.dumps(dataclasses.asdict(vae.cfg))),
        "teacher_dim": vae.teacher_dim,
        "sample_rate": vae.sample_rate,
        "hop_length": vae.hop_length,
        "step": 3,
        "latent_mean": [0.5] * 8,
        "latent_std": [2.0] * 8,
        **changes,
    }
    write_checkpoint(folder, config=config, model_state=vae.state_dict())


def test_load_vae_gives_the_same_function_folded_frozen_and_calibrated(vae, tmp_path):
    write(tmp_path / "checkpoint", vae)
    loaded = load_vae(tmp_path / "checkpoint")
    waveform = 0.1 * torch.randn(1, 1, 1000)
    with torch.no_grad():
        expected = vae.encode(waveform)
        torch.testing.assert_close(loaded.encode(waveform).mean, expected.mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            loaded.decode(expected.mean), vae.decode(expected.mean), atol=1e-5, rtol=0
        )
    assert not any(parametrize.is_parametrized(module) for module in loaded.modules())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.latent_mean.tolist() == [0.5] * 8
    assert loaded.latent_std.tolist() == [2.0] * 8


def test_load_vae_refuses_weights_or_config_that_do_not_fit(vae, tmp_path):
    write(tmp_path / "narrow", vae, teacher_dim=None)
    with pytest.raises(CheckpointError, match="unexpected.*regulator"):
        load_vae(tmp_path / "narrow")
    write(tmp_path / "broken", vae, model={"latent_dim": "many"})
    with pytest.raises(CheckpointError, match="config.json: damaged"):
        load_vae(tmp_path / "broken")
    write(tmp_path / "statistics", vae, latent_std=[0.0] * 8)
    with pytest.raises(CheckpointError, match="positive"):
        load_vae(tmp_path / "statistics")
    with pytest.raises(CheckpointError):
        load_vae(tmp_path / "nowhere")
