"""Fit the duration predictor to an index: texts, speakers and durations (or times of phones) are all it needs, no audio."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from svae.data.index import Sample
from svae.data.timings import Timings
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.runtime.files import atomic_path
from svae.synthesis.durations import DURATION_FILE
from svae.text.phonemes import FramePhonemes
from svae.text.vocabulary import PADDING_ID, Vocabulary

STEPS, BATCH, LEARNING_RATE = 150, 64, 5e-3
PHONE_STEPS, PHONE_BATCH, PHONE_LEARNING_RATE = 1000, 16, 3e-3
TEMPOS = (0.7, 1.5)
"""Bounds of a random factor on all durations of a pair: prompts are read faster and slower than the training's voices."""


def fit_duration(
    samples: Sequence[Sample],
    vocabulary: Vocabulary,
    *,
    hop_length: int,
    seed: int = 0,
    steps: int = STEPS,
) -> DurationPredictor | None:
    """Fit a predictor to pairs of utterances by the same speaker; a function of its arguments alone.

    An utterance without another one by its speaker is paired with itself: then the rate is known exactly, and only
    the shares of the characters are learned.

    Args:
        samples: utterances with texts in the vocabulary; those without text are left out.
        vocabulary: of the TTS model.
        hop_length: samples per frame.
        seed: of the initial weights and the pairs.
        steps: of AdamW with a learning rate that falls linearly to 0.

    Returns:
        The predictor in eval mode, or None where there are fewer than 16 texts.
    """
    usable = [sample for sample in samples if sample.text]
    if len(usable) < 16:
        return None
    by_speaker = defaultdict(list)
    for sample in usable:
        by_speaker[sample.speaker].append(sample)
    # A generator and weights of its own: fitting must not move the training's random numbers.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DurationPredictor(len(vocabulary))
    choose = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    for step in range(steps):
        targets = [choose.choice(usable) for _ in range(BATCH)]
        prompts = [_partner(target, by_speaker[target.speaker], choose) for target in targets]
        frames, prompt_frames = (
            torch.tensor([s.num_samples / hop_length for s in part]) for part in (targets, prompts)
        )
        predicted = model(_tokens(targets, vocabulary), _tokens(prompts, vocabulary), prompt_frames)
        loss = F.smooth_l1_loss(predicted, frames.log(), beta=0.05)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def _partner(target: Sample, group: list[Sample], choose: random.Random) -> Sample:
    others = [
        sample for sample in (choose.choice(group), choose.choice(group)) if sample is not target
    ]
    return others[0] if others else target


def _tokens(samples: Sequence[Sample], vocabulary: Vocabulary) -> Tensor:
    rows = [torch.tensor(vocabulary.encode(sample.text)) for sample in samples]
    return pad_sequence(rows, batch_first=True, padding_value=PADDING_ID)


def fit_phone_durations(
    samples: Sequence[Sample],
    vocabulary: FramePhonemes,
    timings: Timings,
    *,
    sample_rate: int,
    hop_length: int,
    seed: int = 0,
    steps: int = PHONE_STEPS,
) -> PhoneDurations:
    """Fit durations of phones to pairs of utterances by the same speaker, one known and one asked for, at any tempo.

    Speakers of one utterance are left out where there are others: a pair of it with itself would teach copying.

    Args:
        samples: utterances whose times are known.
        vocabulary: of the TTS model, words spelled as in its training.
        timings: of the samples.
        sample_rate: in Hz.
        hop_length: samples per frame.
        seed: of the initial weights and the pairs; the result is a function of the arguments alone.
        steps: of AdamW with a learning rate that falls linearly to 0.
    """
    by_speaker = defaultdict(list)
    for sample in samples:
        by_speaker[sample.speaker].append(sample)
    paired = [sample for sample in samples if len(by_speaker[sample.speaker]) > 1] or samples
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PhoneDurations(len(vocabulary))
    choose = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PHONE_LEARNING_RATE, weight_decay=0.01)

    def lasting(sample: Sample) -> tuple[Tensor, Tensor]:
        symbols, ends = timings.timeline(sample, vocabulary, sample_rate, hop_length)
        return torch.tensor(vocabulary.ids(symbols)), torch.tensor(
            [0.0, *ends], dtype=torch.float32
        ).diff().clamp_min(0)

    for step in range(steps):
        targets = [choose.choice(paired) for _ in range(PHONE_BATCH)]
        tempos = torch.tensor([math.exp(choose.uniform(*map(math.log, TEMPOS))) for _ in targets])[
            :, None
        ]
        pairs = [(lasting(_partner(t, by_speaker[t.speaker], choose)), lasting(t)) for t in targets]
        # The pause between them is the prompt's: what follows begins with the first word, as in synthesis.
        tokens = pad_sequence([torch.cat([p[0], t[0][1:]]) for p, t in pairs], True, PADDING_ID)
        frames = pad_sequence([torch.cat([p[1], t[1][1:]]) for p, t in pairs], True, 0.0) * tempos
        known = (
            torch.arange(tokens.shape[1])[None]
            < torch.tensor([len(p[0]) for p, _ in pairs])[:, None]
        )
        asked = (tokens >= 0) & ~known
        loss = F.smooth_l1_loss(
            model(tokens, frames, known)[asked], frames.log1p()[asked], beta=0.05
        )
        for group in optimizer.param_groups:
            group["lr"] = PHONE_LEARNING_RATE * (1 - step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def kept_predictor(
    run: Path,
    samples: Sequence[Sample],
    vocabulary: Vocabulary,
    *,
    timings: Timings | None = None,
    sample_rate: int | None = None,
    **fit: Any,
) -> dict[str, Tensor] | None:
    """Return the weights of a run's predictor: those fitted when it began, or fitted now and kept in the run folder.

    Arguments are those of `fit_phone_durations`, where there are `timings`, and of `fit_duration`.
    """
    path = run / DURATION_FILE
    if path.is_file():
        return load_file(path)
    predictor: DurationPredictor | PhoneDurations | None
    if timings is None:
        predictor = fit_duration(samples, vocabulary, **fit)
    else:
        assert isinstance(vocabulary, FramePhonemes) and sample_rate is not None
        predictor = fit_phone_durations(
            samples, vocabulary, timings, sample_rate=sample_rate, **fit
        )
    if predictor is None:
        return None
    with atomic_path(path) as temporary:
        save_file(predictor.state_dict(), temporary)
    return predictor.state_dict()
