"""What the speaker judge learns from: voices in memory, how a batch is drawn, and how a crop is spoilt."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

from recording import COLOUR_DB, COLOUR_TERMS
from speaker_people import SAMPLE_RATE, Clip, people

# ----------------------------------------------------------------------------------------------- in memory


@dataclass(frozen=True)
class Utterance:
    """One recording in memory."""

    samples: Tensor
    """(S,), int16."""
    ge2e: Tensor | None = None
    """(256,), of unit length: what GE2E says of it; None: not asked."""


Speakers = dict[str, list[Utterance]]


@dataclass(frozen=True)
class Source:
    """Speakers of one kind, and how much of a batch is theirs."""

    speakers: Speakers
    voices: int
    """Speakers of it in a batch."""
    crops: int = 1
    """Of each of them."""
    speeds: bool = False
    """True: a speaker played at another speed is another class, as pitch and formants move."""
    named: bool = True
    """False: nobody knows who speaks, each utterance stands alone: no classes, GE2E is the only teacher."""

    @property
    def classes(self) -> int:
        """How many classes it adds."""
        return self.named * len(self.speakers) * (len(SPEEDS) if self.speeds else 1)


SPEEDS = ((1, 1, 0.6), (10, 9, 0.2), (10, 11, 0.2))
"""Rates of resampling, from and to, and how often they are drawn: as recorded, 11 % faster, 9 % slower."""


def load_by_speaker(root: Path) -> Speakers:
    """Read a corpus of corpus.py into memory, by speaker."""
    speakers: Speakers = {}
    for line in (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        samples, rate = soundfile.read(root / row["audio"], dtype="int16")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{root / row['audio']}: {rate} Hz, expected {SAMPLE_RATE}")
        speakers.setdefault(row["speaker"], []).append(Utterance(torch.from_numpy(samples)))
    return speakers


def load_people(clips: Iterable[Clip], ge2e: dict[str, Tensor]) -> Speakers:
    """Read recordings of people into memory, by speaker; an unnamed clip is a speaker of its own."""
    speakers: Speakers = {}
    for clip in clips:
        utterance = Utterance(clip.load(), ge2e.get(str(Path(clip.audio).absolute())))
        speakers.setdefault(clip.speaker or clip.audio, []).append(utterance)
    return speakers


def read_ge2e(path: Path) -> dict[str, Tensor]:
    """Read what ge2e.py wrote: name of the recording → (256,)."""
    with np.load(path, allow_pickle=False) as stored:
        return dict(zip(stored["names"].tolist(), torch.from_numpy(stored["vectors"]), strict=True))


# ----------------------------------------------------------------------------------------------- a batch


def training_sources(
    synthetic: Speakers, root: Path | None, ge2e: dict[str, Tensor]
) -> list[Source]:
    """Return what a batch is made of: synthetic voices alone, or mostly people."""
    if root is None:
        return [Source(synthetic, 48)]
    clips = [clip for clip in people(root) if clip.part == "train"]

    def of(corpus: str) -> Speakers:
        return load_people((c for c in clips if c.corpus.startswith(corpus)), ge2e)

    return [
        Source(of("librispeech"), 8, crops=2, speeds=True),
        Source(of("speechocean762-adult"), 5, crops=2, speeds=True),
        Source(of("speechocean762-child"), 4, crops=2, speeds=True),
        Source(of("picovoice"), 8, named=False),
        Source(synthetic, 8),
    ]


def draw_batch(
    sources: list[Source], samples: int, rng: random.Random
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw crops of random utterances by different random speakers of each source.

    Returns:
        Crops (B, S) float32; their classes (B,), -1 for none; what GE2E says of the utterances (B, 256), zeros for nothing.
    """
    crops, classes, targets, first = [], [], [], 0
    for source in sources:
        names = list(source.speakers)
        for number in rng.sample(range(len(names)), source.voices):
            for _ in range(source.crops):
                speed = rng.choices(range(3), [p for *_, p in SPEEDS])[0] if source.speeds else 0
                utterance = rng.choice(source.speakers[names[number]])
                crops.append(crop(utterance.samples, samples, speed, rng))
                classes.append(first + number + speed * len(names) if source.named else -1)
                known = utterance.ge2e is not None and speed == 0
                targets.append(utterance.ge2e if known else torch.zeros(256))
        first += source.classes
    return torch.stack(crops), torch.tensor(classes), torch.stack(targets)


def crop(utterance: Tensor, samples: int, speed: int, rng: random.Random) -> Tensor:
    """Return a random piece (samples,) float32, played at one of `SPEEDS`; a short utterance is repeated."""
    source_rate, target_rate, _ = SPEEDS[speed]
    needed = math.ceil(samples * source_rate / target_rate)
    start = rng.randint(0, max(0, len(utterance) - needed))
    piece = utterance[start : start + needed].float() / 32768
    piece = piece.repeat(-(-needed // len(piece)))[:needed]
    return torchaudio.functional.resample(piece, source_rate, target_rate)[:samples]


def augment(waveform: Tensor) -> Tensor:
    """Add, each to a part of the crops (B, S): a room, a microphone's colour, noise or talkers; then any level."""
    count, samples = waveform.shape
    chosen = torch.rand(4, count, 1)
    seconds = torch.arange(4000) / SAMPLE_RATE
    decay = torch.exp(-6.9 * seconds / torch.empty(count, 1).uniform_(0.1, 0.5))
    room = 0.3 * torch.randn(count, 4000) * decay * torch.empty(count, 1).uniform_(0.05, 0.5)
    room[:, 0] = 1.0
    spectrum = torch.fft.rfft(waveform, samples + 4000)
    echo = torch.where(chosen[0] < 0.35, torch.fft.rfft(room, samples + 4000), 1)
    colour = torch.where(chosen[1] < 0.6, colours(count, spectrum.shape[1]), 1)
    waveform = torch.fft.irfft(spectrum * echo * colour, samples + 4000)[:, :samples]
    rms = waveform.square().mean(1, keepdim=True).sqrt()
    noise = torch.randn(count, samples)
    noise = torch.where(
        torch.rand(count, 1) < 0.5, noise, noise.cumsum(1) - noise.cumsum(1).mean(1, keepdim=True)
    )
    noise = noise / noise.square().mean(1, keepdim=True).sqrt() * rms
    talkers = waveform.roll(2, 0) + waveform.roll(7, 0) + waveform.roll(13, 0)
    talkers = talkers / talkers.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6) * rms
    added = torch.where(chosen[3] < 0.3, talkers, noise) * 10 ** (
        -torch.empty(count, 1).uniform_(8, 30) / 20
    )
    waveform = torch.where(chosen[2] < 0.5, waveform + added, waveform)
    return waveform * 10 ** (torch.empty(count, 1).uniform_(-15, 6) / 20)


def colours(count: int, bins: int) -> Tensor:
    """Draw smooth gains (count, bins) from 0 to 8 kHz: cosines of the logarithm of frequency, as recording.py's."""
    place = torch.linspace(0, SAMPLE_RATE / 2, bins).clamp_min(60).div(60).log()
    terms = torch.arange(1, COLOUR_TERMS + 1)[:, None] * math.pi * place / place[-1]
    return 10 ** (COLOUR_DB * torch.randn(count, COLOUR_TERMS) @ terms.cos() / 20)
