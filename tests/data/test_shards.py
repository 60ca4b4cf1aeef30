"""Shards are what webdataset reads, the same bytes every time, and damage to them is noticed and named."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import webdataset

from svae.data.index import read_index, read_member, verify_shards, write_index
from svae.data.shard_writer import ShardItem, write_shard
from svae.errors import DataError


def make_items(shard: int, count: int = 3) -> list[ShardItem]:
    return [
        ShardItem(
            key=f"s{shard}-{i}",
            members={"flac": hashlib.sha256(f"{shard}{i}".encode()).digest() * (20 + i)},
            num_samples=16000 * (i + 1),
            sample_rate=16000,
            speaker=f"speaker{i % 2}",
            language="en",
            text=f"text – {i}",
            metadata={"source": f"x/{i}.wav"},
        )
        for i in range(count)
    ]


def make_folder(root, shards: int = 2, **overrides):
    root.mkdir(parents=True, exist_ok=True)
    entries = [write_shard(root, number, iter(make_items(number))) for number in range(shards)]
    options = {
        "kind": "waveforms",
        "corpus": "test",
        "sample_rate": 16000,
        "validation": ["s1-0"],
    } | overrides
    return write_index(root, shards=entries, rejected={"silent": 2}, **options)


def files(root) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def test_webdataset_reads_our_shards(tmp_path):
    make_folder(tmp_path)
    paths = [str(tmp_path / f"shard-0000{i}.tar") for i in range(2)]
    read = list(webdataset.WebDataset(paths, shardshuffle=False))
    expected = make_items(0) + make_items(1)
    assert [sample["__key__"] for sample in read] == [item.key for item in expected]
    for sample, item in zip(read, expected, strict=True):
        assert sample["flac"] == item.members["flac"]
        assert json.loads(sample["json"]) == {
            "key": item.key,
            "duration_seconds": item.num_samples / 16000,
            "num_samples": item.num_samples,
            "speaker": item.speaker,
            "language": "en",
            "text": item.text,
            "sample_rate": 16000,
            "source": item.metadata["source"],
        }


def test_members_read_at_their_offsets_equal_what_was_written(tmp_path):
    index = make_folder(tmp_path)
    expected = make_items(0) + make_items(1)
    assert [sample.key for sample in index.samples] == [item.key for item in expected]
    for sample, item in zip(index.samples, expected, strict=True):
        assert read_member(index, sample, "flac") == item.members["flac"]
        assert json.loads(read_member(index, sample, "json"))["text"] == item.text
        assert (sample.num_samples, sample.text, sample.speaker) == (
            item.num_samples,
            item.text,
            item.speaker,
        )
    with pytest.raises(DataError, match="no member 'npy'"):
        read_member(index, index.samples[0], "npy")


def test_the_same_samples_give_the_same_bytes(tmp_path):
    make_folder(tmp_path / "a")
    make_folder(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert sorted(files(tmp_path / "a")) == [
        "index.json", "shard-00000.jsonl", "shard-00000.tar", "shard-00001.jsonl", "shard-00001.tar",
    ]  # fmt: skip


def test_index_holds_the_statistics_of_what_was_written(tmp_path):
    index = make_folder(tmp_path)
    metadata = index.metadata
    assert metadata["utterances"] == 6 and metadata["seconds"] == 12.0
    assert metadata["speakers"] == {
        "speaker0": {"utterances": 4, "seconds": 8.0},
        "speaker1": {"utterances": 2, "seconds": 4.0},
    }
    assert metadata["characters"] == {
        " ": 12,
        "0": 2,
        "1": 2,
        "2": 2,
        "e": 6,
        "t": 12,
        "x": 6,
        "–": 6,
    }
    assert metadata["durations"] == {"min": 1.0, "p5": 1.0, "median": 2.0, "p95": 3.0, "max": 3.0}
    assert metadata["rejected"] == {"silent": 2}
    for shard in metadata["shards"]:
        content = (tmp_path / shard["name"]).read_bytes()
        assert (
            shard["bytes"] == len(content)
            and shard["sha256"] == hashlib.sha256(content).hexdigest()
        )
        assert shard["utterances"] == 3 and shard["seconds"] == 6.0
    verify_shards(index)


def test_validation_and_training_are_apart_and_complete(tmp_path):
    index = make_folder(tmp_path)
    assert [sample.key for sample in index.validation] == ["s1-0"]
    assert sorted(s.key for s in [*index.train, *index.validation]) == sorted(
        s.key for s in index.samples
    )


def test_a_failing_writer_leaves_no_file_behind(tmp_path):
    def broken():
        yield from make_items(0)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_shard(tmp_path, 0, broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["a.b", "a/b", "", "a b"])
def test_keys_that_would_break_a_webdataset_are_refused(tmp_path, key):
    item = make_items(0, 1)[0]
    with pytest.raises(DataError, match="key"):
        write_shard(tmp_path, 0, [ShardItem(key, item.members, 1, 16000, "s", "en", "t")])


def test_duplicate_keys_are_refused(tmp_path):
    with pytest.raises(DataError, match="unique"):
        write_shard(tmp_path, 0, make_items(0) + make_items(0))


def test_an_empty_shard_is_a_valid_tar(tmp_path):
    entry = write_shard(tmp_path, 0, [])
    assert entry["utterances"] == 0
    shards = [entry, write_shard(tmp_path, 1, make_items(1))]
    index = write_index(
        tmp_path, kind="waveforms", corpus="t", sample_rate=16000, shards=shards, validation=[]
    )
    assert len(index.samples) == 3


def flip(path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_in_a_member_names_shard_and_key(tmp_path):
    index = make_folder(tmp_path)
    sample = index.samples[4]
    offset, size = sample.members["flac"]
    flip(tmp_path / "shard-00001.tar", offset + size - 1)
    with pytest.raises(DataError, match=r"shard-00001\.tar: sample 's1-1': \.flac is corrupt"):
        read_member(index, sample, "flac")
    read_member(index, index.samples[3], "flac")
    with pytest.raises(DataError, match=r"shard-00001\.tar: content changed"):
        verify_shards(index)


def damage(root, how: str) -> None:
    tar, rows, index = root / "shard-00001.tar", root / "shard-00001.jsonl", root / "index.json"
    content = json.loads(index.read_text())
    match how:
        case "no folder":
            shutil.rmtree(root)
        case "no index":
            index.unlink()
        case "no shard":
            tar.unlink()
        case "truncated":
            tar.write_bytes(tar.read_bytes()[:-512])
        case "no rows":
            rows.unlink()
        case "fewer rows":
            rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
        case "half a row":
            rows.write_text(rows.read_text()[:-20])
        case "not json":
            index.write_text("{")
        case "other json":
            index.write_text("[1]")
        case "newer format":
            index.write_text(json.dumps(content | {"format": 99}))
        case "unknown validation":
            index.write_text(json.dumps(content | {"validation": ["nobody"]}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no folder", "no such folder"),
        ("no index", "interrupted"),
        ("no shard", r"shard-00001\.tar: missing"),
        ("truncated", r"shard-00001\.tar: truncated"),
        ("no rows", r"shard-00001\.jsonl: missing"),
        ("fewer rows", "2 rows, index.json says 3"),
        ("half a row", r"shard-00001\.jsonl: damaged"),
        ("not json", "damaged"),
        ("other json", "damaged"),
        ("newer format", "format 99"),
        ("unknown validation", "'nobody' is in no shard"),
    ],
)
def test_damaged_folders_are_refused_with_what_is_wrong(tmp_path, how, message):
    root = tmp_path / "data"
    make_folder(root)
    damage(root, how)
    with pytest.raises(DataError, match=message):
        read_index(root)


def test_a_shard_cut_after_the_check_is_noticed_at_the_read(tmp_path):
    index = make_folder(tmp_path)
    with open(tmp_path / "shard-00001.tar", "r+b") as file:
        file.truncate(600)
    with pytest.raises(DataError, match=r"sample 's1-2': shard truncated"):
        read_member(index, index.samples[-1], "flac")


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_shard(tmp_path / "file", 0, make_items(0))
