"""Several folders of shards as one: keys that tell them apart, shares, refusals."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from fake_shards import fake_waveform, make_shards

from svae.config import LoaderConfig, SourceConfig
from svae.data.batches import read_waveform
from svae.data.index import ShardIndex
from svae.data.loaders import crop_loader
from svae.data.sources import mix, shares
from svae.errors import ConfigError, DataError


def source(weight: float | None = None, language: str | None = None) -> SourceConfig:
    return SourceConfig(root="unused", weight=weight, language=language)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[ShardIndex]:
    """Two folders whose utterances have the same keys and speakers."""
    folder = tmp_path_factory.mktemp("pair")
    return [
        make_shards(folder / "one", shards=3, validation=(1, 7)),
        make_shards(folder / "two", shards=2, validation=(1,)),
    ]


def test_a_mixture_holds_all_utterances_and_tells_them_apart(pair: list[ShardIndex]) -> None:
    index = mix(pair, [source(3, "de"), source(1)], 1.0)
    assert [(s.name, s.share, list(s.shards)) for s in index.sources] == [
        ("one", 0.75, [0, 1, 2]),
        ("two", 0.25, [3, 4]),
    ]
    assert len({sample.key for sample in index.samples}) == 25
    assert [sample.key for sample in index.validation] == ["one/u1", "one/u7", "two/u1"]
    assert {name: len(own) for name, own in index.by_source(index.train).items()} == {
        "one": 13,
        "two": 9,
    }
    languages = {(sample.key[:3], sample.language) for sample in index.samples}
    assert languages == {("one", "de"), ("two", "en")}
    assert {name: found["utterances"] for name, found in index.metadata["languages"].items()} == {
        "de": 15,
        "en": 10,
    }
    assert len(index.metadata["speakers"]) == 6 and index.home == pair[0].root
    assert index.metadata["characters"]["a"] == 25
    for sample in index.samples[::4]:
        number = int(sample.key.split("/u")[1])
        assert torch.equal(read_waveform(index, sample), fake_waveform(number, sample.num_samples))
    assert str(pair[1].root / "shard-00001.tar") in index.describe(index.samples[-1])


def test_shares_are_weights_flattened_by_the_temperature(pair: list[ShardIndex]) -> None:
    assert shares([3, 1], 1) == pytest.approx([0.75, 0.25])
    assert shares([9, 1], 2) == pytest.approx([0.75, 0.25])
    assert shares([9, 1], 1e9) == pytest.approx([0.5, 0.5])
    assert shares([1e300, 1e-300], 0.01) == [1, 0]
    hours = [sum(sample.duration_seconds for sample in index.train) for index in pair]
    found = [part.share for part in mix(pair, [source(), source()], 1.0).sources]
    assert found == pytest.approx([each / sum(hours) for each in hours])


def test_what_is_read_has_the_shares_by_frames(pair: list[ShardIndex]) -> None:
    index = mix(pair, [source(1), source(4)], 1.0)
    read: Counter[str] = Counter()
    options = {"seed": 0, "loader": LoaderConfig(num_workers=0), "context_samples": 0}
    with crop_loader(index, batch_size=6, segment_samples=4000, start_step=3, **options) as stream:
        for batch in itertools.islice(stream, 100):
            for key, length in zip(batch.keys, batch.lengths.tolist(), strict=True):
                read[key[:3]] += length
    assert read["one"] == pytest.approx(0.2 * read.total(), abs=2 * 4000)


def test_names_are_as_much_of_the_paths_as_tells_them_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "x", tmp_path / "b" / "x"]
    indexes = [make_shards(folder, shards=1, per_shard=2) for folder in folders]
    assert [part.name for part in mix(indexes, 2 * [source()], 1.0).sources] == ["a/x", "b/x"]


def test_sources_that_are_not_of_one_kind_are_refused(
    pair: list[ShardIndex], tmp_path: Path
) -> None:
    two = [source(), source()]
    stored = make_shards(tmp_path / "stored", shards=1, kind="latents")
    with pytest.raises(ConfigError, match=r"stored holds latents, but .*one holds waveforms"):
        mix([pair[0], stored], two, 1.0)
    with pytest.raises(ConfigError, match="named twice"):
        mix([pair[0], pair[0]], two, 1.0)
    latents = [
        _of_vae(make_shards(tmp_path / name, shards=1, kind="latents"), content, name)
        for name, content in (("a", "posterior"), ("b", "posterior"), ("c", "sample"))
    ]
    with pytest.raises(
        ConfigError, match=r"b holds latents of VAE b…, but those of .*a are of VAE a…"
    ):
        mix(latents[:2], two, 1.0)
    latents[2].metadata["latents"]["vae_hash"] = "a"
    with pytest.raises(ConfigError, match="c holds a sample of every utterance"):
        mix(latents[::2], two, 1.0)
    fast = make_shards(tmp_path / "fast", shards=1)
    object.__setattr__(fast, "sample_rate", 24000)
    with pytest.raises(ConfigError, match="fast has audio at 24000 Hz"):
        mix([pair[0], fast], two, 1.0)


def _of_vae(index: ShardIndex, content: str, vae_hash: str) -> ShardIndex:
    index.metadata["latents"] = {"vae_hash": vae_hash, "content": content}
    return index


def test_a_source_without_anything_to_train_on_is_named(
    pair: list[ShardIndex], tmp_path: Path
) -> None:
    empty = make_shards(tmp_path / "empty", shards=1, per_shard=2, validation=(0, 1))
    with pytest.raises(DataError, match=r"empty: nothing to train on: all 2 utterances"):
        mix([pair[0], empty], [source(), source()], 1.0)
