"""Other bottlenecks of the VAE: noise in place of a posterior, and a frozen stream of a teacher. Off, nothing changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from svae import recipe
from svae.config import VAETrainConfig
from svae.errors import ConfigError
from svae.models.vae import streaming
from svae.models.vae.anchor import Anchor
from svae.models.vae.vae import SpeechVAE
from svae.training.vae.losses import alignment_loss

TEACHER_DIM, ANCHORED = 12, 3


@pytest.fixture
def waveform() -> Tensor:
    return 0.1 * torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(0))


def test_noisy_latents_are_normal_in_each_frame_and_as_noisy_as_asked(tiny_vae_config, waveform):
    torch.manual_seed(0)
    vae = SpeechVAE(replace(tiny_vae_config, latent_noise=0.25))
    assert vae.logvar is None
    posterior = vae.encode(waveform)
    assert torch.allclose(posterior.mean.mean(dim=1), torch.zeros(2, 10), atol=1e-5)
    assert torch.allclose(posterior.mean.std(dim=1, correction=0), torch.ones(2, 10), atol=1e-2)
    noise = torch.ones_like(posterior.mean)
    assert torch.allclose(posterior.sample(noise=noise) - posterior.mean, 0.25 * noise, atol=1e-6)
    long = torch.randn(1, 1, 400 * 60, generator=torch.Generator().manual_seed(1))
    whole, chunks = vae.encode(long), streaming.encode(vae, long, chunk_seconds=0.5)
    assert torch.allclose(whole.mean, chunks.mean, atol=1e-4)
    assert torch.equal(whole.logvar, chunks.logvar)


def test_padding_of_noisy_latents_holds_nothing(tiny_vae_config, waveform):
    torch.manual_seed(0)
    vae = SpeechVAE(replace(tiny_vae_config, latent_noise=0.25))
    posterior = vae.encode(waveform, torch.tensor([4000, 1500]))
    assert not posterior.mean[1, :, 4:].any() and not posterior.logvar[1, :, 4:].any()
    alone = vae.encode(waveform[1:, :, :1500])
    assert torch.allclose(posterior.mean[1:, :, :4], alone.mean, atol=1e-5)


def anchored(tiny_vae_config) -> SpeechVAE:
    torch.manual_seed(0)
    return SpeechVAE(replace(tiny_vae_config, anchored_latents=ANCHORED), TEACHER_DIM)


def test_reconstruction_does_not_shape_the_anchored_latents(tiny_vae_config, waveform):
    vae = anchored(tiny_vae_config)
    vae(waveform).reconstruction.square().sum().backward()
    assert vae.mean.weight.grad is not None and vae.logvar is not None
    for layer in (vae.mean, vae.logvar):
        assert not layer.weight.grad[:ANCHORED].any() and layer.weight.grad[ANCHORED:].any()


def test_the_teacher_shapes_the_anchored_latents_alone(tiny_vae_config, waveform):
    vae = anchored(tiny_vae_config)
    output = vae(waveform, teacher_features=torch.randn(2, 10, TEACHER_DIM))
    assert output.projected_features.shape == (2, ANCHORED, 10)
    alignment_loss(output.latents[:, :ANCHORED], output.projected_features, form="mse").backward()
    assert vae.mean.weight.grad[:ANCHORED].any() and not vae.mean.weight.grad[ANCHORED:].any()


def test_what_is_decoded_is_the_same_with_and_without_gradients(tiny_vae_config, waveform):
    vae = anchored(tiny_vae_config).eval()
    latents = vae.encode(waveform).mean
    assert torch.equal(vae.decoded(latents), latents)


def test_an_anchor_is_frozen_and_of_unit_deviation():
    torch.manual_seed(0)
    anchor = Anchor(TEACHER_DIM, ANCHORED)
    assert not list(anchor.parameters())
    directions = torch.randn(TEACHER_DIM, TEACHER_DIM)
    features = torch.randn(5000, TEACHER_DIM) @ directions + 4
    share = anchor.fit(features)
    stream = anchor(features[None], 5000)[0]
    assert torch.allclose(stream.mean(dim=1), torch.zeros(ANCHORED), atol=1e-3)
    assert torch.allclose(stream.cov(), torch.eye(ANCHORED), atol=1e-2)
    # The share that linear regression on the stream explains of the features.
    centred = features - features.mean(dim=0)
    explained = centred.T @ stream.T / 5000 @ stream
    assert share == pytest.approx(
        float(explained.square().sum() / centred.square().sum()), abs=0.01
    )
    padded = anchor(features[None, :10], 10, torch.arange(10)[None] < 6)
    assert not padded[..., 6:].any()
    assert torch.allclose(padded[..., :6], stream[None, :, :6], atol=1e-5)


def test_off_the_weights_are_what_they_were(tiny_vae_config):
    """The same parameters in the same order, drawn by the same numbers."""
    torch.manual_seed(3)
    vae = SpeechVAE(tiny_vae_config, TEACHER_DIM)
    assert vae.logvar is not None and not isinstance(vae.regulator, Anchor)
    torch.manual_seed(3)
    noisy = SpeechVAE(replace(tiny_vae_config, latent_noise=0.1), TEACHER_DIM)
    assert set(vae.state_dict()) - set(noisy.state_dict()) == {"logvar.weight", "logvar.bias"}
    latents = torch.randn(1, tiny_vae_config.latent_dim, 4)
    assert vae.decoded(latents) is latents


@pytest.mark.parametrize(
    ("vae", "loss", "said"),
    [
        ({"latent_noise": 0.3}, {}, "set it to 0"),
        ({"latent_noise": 0.0}, {"kl": 0}, "must be greater than 0"),
        ({"anchored_latents": 64}, {"alignment_form": "mse"}, "so that a residue is left"),
        ({"anchored_latents": 8}, {}, "must be mse"),
        ({"anchored_latents": 8}, {"alignment": None, "alignment_form": "mse"}, "set loss.alignment"),
        ({"anchored_latents": 8, "latent_noise": 0.3}, {"kl": 0, "alignment_form": "mse"}, "leave out"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_said(vae, loss, said):
    tree = {"data": {"root": "x"}, "trainer": {"steps": 1}, "vae": vae, "loss": loss}
    with pytest.raises(ConfigError, match=said):
        recipe.build(VAETrainConfig, tree, where="test")
