"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from svae.config import BigVGANConfig, VAEConfig

pytest_plugins = ("fake_hub", "fake_judges", "fake_s3", "fake_server", "tiny_flow", "tiny_tts")
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
    return VAEConfig(
        latent_dim=8,
        encoder_channels=4,
        attention_heads=2,
        decoder=BigVGANConfig(
            upsample_rates=(5, 5, 4, 4),
            upsample_kernel_sizes=(9, 9, 8, 8),
            initial_channels=32,
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),),
        ),
    )


def write_tone_shards(
    root: Path,
    *,
    shards: int = 2,
    per_shard: int = 4,
    seconds: float = 0.6,
    rate: int = 16000,
    mark: str = "",
) -> Path:
    """Write waveform shards of short gliding tones with texts, `mark` in each; the first is held out."""
    import io

    import numpy as np
    import soundfile

    from svae.data.index import write_index
    from svae.data.shard_writer import ShardItem, write_shard

    def items(shard: int):  # noqa: ANN202
        for i in range(per_shard):
            number = shard * per_shard + i
            size = int(rate * (seconds + 0.05 * (number % 5)))
            time = np.arange(size) / rate
            wave = 0.3 * np.sin(2 * np.pi * (150 + 40 * number) * time * (1 + 0.2 * time))
            file = io.BytesIO()
            soundfile.write(file, wave, rate, format="FLAC", subtype="PCM_16")
            text = (
                "one two three four five six".split()[number % 6]
                + f" tone {'abcdefgh'[number % 8]}{mark}"
            )
            yield ShardItem(
                f"tone-{number:03d}",
                {"flac": file.getvalue()},
                size,
                rate,
                f"s{number % 2}",
                "en",
                text,
            )

    entries = [write_shard(root, shard, items(shard)) for shard in range(shards)]
    write_index(
        root,
        kind="waveforms",
        corpus="tones",
        sample_rate=rate,
        shards=entries,
        validation=["tone-000"],
        rejected={},
    )
    return root


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
