"""A text-to-speech model of milliseconds on the disk, and what to say with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_vae import TINY_VAE
from torch import Tensor, nn

from svae.audio import save_audio
from svae.checkpoint import write_checkpoint
from svae.config import DiTConfig, VAEConfig
from svae.models.tts.dit import DiT
from svae.models.vae.vae import SpeechVAE
from svae.recipe import to_tree
from svae.synthesis.command import SynthesizeOptions
from svae.synthesis.types import Sampling
from svae.text.vocabulary import Vocabulary

DIT = DiTConfig(
    dim=32, depth=2, heads=2, text_dim=16, text_conv_layers=1, conv_pos_groups=4, conv_pos_kernel=7
)


VOCABULARY = Vocabulary.from_characters("abcdefghijklmnopqrstuvwxyz.,?H'")


PROMPT_TEXT, TEXT = "the first sentence", "Hello there, you."


RATE = 16000


def write_tts(
    folder: Path,
    vae_config: VAEConfig,
    *,
    seed: int = 0,
    vocabulary: Vocabulary = VOCABULARY,
    more: dict[str, dict[str, Tensor]] | None = None,
) -> Path:
    """Write a TTS checkpoint with random weights and its VAE, as training does; `more` as `write_checkpoint` takes it."""
    torch.manual_seed(seed)
    vae, model = SpeechVAE(vae_config), DiT(DIT, len(vocabulary), vae_config.latent_dim)
    for layer in (
        model.output,
        model.output_modulation,
        *(block.modulation for block in model.blocks),
    ):
        nn.init.normal_(layer.weight, std=0.1)
    ones = [1.0] * vae_config.latent_dim
    description = {"kind": "vae", "step": 1, "model": to_tree(vae_config), "teacher_dim": None}
    description |= {
        "sample_rate": RATE,
        "hop_length": 400,
        "latent_mean": ones,
        "latent_std": [2 * x for x in ones],
    }
    inner = write_checkpoint(
        folder.with_name(folder.name + "-vae"), config=description, model_state=vae.state_dict()
    )
    config = {"kind": "tts", "step": 7, "model": to_tree(DIT), "vocabulary": vocabulary.to_json()}
    config |= {
        "latent_dim": vae_config.latent_dim,
        "sample_rate": RATE,
        "hop_length": 400,
        "max_seconds": 12.0,
    }
    config |= {"vae_hash": inner.hash}
    write_checkpoint(
        folder,
        config=config,
        model_state=model.state_dict(),
        vae_folder=inner.folder,
        more=more,
    )
    return folder


def speech(seconds: float = 1.0, level: float = 0.2) -> Tensor:
    """Return noise (1, S) of an RMS level, which is speech enough for random weights."""
    waveform = torch.randn(1, int(seconds * RATE), generator=torch.Generator().manual_seed(3))
    return waveform * (level / waveform.square().mean().sqrt())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tts(tmp_path_factory.mktemp("tts") / "model", TINY_VAE)


@pytest.fixture
def options(tmp_path: Path, tiny_vae_config: VAEConfig) -> SynthesizeOptions:
    reference = tmp_path / "ref.flac"
    save_audio(reference, speech(), 16000)
    model = write_tts(tmp_path / "model", tiny_vae_config)
    out = tmp_path / "new" / "hello.wav"
    return SynthesizeOptions(
        ref=reference,
        text=TEXT,
        model=model,
        ref_text=PROMPT_TEXT,
        out=out,
        sampling=Sampling(num_steps=2, seed=5),
        device="cpu",
    )


def changed(options: SynthesizeOptions, **changes: object) -> SynthesizeOptions:
    settings = {
        name: changes.pop(name) for name in list(changes) if name in Sampling.__dataclass_fields__
    }
    return replace(options, sampling=replace(options.sampling, **settings), **changes)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the recogniser by one that hears the last entry of this list."""
    sentences: list[str] = [""]

    class Recognizer:
        description = {"asr": "stand-in"}

        def transcribe(self, waveforms: list[torch.Tensor], sample_rate: int) -> list[str]:
            assert all(w.dim() == 1 and w.shape[0] == sample_rate for w in waveforms)  # one second
            return [sentences[-1]] * len(waveforms)

    monkeypatch.setattr("svae.synthesis.reference.load_asr", lambda spec, device: Recognizer())
    return sentences
