"""A step in several pieces, or with activations computed twice, is the step in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TTS, VAE, rows_of, tts_config, vae_config, vae_of
from tone_shards import write_tone_shards
from torch import Tensor

from svae.checkpoint import open_checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.batches import CropBatch, UtteranceBatch
from svae.errors import ConfigError
from svae.models.mel import MelFrames
from svae.models.mel_filters import mel_filters
from svae.runtime.distributed import World
from svae.text.vocabulary import Vocabulary
from svae.training.loop import TrainOptions
from svae.training.meter import StepResult
from svae.training.tts import train as tts
from svae.training.tts.train import train_tts
from svae.training.vae import train as vae
from svae.training.vae.crops import segment_samples
from svae.training.vae.step import train_step as vae_step

WORLD = World(0, 1, torch.device("cpu"))
DIT = TTS["dit"] | {"dropout": 0.0, "text_conv_layers": 0}
"""Dropout draws for what is computed together; and a norm of the text's convolutions is made for float32."""
SPEAKER = {"encoder_mel_hop": 100, "encoder_strides": [2, 2], "source_filter": {"channels": 8, "blocks": 1, "pitch_bins": 16}}  # fmt: skip


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sums in another order agree to rounding: that of float64 tells it from a mistake."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    mel_filters.cache_clear()
    yield
    mel_filters.cache_clear()
    torch.set_default_dtype(before)


def crops(config: VAETrainConfig, count: int) -> CropBatch:
    size = segment_samples(config)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([size, size - 900, size, size - 400, size][:count])
    time = torch.arange(size) / 16000
    waveform = 0.1 * torch.randn(count, 1, size, generator=generator)
    waveform += 0.3 * torch.sin(2 * torch.pi * 150 * time)
    waveform = waveform * (torch.arange(size) < lengths[:, None, None])
    keys = [str(i) for i in range(count)]
    return CropBatch(keys, waveform, lengths, torch.zeros(count), places=list(range(count)))


def utterances(count: int, channels: int) -> UtteranceBatch:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([30, 25, 28, 19, 22][:count])
    return UtteranceBatch(
        keys=[str(i) for i in range(count)],
        tokens=torch.randint(0, 4, (count, 7), generator=generator),
        token_lengths=torch.full((count,), 7),
        latent_mean=torch.randn(count, channels, 30, generator=generator),
        latent_logvar=torch.zeros(count, channels, 30),
        latent_lengths=lengths,
        places=list(range(count)),
    )


def cut(batch: Any, *sizes: int) -> list[Any]:
    """Cut a batch into pieces of so many rows each."""
    pieces, first = [], 0
    for size in sizes:
        rows = slice(first, first + size)
        piece = batch._map(lambda tensor, rows=rows: tensor[rows])
        pieces.append(replace(piece, keys=batch.keys[rows], places=batch.places[rows]))
        first += size
    return pieces


def vae_result(config: VAETrainConfig, *sizes: int) -> tuple[StepResult, dict[str, Tensor]]:
    state = vae.build_state(config, None, WORLD)
    state.step = 1
    result = vae_step(state, cut(crops(config, sum(sizes)), *sizes), config, WORLD)
    networks = {"model": state.model, "discriminator": state.discriminator}
    return result, state_of(networks)


def tts_result(config: TTSTrainConfig, *sizes: int) -> tuple[StepResult, dict[str, Tensor]]:
    state = tts.build_state(
        config, MelFrames(num_bins=8), Vocabulary.from_characters("abcd"), WORLD
    )
    for parameter in state.model.parameters():  # adaLN starts at zero, which hides most gradients
        torch.nn.init.normal_(parameter, std=0.05)
    result = tts.train_step(state, cut(utterances(sum(sizes), 8), *sizes), config, WORLD)
    return result, state_of({"model": state.model})


def state_of(networks: dict[str, torch.nn.Module]) -> dict[str, Tensor]:
    """Return weights after the step, and the gradients that it was made with."""
    found = {}
    for part, network in networks.items():
        for name, parameter in network.named_parameters():
            found[f"{part}.{name}"] = parameter.detach()
            if parameter.grad is not None:
                found[f"{part}.{name}.grad"] = parameter.grad
    return found


def assert_same(one: Any, other: Any, **tolerance: float) -> None:
    (first, weights), (second, others) = one, other
    assert first.keys == second.keys and first.audio_seconds == pytest.approx(second.audio_seconds)
    assert first.values.keys() == second.values.keys()
    names = [name for name, value in first.values.items() if isinstance(value, Tensor)]
    assert len(names) > 1 and weights.keys() == others.keys()
    for name in names:
        torch.testing.assert_close(first.values[name], second.values[name], **tolerance)
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], **tolerance, msg=name)


VAES: dict[str, dict[str, Any]] = {
    "published": {},
    "before the discriminators": {"loss": {"alignment": None, "adversarial_start_step": 5}},
    "judged in part": {"discriminator": VAE["discriminator"] | {"window_seconds": 0.1}},
    "pulses": {"vae": VAE["vae"] | SPEAKER},
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", VAES)
def test_a_vae_step_in_uneven_pieces_is_that_in_one(kind: str) -> None:
    config = vae_config("x", batch_size=5, **VAES[kind])
    whole = vae_result(config, 5)
    assert_same(whole, vae_result(config, 2, 2, 1), rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_a_tts_step_in_uneven_pieces_is_that_in_one() -> None:
    config = tts_config("x", "y", dit=DIT)
    whole = tts_result(config, 5)
    assert_same(whole, tts_result(config, 1, 3, 1), rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_a_piece_without_weight_counts_nothing() -> None:
    config = tts_config("x", "y", dit=DIT)
    batch = utterances(5, 8)
    found = []
    for pieces in (cut(batch, 4), cut(batch, 4, 1)):
        pieces[1:] = [replace(piece, weight=0.0) for piece in pieces[1:]]
        state = tts.build_state(
            config, MelFrames(num_bins=8), Vocabulary.from_characters("abcd"), WORLD
        )
        result = tts.train_step(state, pieces, config, WORLD)
        found.append((result, state_of({"model": state.model})))
    assert_same(*found, rtol=1e-9, atol=1e-12)


RECOMPUTED: list[tuple[Any, Callable[..., Any], tuple[int, ...]]] = [
    (vae_config("x", batch_size=3), vae_result, (3,)),
    (vae_config("x", batch_size=3, **VAES["pulses"]), vae_result, (2, 1)),
    (tts_config("x", "y", dit=TTS["dit"] | {"dropout": 0.5}), tts_result, (3,)),
    (tts_config("x", "y", dit=TTS["dit"] | {"dropout": 0.5}), tts_result, (2, 1)),
]


@pytest.mark.parametrize("case", range(len(RECOMPUTED)))
def test_activations_computed_twice_change_no_bit_of_a_step(case: int) -> None:
    config, result, sizes = RECOMPUTED[case]
    asked = replace(config, trainer=replace(config.trainer, checkpoint_activations=True))
    assert_same(result(config, *sizes), result(asked, *sizes), rtol=0, atol=0)


@pytest.mark.parametrize("case", [0, 2])
def test_they_are_not_kept(case: int) -> None:
    """The test above could not fail if nothing were computed twice."""
    config, result, sizes = RECOMPUTED[case]
    kept = []
    for asked in (False, True):
        trainer = replace(config.trainer, checkpoint_activations=asked)
        saved: list[int] = []

        def pack(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result(replace(config, trainer=trainer), *sizes)
        kept.append(sum(saved))
    assert kept[1] < 0.9 * kept[0]


# ------------------------------------------------------------------------------------------- runs


def test_runs_in_pieces_read_the_same_and_end_near_each_other(
    tone_shards: Path, tmp_path: Path
) -> None:
    ends = []
    for accumulate in (1, 2):
        trainer = VAE["trainer"] | {"steps": 2, "accumulate": accumulate}
        config = vae_config(tone_shards, trainer=trainer, loader={"num_workers": 0})
        run = train_vae(config, tmp_path / str(accumulate))
        ends.append(open_checkpoint(run, kind="vae").model_state())
        assert len(rows_of(run, "train")) == 1
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-3, atol=2e-4, msg=name)


def train_vae(config: VAETrainConfig, out: Path) -> Path:
    return vae.train_vae(TrainOptions(config, out, device="cpu"))


def test_one_process_computes_a_batch_of_several_lengths_part_by_part(
    toy_tts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = write_tone_shards(tmp_path / "data", shards=3)
    trainer = TTS["trainer"] | {"steps": 1}

    def config(accumulate: object) -> TTSTrainConfig:
        asked = trainer | {"accumulate": accumulate}
        one = tts_config(shards, vae_of(toy_tts), trainer=asked)
        return replace(one, data=replace(one.data, slots=2))

    with pytest.raises(ConfigError, match=r"1 process\(es\) with 1 piece.*accumulate=auto \(or 2"):
        train_tts(TrainOptions(config(1), tmp_path / "run", device="cpu"))
    train_tts(TrainOptions(config("auto"), tmp_path / "run", device="cpu"))
    assert "in 2 pieces" in " ".join(capsys.readouterr().out.split())


def test_more_pieces_than_crops_are_refused(tone_shards: Path, tmp_path: Path) -> None:
    trainer = VAE["trainer"] | {"accumulate": 3}
    with pytest.raises(
        ConfigError, match=r"batch_size 2.*1 of them with 3 pieces each.*at least 3"
    ):
        train_vae(vae_config(tone_shards, trainer=trainer), tmp_path / "run")
