"""`loss.hidden_alignment`: what it pulls at, what it leaves alone, and whole runs with it."""

from __future__ import annotations

import pytest
import torch
from tiny_flow import D, batch, model  # noqa: F401  (a fixture)
from tiny_runs import TTS, assert_equal_runs, killed_copy, rows_of, tts_config

from svae import recipe
from svae.checkpoint import latest_checkpoint, open_checkpoint
from svae.config import FlowConfig, TeacherConfig, TTSTrainConfig
from svae.data.index import read_index
from svae.errors import ConfigError
from svae.models.tts.flow import Row
from svae.precompute.latents import EncodeOptions, encode_shards
from svae.precompute.teacher_features import cache_teacher
from svae.training.loop import TrainOptions
from svae.training.tts.hidden_alignment import (
    HIDDEN_ALIGNMENT,
    AlignedExample,
    AlignedNetwork,
    open_features,
)
from svae.training.tts.objective import FlowMatching
from svae.training.tts.train import train_tts

WIDTH = 12


def example(network: AlignedNetwork, weight: float) -> AlignedExample:
    latents, lengths, tokens = batch()
    plain = FlowMatching(FlowConfig(), None, 0).draw(
        latents, lengths, tokens, [Row(i, n) for i, n in enumerate(lengths.tolist())]
    )
    torch.manual_seed(1)
    features = torch.randn(len(latents), latents.shape[2], WIDTH)
    return AlignedExample(latents, lengths, tokens, plain.drawn, features=features, weight=weight)


def gradients(network: AlignedNetwork, weight: float) -> dict[str, torch.Tensor]:
    network.zero_grad(set_to_none=True)
    error, count = example(network, weight).error(network)
    (error / count).backward()
    return {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.fixture
def aligned(model):  # noqa: F811
    torch.manual_seed(2)
    return AlignedNetwork(model, 1, WIDTH)


def test_without_weight_the_network_learns_what_it_would_alone(aligned):
    latents, lengths, tokens = batch()
    drawn = example(aligned, 0.0).drawn
    from svae.training.tts.objective import FlowExample

    aligned.zero_grad(set_to_none=True)
    error, count = FlowExample(latents, lengths, tokens, drawn).error(aligned.model)
    (error / count).backward()
    alone = {f"model.{n}": p.grad.clone() for n, p in aligned.model.named_parameters()}
    beside = gradients(aligned, 0.0)
    assert all(torch.equal(beside[name], gradient) for name, gradient in alone.items())


def test_it_pulls_at_the_blocks_below_and_the_projector_alone(aligned):
    without, with_it = gradients(aligned, 0.0), gradients(aligned, 3.0)
    changed = {n for n in with_it if not torch.equal(with_it[n], without.get(n, torch.zeros(())))}
    assert any(name.startswith("model.blocks.0.") for name in changed)
    assert any(name.startswith("projector.") for name in changed)
    assert not any(name.startswith(("model.blocks.1.", "model.output")) for name in changed)


def test_the_distance_is_the_mean_cosine_of_hidden_frames(aligned):
    at = example(aligned, 1.0)
    error, count = at.error(aligned)
    alone, _ = example(aligned, 0.0).error(aligned)
    noisy = (1 - at.drawn.t[:, None, None]) * at.drawn.noise
    noisy = noisy + at.drawn.t[:, None, None] * at.latents
    condition = at.latents.masked_fill(at.drawn.span[:, None], 0.0)
    _, projected = aligned(
        noisy, condition, at.drawn.t, at.tokens, at.lengths,
        drop_audio=at.drawn.drop_audio, drop_text=at.drawn.drop_text,
    )  # fmt: skip
    unit = [x / x.norm(dim=2, keepdim=True) for x in (projected, at.features)]
    cosines = (unit[0] * unit[1]).sum(dim=2)[at.drawn.span]
    assert ((error - alone) / count).item() == pytest.approx(-cosines.mean().item(), abs=1e-5)
    assert float(at.besides[HIDDEN_ALIGNMENT] / count) == pytest.approx(
        -cosines.mean().item(), abs=1e-5
    )
    assert count == at.drawn.span.sum() * D


def test_frames_that_are_known_or_padded_do_not_count(aligned):
    torch.manual_seed(3)
    changed = example(aligned, 1.0)
    changed.features = torch.where(
        changed.drawn.span[..., None], changed.features, torch.randn_like(changed.features)
    )
    one, other = example(aligned, 1.0).error(aligned)[0], changed.error(aligned)[0]
    assert torch.equal(one, other)


@pytest.fixture(scope="module")
def prepared(tone_shards, toy_tts, tmp_path_factory):
    """Latents of the tones, and a teacher's features of them."""
    folder = tmp_path_factory.mktemp("aligned")
    teacher = TeacherConfig(model="embedded", layer=2)
    cache_teacher(tone_shards, folder / "features", teacher, workers=1, device="cpu")
    vae = toy_tts.parent / "vae"
    options = EncodeOptions(tone_shards, vae, folder / "latents", device="cpu", workers=1)
    return encode_shards(options), folder / "features", vae


def config(prepared, **changes) -> TTSTrainConfig:
    latents, features, vae = prepared
    teacher = {"model": "embedded", "layer": 2, "cache": str(features)}
    return tts_config(
        latents, vae, **({"teacher": teacher, "loss": {"hidden_alignment": 0.5}} | changes)
    )


def test_a_run_logs_it_speaks_without_it_and_resumes_exactly(prepared, tmp_path):
    whole = train_tts(TrainOptions(config(prepared), tmp_path / "whole", "auto", "cpu"))
    train = rows_of(whole, "train")
    assert all(-1 <= row["loss/hidden_alignment"] <= 1 for row in train)
    assert all(row["loss/flow"] > 0.5 for row in train)  # the alignment is not in it
    checkpoint = open_checkpoint(latest_checkpoint(whole), kind="tts")
    assert not [name for name in checkpoint.model_state() if "projector" in name]
    resumed = tmp_path / "resumed"
    killed_copy(whole, 2, resumed)
    train_tts(TrainOptions(config(prepared), resumed, "auto", "cpu"))
    assert_equal_runs(whole, resumed, "tts")


def test_the_trial_of_the_longest_batch_needs_no_features(prepared, tmp_path):
    trainer = TTS["trainer"] | {"steps": 1, "try_longest_batch": "always"}
    train_tts(TrainOptions(config(prepared, trainer=trainer), tmp_path / "run", "auto", "cpu"))


def test_features_of_others_are_refused(prepared, tmp_path):
    latents, features, vae = prepared
    index = read_index(latents)
    assert open_features(config(prepared), index) is not None
    assert open_features(config(prepared, loss={}, teacher={}), index) is None
    other = {"model": "embedded", "layer": 1, "cache": str(features)}
    with pytest.raises(ConfigError, match="layer 2 instead of 1"):
        open_features(config(prepared, teacher=other), index)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": {}}, "set teacher.cache"),
        ({"representation": "mel", "vae": None}, "is for latents"),
        ({"loss": {"hidden_alignment": 0.5, "hidden_layer": 2}}, "there are 1 blocks"),
        ({"loss": {"hidden_alignment": -1}}, "must not be negative"),
        ({"distill": {"teacher": "x"}}, "of a training of the whole network"),
    ],
)  # fmt: skip
def test_what_cannot_be_aligned_is_said(changes, said):
    tree = {"data": {"root": "x"}, "vae": "y"} | TTS | {"loss": {"hidden_alignment": 0.5}}
    tree |= {"teacher": {"cache": "z"}} | changes
    with pytest.raises(ConfigError, match=said):
        recipe.build(TTSTrainConfig, tree, where="test")
