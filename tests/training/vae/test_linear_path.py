"""The linear paths of a small VAE: principal components at the start, and every property that a VAE has without them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_runs import VAE, killed_copy, vae_config

from svae import recipe
from svae.checkpoint import open_checkpoint
from svae.config import VAEConfig
from svae.data.batches import read_waveform
from svae.data.index import read_index
from svae.models.vae import streaming
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World
from svae.training.loop import TrainOptions
from svae.training.vae.linear_path import magnitude_patches, mel_patches, start_linear_path
from svae.training.vae.train import train_vae

LINEAR = VAE["vae"] | {
    "encoder_strides": [2, 2],
    "encoder_mel_hop": 100,
    "encoder_mel_bands": 20,
    "encoder_linear_path": True,
    "decoder": {
        "upsample_rates": [4],
        "upsample_kernel_sizes": [8],
        "initial_channels": 16,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3]],
        "istft_hop": 100,
        "anti_aliasing": False,
        "linear_path": True,
    },
}


ALONE = World(rank=0, world_size=1, device=torch.device("cpu"))


@pytest.fixture
def vae() -> SpeechVAE:
    torch.manual_seed(0)
    return SpeechVAE(recipe.from_tree(VAEConfig, LINEAR)).eval().requires_grad_(False)


def patches_of(vae: SpeechVAE, data: Path) -> tuple[np.ndarray, np.ndarray]:
    index = read_index(data)
    waveforms = [read_waveform(index, sample)[None] for sample in index.train]
    waveforms = [w[..., : w.shape[-1] // 400 * 400] for w in waveforms]
    return tuple(
        torch.cat([cut(vae, w) for w in waveforms]).double().numpy()
        for cut in (mel_patches, magnitude_patches)
    )


def test_the_start_is_the_principal_components_and_the_regression_on_them(vae, tone_shards):
    start_linear_path(vae, read_index(tone_shards), ALONE, Console(quiet=True))
    mels, magnitudes = patches_of(vae, tone_shards)
    projected = (
        mels @ vae.linear_path.weight.flatten(1).double().numpy().T
        + vae.linear_path.bias.double().numpy()
    )
    # Reference: numpy's singular value decomposition of the centred patches.
    centred = mels - mels.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = left[:, :8] * len(mels) ** 0.5
    assert singular[7] > 1e-3
    np.testing.assert_allclose(
        np.abs((projected * expected).mean(axis=0)), 1, atol=1e-3
    )  # signs are free
    np.testing.assert_allclose(projected.std(axis=0), 1, atol=1e-3)
    slope = np.linalg.lstsq(projected, magnitudes - magnitudes.mean(axis=0), rcond=None)[0]
    np.testing.assert_allclose(vae.decoder.linear_path.weight.flatten(1).numpy(), slope, atol=1e-3)


def test_the_linear_paths_alone_explain_most_of_the_spectra(vae, tone_shards):
    start_linear_path(vae, read_index(tone_shards), ALONE, Console(quiet=True))
    mels, magnitudes = (
        torch.from_numpy(patches).float() for patches in patches_of(vae, tone_shards)
    )
    latents = vae.linear_path(mels.unflatten(1, (20, 4)))
    made = vae.decoder.linear_path(latents).flatten(1)
    error = (made - magnitudes).square().mean()
    assert error < 0.2 * (magnitudes - magnitudes.mean(dim=0)).square().mean()


def test_the_magnitudes_are_those_that_the_inverse_transform_takes(vae):
    torch.manual_seed(0)
    waveform = 0.1 * torch.randn(1, 1, 4000)
    log_magnitude = (
        magnitude_patches(vae, waveform).unflatten(1, (-1, 4)).permute(1, 0, 2).flatten(1)[None]
    )
    padded = torch.nn.functional.pad(waveform[0], (150, 150))
    spectrum = torch.stft(
        padded, 400, 100, window=torch.hann_window(400), center=False, return_complex=True
    )
    made = vae.decoder.istft(torch.cat([log_magnitude, spectrum.angle()], dim=1))
    torch.testing.assert_close(made[..., 400:-400], waveform[..., 400:-400], atol=2e-3, rtol=0)


def test_a_batch_and_chunks_equal_one_shot_alone(vae):
    torch.manual_seed(0)
    for parameter in (*vae.linear_path.parameters(), *vae.decoder.linear_path.parameters()):
        parameter += 0.1 * torch.randn_like(parameter)
    waveform = 0.1 * torch.randn(2, 1, 400 * 90 + 5)
    both = vae.encode(waveform, torch.tensor([400 * 90 + 5, 20_001]))
    alone = vae.encode(waveform[1:, :, :20_001])
    torch.testing.assert_close(
        both.mean[1:, :, : alone.mean.shape[-1]], alone.mean, atol=1e-5, rtol=1e-5
    )
    assert (both.mean[1:, :, alone.mean.shape[-1] :] == 0).all()
    whole = vae.encode(waveform)
    for frames in (1, 13, 89):
        chunks = streaming.encode(vae, waveform, chunk_seconds=frames / 40)
        torch.testing.assert_close(chunks.mean, whole.mean, atol=1e-5, rtol=1e-5)
        decoded = streaming.decode(vae, whole.mean, chunk_seconds=frames / 40)
        torch.testing.assert_close(decoded, vae.decode(whole.mean), atol=1e-5, rtol=1e-5)


def test_killed_and_resumed_equals_uninterrupted_and_a_frozen_encoder_keeps_its_linear_path(
    tone_shards, tmp_path
):
    config = vae_config(tone_shards, vae=LINEAR)
    whole = train_vae(TrainOptions(config, tmp_path / "whole", device="cpu"))
    resumed = killed_copy(whole, 2, tmp_path / "resumed")
    train_vae(TrainOptions(config, resumed, device="cpu"))
    a, b = (
        open_checkpoint(whole, kind="vae").model_state(),
        open_checkpoint(resumed, kind="vae").model_state(),
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    frozen = vae_config(tone_shards, vae=LINEAR, init=str(whole), freeze_encoder=True)
    after = open_checkpoint(
        train_vae(TrainOptions(frozen, tmp_path / "frozen", device="cpu")), kind="vae"
    ).model_state()
    assert torch.equal(a["linear_path.weight"], after["linear_path.weight"])
    assert not torch.equal(a["decoder.linear_path.weight"], after["decoder.linear_path.weight"])


def test_a_vae_from_before_these_options_is_a_start_and_keeps_its_decoder(tone_shards, tmp_path):
    old = train_vae(TrainOptions(vae_config(tone_shards), tmp_path / "old", device="cpu"))
    path = open_checkpoint(old, kind="vae").folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["model"]["encoder_linear_path"], config["model"]["decoder"]["linear_path"]
    del config["model"]["decoder"]["anti_aliasing"]
    path.write_text(json.dumps(config), encoding="utf-8")
    loss = VAE["loss"] | {"mel": 0.0, "kl": 0.0, "adversarial_start_step": 99}
    still = vae_config(tone_shards, init=str(old), loss=loss, optimizer={"learning_rate": 1e-12})
    new = train_vae(TrainOptions(still, tmp_path / "new", device="cpu"))
    before, after = (open_checkpoint(run, kind="vae").model_state() for run in (old, new))
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


def test_training_starts_from_the_components_also_in_the_average(vae, tone_shards, tmp_path):
    start_linear_path(vae, read_index(tone_shards), ALONE, Console(quiet=True))
    ema = {"start_step": 0, "every": 1, "decay": 0.999}
    config = vae_config(tone_shards, vae=LINEAR, optimizer={"learning_rate": 1e-9}, ema=ema)
    weights = open_checkpoint(
        train_vae(TrainOptions(config, tmp_path / "run", device="cpu")), kind="vae"
    ).model_state()
    torch.testing.assert_close(
        weights["linear_path.weight"], vae.linear_path.weight, atol=1e-4, rtol=1e-4
    )
