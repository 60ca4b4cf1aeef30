"""The longest batch tried before step 0, and the estimate of memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import TTS, assert_equal_runs, killed_copy, tts_config

from svae.checkpoint import open_checkpoint
from svae.config import DiTConfig
from svae.data.index import read_index
from svae.errors import ConfigError
from svae.models.tts.dit import DiT
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.memory import estimate_bytes, longest_batch
from svae.training.tts.train import train_tts

LIMITS = {"batch_frames": 100, "hop_length": 400, "min_seconds": 0.3, "max_seconds": 30.0}


def config_for(tone_shards: Path, toy_tts: Path, when: str, **trainer: object):  # noqa: ANN201
    vae = open_checkpoint(toy_tts, kind="tts").folder / "vae"
    return tts_config(
        tone_shards, vae, trainer=TTS["trainer"] | {"try_longest_batch": when} | trainer
    )


def test_trying_the_longest_batch_changes_no_bit_of_a_run_or_a_resumed_one(
    tone_shards: Path, toy_tts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runs = {}
    for when in ("never", "always"):
        out = tmp_path / when
        runs[when] = train_tts(
            TrainOptions(config_for(tone_shards, toy_tts, when), out, device="cpu")
        )
        assert ("Longest batch fits: 3 utterances of 12800" in capsys.readouterr().out) == (
            when == "always"
        )
    assert_equal_runs(runs["never"], runs["always"], "tts")
    resumed = killed_copy(runs["never"], 2, tmp_path / "resumed")
    train_tts(TrainOptions(config_for(tone_shards, toy_tts, "always"), resumed, device="cpu"))
    assert_equal_runs(runs["never"], resumed, "tts")


def test_on_the_cpu_it_is_tried_only_if_asked_for(
    tone_shards: Path, toy_tts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = config_for(tone_shards, toy_tts, "cuda", steps=1)
    train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert "Longest batch" not in capsys.readouterr().out


def test_too_little_memory_is_an_error_before_step_0_that_says_what_to_lower(
    tone_shards: Path, toy_tts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore lines")

    monkeypatch.setattr(DiT, "forward", exhausted)
    with pytest.raises(
        ConfigError, match=r"(?s)3 utterances.*20.00 GiB\.\nLower batch_frames.*max_seconds.*bf16"
    ):
        train_tts(
            TrainOptions(config_for(tone_shards, toy_tts, "always"), tmp_path / "run", device="cpu")
        )
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_no_batch_of_a_run_is_larger_than_the_one_tried(tone_shards: Path) -> None:
    from svae.config import LoaderConfig
    from svae.data.loaders import utterance_loader
    from svae.text.vocabulary import Vocabulary

    index = read_index(tone_shards)
    longest = longest_batch(index, **LIMITS, latent_dim=8)
    options = {
        "seed": 0,
        "start_step": 0,
        "rank": 0,
        "world_size": 1,
        "loader": LoaderConfig(num_workers=0),
    }
    vocabulary = Vocabulary.from_characters(index.metadata["characters"])
    stream = iter(utterance_loader(index, **LIMITS, vocabulary=vocabulary, **options))
    batches = [next(stream) for _ in range(30)]
    assert max(batch.waveform.shape[2] for batch in batches) == longest.waveform.shape[2]
    assert max(batch.tokens.shape[1] for batch in batches) <= longest.tokens.shape[1]
    frames = [-(-b.waveform.shape[2] // 400) * len(b.keys) for b in (*batches, longest)]
    assert max(frames) <= 100 and frames[-1] > 100 - 32


# ------------------------------------------------------------------------------------------- estimate


@pytest.mark.parametrize("ff_mult", [2, 4])
@pytest.mark.parametrize("layers", [0, 3])
def test_estimated_activations_are_what_autograd_keeps(ff_mult: int, layers: int) -> None:
    cfg = DiTConfig(
        dim=64, depth=3, heads=2, ff_mult=ff_mult, dropout=0.0, text_dim=32, text_conv_layers=layers
    )
    model, kept = DiT(cfg, 30, 16), {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (
                storage.nbytes(),
                tensor,
            )  # held, so that no address is used twice
        return tensor

    noise, tokens = torch.randn(2, 3, 16, 120), torch.randint(0, 30, (3, 40))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(*noise, torch.rand(3), tokens, torch.tensor([120, 100, 90])).square().sum()
    assert loss.requires_grad
    measured = sum(size for size, _ in kept.values())
    found = estimate_bytes(cfg, parameters=0, latent_dim=16, frames=360, bf16=False)["activations"]
    assert 0.85 < found / measured < 1.15


def test_a_dry_run_estimates_memory(
    tone_shards: Path, toy_tts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dry_run(TrainOptions(config_for(tone_shards, toy_tts, "cuda"), tmp_path / "run", device="cpu"))
    text = " ".join(capsys.readouterr().out.split())
    assert (
        "Memory per rank, estimated: 0.0 GiB (parameters 0.00, gradients 0.00, AdamW 0.00" in text
    )
    sizes = estimate_bytes(
        DiTConfig(), parameters=158_000_000, latent_dim=64, frames=16384, bf16=True
    )
    assert sizes["AdamW"] == 2 * sizes["parameters"] == 2 * sizes["EMA"] == 8 * 158_000_000
    assert 8 < sizes["activations"] / 2**30 < 16
