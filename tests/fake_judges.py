"""Judges whose answers are known, for tests of `evaluate`; the fixture `judged` of conftest puts them in place."""

from __future__ import annotations

import torch


class FakeASR:
    """Hears what a table says, by the length of the clip."""

    description = {"asr": "fake", "model": "table"}

    def __init__(self, table):
        self.table = table

    def transcribe(self, waveforms, sample_rate=16000):
        return [self.table[waveform.shape[0]] for waveform in waveforms]


class FakeSpeaker:
    """Embeds a clip as the sign of its mean."""

    description = {"speaker": "fake", "model": "sign"}

    def embed(self, waveforms, sample_rate=16000):
        return torch.stack([torch.tensor([1.0, 0.0]) * w.mean().sign() for w in waveforms])
