"""Fit the duration predictor to an index: texts, speakers and durations are all it needs, no audio."""

from __future__ import annotations

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

from svae.data.shards import Sample
from svae.models.duration import DurationPredictor
from svae.text import PADDING_ID, Vocabulary
from svae.tts import DURATION_FILE

STEPS, BATCH, LEARNING_RATE = 150, 64, 5e-3


def fit_duration(
    samples: Sequence[Sample],
    vocabulary: Vocabulary,
    *,
    sample_rate: int,
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
        sample_rate: of the waveforms, Hz.
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
    others = [sample for sample in (choose.choice(group), choose.choice(group)) if sample is not target]
    return others[0] if others else target


def _tokens(samples: Sequence[Sample], vocabulary: Vocabulary) -> Tensor:
    rows = [torch.tensor(vocabulary.encode(sample.text)) for sample in samples]
    return pad_sequence(rows, batch_first=True, padding_value=PADDING_ID)


def kept_predictor(
    run: Path, samples: Sequence[Sample], vocabulary: Vocabulary, **fit: Any
) -> dict[str, Tensor] | None:
    """Return the weights of a run's predictor: those fitted when it began, or fitted now and kept in the run folder.

    Args:
        run: the run folder.
        samples: see `fit_duration`.
        vocabulary: see `fit_duration`.
        **fit: see `fit_duration`.
    """
    path = run / DURATION_FILE
    if path.is_file():
        return load_file(path)
    predictor = fit_duration(samples, vocabulary, **fit)
    if predictor is None:
        return None
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(predictor.state_dict(), temporary)
    temporary.replace(path)
    return predictor.state_dict()
