"""The velocity network: exactness against F5-TTS's own numbers, and independence of padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from svae.config import DiTConfig
from svae.errors import ConfigError
from svae.importing.f5_tts import dit_state_from_f5
from svae.models.tts.dit import DiT, rotary_angles, rotate
from svae.models.tts.text_tower import GlobalResponseNorm, spread_evenly

REFERENCE = DiTConfig(dim=128, depth=3, heads=2, text_dim=64, text_conv_layers=2)
SMALL = DiTConfig(
    dim=32, depth=2, heads=2, text_dim=16, text_conv_layers=2, conv_pos_groups=4, conv_pos_kernel=7
)
LATENT_DIM = 6
VOCABULARY = 11


def variant(**changes: object) -> DiTConfig:
    return DiTConfig(**{**SMALL.__dict__, **changes})


def random_dit(cfg: DiTConfig = SMALL) -> DiT:
    """Return a DiT in eval mode in which no tensor is trivially zero or one."""
    torch.manual_seed(0)
    model = DiT(cfg, VOCABULARY, LATENT_DIM).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.15)
    return model


def inputs(lengths: tuple[int, ...], texts: tuple[int, ...], seed: int = 1) -> dict[str, Tensor]:
    """Return a padded batch; the padding holds garbage that must not matter."""
    g = torch.Generator().manual_seed(seed)
    batch, frames = len(lengths), max(lengths)
    tokens = torch.randint(0, VOCABULARY, (batch, max(texts)), generator=g)
    for row, size in zip(tokens, texts, strict=True):
        row[size:] = -1
    return {
        "noisy": torch.randn(batch, LATENT_DIM, frames, generator=g),
        "condition": torch.randn(batch, LATENT_DIM, frames, generator=g),
        "t": torch.rand(batch, generator=g),
        "tokens": tokens,
        "lengths": torch.tensor(lengths),
    }


def alone(batch: dict[str, Tensor], i: int, text: int) -> dict[str, Tensor]:
    """Return utterance i of a batch by itself, unpadded."""
    size = int(batch["lengths"][i])
    single = {name: batch[name][i : i + 1, :, :size] for name in ("noisy", "condition")}
    return {**single, "t": batch["t"][i : i + 1], "tokens": batch["tokens"][i : i + 1, :text]}


# ------------------------------------------------------------------------------------------- reference


@pytest.fixture(scope="module")
def reference(shared: Path) -> tuple[DiT, dict[str, Tensor]]:
    folder = shared / "reference" / "f5_dit"
    model = DiT(REFERENCE, 78, 64).eval()
    model.load_state_dict(dit_state_from_f5(load_file(folder / "weights.safetensors"), REFERENCE))
    io = load_file(folder / "io.safetensors")
    return model, io


@torch.no_grad()
def test_velocity_of_a_batch_equals_f5(reference: tuple[DiT, dict[str, Tensor]]) -> None:
    # F5's response norm in the text tower also runs over the frames that pad an utterance to the batch's longest. That
    # is our text tower told that all utterances are that long; everything else sees the true lengths.
    model, io = reference
    x, condition, mask = io["x"].mT, io["cond"].mT, io["mask"]
    drop = torch.ones(2, dtype=torch.bool)
    for expected, dropped in (("velocity", None), ("velocity_uncond", drop)):
        text = model.encode_text(io["text"], x.shape[2], drop_text=dropped)
        found = model(
            x, condition, io["time"], lengths=io["lengths"], drop_audio=dropped, text_features=text
        )
        assert (found.mT - io[expected])[mask].abs().max() < 1e-5
        assert found.mT[~mask].abs().max() == 0


@torch.no_grad()
def test_velocity_of_one_utterance_equals_f5(reference: tuple[DiT, dict[str, Tensor]]) -> None:
    model, io = reference
    first = (io["x"][:1].mT, io["cond"][:1].mT, io["time"][:1], io["text"][:1])
    assert (model(*first).mT - io["velocity_single"]).abs().max() < 1e-5
    assert (model(*first, io["lengths"][:1]).mT - io["velocity_single"]).abs().max() < 1e-5


@torch.no_grad()
def test_own_batch_differs_from_f5_only_by_the_padding_in_its_response_norm(
    reference: tuple[DiT, dict[str, Tensor]],
) -> None:
    model, io = reference
    found = model(io["x"].mT, io["cond"].mT, io["time"], io["text"], io["lengths"]).mT
    assert (found - io["velocity"])[0].abs().max() < 1e-5  # the longest utterance has no padding
    assert (found - io["velocity"])[1, :61].abs().max() < 1e-2


# ------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize(
    "cfg",
    [SMALL, variant(average_upsampling=True), variant(qk_norm=True), variant(text_conv_layers=0),
     variant(text_length_leak=False), variant(shared_modulation=True)],
    ids=["default", "upsampling", "qk_norm", "no_text_blocks", "no_leak", "shared"],
)  # fmt: skip
@torch.no_grad()
def test_batch_equals_single(cfg: DiTConfig) -> None:
    model = random_dit(cfg)
    texts = (9, 5, 12)
    batch = inputs((31, 18, 9), texts)  # the last has more text than frames
    drop_audio, drop_text = torch.tensor([False, True, False]), torch.tensor([False, True, False])
    together = model(**batch, drop_audio=drop_audio, drop_text=drop_text)
    for i, text in enumerate(texts):
        drops = {"drop_audio": drop_audio[i : i + 1], "drop_text": drop_text[i : i + 1]}
        single = model(**alone(batch, i, text), **drops)
        size = single.shape[2]
        assert single.abs().max() > 0.01
        torch.testing.assert_close(together[i : i + 1, :, :size], single, atol=1e-5, rtol=0)
        assert together[i, :, size:].abs().sum() == 0


@torch.no_grad()
def test_padding_content_changes_nothing() -> None:
    model, batch = random_dit(), inputs((20, 13), (6, 4))
    before = model(**batch)
    for name in ("noisy", "condition"):
        batch[name][1, :, 13:] = 1e3
    assert torch.equal(model(**batch), before)


# ------------------------------------------------------------------------------------------- conditions


@torch.no_grad()
def test_dropped_audio_equals_a_zero_condition_and_only_for_that_utterance() -> None:
    model, batch = random_dit(), inputs((20, 20), (6, 6))
    drop = torch.tensor([True, False])
    found = model(**batch, drop_audio=drop)
    batch["condition"][0] = 0
    assert torch.equal(found, model(**batch))


@torch.no_grad()
@pytest.mark.parametrize("upsampling", [False, True])
@pytest.mark.parametrize("blocks", [0, 2])
def test_without_the_leak_the_unconditional_branch_does_not_depend_on_the_text(
    upsampling: bool, blocks: int
) -> None:
    cfg = variant(text_length_leak=False, average_upsampling=upsampling, text_conv_layers=blocks)
    model, batch = random_dit(cfg), inputs((20, 13), (6, 4))
    drop = torch.ones(2, dtype=torch.bool)
    before = model(**batch, drop_text=drop)
    batch["tokens"] = torch.tensor([[3], [-1]])
    assert torch.equal(model(**batch, drop_text=drop), before)


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{"text_length_leak": False}, {"text_conv_layers": 0}], ids=["no_leak", "no_blocks"]
)
def test_guidance_against_no_text_is_the_same_for_texts_of_all_lengths(
    options: dict[str, object],
) -> None:
    model, frames = random_dit(variant(**options)), 24
    g = torch.Generator().manual_seed(3)
    x, condition, t = torch.randn(2, 1, LATENT_DIM, frames, generator=g).unbind() + (
        torch.tensor([0.3]),
    )
    drop = torch.ones(1, dtype=torch.bool)
    found = [
        model(x, condition, t, torch.randint(0, VOCABULARY, (1, size), generator=g), drop_text=drop)
        for size in (1, 2, 7, 23, 24, 60)
    ]
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert not torch.equal(found[0], model(x, condition, t, torch.ones(1, 7, dtype=torch.int64)))


@torch.no_grad()
def test_without_text_blocks_the_text_is_embeddings_then_the_learned_filler() -> None:
    model = random_dit(variant(text_conv_layers=0))
    text = model.encode_text(torch.tensor([[4, 9, -1]]), 5)
    table = model.text_tower.embedding.weight
    assert torch.equal(text[0], table[[5, 10, 0, 0, 0]])


@torch.no_grad()
def test_with_the_leak_the_unconditional_branch_knows_the_text_length_and_nothing_else() -> None:
    model, batch = random_dit(), inputs((20, 13), (6, 4))
    drop = torch.ones(2, dtype=torch.bool)
    before = model(**batch, drop_text=drop)
    batch["tokens"] = torch.where(batch["tokens"] >= 0, (batch["tokens"] + 1) % VOCABULARY, -1)
    assert torch.equal(model(**batch, drop_text=drop), before)
    batch["tokens"][0, 5] = -1
    changed = model(**batch, drop_text=drop)
    assert not torch.equal(changed[0], before[0]) and torch.equal(changed[1], before[1])


@torch.no_grad()
def test_every_character_and_the_time_matter() -> None:
    model, batch = random_dit(), inputs((20,), (6,))
    before = model(**batch)
    for i in range(6):
        tokens = batch["tokens"].clone()
        tokens[0, i] = (tokens[0, i] + 1) % VOCABULARY
        assert not torch.allclose(model(**{**batch, "tokens": tokens}), before, atol=1e-4)
    assert not torch.allclose(model(**{**batch, "t": batch["t"] + 0.1}), before, atol=1e-4)


@torch.no_grad()
def test_text_features_computed_once_give_the_same_velocity() -> None:
    model, batch = random_dit(), inputs((20, 13), (6, 4))
    drop = torch.tensor([False, True])
    text = model.encode_text(batch["tokens"], 20, batch["lengths"], drop_text=drop)
    cached = {**batch, "tokens": None}
    assert torch.equal(model(**cached, text_features=text), model(**batch, drop_text=drop))


@torch.no_grad()
def test_bfloat16_autocast_stays_close_to_float32() -> None:
    model, batch = random_dit(variant(qk_norm=True)), inputs((20, 13), (6, 4))
    exact = model(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(**batch)
    assert 0 < (rounded.float() - exact).abs().max() < 0.03 * exact.abs().max()


# ------------------------------------------------------------------------------------------- parts


def test_fresh_network_predicts_zero_and_every_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    fresh, batch = DiT(SMALL, VOCABULARY, LATENT_DIM), inputs((20, 13), (6, 4))
    assert fresh(**batch).abs().max() == 0
    drop = torch.ones(2, dtype=torch.bool)
    for dropped in (None, drop):  # a batch with everything dropped must not leave DDP waiting
        model = random_dit(variant(text_length_leak=False))
        model(**batch, drop_audio=dropped, drop_text=dropped).square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_rotary_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(2, 8)
    angles = rotary_angles(12, 8, torch.device("cpu"))
    scores = rotate(q.expand(12, 8), angles) @ rotate(k.expand(12, 8), angles).T
    for offset in range(-5, 6):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert scores.std() > 0.01


def test_response_norm_starts_as_the_identity_and_matches_its_definition() -> None:
    x = torch.randn(1, 7, 5)
    norm = GlobalResponseNorm(5)
    assert torch.equal(norm(x, None), x)
    nn.init.constant_(norm.gamma, 2.0)
    nn.init.constant_(norm.beta, 0.5)
    energy = x.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(norm(x, None), 2 * x * energy / (energy.mean() + 1e-6) + 0.5 + x)


def test_upsampling_covers_all_frames_in_order_with_the_last_tokens_longest() -> None:
    x = torch.arange(1.0, 8.0)[None, :, None].expand(4, 7, 1)
    found = spread_evenly(x, torch.tensor([3, 7, 2, 0]), torch.tensor([7, 7, 5, 6]))[..., 0]
    assert found.tolist() == [
        [1, 1, 2, 2, 3, 3, 3],
        [1, 2, 3, 4, 5, 6, 7],
        [1, 1, 2, 2, 2, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    "changes", [{"heads": 3}, {"conv_pos_groups": 5}, {"conv_pos_kernel": 8}, {"text_dim": 15}]
)
def test_sizes_that_do_not_divide_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="dit"):
        DiT(variant(**changes), VOCABULARY, LATENT_DIM)


# --------------------------------------------------------------------------------------- modulation


@torch.no_grad()
def test_shared_modulation_is_that_of_blocks_that_agree_but_for_an_offset() -> None:
    shared = random_dit(variant(shared_modulation=True))
    weights = shared.state_dict()
    projection = {part: weights.pop(f"shared_modulation.{part}") for part in ("weight", "bias")}
    for i in range(SMALL.depth):
        offset = weights[f"blocks.{i}.modulation.weight"]
        weights[f"blocks.{i}.modulation.weight"] = projection["weight"]
        weights[f"blocks.{i}.modulation.bias"] = projection["bias"] + offset
    apart = random_dit()
    apart.load_state_dict(weights)
    batch = inputs((20, 13), (6, 4))
    torch.testing.assert_close(shared(**batch), apart(**batch), atol=1e-5, rtol=0)
