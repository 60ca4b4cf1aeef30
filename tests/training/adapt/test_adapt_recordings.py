"""What `svae adapt` makes of recordings before it learns from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_tts import VOCABULARY

from svae.audio import load_audio, save_audio
from svae.synthesis.model import PROMPT_RMS
from svae.training.adapt.recordings import FLOOR_DB, Studio, survey

RATE = 16000


def gated(level: float, silence: float) -> torch.Tensor:
    """Return speech-like sound of a level (RMS) with noise of another one in its two pauses of half a second."""
    torch.manual_seed(1)
    time = torch.arange(RATE) / RATE
    voice = torch.sin(2 * torch.pi * 150 * time) * (1 + torch.sin(2 * torch.pi * 4 * time))
    voice = voice * level / voice.square().mean().sqrt()
    pause = silence * torch.randn(RATE // 2)
    return torch.cat([voice, pause, voice, pause, voice])[None]


def taken(folder: Path, waveform: torch.Tensor) -> torch.Tensor:
    for name in "abcdefg":
        (folder / "given").mkdir(exist_ok=True)
        save_audio(folder / "given" / f"{name}.wav", waveform, RATE)
        (folder / "given" / f"{name}.txt").write_text("one two")
    found = survey(folder / "given", folder / "run")
    studio = Studio(folder / "run" / "audio", RATE, VOCABULARY, "en", None)
    take = studio.make(found, Console(quiet=True))[0]
    return load_audio(folder / "run" / "audio" / take.name)[0]


def quietest(waveform: torch.Tensor) -> float:
    """Return the level of the quietest tenth of a second, in dB below the whole."""
    frames = waveform[0, : waveform.shape[1] // 1600 * 1600].reshape(-1, 1600)
    levels = frames.square().mean(dim=1).clamp_min(1e-14)
    return float(10 * (waveform.square().mean() / levels.min()).log10())


@pytest.mark.parametrize("level", [0.01, 0.1, 0.25])
@pytest.mark.parametrize("silence", [0.0, 1e-5])
def test_pauses_are_never_quieter_than_others_are(tmp_path, level, silence):
    given = gated(level, silence)
    assert quietest(given) > 50  # deeper than any room
    waveform = taken(tmp_path, given)
    assert float(waveform.square().mean().sqrt()) == pytest.approx(PROMPT_RMS, rel=0.02)
    assert quietest(waveform) == pytest.approx(FLOOR_DB, abs=1)


def test_a_noisy_recording_stays_as_noisy(tmp_path):
    given = gated(0.1, 0.004)
    assert quietest(taken(tmp_path, given)) == pytest.approx(quietest(given), abs=0.6)
