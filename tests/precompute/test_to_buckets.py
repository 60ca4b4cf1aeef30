"""`--out` and `--data` in a bucket: the same bytes as on a disk, uploaded whole, the index last."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fake_corpora import make_corpus
from tiny_runs import VAE, vae_config

from svae.data.features import open_cache
from svae.data.index import read_index
from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions
from svae.data.timings import Timings
from svae.errors import ConfigError, DataError
from svae.precompute.latents import EncodeOptions, encode_shards, vae_of_latents
from svae.precompute.phone_times import align_shards
from svae.runtime import outgoing, remote
from svae.runtime.files import writable_folder
from svae.runtime.outgoing import destination
from svae.training.loop import TrainOptions
from svae.training.vae.train import train_vae


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def bucket(s3, prefix: str) -> dict[str, bytes]:
    return {
        name: s3.client.get_object(Bucket="bucket", Key=f"{prefix}/{name}")["Body"].read()
        for name in s3.keys(prefix)
    }


@pytest.fixture(scope="module")
def vae(tone_shards, tmp_path_factory) -> Path:
    config = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 1})
    return train_vae(TrainOptions(config, tmp_path_factory.mktemp("vae") / "vae", device="cpu"))


def test_latents_go_to_a_bucket_from_a_bucket_as_from_folder_to_folder(
    s3, tone_shards, vae, tmp_path, capsys
):
    url = Path(s3.put(tone_shards, "tones"))
    at = encode_shards(
        EncodeOptions(url, vae, Path("s3://bucket/latents"), workers=1, device="cpu")
    )
    here = encode_shards(EncodeOptions(tone_shards, vae, tmp_path / "out", workers=1, device="cpu"))
    assert str(at) == "s3://bucket/latents" and bucket(s3, "latents") == files(here)
    printed = capsys.readouterr().out
    assert "train-tts --data s3://bucket/latents" in printed and "outgoing" not in printed
    index = read_index(at)
    assert vae_of_latents(index, None).hash == vae_of_latents(read_index(here), None).hash
    assert not list((tmp_path / "cache/outgoing").iterdir()), "nothing is left here"
    with pytest.raises(DataError, match=r"s3://bucket/latents: index\.json lies there already"):
        encode_shards(EncodeOptions(url, vae, Path("s3://bucket/latents"), device="cpu"))


def test_a_corpus_is_prepared_into_a_bucket(s3, tmp_path, capfd):
    corpus = make_corpus(tmp_path / "corpus")
    options = PrepareOptions(corpus="jsonl", root=corpus, shards=2, workers=1)
    report = prepare(replace(options, out=Path("s3://bucket/mine")))
    prepare(replace(options, out=tmp_path / "mine"))
    assert bucket(s3, "mine") == files(tmp_path / "mine")
    assert str(report.out) == "s3://bucket/mine"
    assert "svae train-vae --data s3://bucket/mine" in capfd.readouterr().err


def test_times_of_phones_and_stored_features_are_read_from_a_bucket(s3, tone_shards, tmp_path):
    url = Path(s3.put(tone_shards, "tones"))
    align_shards(url, Path("s3://bucket/times"), workers=1)
    align_shards(tone_shards, tmp_path / "times", workers=1)
    assert bucket(s3, "times") == files(tmp_path / "times")
    assert Timings("s3://bucket/times").source == Timings(tmp_path / "times").source
    with pytest.raises(DataError, match="s3://bucket/none/timings.json: not there"):
        Timings("s3://bucket/none")
    with pytest.raises(ConfigError, match="s3://bucket/tones: holds waveforms"):
        open_cache("s3://bucket/tones", read_index(url), model="m", layer=1)


def test_an_upload_that_was_stopped_goes_on_and_the_index_comes_last(s3, tmp_path, monkeypatch):
    sent: list[str] = []
    upload = remote.upload

    def failing(file, url, **more):
        if file.name == "b" and sent.count("b") == 0:
            sent.append("b")
            raise remote.RemoteError(f"{url}: given up")
        upload(file, url, **more)
        sent.append(file.name)

    monkeypatch.setattr(outgoing.remote, "upload", failing)
    monkeypatch.setattr(outgoing, "UPLOADS", 1)
    with pytest.raises(DataError, match="s3://bucket/x/b: given up"):
        with destination(Path("s3://bucket/x")) as work:
            for name in ("index.json", "a", "b", "sub/c", ".d.tmp-7"):
                (work / name).parent.mkdir(exist_ok=True)
                (work / name).write_text(name)
    assert "index.json" not in s3.keys("x")
    with destination(Path("s3://bucket/x")) as work:
        assert (work / "a").read_text() == "a"
    assert s3.keys("x") == ["a", "b", "index.json", "sub/c"]
    assert sent.count("a") == 1 and sent[-1] == "index.json"


@pytest.mark.parametrize(
    "killed", ["in the middle", "at the end", "never; somebody cleans the cache"]
)
def test_what_an_earlier_run_uploaded_is_not_taken_for_uploaded_by_the_next(
    s3, monkeypatch, killed
):
    """The next run begins after the result was deleted in the bucket, as the message of the first says."""
    delete = shutil.rmtree

    def dying(folder):
        if killed == "in the middle":
            (folder / "plan.json").unlink()
        else:
            delete(folder)
        raise KeyboardInterrupt

    def work_in(folder):
        # As all commands do: a folder with shards that lacks its plan was begun by somebody else.
        assert (folder / "plan.json").is_file() or not list(folder.glob("shard-*"))
        for name in ("plan.json", "shard-0", "index.json"):
            (folder / name).write_text(name)

    url = Path("s3://bucket/again")
    with monkeypatch.context() as patch:
        if killed.startswith("never"):
            patch.setattr(outgoing.remote, "upload", _gives_up_at("index.json", remote.upload))
        else:
            patch.setattr(outgoing.shutil, "rmtree", dying)
        with pytest.raises((KeyboardInterrupt, DataError)), destination(url) as work:
            work_in(work)
    if killed.startswith("never"):
        delete(work)
    else:
        with pytest.raises(DataError, match="lies there already: it is finished"):
            with destination(url) as work:
                pass
    for name in s3.keys("again"):
        s3.client.delete_object(Bucket="bucket", Key=f"again/{name}")
    with destination(url) as work:
        work_in(work)
    assert s3.keys("again") == ["index.json", "plan.json", "shard-0"]
    assert not list(work.parent.iterdir()), "nothing is left here"


def test_a_part_of_an_earlier_work_folder_does_not_stop_what_has_been_uploaded(s3):
    url = Path("s3://bucket/left")
    with destination(url) as work:
        done = work.with_suffix(".done")
        done.mkdir()
        (done / "shard-0").write_text("of a run that was killed")
        (work / "index.json").write_text("new")
    assert s3.keys("left") == ["index.json"]
    assert not list(work.parent.iterdir()), "nothing is left here"


def test_what_an_earlier_run_uploaded_is_forgotten_whichever_rank_comes_first(s3):
    url = Path("s3://bucket/ranks")
    with destination(url) as work:
        pass
    work.with_suffix(".uploaded").write_text("shard-0\n")
    both, here = threading.Barrier(2, timeout=30), threading.Event()

    def meet():
        here.set()
        both.wait()

    def second():
        with destination(url, is_main=False, meet=meet) as folder:
            folder.mkdir(exist_ok=True)
            here.set()

    with ThreadPoolExecutor(1) as other:
        ended = other.submit(second)
        assert here.wait(30)
        with destination(url, meet=meet) as folder:
            ended.result(30)
            (folder / "shard-0").write_text("new")
    assert s3.keys("ranks") == ["shard-0"]


def _gives_up_at(name, upload):
    def failing(file, url, **more):
        if file.name == name:
            raise remote.RemoteError(f"{url}: given up")
        upload(file, url, **more)

    return failing


def test_where_nothing_can_be_written_is_said_before_the_work(s3, tmp_path):
    begun = []
    for url, said in {
        "http://127.0.0.1:9/x": "nothing can be written over http",
        "s3://no-such-bucket/x": "no such bucket",
    }.items():
        with pytest.raises((ConfigError, DataError), match=said):
            with destination(Path(url)):
                begun.append(url)
    with pytest.raises(ConfigError, match="folder on this machine"):
        writable_folder(Path("s3://bucket/run"), option="--out")
    assert not begun


def test_a_corpus_in_a_bucket_is_not_taken_for_a_folder(tmp_path):
    options = PrepareOptions(corpus="jsonl", root=Path("s3://bucket/x.jsonl"), out=tmp_path / "out")
    with pytest.raises(DataError, match="--root s3://bucket/x.jsonl: .*prepare webdataset"):
        prepare(options)
