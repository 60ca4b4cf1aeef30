"""Speech that can be made and recognised exactly: every word is a tone of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from svae.recordings.speech import Stretch
from svae.text.phone_aligner import AlignmentError

RATE = 16000
WORDS = (
    "the quick brown fox jumps over a lazy dog while seven old men read from long books about "
    "ships storms winter gold and silver"
).split()
WORD_SECONDS, GAP_SECONDS = 0.25, 0.08


def say(text: str, rate: int = RATE) -> np.ndarray:
    """Return the words of a text as tones of 16-bit-like loudness, float32 (S,)."""
    gap = np.zeros(round(GAP_SECONDS * rate))
    time = np.arange(round(WORD_SECONDS * rate)) / rate
    pieces = []
    for word in text.lower().replace(".", "").replace(",", "").split():
        pieces += [0.3 * np.sin(2 * np.pi * (300 + 60 * WORDS.index(word)) * time), gap]
    return np.concatenate(pieces[:-1]).astype(np.float32)


def silence(seconds: float, rate: int = RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def speak(path: Path, *parts: str | float, rate: int = RATE) -> Path:
    """Write texts and, as numbers, seconds of silence."""
    pieces = [say(part, rate) if isinstance(part, str) else silence(part, rate) for part in parts]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate(pieces), rate)
    return path


def bursts(waveform: torch.Tensor, rate: int, least_gap: float) -> list[tuple[int, int]]:
    """Return (first sample, one behind the last) of what is loud, across gaps shorter than so many seconds."""
    size = rate // 100
    levels = waveform[: len(waveform) // size * size].view(-1, size).square().mean(dim=1)
    found: list[list[int]] = []
    for frame in (levels > 0.01).nonzero()[:, 0].tolist():
        if found and frame * size - found[-1][1] < least_gap * rate:
            found[-1][1] = (frame + 1) * size
        else:
            found.append([frame * size, (frame + 1) * size])
    return [(first, last) for first, last in found]


class FakeDetector:
    """Takes what is loud for speech."""

    description = {"vad": "loudness", "version": "0"}

    def stretches(self, waveform: torch.Tensor) -> list[Stretch]:
        return [Stretch(a / RATE, b / RATE) for a, b in bursts(waveform, RATE, 0.1)]


class FakeRecognizer:
    """Hears tones as words; counts clips; mishears those in `wrong`; is interrupted after so many."""

    description = {"spec": "fake", "asr": "fake"}

    def __init__(self, wrong: dict[str, str] | None = None, stop_after: int | None = None) -> None:
        self.wrong, self.stop_after, self.asked = wrong or {}, stop_after, 0

    def transcribe(self, waveforms, sample_rate=RATE):
        texts = []
        for waveform in waveforms:
            if self.asked == self.stop_after:
                raise KeyboardInterrupt
            self.asked += 1
            words = []
            for first, last in bursts(waveform, sample_rate, 0.03):
                spectrum = torch.fft.rfft(waveform[first:last])
                hertz = float(spectrum.abs().argmax()) * sample_rate / (last - first)
                number = round((hertz - 300) / 60)
                if 0 <= number < len(WORDS):
                    word = WORDS[number]
                    words += self.wrong.get(word, word).split()
            texts.append(" ".join(words))
        return texts


class FakeAligner:
    """Aligns everything but texts with `gold` in them, and badly those with `silver`; knows no digits, as the real one."""

    def fit(self, waveform, text):
        if "gold" in text or any(map(str.isdigit, text)):
            raise AlignmentError("0 of 3 words found in the recording")
        return -60.0 if "silver" in text else -12.0
