"""Fixtures shared by all tests."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_vae import TINY_VAE
from tone_shards import write_tone_shards

from svae.config import VAEConfig

# With it huggingface_hub asks its server which programs call themselves an agent, also for what is in its cache.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
pytest_plugins = (
    "fake_hub",
    "fake_judges",
    "fake_s3",
    "fake_server",
    "ray_cluster",
    "tiny_flow",
    "tiny_tts",
)
"""Modules of fixtures that tests of several rooms use."""

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference vectors and real speech beside a developer's checkout; the test skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    return SHARED


@pytest.fixture(autouse=True)
def asked_hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of other machines that were looked up. None of them answers, and a test that leaves any in the list fails.

    So the tests take as long with a network as without one, and what svae has on the disk it asks nobody for.
    """
    names: list[str] = []
    look_up = socket.getaddrinfo

    def look_up_here(host: str | bytes | None, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name or name in ("localhost", socket.gethostname()) or _is_address(name):
            return look_up(host, *args, **options)
        names.append(name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    yield names
    assert names == [], "other machines were asked for something"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@pytest.fixture
def tiny_vae_config() -> VAEConfig:
    """A VAE of the published structure with widths that make a test take milliseconds."""
    return TINY_VAE


@pytest.fixture(scope="session")
def tone_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of waveform shards that takes no time to make."""
    return write_tone_shards(tmp_path_factory.mktemp("tones"))


@pytest.fixture(scope="session")
def toy_tts(tone_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TTS run of two steps on a VAE of two steps: it says nothing, but everything in it is of the real classes."""
    from tiny_runs import TTS, VAE, tts_config, vae_config

    from svae.training.loop import TrainOptions
    from svae.training.tts.train import train_tts
    from svae.training.vae.train import train_vae

    folder = tmp_path_factory.mktemp("toy")
    vae = vae_config(tone_shards, trainer=VAE["trainer"] | {"steps": 2})
    train_vae(TrainOptions(vae, folder / "vae", device="cpu"))
    tts = tts_config(tone_shards, folder / "vae", trainer=TTS["trainer"] | {"steps": 2})
    return train_tts(TrainOptions(tts, folder / "tts", device="cpu"))


@pytest.fixture
def judged(monkeypatch):
    """Puts judges in place whose recogniser hears what a table says: `judged({samples of a clip: its words})`."""
    from fake_judges import FakeASR, FakeSpeaker

    from svae.evaluation import options as options_module

    def _judged(table):
        monkeypatch.setattr(
            options_module, "load_asr", lambda spec, device, **settings: FakeASR(table)
        )
        monkeypatch.setattr(
            options_module, "load_speaker_model", lambda spec, device: FakeSpeaker()
        )

    return _judged
