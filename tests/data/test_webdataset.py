"""`svae prepare webdataset`: tars of any writer, from anywhere, become ordinary shards; what is wrong is named."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import webdataset
from fake_corpora import files, speech
from rich.console import Console

from svae.data import prepare_stream as prepare_stream_module
from svae.data.batches import read_waveform
from svae.data.index import read_index, read_member
from svae.data.prepare_plan import PrepareOptions
from svae.data.prepare_stream import prepare_stream
from svae.data.streams import source as source_module
from svae.data.streams import webdataset as webdataset_module
from svae.data.streams.fields import LAYOUTS, Fields
from svae.data.streams.webdataset import open_webdataset
from svae.errors import ConfigError, DataError
from svae.runtime import ray_jobs, remote
from svae.runtime.jobs import run_jobs


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Do all jobs here: a pool takes longer than they do. Where that makes a difference, `workers` is more than 1."""

    def run_here(function, jobs, *, workers, **arguments):
        if workers > 1:
            return run_jobs(function, jobs, workers=workers, **arguments)
        return {number: function(*job, lambda: None) for number, job in jobs.items()}

    monkeypatch.setattr(ray_jobs, "run_jobs", run_here)


def encoded(number: int, kind: str = "FLAC", seconds: float = 0.4) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, speech(number, seconds), 16000, format=kind)
    return buffer.getvalue()


def sample(number: int, kind: str = "flac") -> dict[str, bytes]:
    """Return the members of a usable sample by their extension."""
    fields = {"text": f"Utterance number {number}.", "speaker": f"s{number % 3}", "language": "en"}
    return {kind: encoded(number, kind.upper()), "json": json.dumps(fields).encode()}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write a tar as plain tarfile does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_samples(path: Path, numbers: range, kind: str = "flac") -> Path:
    members = [(f"{n:04d}.{ext}", data) for n in numbers for ext, data in sample(n, kind).items()]
    return write_tar(path, members)


def run(
    sources, out: Path, asked: Fields | None = None, *, per_shard: int = 3, skip=False, **changes
):
    output = io.StringIO()
    sources = [str(source) for source in (sources if isinstance(sources, list) else [sources])]
    report = prepare_stream(
        open_webdataset(sources, asked or Fields()),
        PrepareOptions(**{"corpus": "webdataset", "out": out, "workers": 1} | changes),
        utterances_per_shard=per_shard,
        skip_unreadable=skip,
        console=Console(file=output, width=200),
    )
    return report, output.getvalue()


def check_samples(out: Path, count: int) -> None:
    """See that every sample of `write_samples` is there as it was."""
    index = read_index(out)
    assert len(index.samples) == count
    for row in index.samples:
        number = int(row.text.split()[-1][:-1])
        assert (row.speaker, row.language) == (f"s{number % 3}", "en")
        expected = speech(number, 0.4).astype(np.float32) / 32768
        assert np.array_equal(read_waveform(index, row)[0].numpy(), expected)


def rejected(out: Path) -> dict[str, tuple[str, str]]:
    rows = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    return {
        row["path"].partition("/")[2] or row["path"]: (row["reason"], row["detail"]) for row in rows
    }


class TestWriters:
    """The same samples arrive, whoever wrote the tar."""

    def test_by_webdataset_itself(self, tmp_path):
        with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
            for number in range(5):
                writer.write({"__key__": f"{number:04d}", **sample(number)})
        report, printed = run(tmp_path / "a.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 5)
        assert report.shards == 2 and report.validation == 1
        assert "fields: audio flac, text json.text, speaker json.speaker" in printed
        shards = sorted(map(str, (tmp_path / "out").glob("*.tar")))
        assert len(list(webdataset.WebDataset(shards, shardshuffle=False))) == 5

    @pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
    def test_by_tarfile_in_folders_and_compressed(self, tmp_path, compression):
        path = tmp_path / f"a.tar.{compression}"
        with tarfile.open(path, f"w:{compression}") as tar:
            for number in range(3):
                for ext, data in sample(number).items():
                    info = tarfile.TarInfo(f"./corpus/part {number}/x.{ext.upper()}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        run(tmp_path, tmp_path / "out")
        check_samples(tmp_path / "out", 3)
        keys = [row.key for row in read_index(tmp_path / "out").samples]
        assert keys[0] == "00000-corpus_part_0_x"

    def test_by_gnu_tar_in_the_order_of_the_disk(self, tmp_path):
        names = []
        (tmp_path / "corpus").mkdir()
        for number in range(6):
            for ext, data in sample(number).items():
                names.append(f"corpus/{number:04d}.{ext}")
                (tmp_path / names[-1]).write_bytes(data)
        random.Random(1).shuffle(names)
        command = ["tar", "-cf", "a.tar", "corpus/", "--no-recursion", *names]
        subprocess.run(command, cwd=tmp_path, check=True)
        run(tmp_path / "a.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 6)

    def test_samples_that_lie_far_apart_are_given_up_when_too_much_waits(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(webdataset_module, "MAX_WAITING", 2 * len(encoded(0)))
        samples = [sample(number) for number in range(6)]
        members = [(f"{n}.json", each["json"]) for n, each in enumerate(samples)]
        members = [*[(f"{n}.flac", each["flac"]) for n, each in enumerate(samples)], *members]
        report, _ = run(write_tar(tmp_path / "a.tar", members), tmp_path / "out")
        assert report.utterances == 1
        found = list(rejected(tmp_path / "out").values())
        assert [reason for reason, _ in found].count("without text") == 5

    def test_emilias_layout_by_its_name(self, tmp_path):
        members = []
        for number in range(4):
            name = f"EN_B00000_S00000_W{number:06d}"
            row = {
                "id": name,
                "wav": f"EN_B00000/EN_B00000_S00000/mp3/{name}.mp3",
                "text": f" Utterance number {number}.",
                "duration": 0.4,
                "speaker": "EN_B00000_S00000",
                "language": "en",
                "dnsmos": 3.25 + number / 100,
            }
            members += [
                (f"{name}.mp3", encoded(number, "MP3")),
                (f"{name}.json", json.dumps(row).encode()),
            ]
        write_tar(tmp_path / "EN-B000000.tar", members)
        _, printed = run(tmp_path, tmp_path / "out", LAYOUTS["emilia"])
        index = read_index(tmp_path / "out")
        assert [row.text for row in index.samples] == [f"Utterance number {n}." for n in range(4)]
        assert {row.speaker for row in index.samples} == {"EN_B00000_S00000"}
        stored = json.loads(read_member(index, index.samples[1], "json"))
        assert stored["dnsmos"] == 3.26 and stored["duration"] == 0.4
        assert stored["raw_text"] == " Utterance number 1."
        assert stored["source"].endswith("EN-B000000.tar/EN_B00000_S00000_W000001.mp3")
        assert "not used: 'json.id', 'json.wav'" in printed

    def test_a_name_that_leads_out_of_a_folder_stays_a_name(self, tmp_path, monkeypatch):
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        names = ["../../escaped", "/tmp/absolute", "a\udcff\udcfe", "é" * 70, "x" * 90]
        members = [
            (f"{name}.{ext}", data)
            for n, name in enumerate(names)
            for ext, data in sample(n).items()
        ]
        write_tar(Path("a.tar"), members)
        run("a.tar", Path("out"))
        check_samples(Path("out"), 5)
        assert sorted(os.listdir(tmp_path)) == ["work"] and sorted(os.listdir()) == ["a.tar", "out"]
        assert all(len(os.fsencode(row.key)) <= 240 for row in read_index("out").samples)

    def test_no_pickle_is_ever_decoded(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "exploded"),)

        bomb = pickle.dumps(Bomb())
        extensions = ("pyd", "pickle", "pkl", "pth", "npy", "cls", "txt.pyd", "ten")
        members = []
        for number in range(3):
            members += [(f"{number}.{ext}", data) for ext, data in sample(number).items()]
            members += [(f"{number}.{ext}", bomb) for ext in extensions]
        write_tar(tmp_path / "a.tar", members)
        run(tmp_path / "a.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 3)
        for asked in (Fields(text="pyd"), Fields(audio=("pickle",)), Fields(speaker="npy")):
            with pytest.raises(DataError, match="all 3 utterances were rejected: 3"):
                run(tmp_path / "a.tar", tmp_path / "as" / (asked.text or "other"), asked)
        assert not (tmp_path / "exploded").exists()


class TestFields:
    """Which member is what."""

    def test_text_files_nested_names_numbers_and_values_for_all(self, tmp_path):
        members = []
        for number in range(3):
            row = {"meta": {"who.is": 7, "n": number}, "spoken": {"by": {"id": number}}}
            members += [
                (f"{number}.normalized.txt", f"Text {number}\r\n".encode()),
                (f"{number}.info.json", json.dumps(row).encode()),
                (f"{number}.wav", encoded(number, "WAV")),
            ]
        write_tar(tmp_path / "a.tar", members)
        asked = Fields(
            text="normalized.txt",
            speaker="info.json.spoken.by.id",
            language="=sw",
            keep=("info.json.meta.n", "info.json.meta.who.is"),
        )
        run(tmp_path / "a.tar", tmp_path / "out", asked)
        index = read_index(tmp_path / "out")
        rows = [(row.text, row.speaker, row.language) for row in index.samples]
        assert rows == [(f"Text {n}", str(n), "sw") for n in range(3)]
        assert json.loads(read_member(index, index.samples[2], "json"))["is"] == 7

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (
                Fields(text="json.txt"),
                "no field 'json.txt' in its first 4 samples. There: flac, json",
            ),
            (Fields(audio=("mp3",)), "no field 'mp3'.*There: flac"),
            (Fields(speaker="json.who", language="txt"), "no field 'json.who', 'txt'"),
            (Fields(keep=("json.dnsmos",)), "no field 'json.dnsmos'"),
            (Fields(keep=("json.text",)), "--keep: 'text' has a meaning of its own"),
        ],
    )
    def test_a_field_that_is_not_there_is_refused_with_what_is(self, tmp_path, asked, message):
        write_samples(tmp_path / "a.tar", range(4))
        with pytest.raises(DataError, match=message):
            run(tmp_path / "a.tar", tmp_path / "out", asked)
        assert not (tmp_path / "out").exists()

    def test_two_recordings_in_a_sample_must_be_told_apart(self, tmp_path):
        members = [(f"a.{ext}", data) for ext, data in sample(0).items()]
        write_tar(tmp_path / "a.tar", [*members, ("a.mp3", encoded(1, "MP3"))])
        with pytest.raises(
            DataError, match="a sample has flac and mp3. Say which is meant: --audio"
        ):
            run(tmp_path, tmp_path / "out")
        report, _ = run(tmp_path, tmp_path / "out", Fields(audio=("flac",)))
        assert report.utterances == 1

    def test_without_any_text_it_is_enough_for_a_vae(self, tmp_path):
        write_tar(tmp_path / "a.tar", [(f"{n}.ogg", encoded(n, "OGG")) for n in range(4)])
        report, printed = run(tmp_path, tmp_path / "out")
        assert report.utterances == 4 and "no field with transcripts" in printed

    def test_what_is_wrong_with_single_samples_is_listed_with_the_reason(self, tmp_path):
        members = [(f"good.{ext}", data) for ext, data in sample(0).items()]
        audio = encoded(1)

        def add(name: str, row: object, data: bytes = audio) -> None:
            text = row if isinstance(row, bytes) else json.dumps(row).encode()
            members.extend([(f"{name}.flac", data), (f"{name}.json", text)])

        add("broken-json", b"{")
        add("list", ["text"])
        add("no-text", {"speaker": "a"})
        add("text-is-a-list", {"text": ["a"]})
        add("half-a-pair", {"text": "\ud83d"})
        add("latin", '{"text": "café"}'.encode("latin-1"))
        add("not-audio", {"text": "a"}, b"RIFF" * 100)
        add("nothing", {"text": "a"}, b"")
        add("short", {"text": "a"}, encoded(1, seconds=0.1))
        add("long", {"text": "a"}, encoded(1, seconds=36))
        members.append(("no-audio.json", b'{"text": "a"}'))
        members += [(f"good.{ext}", data) for ext, data in sample(0).items()]
        report, _ = run(write_tar(tmp_path / "a.tar", members), tmp_path / "out")
        found = rejected(tmp_path / "out")
        names = {name.split("/")[-1].split(".")[0]: reason for name, (reason, _) in found.items()}
        assert report.utterances == 1
        assert names == {
            "broken-json": "malformed",
            "list": "without text",
            "no-text": "without text",
            "text-is-a-list": "malformed",
            "half-a-pair": "malformed",
            "latin": "malformed",
            "not-audio": "unreadable",
            "nothing": "empty",
            "short": "too short",
            "long": "too long",
            "no-audio": "missing",
            "good": "repeated",
        }
        assert all(detail for _, detail in found.values())


class TestSources:
    """Where tars come from."""

    def test_braces_stars_folders_and_files(self, tmp_path):
        for number in range(3):
            write_samples(
                tmp_path / "in" / f"train-{number:02d}.tar", range(2 * number, 2 * number + 2)
            )
        sources = {
            "braces": [tmp_path / "in" / "train-{00..02}.tar"],
            "star": [tmp_path / "in" / "train-*.tar"],
            "folder": [tmp_path / "in"],
            "list": [tmp_path / "in" / f"train-{n:02d}.tar" for n in range(3)],
            "url": [f"file://{tmp_path}/in/train-{{00..02}}.tar"],
        }
        for name, given in sources.items():
            run(given, tmp_path / "out" / name)
            check_samples(tmp_path / "out" / name, 6)
        read = [files(tmp_path / "out" / name) for name in sources]
        assert all(each == read[0] for each in read)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("nowhere.tar", r"nowhere\.tar: no such file \(looked from"),
            ("none-{0..3}.tar", r"none-0\.tar: no such file"),
            ("*.tar", r"\*\.tar: no such file"),
            (".", r"a folder without \.tar"),
            ("a{0..3.tar", "a{0..3.tar"),
            ("nonsense://bucket/a.tar", "nonsense"),
        ],
    )
    def test_what_is_not_there_is_named(self, tmp_path, monkeypatch, source, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match=message):
            run(source, tmp_path / "out")

    def test_tars_in_linked_folders_are_read(self, tmp_path):
        write_samples(tmp_path / "disk" / "0.tar", range(2))
        write_samples(tmp_path / "tars" / "1.tar", range(2, 4))
        (tmp_path / "tars" / "more").symlink_to(tmp_path / "disk")
        (tmp_path / "disk" / "up").symlink_to(tmp_path / "tars")
        run(tmp_path / "tars", tmp_path / "out")
        check_samples(tmp_path / "out", 4)

    def test_the_same_tar_twice_and_tars_without_samples(self, tmp_path):
        path = write_samples(tmp_path / "a.tar", range(2))
        with pytest.raises(DataError, match=r"a\.tar: given more than once"):
            run([path, path], tmp_path / "out")
        write_tar(tmp_path / "empty" / "a.tar", [("README", b"hello")])
        with pytest.raises(DataError, match="no samples in 1 tar"):
            run(tmp_path / "empty", tmp_path / "out")

    def test_a_command(self, tmp_path, monkeypatch):
        for number in range(2):
            write_samples(tmp_path / f"a-{number}.tar", range(2 * number, 2 * number + 2))
        monkeypatch.setenv("FOLDER", str(tmp_path))
        run("pipe:cat ${FOLDER}/a-{0..1}.tar # {a}", tmp_path / "shell")
        check_samples(tmp_path / "shell", 4)
        run(f"pipe:cat {tmp_path}/a-{{0..1}}.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 4)
        assert str(tmp_path) not in (tmp_path / "out" / "plan.json").read_text()

    @pytest.mark.parametrize(
        "command", ["exit 3", "cat {tar}; exit 3", "head -c 3000 {tar}; exit 3"]
    )
    def test_a_command_that_fails(self, tmp_path, command):
        path = write_samples(tmp_path / "a.tar", range(40))
        with pytest.raises(DataError, match="its command ended with status 3"):
            run(f"pipe:{command.format(tar=path)}", tmp_path / "out")
        assert not (tmp_path / "out" / "index.json").exists()

    def test_a_bucket_of_any_file_system(self, tmp_path):
        import fsspec

        for number in range(2):
            path = write_samples(tmp_path / f"{number}.tar", range(3 * number, 3 * number + 3))
            fsspec.filesystem("memory").pipe(f"/bucket/{number}.tar", path.read_bytes())
        run("memory://bucket/*.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 6)
        with pytest.raises(DataError, match=r"memory://bucket/9\.tar: cannot be read"):
            run("memory://bucket/9.tar", tmp_path / "none")

    def test_a_bucket_that_cuts_and_fails(self, tmp_path, s3, monkeypatch):
        monkeypatch.setattr(remote, "BLOCK", 4096)
        (tmp_path / "tars").mkdir()
        for number in range(2):
            write_samples(tmp_path / f"tars/{number}.tar", range(3 * number, 3 * number + 3))
        url = s3.put(tmp_path / "tars", "tars")
        for number in range(2):
            s3.faults[f"tars/{number}.tar"] = ["cut 900", "status 503", "length 5", "cut 0"]
        run(f"{url}/*.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 6)
        s3.always["tars/1.tar"] = "status 500"
        with pytest.raises(DataError, match=r"s3://bucket/tars/1\.tar: Internal Server Error"):
            run(f"{url}/*.tar", tmp_path / "failed")

    def test_a_dataset_of_the_hub_that_cuts(self, tmp_path, hub):
        huggingface_hub = pytest.importorskip("huggingface_hub")
        huggingface_hub.HfFileSystem.clear_instance_cache()  # it keeps the address of the hub
        for number in range(2):
            path = write_samples(tmp_path / "a.tar", range(3 * number, 3 * number + 3))
            hub.commit("someone/speech", {f"EN/{number}.tar": path.read_bytes()})
        hub.faults = {"EN/0.tar": ["cut 900"]}
        run("hf://datasets/someone/speech/EN/*.tar", tmp_path / "out")
        check_samples(tmp_path / "out", 6)
        assert not any(hub.faults.values())
        huggingface_hub.HfFileSystem.clear_instance_cache()

    def test_a_server_that_cuts_and_fails(self, tmp_path, server):
        for number in range(3):
            path = write_samples(tmp_path / "a.tar", range(4 * number, 4 * number + 4))
            server.files[f"/a-{number}.tar"] = path.read_bytes()
            server.faults[f"/a-{number}.tar"] = [
                "cut 5000",
                "status 503",
                "ignores-range",
                "cut 9000",
            ]
        run(f"{server.url}/a-{{0..2}}.tar?signature=secret", tmp_path / "out")
        check_samples(tmp_path / "out", 12)
        run([tmp_path / "a.tar"], tmp_path / "local")
        assert b"secret" not in b"".join(files(tmp_path / "out").values())


class TestDamage:
    """A tar that is not whole is never taken for one that is."""

    @pytest.mark.parametrize(
        "how", ["cut in a member", "cut between", "no end", "damaged", "joined"]
    )
    @pytest.mark.parametrize("compressed", [False, True])
    def test_is_named_and_the_rest_is_kept(self, tmp_path, how, compressed):
        write_samples(tmp_path / "b.tar", range(4))
        data = write_samples(tmp_path / "a.tar", range(40, 44)).read_bytes()
        with tarfile.open(tmp_path / "a.tar") as tar:
            third = tar.getmembers()[2].offset
            last = tar.getmembers()[-1]
        end = last.offset_data + -(-last.size // 512) * 512
        damaged = {
            "cut in a member": data[: third + 700],
            "cut between": data[:third],
            "no end": data[:end],
            "damaged": data[:third] + b"\xaa" * 512 + data[third + 512 :],
            "joined": data + data,
        }[how]
        (tmp_path / "a.tar").write_bytes(gzip.compress(damaged) if compressed else damaged)
        sources = [tmp_path / "b.tar", tmp_path / "a.tar"]
        with pytest.raises(
            DataError,
            match=r"a\.tar: (?s:.*)1 of 2 parts cannot be read(?s:.*)--skip-unreadable",
        ):
            run(sources, tmp_path / "out")
        report, printed = run(sources, tmp_path / "out", skip=True)
        check_samples(tmp_path / "out", 4)
        assert report.rejected == {"unreadable part": 1} and "a.tar" in printed

    def test_a_compressed_tar_that_was_cut(self, tmp_path):
        write_samples(tmp_path / "a.tar", range(4))
        data = gzip.compress((tmp_path / "a.tar").read_bytes())
        (tmp_path / "a.tar").write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=r"a\.tar: cannot be read: not a whole tar"):
            run(tmp_path, tmp_path / "out")

    def test_no_tar_at_all(self, tmp_path):
        (tmp_path / "a.tar").write_bytes(b"hello" * 1000)
        with pytest.raises(DataError, match=r"a\.tar: cannot be read: not a whole tar"):
            run(tmp_path, tmp_path / "out")


class TestResuming:
    """The same bytes, however it ran."""

    @pytest.fixture
    def tars(self, tmp_path):
        for number in range(3):
            write_samples(tmp_path / f"tars/{number}.tar", range(5 * number, 5 * number + 5))
        return tmp_path / "tars"

    def test_the_number_of_workers_changes_nothing(self, tars, tmp_path):
        run(tars, tmp_path / "one", per_shard=2)
        run(tars, tmp_path / "three", per_shard=2, workers=3)
        assert files(tmp_path / "one") == files(tmp_path / "three")
        names = sorted(files(tmp_path / "one"))
        shards = [f"shard-{n:05d}.{e}" for n in range(9) for e in ("jsonl", "tar")]
        assert names == sorted(["index.json", "plan.json", "rejected.jsonl", *shards])
        index = read_index(tmp_path / "one")
        assert [shard["utterances"] for shard in index.shards] == [2, 2, 1] * 3
        rows = (tmp_path / "one" / "shard-00004.jsonl").read_text().splitlines()
        assert {json.loads(row)["shard"] for row in rows} == {4}

    def test_a_run_that_fails_midway_goes_on_where_it_was(self, tars, tmp_path, monkeypatch):
        run(tars, tmp_path / "whole", per_shard=2)
        whole = (tars / "1.tar").read_bytes()
        with tarfile.open(tars / "1.tar") as tar:
            middle = tar.getmembers()[5].offset
        size = len(whole)
        (tars / "1.tar").write_bytes(whole[:middle] + b"\xaa" * (size - middle))
        with pytest.raises(DataError, match="1 of 3 parts cannot be read"):
            run(tars, tmp_path / "out", per_shard=2)
        kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("shard-*.tar")}
        assert len(kept) == 7  # three, one of the damaged tar, three
        (tars / "1.tar").write_bytes(whole)
        decoded = []
        item = prepare_stream_module._item
        monkeypatch.setattr(
            prepare_stream_module, "_item", lambda r, *a: (decoded.append(r), item(r, *a))[1]
        )
        _, printed = run(tars, tmp_path / "out", per_shard=2)
        assert "Continuing: 2 of 3 parts are done" in printed and len(decoded) == 3
        assert files(tmp_path / "out") == files(tmp_path / "whole")
        assert "complete: nothing to do" in run(tars, tmp_path / "out", per_shard=2)[1]

    def test_a_run_killed_while_it_numbers_its_shards_ends_the_same(
        self, tars, tmp_path, monkeypatch
    ):
        run(tars, tmp_path / "whole", per_shard=2)
        moved = []
        move = prepare_stream_module._move_up

        def failing(*arguments):
            moved.append(arguments)
            if len(moved) == 5:
                raise KeyboardInterrupt
            return move(*arguments)

        monkeypatch.setattr(prepare_stream_module, "_move_up", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tars, tmp_path / "out", per_shard=2)
        assert 4 == len(list((tmp_path / "out").glob("shard-*.tar")))
        run(tars, tmp_path / "out", per_shard=2)
        assert files(tmp_path / "out") == files(tmp_path / "whole")

    def test_a_part_that_can_be_read_again_is_left_out_once_shards_are_numbered(
        self, tars, tmp_path, monkeypatch
    ):
        good = (tars / "1.tar").read_bytes()
        (tars / "1.tar").write_bytes(good[:-6000] + b"\7" * 6000)
        run(tars, tmp_path / "whole", per_shard=2, skip=True)
        finish = prepare_stream_module.finish_folder

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(prepare_stream_module, "finish_folder", full)
        with pytest.raises(OSError, match="No space"):
            run(tars, tmp_path / "out", per_shard=2, skip=True)
        monkeypatch.setattr(prepare_stream_module, "finish_folder", finish)
        (tars / "1.tar").write_bytes(good)
        with pytest.raises(DataError, match=r"1 of 3 parts .*--skip-unreadable.*delete .*out"):
            run(tars, tmp_path / "out", per_shard=2)
        _, printed = run(tars, tmp_path / "out", per_shard=2, skip=True)
        assert files(tmp_path / "out") == files(tmp_path / "whole")
        assert "left out, 1 of 3 parts" in printed
        # Before that nothing is decided.
        run(tars, tmp_path / "all", per_shard=2)
        assert len(read_index(tmp_path / "all").samples) == 15

    def test_a_second_run_in_the_same_folder_is_refused(self, tars, tmp_path, monkeypatch):
        item = prepare_stream_module._item

        def twice(*arguments):
            with pytest.raises(ConfigError, match="is working in this folder"):
                run(tars, tmp_path / "out")
            return item(*arguments)

        monkeypatch.setattr(prepare_stream_module, "_item", twice)
        run(tars, tmp_path / "out")
        check_samples(tmp_path / "out", 15)

    def test_other_sources_fields_or_options_are_not_mixed(self, tars, tmp_path):
        run(tars, tmp_path / "out")
        for sources, changes in (
            (tars / "0.tar", {}),
            (tars, {"asked": Fields(language="=de")}),
            (tars, {"per_shard": 4}),
            (tars, {"sample_rate": 24000}),
        ):
            with pytest.raises(DataError, match="was begun with other options"):
                run(sources, tmp_path / "out", **changes)
        write_samples(tars / "1.tar", range(7))
        with pytest.raises(DataError, match="the corpus' files or texts changed"):
            run(tars, tmp_path / "out")

    def test_thousands_of_small_tars_make_fewer_parts(self, tars, tmp_path, monkeypatch):
        run(tars, tmp_path / "many")
        monkeypatch.setattr(source_module, "MAX_PARTS", 2)
        run(tars, tmp_path / "few")
        many, few = read_index(tmp_path / "many"), read_index(tmp_path / "few")
        assert [row.key for row in few.samples] == [row.key for row in many.samples]
        assert len(few.shards) == 6 and len(few.samples) == 15


def test_the_command(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from svae.cli import app

    monkeypatch.chdir(tmp_path)
    write_samples(tmp_path / "a.tar", range(5), "mp3")
    options = "--text json.text --speaker json.speaker --language =en --audio mp3 --per-shard 2 --workers 1"
    result = CliRunner().invoke(app, ["prepare", "webdataset", "a.tar", *options.split()])
    assert result.exit_code == 0, result.output
    assert read_index("data/shards/webdataset").metadata["corpus"] == "webdataset"
    assert len(read_index("data/shards/webdataset").shards) == 3
    wrong = CliRunner().invoke(
        app, ["prepare", "webdataset", "a.tar", "--text", "txt", "--out", "b"]
    )
    assert wrong.exit_code == 2 and "There: mp3, json.text" in wrong.output
