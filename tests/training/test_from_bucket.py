"""Training on shards in a bucket: the same weights as from a disk, and an end with a message where the server stays away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_s3 import FakeS3
from tiny_runs import TTS, VAE, assert_equal_runs, rows_of, vae_config, vae_of
from tone_shards import write_tone_shards

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.index import read_index
from svae.errors import DataError
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae


def test_training_from_a_bucket_that_stumbles_equals_training_from_the_disk(
    s3, tmp_path, monkeypatch
):
    shards = write_tone_shards(tmp_path / "shards", shards=4, per_shard=3)
    url = s3.put(shards, "tones")
    entries = read_index(url).shards
    # Room for three of the four, read one after another: what was read is fetched again in the next epoch.
    room = sum(shard["rows_bytes"] for shard in entries) + 3 * max(s["bytes"] for s in entries)
    monkeypatch.setenv("SVAE_CACHE_SIZE", str(room))
    s3.faults["tones/*.tar"] = ["status 500", "cut 300", "wrong"]
    one = {"loader": {"num_workers": 1, "shuffle_shards": 1}, "batch_size": 4}
    here = train_vae(TrainOptions(vae_config(shards, **one), tmp_path / "here", device="cpu"))
    there = train_vae(TrainOptions(vae_config(url, **one), tmp_path / "there", device="cpu"))
    assert_equal_runs(here, there, "vae")
    assert any(key.endswith(".tar") for key in s3.gets) and not s3.faults["tones/*.tar"]


@pytest.mark.parametrize("kind", [pytest.param("vae", marks=pytest.mark.slow), "tts"])
def test_a_mixture_of_buckets_that_stumble_equals_that_of_folders(
    s3: FakeS3, kind: str, toy_tts: Path, tmp_path: Path
) -> None:
    folders = [
        write_tone_shards(tmp_path / "tones"),
        write_tone_shards(tmp_path / "more", shards=2, seconds=0.4),
    ]
    urls = [s3.put(folder, folder.name) for folder in folders]
    s3.faults = {
        "tones/*.tar": ["status 503", "cut 200", "wrong"],
        "more/*.tar": ["length 7", "status 500"],
        "more/*.jsonl": ["cut 10"],
    }
    runs = []
    for name, roots in {"here": folders, "there": urls, "both": [folders[0], urls[1]]}.items():
        rows = zip(roots, (3, 1), strict=True)
        data = {"sources": [{"root": str(root), "weight": weight} for root, weight in rows]}
        options = {"loader": {"num_workers": 1, "shuffle_shards": 1}, "data": data}
        config: Any
        if kind == "vae":
            config = recipe.build(VAETrainConfig, VAE | options, where="test")
            runs.append(train_vae(TrainOptions(config, tmp_path / name, device="cpu")))
        else:
            vae = {"vae": str(vae_of(toy_tts))}
            config = recipe.build(TTSTrainConfig, TTS | vae | options, where="test")
            runs.append(train_tts(TrainOptions(config, tmp_path / name, device="cpu")))
    for other in runs[1:]:
        assert_equal_runs(runs[0], other, kind)
        assert losses(other) == losses(runs[0])
    assert not any(s3.faults.values()), "every fault was met"


def losses(run: Path) -> list[dict[str, float]]:
    rows = rows_of(run, "train") + rows_of(run, "validation")
    return [{k: v for k, v in row.items() if k.startswith("loss/")} for row in rows]


def test_a_shard_that_never_comes_ends_the_training_and_names_shard_and_cause(s3, tmp_path):
    url = s3.put(write_tone_shards(tmp_path / "shards", shards=2, per_shard=6), "tones")
    s3.always["tones/shard-00001.tar"] = "status 503"
    with pytest.raises(DataError, match=r"s3://bucket/tones/shard-00001\.tar: .*given up after"):
        train_vae(TrainOptions(vae_config(url), tmp_path / "run", device="cpu"))
