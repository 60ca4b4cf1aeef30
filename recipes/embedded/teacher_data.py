"""What the embedded teacher learns from and is scored on: SYNTHETIC speech, its letters and flite's phones."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from corpus import SAMPLE_RATE, deal, make_corpus
from voices import select_voices

SYMBOLS = ("<pad>", "|", "'", *"abcdefghijklmnopqrstuvwxyz", "<unk>")
"""Output classes: the CTC blank, the word border, letters. `<unk>` is there for the tokenizer and never occurs."""

PHONES = (
    "pau aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
).split()
"""flite's phones."""
FRAME_SECONDS = 0.02
FRAME_CENTRE_SECONDS = 0.0125
"""Frame n of the encoder is a function of the samples within 12.5 ms of 0.0125 + 0.02 n seconds."""


def make_data(root: Path, utterances: int, workers: int) -> None:
    """Make the training corpus and the two held-out ones below `root`, those that are missing.

    Every second training utterance is by one of flite's four natural voices, the others by all training voices in turn.
    """
    mixed = list(
        itertools.chain(
            *zip(itertools.cycle(select_voices("flite")), select_voices("train"), strict=False)
        )
    )
    for name, speakers, count, texts, seed in (
        ("train", mixed, utterances, "train", 1),
        ("held-out-texts", mixed, 400, "held-out", 2),
        ("held-out-voices", select_voices("held-out"), 400, "held-out", 3),
    ):
        if not (root / name / "metadata.jsonl").exists():
            pairs = deal(speakers, count, texts=texts, seed=seed)
            seconds = make_corpus(
                root / name, pairs, seed=seed, workers=workers, suffix=".flac", phones=True
            )
            print(f"{root / name}: {count} utterances, {seconds / 3600:.2f} hours", flush=True)


def load_corpus(root: Path) -> list[tuple[Tensor, str, str, Tensor]]:
    """Read a corpus into memory: (samples int16 (S,), spoken letters, speaker, phone of each frame) per utterance."""
    rows = [
        json.loads(line)
        for line in (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    items = []
    for row in rows:
        samples, rate = soundfile.read(root / row["audio"], dtype="int16")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{root / row['audio']}: {rate} Hz, expected {SAMPLE_RATE}")
        phones = phone_frames(row.get("phones", []))
        items.append((torch.from_numpy(samples), letters(row["text"]), row["speaker"], phones))
    return items


def phone_frames(phones: list[tuple[str, float]]) -> Tensor:
    """Return the phone number of each frame (T,) int64; empty where the phones are not known."""
    if not phones:
        return torch.zeros(0, dtype=torch.int64)
    ends = torch.tensor([end for _, end in phones])
    count = max(0, math.floor((float(ends[-1]) - FRAME_CENTRE_SECONDS) / FRAME_SECONDS))
    centres = FRAME_CENTRE_SECONDS + FRAME_SECONDS * torch.arange(count)
    numbers = torch.tensor([PHONES.index(phone) for phone, _ in phones])
    return numbers[torch.searchsorted(ends, centres, right=True).clamp_max(len(phones) - 1)]


def letters(text: str) -> str:
    """Return what is scored and learnt of a sentence: lower-case letters, apostrophes, single spaces."""
    return re.sub(r"[^a-z']+", " ", text.lower()).strip()


def batches(items: list, batch_seconds: float, rng: random.Random | None) -> list[list]:
    """Group utterances of similar length into batches of about `batch_seconds`; shuffled if `rng` is given."""
    jitter = (lambda: rng.uniform(0.9, 1.1)) if rng else (lambda: 1.0)
    ordered = sorted(items, key=lambda item: len(item[0]) * jitter())
    groups, group = [], []
    for item in ordered:
        if group and len(item[0]) * (len(group) + 1) > batch_seconds * SAMPLE_RATE:
            groups.append(group)
            group = []
        group.append(item)
    groups.append(group)
    if rng:
        rng.shuffle(groups)
    return groups


def collate(group: list) -> tuple[Tensor, Tensor]:
    """Pad a batch with zeros: waveform (B, S) float32 in [-1, 1] and attention mask (B, S) int64."""
    longest = max(len(samples) for samples, *_ in group)
    waveform = torch.zeros(len(group), longest)
    mask = torch.zeros(len(group), longest, dtype=torch.int64)
    for row, (samples, *_) in enumerate(group):
        waveform[row, : len(samples)] = samples.float() / 32768
        mask[row, : len(samples)] = 1
    return waveform, mask
