"""Losses against independent formulas, and padding that never enters them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchaudio
from torch.distributions import Normal, kl_divergence

from svae.training.vae.losses import (
    MultiScaleMelLoss,
    alignment_loss,
    discriminator_loss,
    feature_matching_loss,
    generator_adversarial_loss,
    kl_loss,
)


@pytest.fixture
def posterior() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 4, 7), torch.randn(3, 4, 7)


def test_kl_equals_torch_distributions(posterior):
    mean, logvar = posterior
    expected = (
        kl_divergence(Normal(mean, torch.exp(0.5 * logvar)), Normal(0.0, 1.0)).sum(dim=1).mean()
    )
    torch.testing.assert_close(kl_loss(mean, logvar), expected)


def test_kl_averages_valid_frames_of_each_item_then_items(posterior):
    mean, logvar = posterior
    lengths = [7, 3, 5]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    expected = (
        sum(
            kl_loss(mean[i : i + 1, :, :n], logvar[i : i + 1, :, :n]) for i, n in enumerate(lengths)
        )
        / 3
    )
    garbage = torch.where(mask[:, None], logvar, torch.full_like(logvar, float("nan")))
    torch.testing.assert_close(kl_loss(mean, garbage, mask), expected)


def test_alignment_is_minus_one_for_scaled_copies_and_one_for_opposites(posterior):
    latents, _ = posterior
    torch.testing.assert_close(alignment_loss(latents, 3 * latents), torch.tensor(-1.0))
    torch.testing.assert_close(alignment_loss(latents, -0.1 * latents), torch.tensor(1.0))


def test_other_forms_of_alignment_are_mean_differences(posterior):
    latents = posterior[0]
    torch.testing.assert_close(alignment_loss(latents, latents + 0.5, form="l1"), torch.tensor(0.5))
    torch.testing.assert_close(
        alignment_loss(latents, latents - 0.5, form="mse"), torch.tensor(0.25)
    )
    mask = torch.ones(latents.shape[0], latents.shape[2], dtype=torch.bool)
    mask[:, 2:] = False
    broken = torch.where(mask[:, None], latents + 2.0, torch.nan)
    torch.testing.assert_close(alignment_loss(latents, broken, mask, "mse"), torch.tensor(4.0))


def test_alignment_averages_valid_frames_of_each_item_then_items(posterior):
    latents, projected = posterior
    lengths = [7, 3, 5]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    expected = sum(
        alignment_loss(latents[i : i + 1, :, :n], projected[i : i + 1, :, :n])
        for i, n in enumerate(lengths)
    )
    torch.testing.assert_close(alignment_loss(latents, projected, mask), expected / 3)


def test_padding_gets_no_gradient(posterior):
    mean, logvar = (x.clone().requires_grad_() for x in posterior)
    mask = torch.arange(7) < torch.tensor([7, 3, 5])[:, None]
    (kl_loss(mean, logvar, mask) + alignment_loss(mean, logvar, mask)).backward()
    assert (mean.grad.abs().sum(dim=1) > 0).equal(mask)
    assert (logvar.grad.abs().sum(dim=1) > 0).equal(mask)


def test_mel_equals_torchaudio():
    torch.manual_seed(0)
    a, b = 0.3 * torch.randn(2, 1, 4000), 0.3 * torch.randn(2, 1, 4000)
    expected = 0.0
    for window, bands in zip(
        (32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320), strict=True
    ):
        mel = torchaudio.transforms.MelSpectrogram(
            16000,
            window,
            hop_length=window // 4,
            n_mels=bands,
            power=1.0,
            norm="slaney",
            mel_scale="slaney",
        )
        log_a, log_b = (mel(x[:, 0]).clamp(min=1e-5).log10() for x in (a, b))
        expected = expected + F.l1_loss(log_a, log_b)
    torch.testing.assert_close(MultiScaleMelLoss(16000)(a, b), expected, atol=1e-4, rtol=1e-4)


def test_mel_is_zero_for_equal_signals_and_halving_costs_log10_two_a_scale():
    mel, x = MultiScaleMelLoss(16000), 0.5 * torch.randn(1, 1, 4000)
    assert mel(x, x) == 0
    torch.testing.assert_close(mel(x / 2, x), 7 * torch.log10(torch.tensor(2.0)), atol=1e-3, rtol=0)


def test_mel_is_computed_in_float32_under_autocast():
    mel, x, y = MultiScaleMelLoss(16000), torch.randn(1, 1, 3000), torch.randn(1, 1, 3000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mel(x, y)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, mel(x, y))


def test_mel_gradient_is_finite_on_silence():
    x = torch.zeros(1, 1, 3000, requires_grad=True)
    MultiScaleMelLoss(16000)(x, torch.zeros(1, 1, 3000)).backward()
    assert x.grad.isfinite().all()


def maps(*verdicts: float) -> list[list[torch.Tensor]]:
    return [
        [torch.full((2, 3), v + 1), torch.full((2, 5), v - 1), torch.full((2, 1, 4), v)]
        for v in verdicts
    ]


def test_least_squares_losses_sum_over_discriminators():
    real, fake = maps(1.0, 0.5), maps(0.0, 2.0)
    assert discriminator_loss(real, fake).item() == pytest.approx((0 + 0) + (0.25 + 4))
    assert generator_adversarial_loss(fake).item() == pytest.approx(1 + 1)


def test_feature_matching_sums_all_maps_but_the_verdict_and_spares_the_real_side():
    real, fake = maps(1.0, 0.5), maps(0.0, 2.0)
    for x in (t for m in (*real, *fake) for t in m):
        x.requires_grad_()
    loss = feature_matching_loss(real, fake)
    assert loss.item() == pytest.approx(2 * 1.0 + 2 * 1.5)
    loss.backward()
    assert all(t.grad is None for m in real for t in m)
    assert all((t.grad is not None) == (i < 2) for m in fake for i, t in enumerate(m))
