"""Training on shards in a bucket: the same weights as from a disk, and an end with a message where the server stays away."""

from __future__ import annotations

import pytest
from conftest import write_tone_shards
from tiny_runs import assert_equal_runs, vae_config

from svae.data.index import read_index
from svae.errors import DataError
from svae.training.loop import TrainOptions
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


def test_a_shard_that_never_comes_ends_the_training_and_names_shard_and_cause(s3, tmp_path):
    url = s3.put(write_tone_shards(tmp_path / "shards", shards=2, per_shard=6), "tones")
    s3.always["tones/shard-00001.tar"] = "status 503"
    with pytest.raises(DataError, match=r"s3://bucket/tones/shard-00001\.tar: .*given up after"):
        train_vae(TrainOptions(vae_config(url), tmp_path / "run", device="cpu"))
