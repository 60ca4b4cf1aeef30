"""Fit the duration predictor to an index: texts, speakers and durations (or times of phones) are all it needs, no audio."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from svae.data.samples import Sample
from svae.data.timings import Timings
from svae.frames import length_mask
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.text.phonemes import FramePhonemes
from svae.text.vocabulary import PADDING_ID, Vocabulary

Predictor = TypeVar("Predictor", bound=nn.Module)

STEPS, BATCH, LEARNING_RATE = 150, 64, 5e-3
PHONE_STEPS, PHONE_BATCH, PHONE_LEARNING_RATE = 1000, 16, 3e-3
MIN_TEXTS = 16
"""With fewer texts nothing is fitted, which leaves the byte rule."""
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
    the shares of the characters are learned. Utterances without text are left out; with fewer than 16 texts there is
    no predictor.
    """
    usable = [sample for sample in samples if sample.text]
    if len(usable) < MIN_TEXTS:
        return None
    speakers = _by_speaker(usable)
    model = _seeded(lambda: DurationPredictor(len(vocabulary)), seed)
    choose = random.Random(seed)

    def loss() -> Tensor:
        targets = [choose.choice(usable) for _ in range(BATCH)]
        prompts = [_partner(target, speakers, choose) for target in targets]
        frames, prompt_frames = (
            torch.tensor([sample.num_samples / hop_length for sample in part])
            for part in (targets, prompts)
        )
        predicted = model(_tokens(targets, vocabulary), _tokens(prompts, vocabulary), prompt_frames)
        return F.smooth_l1_loss(predicted, frames.log(), beta=0.05)

    _descend(model, loss, steps=steps, learning_rate=LEARNING_RATE)
    return model


def _tokens(samples: Sequence[Sample], vocabulary: Vocabulary) -> Tensor:
    pairs = ((vocabulary.in_language(sample.language), sample.text) for sample in samples)
    rows = [torch.tensor(read_as.encode(read_as.fit(text))) for read_as, text in pairs]
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
        vocabulary: the TTS model's, words spelled as in its training.
        timings: times of the samples' phones.
        sample_rate: in Hz.
        hop_length: samples per frame.
        seed: decides the initial weights and the pairs; the result is a function of the arguments alone.
        steps: how many, at a learning rate that falls linearly to 0.
    """
    speakers = _by_speaker(samples)
    paired = [sample for sample in samples if len(speakers[sample.speaker]) > 1] or samples
    model = _seeded(lambda: PhoneDurations(len(vocabulary)), seed)
    choose = random.Random(seed)

    def phones(sample: Sample) -> tuple[Tensor, Tensor]:
        """Return the ids of an utterance's phones and how many frames each lasts."""
        symbols, ends = timings.timeline(sample, vocabulary, sample_rate, hop_length)
        times = torch.tensor([0.0, *ends], dtype=torch.float32)
        return torch.tensor(vocabulary.ids(symbols)), times.diff().clamp_min(0)

    def loss() -> Tensor:
        targets = [choose.choice(paired) for _ in range(PHONE_BATCH)]
        tempos = [math.exp(choose.uniform(*map(math.log, TEMPOS))) for _ in targets]
        tokens: list[Tensor] = []
        frames: list[Tensor] = []
        known_lengths: list[int] = []
        for target, tempo in zip(targets, tempos, strict=True):
            prompt_ids, prompt_frames = phones(_partner(target, speakers, choose))
            target_ids, target_frames = phones(target)
            # The pause between them is the prompt's: what follows begins with the first word, as in synthesis.
            tokens.append(torch.cat([prompt_ids, target_ids[1:]]))
            frames.append(torch.cat([prompt_frames, target_frames[1:]]) * tempo)
            known_lengths.append(len(prompt_ids))
        ids = pad_sequence(tokens, batch_first=True, padding_value=PADDING_ID)
        durations = pad_sequence(frames, batch_first=True)
        known = length_mask(torch.tensor(known_lengths), ids.shape[1])
        asked = (ids >= 0) & ~known
        predicted = model(ids, durations, known)
        return F.smooth_l1_loss(predicted[asked], durations.log1p()[asked], beta=0.05)

    _descend(model, loss, steps=steps, learning_rate=PHONE_LEARNING_RATE)
    return model


# ----------------------------------------------------------------------------------------------- shared by both


def _by_speaker(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.speaker].append(sample)
    return groups


def _partner(target: Sample, speakers: Mapping[str, list[Sample]], choose: random.Random) -> Sample:
    """Return another utterance by the target's speaker, or the target itself where two draws find none."""
    group = speakers[target.speaker]
    drawn = [choose.choice(group), choose.choice(group)]
    return next((sample for sample in drawn if sample.key != target.key), target)


def _seeded(build: Callable[[], Predictor], seed: int) -> Predictor:
    """Build a network from its own random numbers: fitting must not move those of the training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _descend(
    model: nn.Module, loss: Callable[[], Tensor], *, steps: int, learning_rate: float
) -> None:
    """Minimise a loss by AdamW at a rate that falls linearly to 0, and leave the network in eval mode."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    for step in range(steps):
        value = loss()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    model.eval().requires_grad_(False)


# ----------------------------------------------------------------------------------------------- in a run


def fit_predictor(
    samples: Sequence[Sample],
    vocabulary: Vocabulary,
    *,
    timings: Timings | None = None,
    sample_rate: int | None = None,
    **fit: int,
) -> dict[str, Tensor] | None:
    """Return the weights of `fit_phone_durations`, where there are `timings`, or else of `fit_duration`, if it fits any.

    Arguments are those of the two.
    """
    predictor: DurationPredictor | PhoneDurations | None
    if timings is None:
        predictor = fit_duration(samples, vocabulary, **fit)
    else:
        assert isinstance(vocabulary, FramePhonemes) and sample_rate is not None
        predictor = fit_phone_durations(
            samples, vocabulary, timings, sample_rate=sample_rate, **fit
        )
    return None if predictor is None else predictor.state_dict()
