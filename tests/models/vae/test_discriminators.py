"""The discriminators: published size, preprocessing, the spectrogram's frames, the bands."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from svae.config import DiscriminatorConfig
from svae.models.vae.discriminators import (
    Discriminators,
    PeriodDiscriminator,
    SpectralDiscriminator,
)

SMALL = DiscriminatorConfig(
    periods=(2, 3), period_channels=(4, 8, 8), fft_sizes=(256, 128), spectral_channels=2
)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_published_sizes():
    with torch.device("meta"):
        discriminators = Discriminators(DiscriminatorConfig(), 16000)
    assert [parameters(d) for d in discriminators.period] == [8_221_154] * 5
    assert [parameters(d) for d in discriminators.spectral] == [471_330] * 3
    assert parameters(discriminators) == 42_519_760


def test_feature_matching_sees_100_maps_at_the_published_structure():
    cfg = DiscriminatorConfig(period_channels=(2, 2, 2, 2, 2), spectral_channels=2)
    maps = Discriminators(cfg, 16000)(torch.randn(1, 1, 4000))
    assert len(maps) == 8
    assert sum(len(m) - 1 for m in maps) == 100
    assert all(m[-1].shape[1] == 1 for m in maps)


def test_offset_and_level_of_the_waveform_do_not_matter():
    torch.manual_seed(0)
    discriminators, x = Discriminators(SMALL, 16000), 0.3 * torch.randn(2, 1, 1000)
    for a, b in zip(discriminators(x), discriminators(0.01 * x + 0.2), strict=True):
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)
    seen = []
    discriminators.period[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    discriminators(x)
    torch.testing.assert_close(seen[0].abs().amax(dim=-1), torch.full((2, 1), 0.8))


def test_silence_gives_finite_verdicts():
    assert all(
        m.isfinite().all()
        for maps in Discriminators(SMALL, 16000)(torch.zeros(1, 1, 800))
        for m in maps
    )


@pytest.mark.parametrize(("samples", "rows"), [(899, 300), (900, 301), (901, 301)])
def test_period_adds_a_full_period_where_the_length_already_fits(samples, rows):
    discriminator, seen = PeriodDiscriminator(SMALL, 3), []
    discriminator.convs[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(2, 1, samples)
    discriminator(x)
    assert seen[0].shape == (2, 1, rows, 3)
    flat = seen[0].flatten(2)
    assert torch.equal(flat[..., :samples], x)
    assert torch.equal(
        flat[..., samples], x[..., samples - 2]
    )  # reflection does not repeat the edge


@pytest.mark.parametrize("samples", [1000, 1024, 1100])
def test_spectrogram_has_as_many_frames_as_hops_and_frame_k_starts_at_hop_k(samples):
    discriminator, x = SpectralDiscriminator(SMALL, 256), torch.randn(2, 1, samples)
    spectrum = discriminator.spectrogram(x)
    assert spectrum.shape == (2, 2, -(-samples // 64), 129)
    # Frame k is the plain windowed FFT of the samples from hop * k - (window - hop) / 2.
    for k in (3, 9):
        segment = x[:, 0, 64 * k - 96 : 64 * k + 160] * torch.hann_window(256)
        expected = torch.view_as_real(torch.fft.rfft(segment)).permute(0, 2, 1)
        torch.testing.assert_close(spectrum[:, :, k], expected, atol=1e-4, rtol=1e-4)


def test_bands_cut_the_spectrum_without_gap_or_overlap_as_published():
    bands = {
        size: SpectralDiscriminator(DiscriminatorConfig(), size).bands for size in (2048, 1024, 512)
    }
    assert bands[2048] == [(0, 102), (102, 256), (256, 512), (512, 768), (768, 1025)]
    assert bands[1024] == [(0, 51), (51, 128), (128, 256), (256, 384), (384, 513)]
    assert bands[512] == [(0, 25), (25, 64), (64, 128), (128, 192), (192, 257)]


def test_a_change_in_one_band_reaches_only_that_bands_maps():
    torch.manual_seed(0)
    discriminator = SpectralDiscriminator(SMALL, 256)
    spectrum = torch.randn(1, 2, 8, 129)
    changed = spectrum.clone()
    low, high = discriminator.bands[2]
    changed[..., low:high] += 1
    waveform = torch.zeros(1, 1, 500)
    discriminator.spectrogram = lambda _: spectrum
    before = discriminator(waveform)
    discriminator.spectrogram = lambda _: changed
    after = discriminator(waveform)
    differs = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert differs == [5 * 2 <= i < 5 * 3 or i == 25 for i in range(26)]


def test_spectrum_stays_float32_under_autocast():
    discriminator, x = SpectralDiscriminator(SMALL, 256), torch.randn(1, 1, 800)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrum = discriminator.spectrogram(x.bfloat16())
    assert spectrum.dtype == torch.float32
    assert torch.equal(spectrum, discriminator.spectrogram(x.bfloat16().float()))


def test_batch_equals_single():
    torch.manual_seed(0)
    discriminators, x = Discriminators(SMALL, 16000), torch.randn(2, 1, 700)
    both, first = discriminators(x), discriminators(x[:1])
    for a, b in zip(both, first, strict=True):
        torch.testing.assert_close(a[-1][:1], b[-1], atol=1e-5, rtol=1e-4)
    assert F.mse_loss(both[0][-1][0], both[0][-1][1]) > 0
