"""Mel frames as a representation: F5-TTS's numbers, batches, decoding, refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchaudio
from torch import Tensor, nn

from svae.errors import CheckpointError, ConfigError
from svae.models.mel import GRIFFIN_LIM, MelFrames, load_vocos


def speech(samples: int, seed: int = 0) -> Tensor:
    """Return (1, 1, S) of a gliding voice-like tone with noise."""
    time = torch.arange(samples) / 24000
    phase = 2 * torch.pi * (140 * time + 30 * time.square())
    wave = sum(torch.sin(k * phase) / k for k in range(1, 12)) * (
        1 + 0.5 * torch.sin(2 * torch.pi * 3 * time)
    )
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return (0.1 * wave + 0.003 * noise)[None, None]


@pytest.mark.parametrize("samples", [24000, 24001, 5120, 700, 513])
def test_frames_are_those_of_f5s_transform(samples: int) -> None:
    transform = torchaudio.transforms.MelSpectrogram(
        sample_rate=24000,
        n_fft=1024,
        win_length=1024,
        hop_length=256,
        n_mels=100,
        power=1,
        center=True,
        norm=None,
    )
    expected = transform(speech(samples)[:, 0]).clamp(min=1e-5).log()
    found = MelFrames().encode(speech(samples)).mean
    assert found.shape == (1, 100, -(-samples // 256))
    assert expected.shape[2] - found.shape[2] == (samples % 256 == 0)
    torch.testing.assert_close(found, expected[..., : found.shape[2]], atol=1e-4, rtol=0)


def test_a_batch_gives_what_each_gives_alone_whatever_the_padding_holds() -> None:
    mel, sizes = MelFrames(), (9000, 5121, 300, 1)
    batch = torch.full((4, 1, 9000), 0.7)
    for row, size in zip(batch, sizes, strict=True):
        row[:, :size] = speech(size, seed=size)[0]
    together = mel.encode(batch, torch.tensor(sizes))
    assert together.lengths.tolist() == [-(-size // 256) for size in sizes]
    for i, size in enumerate(sizes):
        alone = mel.encode(speech(size, seed=size))
        frames = alone.mean.shape[2]
        torch.testing.assert_close(
            together.mean[i : i + 1, :, :frames], alone.mean, atol=1e-5, rtol=0
        )
        assert not together.mean[i, :, frames:].any()
    assert torch.equal(together.sample(), together.mean)  # certain


def test_griffin_lim_gives_back_as_many_samples_and_nearly_the_same_frames() -> None:
    mel = MelFrames(GRIFFIN_LIM)
    frames = mel.encode(speech(12000)).mean
    waveform = mel.decode(frames)
    assert waveform.shape == (1, 1, 47 * 256) and float(waveform.abs().max()) <= 1
    error = (mel.encode(waveform).mean - frames)[..., 2:-2].abs().mean()
    assert error < 0.5 < (frames - frames.mean()).abs().mean()
    assert torch.equal(mel.decode(frames), waveform)  # no chance in it


def test_nothing_is_normalised() -> None:
    mel, frames = MelFrames(), torch.randn(1, 100, 5)
    assert mel.normalize(frames) is frames and mel.denormalize(frames) is frames
    assert not mel.state_dict()


# ------------------------------------------------------------------------------------------- Vocos


class FakeBackbone(nn.Module):
    """Stands in for Vocos, which tests cannot download: constant sound, one weight."""

    input_channels = 100


class FakeVocos(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = FakeBackbone()
        self.level = nn.Parameter(torch.zeros(()))

    @classmethod
    def from_hparams(cls, path: str) -> FakeVocos:
        assert Path(path).name == "config.yaml"
        return cls()

    def decode(self, mel: Tensor) -> Tensor:
        return self.level.expand(mel.shape[0], (mel.shape[2] - 1) * 256)


@pytest.fixture
def vocos_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import types

    module = types.ModuleType("vocos")
    module.Vocos = FakeVocos
    monkeypatch.setitem(sys.modules, "vocos", module)
    (tmp_path / "config.yaml").write_text(
        "head:\n  class_path: vocos.heads.ISTFTHead\n  init_args: {dim: 512}\n"
    )
    torch.save({"level": torch.tensor(0.25)}, tmp_path / "pytorch_model.bin")
    return tmp_path


def test_vocos_is_loaded_from_a_folder_once_and_only_for_decoding(vocos_folder: Path) -> None:
    mel = MelFrames(str(vocos_folder))
    frames = mel.encode(speech(1000)).mean
    waveform = mel.decode(frames)
    assert waveform.shape == (1, 1, 4 * 256) and bool((waveform == 0.25).all())
    (vocos_folder / "config.yaml").unlink()
    assert torch.equal(mel.decode(frames), waveform)


def test_an_unusable_vocoder_is_refused_with_what_to_do(
    vocos_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="for 100 channels, but the model generates 64"):
        load_vocos(str(vocos_folder), 64)
    (vocos_folder / "config.yaml").write_text("head:\n  class_path: os.system\n")
    with pytest.raises(CheckpointError, match="os.system; only classes of vocos"):
        load_vocos(str(vocos_folder), 100)
    (vocos_folder / "pytorch_model.bin").unlink()
    with pytest.raises(ConfigError, match="pytorch_model.bin"):
        load_vocos(str(vocos_folder), 100)
    with pytest.raises(ConfigError, match="neither a folder nor a hub id"):
        load_vocos(str(vocos_folder / "absent"), 100)
    monkeypatch.setitem(sys.modules, "vocos", None)
    with pytest.raises(ConfigError, match=r"pip install 'svae\[mel\]'.*griffin-lim"):
        MelFrames("charactr/vocos-mel-24khz").decode(torch.zeros(1, 100, 3))
