"""`svae prepare huggingface`: what datasets itself wrote comes back as shards, decoded by svae."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import soundfile
from fake_corpora import files, speech
from rich.console import Console

from svae.data import prepare_stream as prepare_stream_module
from svae.data.batches import read_waveform
from svae.data.index import read_index, read_member
from svae.data.prepare_plan import PrepareOptions
from svae.data.prepare_stream import prepare_stream
from svae.data.streams.fields import Fields
from svae.data.streams.huggingface import open_huggingface
from svae.errors import ConfigError, DataError
from svae.runtime import ray_jobs
from svae.runtime.jobs import run_jobs

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """No bars, no cache outside the test, and no pool where one process is asked for."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def run_here(function, jobs, *, workers, **arguments):
        if workers > 1:
            return run_jobs(function, jobs, workers=workers, **arguments)
        return {number: function(*job, lambda: None) for number, job in jobs.items()}

    monkeypatch.setattr(ray_jobs, "run_jobs", run_here)


def encoded(number: int, kind: str = "FLAC") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, speech(number, 0.4), 16000, format=kind)
    return buffer.getvalue()


def dataset(count: int = 6, **columns):
    """Return rows as they lie on the hub: audio inside, speakers as numbers with names."""
    made = datasets.Dataset.from_dict(
        {
            "audio": [{"bytes": encoded(n), "path": f"clip {n}.flac"} for n in range(count)],
            "text": [f"Utterance number {n}." for n in range(count)],
            "speaker_id": [n % 3 for n in range(count)],
            "info": [{"quality": n / 4, "locale": "en"} for n in range(count)],
        }
        | columns
    )
    made = made.cast_column("audio", datasets.Audio())
    return made.cast_column("speaker_id", datasets.ClassLabel(names=["s0", "s1", "s2"]))


@pytest.fixture
def parquet(tmp_path):
    rows = dataset()
    (tmp_path / "parquet").mkdir()
    for number in range(3):
        rows.shard(3, number).to_parquet(tmp_path / f"parquet/train-{number:05d}-of-00003.parquet")
    rows.select(range(2)).to_parquet(tmp_path / "parquet/test-00000-of-00001.parquet")
    return tmp_path / "parquet"


def run(folder, out, asked=None, *, per_shard=500, workers=1, **opening):
    output = io.StringIO()
    report = prepare_stream(
        open_huggingface(str(folder), asked or Fields(), **opening),
        PrepareOptions(corpus="huggingface", out=out, workers=workers),
        utterances_per_shard=per_shard,
        console=Console(file=output, width=200),
    )
    return report, output.getvalue()


def check_samples(out, count: int, language: str = "en") -> None:
    index = read_index(out)
    assert len(index.samples) == count
    for row in index.samples:
        number = int(row.text.split()[-1][:-1])
        assert (row.speaker, row.language) == (f"s{number % 3}", language)
        expected = speech(number, 0.4).astype(np.float32) / 32768
        assert np.array_equal(read_waveform(index, row)[0].numpy(), expected)


def test_parquet_files_are_its_parts(parquet, tmp_path):
    report, printed = run(parquet, tmp_path / "out", Fields(keep=("info.quality",)))
    check_samples(tmp_path / "out", 6)
    assert report.shards == 3
    assert "audio audio, text text, speaker speaker_id, language info.locale" in printed
    index = read_index(tmp_path / "out")
    assert index.samples[3].key == "00001-0000001-clip_3"
    stored = json.loads(read_member(index, index.samples[3], "json"))
    assert stored["quality"] == 0.75 and stored["source"] == "parquet/train/00001/1/clip 3.flac"
    report, _ = run(parquet, tmp_path / "test", split="test")
    assert report.utterances == 2


def test_neither_processes_nor_a_stop_change_a_byte(parquet, tmp_path, monkeypatch):
    run(parquet, tmp_path / "one", per_shard=1)
    run(parquet, tmp_path / "two", per_shard=1, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    item = prepare_stream_module._item

    def failing(recording, *arguments):
        if "clip 3" in recording.source:
            raise KeyboardInterrupt
        return item(recording, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prepare_stream_module, "_item", failing)
        run(parquet, tmp_path / "out", per_shard=1)
    assert len(list((tmp_path / "out").rglob("shard-*.tar"))) == 3
    run(parquet, tmp_path / "out", per_shard=1)
    assert files(tmp_path / "out") == files(tmp_path / "one")


def test_a_dataset_saved_to_disk(tmp_path):
    dataset().save_to_disk(tmp_path / "saved", num_shards=2)
    run(tmp_path / "saved", tmp_path / "out")
    check_samples(tmp_path / "out", 6)
    splits = datasets.DatasetDict({"a": dataset(2), "b": dataset(3)})
    splits.save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match="no split 'train'. There: a, b. Choose with --split"):
        run(tmp_path / "splits", tmp_path / "none")
    run(tmp_path / "splits", tmp_path / "b", split="b")
    check_samples(tmp_path / "b", 3)


@pytest.mark.parametrize("layout", ["files", "zip"])
def test_a_folder_of_audio_with_its_metadata(tmp_path, layout):
    folder = tmp_path / "audio"
    folder.mkdir()
    rows = ["file_name,text,speaker_id"]
    for number in range(3):
        (folder / f"{number}.mp3").write_bytes(encoded(number, "MP3"))
        rows.append(f"{number}.mp3,Utterance number {number}.,s{number}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    if layout == "zip":
        import zipfile

        (tmp_path / "zipped").mkdir()
        with zipfile.ZipFile(tmp_path / "zipped/train.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
        folder = tmp_path / "zipped"
    run(folder, tmp_path / "out", Fields(language="=en"))
    found = read_index(tmp_path / "out").samples
    assert sorted((row.text, row.speaker, row.language) for row in found) == [
        (f"Utterance number {n}.", f"s{n}", "en") for n in range(3)
    ]


def test_rows_that_cannot_be_used_are_listed(tmp_path):
    from pyarrow import parquet

    audio = [{"bytes": encoded(n), "path": None} for n in range(5)]
    audio[1] = {"bytes": None, "path": str(tmp_path / "gone.wav")}
    audio[2] = {"bytes": b"no audio", "path": "a.wav"}
    audio[3] = {"bytes": None, "path": "https://example.org/a.wav"}
    rows = dataset(5, audio=audio, text=["One.", "Two.", "Three.", "Four.", None])
    (tmp_path / "rows").mkdir()
    # Not by to_parquet, which looks for the files.
    parquet.write_table(rows.data.table, tmp_path / "rows/train.parquet")
    report, _ = run(tmp_path / "rows", tmp_path / "out")
    assert report.utterances == 1
    assert report.rejected == {"missing": 2, "unreadable": 1, "without text": 1}


def test_what_is_not_there_is_named(parquet, tmp_path, monkeypatch, server):
    with pytest.raises(DataError, match="no split 'dev'. There: train, test"):
        run(parquet, tmp_path / "out", split="dev")
    with pytest.raises(
        DataError, match="no field 'words' in its first 6 samples. There: audio, text"
    ):
        run(parquet, tmp_path / "out", Fields(text="words"))
    with pytest.raises(DataError, match="a file. Expected a folder, or owner/name"):
        run(parquet / "test-00000-of-00001.parquet", tmp_path / "out")
    with pytest.raises(DataError, match="nowhere/at/all: no such folder .*OWNER/NAME"):
        run("nowhere/at/all", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: cannot be read: "):
        run(tmp_path / "empty", tmp_path / "out")
    import huggingface_hub

    api = huggingface_hub.HfApi(endpoint=server.url)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    with pytest.raises(DataError, match="somebody/nothing: cannot be read: "):
        run("somebody/nothing", tmp_path / "out")
    assert server.requests[0][0] == "/api/datasets/somebody/nothing"
    assert not (tmp_path / "out").exists()


def test_a_damaged_file_is_named_and_the_rest_is_kept(parquet, tmp_path):
    path = parquet / "train-00001-of-00003.parquet"
    source = open_huggingface(str(parquet), Fields())
    path.write_bytes(path.read_bytes()[:-3000] + b"\0" * 3000)
    with pytest.raises(DataError, match="parquet/train, part 1 of 3: cannot be read"):
        list(source.read(1))
    assert len(list(source.read(2))) == 2


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'svae\[huggingface\]'"):
        open_huggingface(str(tmp_path), Fields())


def test_the_command(parquet, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from svae.cli import app

    monkeypatch.chdir(tmp_path)
    options = (
        "--split test --audio audio --text text --speaker speaker_id --language =de --workers 1"
    )
    result = CliRunner().invoke(app, ["prepare", "huggingface", str(parquet), *options.split()])
    assert result.exit_code == 0, result.output
    check_samples("data/shards/huggingface", 2, "de")
