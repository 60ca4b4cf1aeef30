"""Every command that takes shards takes them from a bucket, and does with them what it does with a folder's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_s3 import FakeS3
from ruamel.yaml import YAML
from tiny_runs import TTS, VAE, vae_of
from typer.testing import CliRunner, Result

from svae.checkpoint import open_checkpoint
from svae.cli import app
from svae.data.corpora import CORPORA
from svae.precompute.latents import EncodeOptions, encode_shards
from svae.precompute.phone_times import align_shards

TRAINER = {"steps": 1, "log_every": 1, "validate_every": 1, "checkpoint_every": 1}
Call = Callable[..., Result]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command in a folder of its own; it must end well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def _call(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    return _call


@pytest.fixture(scope="module")
def stored(tone_shards: Path, toy_tts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with latents/ and times/ of the tones."""
    folder = tmp_path_factory.mktemp("stored")
    options = EncodeOptions(
        tone_shards, vae_of(toy_tts), folder / "latents", workers=1, device="cpu"
    )
    encode_shards(options)
    align_shards(tone_shards, folder / "times", workers=1)
    return folder


def write_recipe(tree: dict[str, Any]) -> Path:
    path = Path("recipe.yaml")
    with path.open("w") as file:
        YAML().dump(tree | {"trainer": TRAINER}, file)
    return path


def weights(run: str) -> str:
    kind = "vae" if (Path(run) / "recipe.yaml").read_text().find("discriminator") > 0 else "tts"
    return open_checkpoint(Path(run), kind=kind).hash


def files(folder: str, *suffixes: str) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.suffix in suffixes
    }


def bucket(s3: FakeS3, prefix: str) -> dict[str, bytes]:
    return {
        name: s3.client.get_object(Bucket="bucket", Key=f"{prefix}/{name}")["Body"].read()
        for name in s3.keys(prefix)
    }


@pytest.mark.slow
def test_trainings_take_shards_times_and_features_from_a_bucket(
    s3: FakeS3, call: Call, tone_shards: Path, stored: Path, toy_tts: Path
) -> None:
    tones, latents = s3.put(tone_shards, "tones"), s3.put(stored / "latents", "latents")
    times = s3.put(stored / "times", "times")
    teacher = ("--teacher", "embedded", "--layer", "3", "--workers", 1, "--device", "cpu")
    call("cache-teacher", tones, "--out", "s3://bucket/features", *teacher)
    call("cache-teacher", tone_shards, "--out", "features", *teacher)
    assert bucket(s3, "features") == files("features", ".tar", ".jsonl", ".json")

    recipe = write_recipe(
        VAE | {"loss": {"alignment": 1.0}, "teacher": {"model": "embedded", "layer": 3}}
    )
    for out, data, features in (
        ("a", tone_shards, "features"),
        ("b", tones, "s3://bucket/features"),
    ):
        more = ("--set", f"teacher.cache={features}", "--set", f"data.validation_root={data}")
        call("train-vae", recipe, "--data", data, "--out", out, "--device", "cpu", *more[:2])
    assert weights("a") == weights("b")

    recipe = write_recipe(TTS | {"tokens": "frame-phonemes"})
    for out, data, where in (("c", stored / "latents", stored / "times"), ("d", latents, times)):
        call(
            "train-tts", recipe, "--data", data, "--out", out, "--device", "cpu",
            "--set", f"data.timings={where}", "--set", f"data.validation_root={data}",
            "--set", f"data.validation_timings={where}",
        )  # fmt: skip
    assert weights("c") == weights("d")
    recipe = write_recipe(TTS)
    for out, data in (("e", stored / "latents"), ("f", latents)):
        call("distill", toy_tts, recipe, "--data", data, "--out", out, "--device", "cpu")
    assert weights("e") == weights("f")
    call("compare", "d", "f")
    assert json.loads(next(Path("out").rglob("comparison.json")).read_text())["runs"]


def test_what_is_made_of_shards_is_made_of_and_into_a_bucket(
    s3: FakeS3, call: Call, tone_shards: Path, toy_tts: Path
) -> None:
    tones, vae = s3.put(tone_shards, "tones"), vae_of(toy_tts)
    here = ("--workers", 1, "--device", "cpu")
    for data, out in ((tone_shards, "latents"), (tones, "s3://bucket/latents")):
        call("encode", data, "--vae", vae, "--out", out, *here)
    assert bucket(s3, "latents") == files("latents", ".tar", ".jsonl", ".json", ".safetensors")
    for data, out in ((tone_shards, "times"), (tones, "s3://bucket/times")):
        call("align", data, "--out", out, "--workers", 1)
    assert bucket(s3, "times") == files("times", ".jsonl", ".json")
    for data, out in (("latents", "here"), ("s3://bucket/latents", "there")):
        call("decode", data, "--out", out, *here)
    assert files("here", ".wav") == files("there", ".wav") != {}
    for data, waves, out in (
        ("latents", tone_shards, "one"),
        ("s3://bucket/latents", tones, "two"),
    ):
        call("inspect", data, "--data", waves, "--out", out, "--device", "cpu")
    numbers = [json.loads(Path(out, "inspection.json").read_text()) for out in ("one", "two")]
    for found in numbers:
        del found["path"], found["data"]
    assert numbers[0] == numbers[1]


def test_an_evaluation_takes_held_out_utterances_from_a_bucket(
    s3: FakeS3, call: Call, tone_shards: Path, toy_tts: Path, judged: Callable[..., None]
) -> None:
    judged(dict.fromkeys(range(200_000), "one tone a"))
    tones = s3.put(tone_shards, "tones")
    scores = []
    for data, out in ((tone_shards, "one"), (tones, "two")):
        call(
            "evaluate", "--model", vae_of(toy_tts), "--reconstruction", "--data", data, "--out", out
        )
        call("evaluate", "--wavs", f"{out}/wavs", "--data", data, "--out", f"{out}-wavs")
        scores += [
            json.loads(Path(each, "metrics.json").read_text()) for each in (out, f"{out}-wavs")
        ]
    for here, there in zip(scores[:2], scores[2:], strict=True):
        assert here["system"] == there["system"] and here["originals"] == there["originals"]


@pytest.mark.parametrize("corpus", sorted(set(CORPORA) - {"sample"}))
def test_a_corpus_that_is_no_shards_is_read_from_this_machine_and_that_is_said(
    corpus: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    where = ["s3://bucket/x"] if corpus == "lhotse" else ["--root", "s3://bucket/x"]
    result = CliRunner().invoke(app, ["prepare", corpus, *where])
    assert result.exit_code == 2, (result.output, result.exception)
    assert "s3://bucket/x" in result.stderr and "on this machine" in result.stderr
    assert "prepare webdataset" in result.stderr and not list(tmp_path.iterdir())


def test_recordings_are_read_and_looked_through_on_this_machine_and_the_way_to_a_bucket_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memos").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    for places, said in (
        (("--root", "s3://bucket/memos"), "--root s3://bucket/memos: recordings are read from a"),
        (("--root", "memos", "--out", "s3://bucket/x"), "segments/list.jsonl --out s3://bucket/x"),
    ):
        result = CliRunner().invoke(app, ["prepare", "recordings", *places])
        assert result.exit_code == 2, (result.output, result.exception)
        assert said in result.stderr and "on this machine" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["memos"]
