"""`svae adapt` in seconds: recordings that are noises, judges that hear the same of everything, four steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_tts import speech

from svae.audio import save_audio
from svae.training.adapt import data as data_module
from svae.training.adapt import held_out as held_out_module
from svae.training.adapt import run as run_module
from svae.training.adapt.run import AdaptOptions

WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
QUICK = (
    "trainer.steps=4",
    "trainer.checkpoint_every=1",
    "trainer.synthesize_every=2",
    "trainer.validate_every=2",
    "trainer.keep_checkpoints=9",
    "trainer.synthesize_steps=1",
    "optimizer.warmup_steps=0",
    "ema.start_step=1",
    "lora.rank=2",
)


class Ear:
    """Hears the same of everything."""

    description = {"asr": "fake"}

    def transcribe(self, waveforms, sample_rate=16000):
        return ["one two"] * len(waveforms)


class Voices:
    """Embeds a clip as its level and its roughness."""

    description = {"speaker": "fake"}

    def embed(self, waveforms, sample_rate=16000):
        rows = [torch.stack([w.std(), w.diff().std()]) for w in waveforms]
        return torch.nn.functional.normalize(torch.stack(rows) + 1e-6, dim=1)


def record(folder: Path, *, texts: bool = True, count: int = 12, seconds: float = 2.0) -> Path:
    """Write recordings with their words beside them."""
    folder.mkdir(parents=True)
    for number, word in enumerate(WORDS[:count]):
        noise = speech(seconds + 0.1 * number, 0.05) * (1 + number) / 6
        save_audio(folder / f"{word}.wav", noise, 16000)
        if texts:
            (folder / f"{word}.txt").write_text(f"tone {word}")
    return folder


def put_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let these judges hear what is adapted."""
    monkeypatch.setattr(held_out_module, "load_asr", lambda spec, device: Ear())
    monkeypatch.setattr(held_out_module, "load_speaker_model", lambda spec, device: Voices())
    monkeypatch.setattr(run_module, "load_asr", lambda spec, device: Ear())
    monkeypatch.setattr(data_module, "SHARDS", 1)  # each is a process


def options_of(recordings: Path, folder: Path, out: Path, **more: object) -> AdaptOptions:
    """Return options of a quick run."""
    given = {"recordings": recordings, "model": folder, "out": out, "device": "cpu"}
    return AdaptOptions(**{"overrides": QUICK, **given, **more})


def scripted(monkeypatch: pytest.MonkeyPatch, similarity: dict[int, float]) -> None:
    """Let the judges say this of each step, whatever they hear."""
    said = held_out_module.HeldOut.said

    def scripted_row(self, tts, opened, sampling, session, step):
        row = said(self, tts, opened, sampling, session, step)
        return row | {"wer": 0.1, "similarity": similarity[step]}

    monkeypatch.setattr(held_out_module.HeldOut, "said", scripted_row)
