"""Measures of speech, each for one utterance, and their averages."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svae.audio import log_mel, resample

_DELETE = str.maketrans("", "", string.punctuation + "“”‘’…–—")


def normalize_for_wer(text: str) -> str:
    """Lower the case, delete punctuation (apostrophes and hyphens too, without a space), collapse white space.

    Source: F5-TTS's English evaluation; it deletes the same characters and lowers the case.
    """
    return " ".join(text.translate(_DELETE).lower().split())


@dataclass(frozen=True)
class WordErrors:
    """Word errors of one utterance."""

    substitutions: int
    deletions: int
    insertions: int
    words: int
    """In the reference."""

    @property
    def errors(self) -> int:
        """All three kinds together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per word of the reference; may exceed 1."""
        return self.errors / self.words


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Align a hypothesis with a reference (jiwer), both after `normalize_for_wer`.

    Raises:
        ValueError: the reference has no word.
    """
    import jiwer

    reference, hypothesis = normalize_for_wer(reference), normalize_for_wer(hypothesis)
    if not reference:
        raise ValueError("the reference text has no word")
    result = jiwer.process_words(reference, hypothesis)
    return WordErrors(result.substitutions, result.deletions, result.insertions, len(reference.split()))


def summarize_word_errors(errors: Sequence[WordErrors]) -> dict[str, float]:
    """Return both averages: `wer`, the mean of the utterances' rates, and `wer_corpus`, errors over words."""
    return {
        "wer": sum(e.rate for e in errors) / len(errors),
        "wer_corpus": sum(e.errors for e in errors) / sum(e.words for e in errors),
    }


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is not None; None if nothing is left."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mel_distance(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Return the mean absolute difference of natural-log mel spectrograms (80 bands) of two waveforms (S,)."""
    a, b = (log_mel(w, sample_rate=sample_rate) for w in (reference, degraded))
    return float((a - b).abs().mean())


def stoi(reference: Tensor, degraded: Tensor, sample_rate: int) -> float | None:
    """Return short-time objective intelligibility in [0, 1] (pystoi); None where too little of the clip is speech."""
    import warnings

    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pystoi warns and returns 1e-5 where it has too few frames
        try:
            return float(pystoi.stoi(reference.double().numpy(), degraded.double().numpy(), sample_rate))
        except (RuntimeWarning, ValueError):
            return None


def pesq_wide_band(reference: Tensor, degraded: Tensor, sample_rate: int) -> float | None:
    """Return PESQ (ITU-T P.862.2, wide band, 16 kHz); None where the reference code finds no utterance."""
    import pesq

    clips = [
        resample(w.reshape(1, -1), sample_rate, 16000)[0].numpy().astype(np.float64) for w in (reference, degraded)
    ]
    try:
        return float(pesq.pesq(16000, clips[0], clips[1], "wb"))
    except (pesq.PesqError, ValueError):
        return None


def reconstruction_scores(reference: Tensor, degraded: Tensor, sample_rate: int) -> dict[str, Any]:
    """Return mel distance, STOI and PESQ of one pair of waveforms (S,) of equal length."""
    reference, degraded = reference.detach().cpu(), degraded.detach().cpu()
    return {
        "mel_distance": mel_distance(reference, degraded, sample_rate),
        "stoi": stoi(reference, degraded, sample_rate),
        "pesq": pesq_wide_band(reference, degraded, sample_rate),
    }


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two embeddings (E,)."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
