"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_vae import TINY_VAE
from tone_shards import write_tone_shards

from svae.config import VAEConfig

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
