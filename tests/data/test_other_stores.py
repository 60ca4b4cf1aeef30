"""Shards on stores that are not S3: a web server, Google's (an emulator of it) and the Hugging Face hub (a stub of it)."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub
from fake_server import FakeServer
from tiny_runs import assert_equal_runs, vae_config

from svae.data.index import read_index, read_member, verify_shards
from svae.errors import ConfigError, DataError
from svae.runtime import http
from svae.runtime.outgoing import destination
from svae.training.loop import TrainOptions
from svae.training.vae.train import train_vae


def contents(root: str | Path) -> dict[str, bytes]:
    index = read_index(root)
    return {sample.key: read_member(index, sample, "flac") for sample in index.samples}


def cached(folder: Path) -> list[str]:
    return [path.name for path in (folder / "cache/files").iterdir()]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    return tmp_path


# ----------------------------------------------------------------------------------------------- http


@pytest.fixture
def web(server: FakeServer, cache: Path, tone_shards: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of the tones on a web server."""
    monkeypatch.setattr(http, "TIMEOUT", (2.0, 0.3))
    server.files = {f"/x/{path.name}": path.read_bytes() for path in tone_shards.iterdir()}
    return f"{server.url}/x"


@pytest.mark.parametrize(
    "fault",
    [
        *(
            "status 500",
            "status 503",
            "status 429",
            "cut 300",
            "stall 0.6",
            "says 99999",
            "says 500",
        ),
        *("no-length", "ignores-range", "wrong-range"),
    ],
)
def test_a_web_server_that_fails_and_recovers_is_asked_again(
    server: FakeServer, web: str, cache: Path, tone_shards: Path, fault: str
) -> None:
    # A range is asked for after a cut.
    first = ["cut 200"] if "range" in fault else []
    for name in ("shard-00000.tar", "shard-00001.jsonl"):
        server.faults[f"/x/{name}"] = [*first, fault]
    assert contents(web) == contents(tone_shards)
    assert not any(server.faults.values()) and not [n for n in cached(cache) if n.endswith(".part")]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status 503", "503"),
        ("status 404", "404 Not Found"),
        ("status 403", "403"),
        ("cut 0", "shard-00001.tar"),
        ("says 500", "500"),
        ("says 99999", "99999"),
        ("page", "page"),
        ("hidden-page", "bytes"),
        ("stall 0.6", "shard-00001.tar"),
    ],
)
def test_a_web_server_that_stays_wrong_is_given_up_with_shard_and_cause(
    server: FakeServer, web: str, cache: Path, fault: str, said: str
) -> None:
    server.always["/x/shard-00001.tar"] = fault
    hashes = [shard["sha256"] for shard in read_index(web).shards]
    with pytest.raises(DataError, match=f"{web}/shard-00001.tar") as caught:
        contents(web)
    assert said in str(caught.value)
    assert f"{hashes[0]}.tar" in cached(cache)
    assert not [name for name in cached(cache) if hashes[1] in name], "no half file, no wrong file"


@pytest.mark.slow
def test_training_from_a_web_server_that_stumbles_equals_training_from_the_disk(
    server: FakeServer, web: str, tone_shards: Path, tmp_path: Path
) -> None:
    server.faults = {
        "/x/shard-00000.tar": ["status 500", "cut 300"],
        "/x/shard-00001.tar": ["stall 0.6"],
    }
    here = train_vae(TrainOptions(vae_config(tone_shards), tmp_path / "here", device="cpu"))
    there = train_vae(TrainOptions(vae_config(web), tmp_path / "there", device="cpu"))
    assert_equal_runs(here, there, "vae")
    assert not any(server.faults.values())


# ----------------------------------------------------------------------------------------------- hf


@pytest.fixture
def repository(hub: FakeHub, cache: Path, tone_shards: Path) -> Iterator[str]:
    """The URL of the tones in a data set of the hub."""
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import HfFileSystem

    HfFileSystem.clear_instance_cache()  # it keeps the address of the hub
    files = {f"shards/{path.name}": path.read_bytes() for path in tone_shards.iterdir()}
    hub.commit("someone/tones", files)
    yield "hf://datasets/someone/tones/shards"
    HfFileSystem.clear_instance_cache()


def test_shards_in_a_data_set_of_the_hub_read_as_those_on_the_disk(
    hub: FakeHub, repository: str, tone_shards: Path
) -> None:
    hub.faults = {
        "shards/shard-00000.tar": ["wrong", "cut 200"],
        "shards/shard-00001.jsonl": ["cut 50"],
    }
    assert contents(repository) == contents(tone_shards)
    assert contents(Path(repository)) == contents(tone_shards)  # as the command line has it
    verify_shards(read_index(repository))
    assert not any(hub.faults.values())
    with pytest.raises(DataError, match=r"hf://datasets/someone/tones/other: no index\.json"):
        read_index("hf://datasets/someone/tones/other")
    with pytest.raises(DataError, match=r"hf://datasets/someone/none: no index\.json"):
        read_index("hf://datasets/someone/none")


# ----------------------------------------------------------------------------------------------- gs


@pytest.fixture
def google(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket of gcp-storage-emulator."""
    for package in ("gcsfs", "gcp_storage_emulator"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("pip install gcsfs gcp-storage-emulator")
    from gcp_storage_emulator.server import create_server
    from gcsfs import GCSFileSystem

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    GCSFileSystem.clear_instance_cache()
    yield "gs://bucket"
    GCSFileSystem.clear_instance_cache()
    server.stop()


def test_shards_go_to_googles_store_and_read_as_those_on_the_disk(
    google: str, tone_shards: Path
) -> None:
    with destination(Path(f"{google}/tones")) as work:
        for path in tone_shards.iterdir():
            (work / path.name).write_bytes(path.read_bytes())
    assert contents(f"{google}/tones") == contents(tone_shards)
    assert contents(Path(f"{google}/tones")) == contents(tone_shards)
    verify_shards(read_index(f"{google}/tones"))
    with pytest.raises(DataError, match=r"gs://bucket/none: no index\.json"):
        read_index(f"{google}/none")
    with pytest.raises(DataError, match=r"gs://bucket/tones: index\.json lies there already"):
        with destination(Path(f"{google}/tones")):
            pass
    with pytest.raises((ConfigError, DataError), match="gs://no-such-bucket"):
        with destination(Path("gs://no-such-bucket/x")):
            pass
