"""Measures of speech, each for one utterance, and their averages."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svae.audio import log_mel, resample
from svae.evaluation.normalizers import normalize_for_wer


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


def word_errors(reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_for_wer) -> WordErrors:
    """Align a hypothesis with a reference (jiwer, its default transforms), both after `normalize`.

    Raises:
        ValueError: the reference has no word.
    """
    import jiwer

    reference = normalize(reference)
    if not reference.strip():
        raise ValueError("the reference text has no word")
    found = jiwer.process_words(reference, normalize(hypothesis))
    words = found.hits + found.substitutions + found.deletions
    return WordErrors(found.substitutions, found.deletions, found.insertions, words)


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


class UndefinedScoreError(ValueError):
    """A measure does not exist for this pair of clips; the message says why."""


def stoi(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Return short-time objective intelligibility, at most 1 (pystoi), of two waveforms (S,) of equal length.

    Raises:
        UndefinedScoreError: less than about 0.4 s of the reference is above its noise floor.
    """
    import pystoi

    if not reference.any():
        raise UndefinedScoreError("the reference is silent")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # pystoi warns and returns 1e-5 where it has too few frames
        try:
            value = float(pystoi.stoi(reference.double().numpy(), degraded.double().numpy(), sample_rate))
        except (RuntimeWarning, ValueError, IndexError) as error:
            raise UndefinedScoreError(f"too little speech for STOI ({type(error).__name__})") from None
    return _finite(value, "STOI")


def pesq_wide_band(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Return PESQ (ITU-T P.862.2, wide band, at 16 kHz; about 1.0 to 4.64) of two waveforms (S,).

    Raises:
        UndefinedScoreError: shorter than 1/4 s, or the reference code finds no utterance in it.
    """
    import pesq

    clips = [
        resample(w.reshape(1, -1), sample_rate, 16000)[0].numpy().astype(np.float64) for w in (reference, degraded)
    ]
    for name, clip in zip(("reference", "other clip"), clips, strict=True):
        if not clip.any():
            raise UndefinedScoreError(f"the {name} is silent")
    try:
        value = float(pesq.pesq(16000, clips[0], clips[1], "wb"))
    except (pesq.PesqError, ValueError) as error:
        raise UndefinedScoreError(f"PESQ: {_pesq_message(error)}") from None
    return _finite(value, "PESQ")


def _pesq_message(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode() if isinstance(text, bytes) else str(text)


def _finite(value: float, name: str) -> float:
    if not np.isfinite(value):
        raise UndefinedScoreError(f"{name} is {value}")
    return value


def reconstruction_scores(reference: Tensor, degraded: Tensor, sample_rate: int) -> dict[str, Any]:
    """Return mel distance, STOI and PESQ of one pair of waveforms (S,) of equal length.

    Returns:
        `mel_distance`, `stoi`, `pesq` (None where a score is undefined), and `undefined`: the reason of each None.
    """
    reference, degraded = reference.detach().cpu(), degraded.detach().cpu()
    scores: dict[str, Any] = {"mel_distance": mel_distance(reference, degraded, sample_rate)}
    undefined: dict[str, str] = {}
    for name, measure in (("stoi", stoi), ("pesq", pesq_wide_band)):
        try:
            scores[name] = measure(reference, degraded, sample_rate)
        except UndefinedScoreError as error:
            scores[name], undefined[name] = None, str(error)
    return {**scores, "undefined": undefined}


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two embeddings (E,)."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
