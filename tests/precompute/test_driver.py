"""What all commands that make something of every shard have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_shards import make_shards

from svae.data.index import ShardIndex
from svae.errors import DataError
from svae.precompute.driver import open_run


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    return make_shards(tmp_path_factory.mktemp("shards"), shards=3, per_shard=2)


def claim(index: ShardIndex, out: Path, **description) -> None:
    with open_run(index, out) as run:
        run.claim("plan.json", description, contents="wonders", command="svae wonder")


def test_a_folder_is_claimed_once_and_for_one_description(index, tmp_path):
    claim(index, tmp_path, dtype="float16", source=["a"])
    before = (tmp_path / "plan.json").stat().st_mtime_ns
    claim(index, tmp_path, dtype="float16", source=["a"])
    assert (tmp_path / "plan.json").stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"holds wonders made otherwise \(dtype differ\)"):
        claim(index, tmp_path, dtype="float32", source=["a"])
    with pytest.raises(DataError, match="holds wonders of other shards"):
        claim(index, tmp_path, dtype="float32", source=["b"])


@pytest.mark.parametrize("name", ["index.json", "shard-00001.tar"])
def test_what_another_command_made_is_not_written_over(index, tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=f"holds {name}, which `svae wonder` did not begin;"):
        claim(index, tmp_path, dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_description_is_an_error_of_the_folder(index, tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(DataError, match=r"plan\.json: damaged .*choose another --out"):
        claim(index, tmp_path, dtype="float16")


def test_each_unfinished_shard_is_made_once_from_its_own_samples(index, tmp_path):
    with open_run(index, tmp_path, workers=2) as run:
        (tmp_path / "1").write_text("kept")
        run.make(
            _Job(index, tmp_path),
            finished=lambda number: (tmp_path / str(number)).exists(),
            label="Wondering",
        )
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {"0": "u0 u1", "1": "kept", "2": "u4 u5"}


class _Job:
    """Writes the keys of a shard's samples."""

    def __init__(self, index: ShardIndex, out: Path) -> None:
        self.index, self.out = index, out

    def __call__(self, number: int, device: str, tick) -> None:
        samples = self.index.samples_of(number)
        for _ in samples:
            tick()
        (self.out / str(number)).write_text(" ".join(sample.key for sample in samples))
