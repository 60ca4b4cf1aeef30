"""Flow matching: draws, losses, noise."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_flow import D, batch
from torch import Tensor, nn

from svae.config import FlowConfig
from svae.models.tts.dit import DiT
from svae.models.tts.flow import (
    FlowDraw,
    Row,
    draw_training,
    flow_error,
    infilling_span,
    keyed_noise,
    posterior_latents,
    validation_error,
)


class Oracle(nn.Module):
    """Stands in for the DiT; remembers what it was given and answers with a fixed velocity."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer
        self.calls: list[dict[str, Tensor]] = []

    def forward(self, noisy, condition, t, tokens=None, lengths=None, **options):  # noqa: ANN001, ANN003, ANN201
        self.calls.append({"noisy": noisy, "condition": condition, "t": t, **options})
        return self.answer


# ------------------------------------------------------------------------------------------- draws


def test_spans_are_one_run_inside_each_utterance_and_of_the_drawn_size() -> None:
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (500,), generator=g)
    ratio, position = 0.7 + 0.3 * torch.rand(500, generator=g), torch.rand(500, generator=g)
    span = infilling_span(lengths, ratio, position, 60)
    size = (ratio * lengths).long().clamp(min=1)
    assert torch.equal(span.sum(1), size)
    edges = (
        torch.diff(span.long(), dim=1, prepend=torch.zeros(500, 1, dtype=torch.long))
        .clamp(min=0)
        .sum(1)
    )
    assert bool((edges == 1).all())
    assert bool((~span | (torch.arange(60) < lengths[:, None])).all())


def test_text_can_be_dropped_alone_and_the_other_draws_stay() -> None:
    latents, lengths = torch.zeros(4000, 1, 5), torch.full((4000,), 5)
    torch.manual_seed(0)
    plain = draw_training(latents, lengths, FlowConfig())
    torch.manual_seed(0)
    found = draw_training(latents, lengths, FlowConfig(drop_text=0.25))
    for name in ("noise", "t", "span", "drop_audio"):
        assert torch.equal(getattr(plain, name), getattr(found, name))
    assert bool(
        (found.drop_text | ~plain.drop_text).all()
    )  # both are still dropped together where they were
    alone = (found.drop_text & ~found.drop_audio).float().mean()
    assert abs(float(alone) - 0.25 * 0.8 * 0.7) < 0.02


def test_what_is_drawn_for_a_row_does_not_depend_on_the_others_nor_on_padding() -> None:
    latents, lengths = torch.zeros(3, D, 9), torch.tensor([9, 5, 7])
    rows = [Row(11, 9), Row(12, 5), Row(13, 7)]
    cfg = FlowConfig(drop_text=0.5)
    together = draw_training(latents, lengths, cfg, rows)
    alone = draw_training(latents[1:2, :, :5], lengths[1:2], cfg, rows[1:2])
    assert torch.equal(alone.noise[0], together.noise[1, :, :5])
    assert torch.equal(alone.span[0], together.span[1, :5])
    for name in ("t", "drop_audio", "drop_text"):
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[1])
    assert len(set(together.t.tolist())) == 3
    assert not together.noise[1, :, 5:].any()


def test_drops_are_per_utterance_at_f5s_rates() -> None:
    torch.manual_seed(0)
    draw = draw_training(torch.zeros(20000, 1, 4), torch.full((20000,), 4), FlowConfig())
    both = (draw.drop_audio & draw.drop_text).float().mean()
    audio_only = (draw.drop_audio & ~draw.drop_text).float().mean()
    assert not bool((draw.drop_text & ~draw.drop_audio).any())
    assert abs(both - 0.20) < 0.01 and abs(audio_only - 0.24) < 0.01
    assert abs(draw.t.mean() - 0.5) < 0.01 and abs(draw.t.std() - math.sqrt(1 / 12)) < 0.01


def test_the_global_generator_decides_the_training_loss(model: DiT) -> None:
    latents, lengths, tokens = batch()
    losses = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draw = draw_training(latents, lengths, FlowConfig())
        losses.append(flow_error(model, latents, lengths, draw, tokens)[0].item())
    assert losses[0] == losses[1] != losses[2]


# ------------------------------------------------------------------------------------------- loss


def test_network_sees_the_straight_path_and_the_visible_part_only() -> None:
    latents, lengths, tokens = batch()
    draw = FlowDraw(
        torch.randn_like(latents), torch.tensor([0.0, 0.25, 1.0]), infilling_span(lengths, torch.tensor([0.8] * 3),
                                                                                 torch.tensor([0.5] * 3), 40)
    )  # fmt: skip
    oracle = Oracle(latents - draw.noise)
    total, count = flow_error(oracle, latents, lengths, draw, tokens)
    assert total == 0 and count == (32 + 20 + 8) * D
    seen = oracle.calls[0]
    torch.testing.assert_close(seen["noisy"][0], draw.noise[0])
    torch.testing.assert_close(seen["noisy"][1], 0.75 * draw.noise[1] + 0.25 * latents[1])
    torch.testing.assert_close(seen["noisy"][2], latents[2])
    hidden = draw.span[:, None].expand_as(latents)
    assert seen["condition"][hidden].abs().max() == 0
    assert torch.equal(seen["condition"][~hidden], latents[~hidden])


def test_loss_counts_hidden_frames_only_each_the_same() -> None:
    latents, lengths, tokens = batch()
    span = torch.zeros(3, 40, dtype=torch.bool)
    span[0, 5:15] = span[2, 3:4] = True
    draw = FlowDraw(torch.zeros_like(latents), torch.rand(3), span)
    wrong = latents + torch.where(
        span[:, None], 2.0, torch.nan
    )  # what is predicted elsewhere must not matter
    total, count = flow_error(Oracle(wrong), latents, lengths, draw, tokens)
    assert count == 11 * D
    torch.testing.assert_close(total / count, torch.tensor(4.0))


def test_weights_multiply_each_channels_error_and_leave_the_count() -> None:
    latents, lengths, tokens = batch()
    draw = FlowDraw(torch.zeros_like(latents), torch.rand(3), torch.ones(3, 40, dtype=torch.bool))
    wrong = Oracle(latents + torch.arange(D)[:, None])  # the error of channel d is d
    weights = torch.linspace(0.5, 1.5, D)[:, None]
    total, count = flow_error(wrong, latents, lengths, draw, tokens, weights=weights)
    expected = (weights[:, 0] * torch.arange(D).square()).sum() * 3 * 40
    assert count == 3 * 40 * D
    torch.testing.assert_close(total, expected)


def test_gradient_of_a_batch_is_that_of_its_halves_weighted_by_count(model: DiT) -> None:
    latents, lengths, tokens = batch((40, 25, 11, 30))
    torch.manual_seed(0)
    draw = draw_training(latents, lengths, FlowConfig())

    def part(rows: slice) -> tuple[Tensor, Tensor]:
        fields = (draw.noise, draw.t, draw.span, draw.drop_audio, draw.drop_text)
        return flow_error(
            model, latents[rows], lengths[rows], FlowDraw(*(f[rows] for f in fields)), tokens[rows]
        )

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    total, count = part(slice(0, 4))
    halves = [part(slice(0, 2)), part(slice(2, 4))]
    assert sum(c for _, c in halves) == count
    averaged = sum(gradient(s * 2 / count) for s, _ in halves) / 2  # what DDP does with two ranks
    torch.testing.assert_close(averaged, gradient(total / count), atol=1e-5, rtol=1e-4)


def test_validation_loss_is_deterministic_and_independent_of_batch_neighbours(model: DiT) -> None:
    latents, lengths, tokens = batch()
    keys, cfg = ["a", "b", "c"], FlowConfig()
    torch.manual_seed(1)
    sums, count = validation_error(model, latents, lengths, tokens, keys, cfg, times=(0.1, 0.9))
    torch.manual_seed(2)
    again, _ = validation_error(model, latents, lengths, tokens, keys, cfg, times=(0.1, 0.9))
    assert torch.equal(sums, again) and sums.shape == (2,) and sums.dtype == torch.float64
    singles = [
        validation_error(model, latents[i : i + 1, :, :n], lengths[i : i + 1], tokens[i : i + 1], [keys[i]], cfg,
                         times=(0.1, 0.9))
        for i, n in enumerate(lengths.tolist())
    ]  # fmt: skip
    assert sum(c for _, c in singles) == count
    torch.testing.assert_close(sum(s for s, _ in singles), sums, rtol=1e-5, atol=0)
    other, _ = validation_error(
        model, latents, lengths, tokens, ["a", "b", "d"], cfg, times=(0.1, 0.9)
    )
    assert not torch.allclose(other, sums)


# ------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("channels", [1, 3, 64])
def test_noise_of_a_longer_utterance_starts_with_that_of_a_shorter(channels: int) -> None:
    long = keyed_noise(0, "utterance", channels, 200)
    for frames in (1, 5, 16, 37, 199):
        assert torch.equal(keyed_noise(0, "utterance", channels, frames), long[:, :frames])


def test_noise_is_standard_normal_and_differs_by_seed_and_key() -> None:
    noise = keyed_noise(0, 0, 64, 500)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    for other in (keyed_noise(1, 0, 64, 500), keyed_noise(0, 1, 64, 500)):
        assert abs((noise * other).mean()) < 0.02


def test_posterior_samples_are_fixed_by_key_and_have_the_posteriors_moments() -> None:
    mean, logvar = torch.full((2, 8, 600), 3.0), torch.full((2, 8, 600), math.log(0.25))
    assert torch.equal(posterior_latents(mean, logvar, ["a", "b"], "mean"), mean)
    found = posterior_latents(mean, logvar, ["a", "b"], "sample")
    assert abs(found.mean() - 3) < 0.03 and abs(found.std() - 0.5) < 0.02
    shorter = posterior_latents(mean[1:, :, :77], logvar[1:, :, :77], ["b"], "sample")
    assert torch.equal(shorter[0], found[1, :, :77])
    assert not torch.equal(found[0], found[1])


def test_what_is_drawn_does_not_depend_on_how_the_latents_lie_in_memory():
    from svae.config import FlowConfig
    from svae.models.tts.flow import draw_training

    latents, lengths = torch.zeros(2, 5, 7), torch.tensor([7, 4])
    draws = []
    for each in (latents, latents.transpose(1, 2).contiguous().transpose(1, 2)):
        torch.manual_seed(0)
        draws.append(draw_training(each, lengths, FlowConfig()).noise)
    assert torch.equal(*draws)
