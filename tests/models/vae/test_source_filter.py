"""The decoder of pulses and noise: its signals against formulas, and every property that a VAE has with another decoder."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.signal
import torch
from rich.console import Console
from tiny_runs import VAE, killed_copy, vae_config
from torch.utils._device import _device_constructors

from svae import recipe
from svae.checkpoint import open_checkpoint
from svae.config import VAEConfig
from svae.data.index import read_index
from svae.models.vae import streaming
from svae.models.vae.pitch import pitch_grid, track_pitch
from svae.models.vae.receptive_field import decoder_reach
from svae.models.vae.source_filter import Controls, SourceFilter, SourceState
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World
from svae.training.loop import TrainOptions
from svae.training.vae.linear_path import start_linear_path
from svae.training.vae.losses import pitch_loss
from svae.training.vae.train import train_vae

HOP, RATE, FRAMES = 100, 16000, 160
TREE = {key: value for key, value in VAE["vae"].items() if key != "decoder"} | {
    "encoder_strides": [2, 2],
    "encoder_mel_hop": HOP,
    "encoder_mel_bands": 20,
    "encoder_pitch_window": 512,
    "encoder_linear_path": True,
    "source_filter": {
        "channels": 16,
        "blocks": 2,
        "expansion": 2,
        "phase_terms": 4,
        "pitch_bins": 64,
    },
}


@pytest.fixture
def grid() -> torch.Tensor:
    return pitch_grid(50.0, 550.0, 128)


@pytest.fixture
def source(grid) -> SourceFilter:
    return SourceFilter(RATE, HOP, grid, phase_terms=4).eval()


@pytest.fixture
def vae() -> SpeechVAE:
    torch.manual_seed(0)
    vae = SpeechVAE(recipe.from_tree(VAEConfig, TREE)).eval().requires_grad_(False)
    vae.decoder.head.bias[-64 + 20] = 8.0  # a pitch that rounding does not change
    return vae


def controls(harmonic: float, noise: float, hertz: float = 100.0) -> Controls:
    """Return controls of flat filters and one pitch."""
    flat = torch.zeros(1, 2 * HOP + 1, FRAMES)
    pitch = torch.full((1, FRAMES), hertz).log()
    return Controls(
        flat + harmonic, flat + noise, torch.zeros(1, 4, FRAMES), torch.zeros(1, 128, FRAMES), pitch
    )


# ----------------------------------------------------------------------------------------------- pitch


@pytest.mark.parametrize("hertz", [80.0, 151.0, 300.0, 440.0])
def test_the_pitch_of_harmonics_is_found_between_bins(hertz, grid):
    time = torch.arange(RATE) / RATE
    wave = sum((2 * torch.pi * k * hertz * time + k).cos() / k for k in range(1, 9))
    wave = 0.1 * wave[None, None] + 1e-3 * torch.randn(1, 1, RATE)
    place, periodicity = track_pitch(wave, RATE, HOP, grid)
    found = 50.0 * 11.0 ** (place[0, 10:-10] / 127)
    assert place.shape == periodicity.shape == (1, FRAMES)
    np.testing.assert_allclose(found, hertz, rtol=0.01)
    assert (periodicity[0, 10:-10] > 0.95).all()


def test_noise_is_hardly_periodic_and_silence_is_not(grid):
    torch.manual_seed(0)
    place, periodicity = track_pitch(
        torch.stack([0.1 * torch.randn(1, RATE), torch.zeros(1, RATE)]), RATE, HOP, grid
    )
    assert place.isfinite().all() and ((place >= 0) & (place <= 127)).all()
    assert periodicity[0].mean() < 0.6 and (periodicity[1] == 0).all()


def test_pitch_loss_is_least_for_the_target_and_ignores_what_is_not_periodic():
    place = torch.tensor([[10.3, 40.0]])
    target = -0.5 * (torch.arange(64)[None, :, None] - place[:, None]).square()
    best = pitch_loss(target, place, torch.tensor([[1.0, 1.0]]))
    assert best < pitch_loss(0.5 * target, place, torch.tensor([[1.0, 1.0]]))
    wrong = torch.stack([target[..., 0], target[..., 0]], dim=-1)
    assert pitch_loss(wrong, place, torch.tensor([[1.0, 0.0]])) == pytest.approx(
        float(best), rel=1e-3
    )
    masked = pitch_loss(wrong, place, torch.tensor([[1.0, 1.0]]), torch.tensor([[True, False]]))
    assert masked == pytest.approx(float(best), rel=1e-3)


# ----------------------------------------------------------------------------------------------- source and filter


def test_flat_filters_let_the_noise_through_from_where_it_is_told(source):
    made = source(controls(-30.0, 0.0))[0, 0]
    torch.testing.assert_close(
        made[HOP:-HOP], source.noise[HOP : FRAMES * HOP - HOP], atol=1e-4, rtol=0
    )
    later = source(controls(-30.0, 0.0), SourceState(position=500))[0, 0]
    torch.testing.assert_close(
        later[HOP:-HOP], source.noise[500 + HOP : 500 + FRAMES * HOP - HOP], atol=1e-4, rtol=0
    )


def test_pulses_have_unit_power_and_all_harmonics_alike(source):
    made = source(controls(0.0, -30.0, hertz=160.0))[0, 0, 2000:-2000][:10000]
    assert made.square().mean() == pytest.approx(1.0, abs=0.02)
    spectrum = torch.fft.rfft(made).abs() / 5000  # 10,000 samples hold 100 periods
    lines = spectrum[100::100][:-1]
    np.testing.assert_allclose(lines, float(lines[0]), rtol=0.02)
    assert spectrum.square().sum() == pytest.approx(
        float(spectrum[100::100].square().sum()), rel=0.01
    )


def test_a_filter_of_one_pole_has_its_phase_from_its_magnitudes_alone(source):
    pole = torch.exp(-1j * torch.linspace(0, torch.pi, 2 * HOP + 1))
    told = controls(-30.0, 0.0)
    told.noise[:] = -(1 - 0.9 * pole).abs().log()[:, None]
    made = source(told)[0, 0].numpy()
    wanted = scipy.signal.lfilter([1.0], [1.0, -0.9], source.noise[: FRAMES * HOP].numpy())
    np.testing.assert_allclose(made[1000:-1000], wanted[1000:-1000], atol=0.02 * wanted.std())


def test_a_gliding_pitch_has_as_many_cycles_as_its_integral(source):
    pitch = torch.linspace(100, 200, FRAMES)[None].log()
    cycles, steps = source.cycles(pitch, SourceState())
    assert cycles.shape == (1, FRAMES * HOP + 1)
    assert float(cycles[0, -1]) == pytest.approx(150.0, abs=0.5)
    later, _ = source.cycles(pitch, SourceState(origin=500, phase=0.25))
    torch.testing.assert_close(later, cycles - cycles[:, 500:501] + 0.25)


def test_gradients_reach_filters_and_phase_and_not_the_pitch(source):
    told = controls(0.0, 0.0)
    for tensor in (told.harmonic, told.noise, told.phase):
        tensor.requires_grad_()
    source(told).square().sum().backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (told.harmonic, told.noise))
    assert told.phase.grad is not None and told.pitch.grad is None


# ----------------------------------------------------------------------------------------------- in the VAE


def test_a_batch_and_chunks_equal_one_shot_alone(vae):
    torch.manual_seed(0)
    waveform = 0.1 * torch.randn(2, 1, 400 * 90 + 5)
    both = vae.encode(waveform, torch.tensor([400 * 90 + 5, 20_001]))
    alone = vae.encode(waveform[1:, :, :20_001])
    torch.testing.assert_close(
        both.mean[1:, :, : alone.mean.shape[-1]], alone.mean, atol=1e-5, rtol=1e-5
    )
    whole = vae.encode(waveform)
    decoded = vae.decode(whole.mean)
    for frames in (1, 13, 89):
        chunks = streaming.encode(vae, waveform, chunk_seconds=frames / 40)
        torch.testing.assert_close(chunks.mean, whole.mean, atol=1e-5, rtol=1e-5)
        # The phase adds up the rounding of every pitch before it, and the highest harmonic has 80 times of that.
        made = streaming.decode(vae, whole.mean, chunk_seconds=frames / 40)
        torch.testing.assert_close(made, decoded, atol=5e-3 * float(decoded.std()), rtol=0)


def test_the_decoder_sees_no_further_than_it_says(vae):
    reach, decoder = decoder_reach(vae.decoder), vae.decoder
    latents = torch.randn(1, 8, 2 * max(reach) + 5, requires_grad=True)
    frame = max(reach) + 2
    output = decoder(latents)[..., frame * 400 : (frame + 1) * 400]
    output.mul(torch.randn_like(output)).sum().backward()
    seen = latents.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0]
    # One frame of the source more to either side is for the pitch, which has no gradient.
    assert (
        frame - reach[0] <= seen.min() <= frame - reach[0] + 1
        and frame + reach[1] - 1 <= seen.max() <= frame + reach[1]
    )


def test_on_the_meta_device_everything_is_where_it_was_also_after_transformers_loaded_a_model(
    vae, monkeypatch
):
    def places() -> dict[str, str]:
        with torch.device("meta"):
            network = SpeechVAE(vae.cfg)
        tensors = (*network.named_parameters(), *network.named_buffers())
        return {name: tensor.device.type for name, tensor in tensors}

    before, linspace = places(), torch.linspace
    assert list(before.values()).count("meta") > 10
    # As transformers leaves it: `with torch.device(…)` looks up its functions once, and that was while linspace was another.
    _device_constructors.cache_clear()
    with monkeypatch.context() as patch, torch.device("meta"):
        patch.setattr(torch, "linspace", lambda *args, **kwargs: linspace(*args, **kwargs))
        assert torch.empty(0).is_meta
    try:
        assert places() == before
    finally:
        _device_constructors.cache_clear()


def test_the_linear_path_starts_both_filters_at_about_the_loudness_of_the_data(vae, tone_shards):
    index = read_index(tone_shards)
    start_linear_path(
        vae, index, World(rank=0, world_size=1, device=torch.device("cpu")), Console(quiet=True)
    )
    from svae.data.batches import read_waveform

    waveform = read_waveform(index, index.train[0])[None]
    made = vae.decode(vae.encode(waveform).mean)
    assert 0.3 < float(made.std() / waveform.std()) < 3.0


def test_killed_and_resumed_equals_uninterrupted_while_discriminators_hear_a_part(
    tone_shards, tmp_path
):
    discriminator = VAE["discriminator"] | {"window_seconds": 0.1}
    config = vae_config(tone_shards, vae=TREE, discriminator=discriminator)
    whole = train_vae(TrainOptions(config, tmp_path / "whole", device="cpu"))
    resumed = killed_copy(whole, 2, tmp_path / "resumed")
    train_vae(TrainOptions(config, resumed, device="cpu"))
    a, b = (
        open_checkpoint(whole, kind="vae").model_state(),
        open_checkpoint(resumed, kind="vae").model_state(),
    )
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hop": 50}, "differs from the encoder's"),
        ({"hop": 25, "rate": 16}, "source_filter.hop: must be an even number"),
        ({"rate": 1, "hop": 400}, "source_filter.rate: must be an even number"),
        ({"kernel_size": 4}, "kernel_size: must be odd"),
        ({"pitch_range": [300, 100]}, "pitch_range: must rise"),
        ({"pitch_bins": 4}, "pitch_bins: must be at least 8"),
    ],
)
def test_wrong_structures_are_refused(change, message):
    cfg = recipe.from_tree(VAEConfig, TREE)
    wrong = dataclasses.replace(cfg, source_filter=dataclasses.replace(cfg.source_filter, **change))
    assert any(message in problem for problem in recipe._vae_problems(wrong))


def test_discriminators_of_log_magnitudes_hear_level_and_not_phase():
    from svae.config import DiscriminatorConfig
    from svae.models.vae.discriminators import SpectralDiscriminator

    torch.manual_seed(0)
    cfg = DiscriminatorConfig(fft_sizes=(256,), spectral_channels=4, spectral_input="log-magnitude")
    judge, wave = SpectralDiscriminator(cfg, 256), 0.1 * torch.randn(2, 1, 4000)
    assert judge.spectrogram(wave).shape == (2, 1, 63, 129)
    for a, b in zip(judge(wave), judge(-wave), strict=True):
        torch.testing.assert_close(a, b)
    quieter = judge.spectrogram(0.1 * wave) - judge.spectrogram(wave)
    assert float(quieter.median()) == pytest.approx(0.5 * np.log(0.1), abs=0.02)
    judge(torch.zeros(1, 1, 4000, requires_grad=True))[-1].sum().backward()
