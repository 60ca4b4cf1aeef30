"""Samplers of flow matching: times, solvers, guidance, prompts."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_flow import D, batch
from torch import Tensor

from svae.models.tts.dit import DiT
from svae.models.tts.flow import keyed_noise
from svae.models.tts.sampler import sample_latents
from svae.models.tts.solver import EPSS_GRIDS, integrate, time_grid

# ------------------------------------------------------------------------------------------- solver


@pytest.mark.parametrize("steps", [1, 2, 5, 7, 16, 23, 32])
@pytest.mark.parametrize("epss", [False, True])
@pytest.mark.parametrize("sway", [-1.0, 0.0])
def test_time_grids_rise_from_0_to_1(steps: int, epss: bool, sway: float) -> None:
    times = time_grid(steps, sway=sway, epss=epss)
    assert len(times) == steps + 1 and times[0] == 0.0 and times[-1] == 1.0
    assert all(a < b for a, b in zip(times[:-1], times[1:], strict=True))


def test_time_grids_have_f5s_values() -> None:
    assert time_grid(4, sway=0.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    for steps, grid in EPSS_GRIDS.items():
        assert len(grid) == steps + 1
        assert time_grid(steps, sway=0.0) == [g / 32 for g in grid]
    assert time_grid(7) == pytest.approx(
        [0, 0.0048, 0.0192, 0.0431, 0.0761, 0.2929, 0.6173, 1], abs=5e-5
    )
    assert time_grid(7, epss=False) == pytest.approx(
        [1 - math.cos(math.pi * i / 14) for i in range(8)]
    )
    with pytest.raises(ValueError, match="num_steps"):
        time_grid(0)


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_constant_field_is_exact_in_one_step(solver: str) -> None:
    start, field = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(
        integrate(lambda x, t: field, start, time_grid(1), solver), start + field
    )


def test_midpoint_is_exact_for_a_linear_field_and_of_second_order() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    times = time_grid(3, sway=-1.0)
    assert integrate(
        lambda x, t: torch.full_like(x, 2 * t), zero, times, "midpoint"
    ).item() == pytest.approx(1.0)
    start = torch.ones(1, dtype=torch.float64)
    for solver, order in (("euler", 1), ("midpoint", 2)):
        errors = [abs(integrate(lambda x, t: x, start, time_grid(n, sway=0.0, epss=False), solver).item() - math.e)
                  for n in (40, 80)]  # fmt: skip
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


# ------------------------------------------------------------------------------------------- sampling


def sample(model: DiT, rows: slice | list[int], **options: object) -> Tensor:
    latents, lengths, tokens = batch()
    prompt_lengths = torch.tensor([9, 12, 4])
    prompt = latents[..., :12]
    return sample_latents(
        model,
        prompt[rows],
        prompt_lengths[rows],
        tokens[rows],
        lengths[rows],
        **{"num_steps": 3, **options},
    )


def test_samples_keep_the_prompt_and_are_finite_and_zero_beyond_their_length(model: DiT) -> None:
    latents, lengths, _ = batch()
    found = sample(model, slice(0, 3))
    assert found.shape == (3, D, 40) and bool(found.isfinite().all())
    for i, (kept, size) in enumerate(zip((9, 12, 4), lengths.tolist(), strict=True)):
        assert torch.equal(found[i, :, :kept], latents[i, :, :kept])
        assert found[i, :, size:].abs().sum() == 0
        assert found[i, :, kept:size].std() > 0.1


@pytest.mark.parametrize("solver", ["euler", "midpoint"])
def test_a_sample_does_not_depend_on_batch_neighbours_or_their_order(
    model: DiT, solver: str
) -> None:
    together = sample(model, slice(0, 3), keys=["a", "b", "c"], solver=solver)
    shuffled = sample(model, [2, 0, 1], keys=["c", "a", "b"], solver=solver)
    torch.testing.assert_close(shuffled, together[[2, 0, 1]], atol=1e-5, rtol=0)
    for i, (key, size) in enumerate(zip("abc", (40, 25, 11), strict=True)):
        single = sample(model, slice(i, i + 1), keys=[key], solver=solver)
        torch.testing.assert_close(together[i : i + 1, :, :size], single, atol=1e-5, rtol=0)


def test_what_lies_behind_a_prompt_in_its_batch_is_not_used(model: DiT) -> None:
    latents, lengths, tokens = batch()
    prompt, prompt_lengths = latents[..., :12].clone(), torch.tensor([9, 12, 4])
    before = sample_latents(model, prompt, prompt_lengths, tokens, lengths, num_steps=2)
    prompt[0, :, 9:] = prompt[2, :, 4:] = 1e3
    assert torch.equal(
        sample_latents(model, prompt, prompt_lengths, tokens, lengths, num_steps=2), before
    )


def test_the_seed_decides_the_sample(model: DiT) -> None:
    rows = slice(0, 3)
    assert torch.equal(sample(model, rows, seed=1), sample(model, rows, seed=1))
    assert not torch.allclose(sample(model, rows, seed=1), sample(model, rows, seed=2))


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 1.5])
def test_temperature_is_the_deviation_of_the_noise_that_speech_begins_as(
    model: DiT, temperature: float
) -> None:
    begun: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda module, args: begun.append(args[0]))
    sample(model, slice(0, 1), num_steps=2, guidance_scale=0.0, temperature=temperature)
    handle.remove()
    torch.testing.assert_close(begun[0], temperature * keyed_noise(0, 0, D, 40)[None])


def test_guidance_extrapolates_from_the_unconditional_velocity(model: DiT) -> None:
    # With one Euler step, x1 = x0 + v, so the samples give the velocities away.
    none, one, two = (
        sample(model, slice(0, 1), num_steps=1, guidance_scale=g) for g in (0.0, 1.0, 2.0)
    )
    torch.testing.assert_close(two - one, one - none, atol=1e-4, rtol=0)
    _, lengths, tokens = batch()
    noise = keyed_noise(0, 0, D, 40)[None]
    drop = torch.ones(1, dtype=torch.bool)
    with torch.no_grad():
        unconditional = model(
            noise, noise, torch.zeros(1), tokens[:1], lengths[:1], drop_audio=drop, drop_text=drop
        )
    torch.testing.assert_close(
        (2 * none - one - noise)[..., 9:], unconditional[..., 9:], atol=1e-4, rtol=0
    )


def test_the_prompt_may_have_a_guidance_of_its_own(model: DiT) -> None:
    _, lengths, tokens = batch()
    noise = keyed_noise(0, 0, D, 40)[None]
    drop = torch.ones(1, dtype=torch.bool)

    def velocity(g: float, h: float | None) -> Tensor:
        return (
            sample(model, slice(0, 1), num_steps=1, guidance_scale=g, prompt_guidance=h) - noise
        )[..., 9:]

    with torch.no_grad():
        text, none = (
            model(
                noise,
                noise,
                torch.zeros(1),
                tokens[:1],
                lengths[:1],
                drop_audio=drop,
                drop_text=drop_text,
            )[..., 9:]
            for drop_text in (~drop, drop)
        )
    both = velocity(0.0, None)
    assert not torch.allclose(text, both, atol=1e-3) and not torch.allclose(text, none, atol=1e-3)
    for g, h in ((2.0, 0.5), (1.5, 0.0), (0.0, -1.0), (2.0, -1.0), (0.0, 1.0)):
        expected = both + g * (text - none) + h * (both - text)
        torch.testing.assert_close(velocity(g, h), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(velocity(2.0, 2.0), velocity(2.0, None), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("guidance", "prompt_guidance", "solver", "rows"),
    [
        (0.0, None, "euler", 1),
        (2.0, None, "euler", 2),
        (0.0, None, "midpoint", 1),
        (2.0, 0.5, "euler", 3),
        (2.0, -1.0, "euler", 2),
    ],
)
def test_network_passes_per_step_and_one_run_of_the_text_tower(
    model: DiT, guidance: float, prompt_guidance: float | None, solver: str, rows: int
) -> None:
    passes, towers = [], []
    handles = [
        model.blocks[0].register_forward_hook(lambda m, args, out: passes.append(out.shape[0])),
        model.text_tower.register_forward_hook(lambda m, args, out: towers.append(1)),
    ]
    settings = {"guidance_scale": guidance, "prompt_guidance": prompt_guidance}
    sample(model, slice(0, 1), **settings, num_steps=5, solver=solver)
    for handle in handles:
        handle.remove()
    assert passes == [rows] * (5 if solver == "euler" else 10)
    assert len(towers) == (1 if guidance == 0 else 2)
