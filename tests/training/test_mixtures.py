"""Trainings on several folders of shards: shares shown, validation of each, resuming, curves of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TTS, VAE, assert_equal_runs, killed_copy, vae_of
from tone_shards import write_tone_shards

from svae import recipe
from svae.analysis.compare_runs import compare_runs
from svae.checkpoint import open_checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.errors import ConfigError, DataError, SvaeError
from svae.precompute.latents import EncodeOptions, encode_shards
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders whose utterances have the same keys."""
    folder = tmp_path_factory.mktemp("sources")
    return [
        write_tone_shards(folder / "tones"),
        write_tone_shards(folder / "more", shards=1, seconds=0.4),
    ]


def sources_of(folders: list[Path], *weights: float) -> dict[str, Any]:
    rows = zip(folders, weights, strict=True)
    return {"sources": [{"root": str(root), "weight": weight} for root, weight in rows]}


def vae_config(data: dict[str, Any], **changes: Any) -> VAETrainConfig:
    return recipe.build(VAETrainConfig, {"data": data} | VAE | changes, where="test")


def tts_config(data: dict[str, Any], vae: Path, **changes: Any) -> TTSTrainConfig:
    tree = {"data": data, "vae": str(vae)} | TTS | changes
    return recipe.build(TTSTrainConfig, tree, where="test")


@pytest.mark.parametrize("kind", ["vae", "tts"])
def test_a_mixture_is_trained_on_validated_by_source_and_resumed(
    kind: str,
    folders: list[Path],
    toy_tts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = sources_of(folders, 3, 1)
    config: Any = vae_config(data) if kind == "vae" else tts_config(data, vae_of(toy_tts))
    train: Any = train_vae if kind == "vae" else train_tts
    dry_run(TrainOptions(config, tmp_path / "run", device="cpu"))
    printed = capsys.readouterr().out
    assert "Source tones: 75.0% of what is read; 7 utterances to train on" in printed
    assert "Source more: 25.0% of what is read; 3 utterances to train on" in printed
    run = train(TrainOptions(config, tmp_path / "run", device="cpu"))
    resumed = killed_copy(run, 2, tmp_path / "resumed")
    train(TrainOptions(config, resumed, device="cpu"))
    assert_equal_runs(run, resumed, kind)

    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    name = {"vae": "loss/mel", "tts": "loss/flow"}[kind]
    validated = [row for row in rows if row["split"] == "validation"]
    assert validated
    for row in validated:
        whole = 0.75 * row[f"{name}/tones"] + 0.25 * row[f"{name}/more"]
        assert row[name] == pytest.approx(whole) and row[f"{name}/tones"] != row[f"{name}/more"]
    if kind == "tts":
        result = compare_runs([run, toy_tts], tmp_path / "compared")
        ours, other = result["runs"]
        assert len(ours["loss/flow/more"]["values"]) == len(validated)
        assert other["loss/flow/more"] is None
        assert "loss/flow/tones last" in (tmp_path / "compared" / "comparison.md").read_text()


def test_latents_of_one_vae_are_mixed_and_their_vae_is_found(
    folders: list[Path], toy_tts: Path, tmp_path: Path
) -> None:
    stored = [
        encode_shards(
            EncodeOptions(
                data=folder, vae=vae_of(toy_tts), out=tmp_path / folder.name, device="cpu"
            )
        )
        for folder in folders
    ]
    trainer = TTS["trainer"] | {"steps": 1, "log_every": 1}
    tree = TTS | {"data": sources_of(stored, 1, 1), "trainer": trainer}
    config = recipe.build(TTSTrainConfig, tree, where="test")
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert (
        open_checkpoint(run / "vae", kind="vae").hash
        == open_checkpoint(vae_of(toy_tts), kind="vae").hash
    )
    mixed = recipe.build(
        TTSTrainConfig, TTS | {"data": sources_of([stored[0], folders[1]], 1, 1)}, where="test"
    )
    with pytest.raises(ConfigError, match="more holds waveforms, but .* holds latents"):
        train_tts(TrainOptions(mixed, tmp_path / "other", device="cpu"))


def test_a_mixture_s_weights_may_change_and_its_folders_not(
    folders: list[Path], tmp_path: Path
) -> None:
    config = vae_config(sources_of(folders, 3, 1), trainer=VAE["trainer"] | {"steps": 2})
    run = train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    other = vae_config(sources_of(folders[::-1], 1, 3))
    with pytest.raises(SvaeError, match="was trained on other shards"):
        train_vae(TrainOptions(other, run, device="cpu"))
    changed = vae_config(sources_of(folders, 1, 1), trainer=VAE["trainer"] | {"steps": 3})
    train_vae(TrainOptions(changed, run, device="cpu"))
    [entry] = recipe.read_history(run / "recipe.yaml")
    assert [source["weight"] for source in entry["changes"]["data.sources"]["now"]] == [1, 1]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"root": "x", "sources": [{"root": "y"}]}, "data.root: 'x' beside data.sources"),
        ({}, "data.root: field required"),
        ({"root": "x", "temperature": 2}, "data.temperature: 2.0 without data.sources"),
        ({"sources": [{"root": "y", "weight": 1}, {"root": "z"}]}, r"data.sources.1.weight: missing"),
        ({"sources": [{"root": "y", "wieght": 1}]}, "data.sources.0.wieght: unknown key; did you mean `weight`"),
        ({"sources": [{"root": "y", "weight": 0}]}, "data.sources.0.weight: must be greater than 0, got 0"),
        ({"sources": [{"root": "y", "weight": -1}]}, "data.sources.0.weight: must be greater than 0, got -1"),
        ({"sources": [{"weight": 1}]}, "data.sources.0.root: field required"),
        ({"sources": [{"root": "y", "weight": float("inf")}]}, r"data.sources.0.weight: must be finite"),
        ({"sources": [{"root": "y"}], "temperature": 0}, "data.temperature: must be greater than 0"),
        ({"sources": {"root": "y"}}, "data.sources"),
        ({"root": "x", "slots": 0}, "data.slots: must be greater than 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cls", [VAETrainConfig, TTSTrainConfig])
def test_a_recipe_says_which_source_is_wrong(cls: Any, data: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        recipe.build(cls, {"data": data, "trainer": {"steps": 1}}, where="test")


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"data": {"sources": [{"root": "y"}, {"root": "z", "timings": "t"}]}, "tokens": "frame-phonemes"},
         "data.sources.0.timings: None with tokens: frame-phonemes; expected a folder of `svae align`"),
        ({"data": {"sources": [{"root": "y", "timings": "t"}], "timings": "u"}, "tokens": "frame-phonemes"},
         "data.timings: with data.sources every source has its own"),
        ({"data": {"sources": [{"root": "y", "timings": "t"}]}},
         "data.sources.0.timings: 't' with tokens: characters"),
        ({"data": {"root": "x", "timings": "t", "validation_root": "v"}, "tokens": "frame-phonemes"},
         "data.validation_timings: None with tokens: frame-phonemes; expected a folder"),
        ({"data": {"root": "x", "timings": "t", "validation_timings": "v"}, "tokens": "frame-phonemes"},
         "data.validation_timings: without data.validation_root"),
    ],
)  # fmt: skip
def test_times_of_phones_belong_to_a_source(tree: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        recipe.build(TTSTrainConfig, tree | {"trainer": {"steps": 1}}, where="test")


def test_stored_features_are_those_of_one_folder() -> None:
    tree = {
        "data": {"sources": [{"root": "y"}]},
        "trainer": {"steps": 1},
        "teacher": {"cache": "c"},
    }
    with pytest.raises(ConfigError, match=r"teacher\.cache: .* leave it null with data\.sources"):
        recipe.build(VAETrainConfig, tree, where="test")


def test_a_source_of_which_nothing_fits_is_named(
    folders: list[Path], toy_tts: Path, tmp_path: Path
) -> None:
    config = tts_config(sources_of(folders, 1, 1), vae_of(toy_tts), min_seconds=0.58)
    with pytest.raises(DataError, match="more: none of its 4 utterances can be used"):
        train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
