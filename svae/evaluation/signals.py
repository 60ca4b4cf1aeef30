"""Measures of a signal against another of the same length: what a codec loses, without a judge that understands words."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svae.audio import SPEECH_RATE, log_mel, resample

SIGNAL_SCORES = (
    "pesq_wb",
    "pesq_nb",
    "stoi",
    "mel_distance",
    "stft_distance",
    "mcd",
    "f0_rmse",
    "voicing_error",
)

STFT_SIZES = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
"""Transform, hop and window in samples. Source: Parallel WaveGAN (Yamamoto et al. 2020), section 3."""
CEPSTRA = 13
F0_RANGE = (60.0, 500.0)
"""In Hz."""
F0_WINDOW_SECONDS, F0_HOP_SECONDS = 0.05, 0.01
VOICED = 0.5
"""Least height of the autocorrelation peak of a voiced frame, as Praat has 0.45."""
SILENCE = 0.03
"""A frame whose peak is below this share of the clip's peak is unvoiced. Source: Boersma 1993."""
OCTAVE_COST = 0.02
"""Per octave of lag: of equal peaks, as every periodic signal has them, the shortest period wins. Source: Boersma 1993."""
WORST_PESQ, WORST_STOI = 1.0, 0.0
"""Scores of a clip without anything that these measures take for speech, beside a reference that has some."""


@dataclass(frozen=True)
class SignalScores:
    """The measures of one pair of clips."""

    scores: dict[str, float | None]
    """By the names in `SIGNAL_SCORES`; None where a measure does not exist."""
    undefined: dict[str, str]
    """The reason of each None."""
    compared_seconds: float
    """Length of the reference."""
    longer_by_seconds: float | None = None
    """How much longer than the reference the other clip was, where that is more than a codec's frame."""

    def to_json(self) -> dict[str, Any]:
        """Return what the cache and utterances.jsonl hold."""
        row = {
            **self.scores,
            "undefined": self.undefined,
            "compared_seconds": self.compared_seconds,
        }
        if self.longer_by_seconds is not None:
            row["longer_by_seconds"] = self.longer_by_seconds
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> SignalScores:
        """Read what `to_json` made, among other fields."""
        return cls(
            scores={name: row.get(name) for name in SIGNAL_SCORES},
            undefined=row["undefined"],
            compared_seconds=row["compared_seconds"],
            longer_by_seconds=row.get("longer_by_seconds"),
        )


class UndefinedScoreError(ValueError):
    """A measure does not exist for this pair of clips; the message says why."""


def identity() -> dict[str, Any]:
    """Return what a signal score depends on besides the signals."""
    return {
        "version": 2,
        "stft_sizes": STFT_SIZES,
        "cepstra": CEPSTRA,
        "f0": [F0_RANGE, F0_WINDOW_SECONDS, F0_HOP_SECONDS, VOICED, SILENCE, OCTAVE_COST],
        **{name: metadata.version(name) for name in ("pesq", "pystoi", "torch")},
    }


def signal_scores(reference: Tensor, degraded: Tensor, sample_rate: int) -> SignalScores:
    """Return all scores of one pair of waveforms (S,) of equal length."""
    reference, degraded = reference.detach().cpu(), degraded.detach().cpu()
    scores: dict[str, float | None] = {}
    undefined: dict[str, str] = {}
    f0 = functools.cache(lambda: f0_errors(reference, degraded, sample_rate))
    measures: dict[str, Callable[[], float]] = {
        "pesq_wb": lambda: pesq(reference, degraded, sample_rate, "wb"),
        "pesq_nb": lambda: pesq(reference, degraded, sample_rate, "nb"),
        "stoi": lambda: stoi(reference, degraded, sample_rate),
        "mel_distance": lambda: mel_distance(reference, degraded, sample_rate),
        "stft_distance": lambda: stft_distance(reference, degraded),
        "mcd": lambda: mel_cepstral_distortion(reference, degraded, sample_rate),
        "f0_rmse": lambda: _defined(f0()[0], "no frame is voiced in both"),
        "voicing_error": lambda: f0()[1],
    }
    for name, measure in measures.items():
        try:
            value = measure()
            if not math.isfinite(value):
                raise UndefinedScoreError(f"it is {value}")
            scores[name] = value
        except UndefinedScoreError as error:
            scores[name] = None
            undefined[name] = str(error)
    return SignalScores(scores, undefined, reference.shape[0] / sample_rate)


def stft_distance(reference: Tensor, degraded: Tensor) -> float:
    """Return the mean over three resolutions of spectral convergence plus mean absolute log magnitude difference.

    Source: Parallel WaveGAN (Yamamoto et al. 2020), eq. 4 to 6; `STFT_SIZES` in samples whatever the rate.
    """
    total = 0.0
    for size, hop, window in STFT_SIZES:
        a, b = (_magnitudes(clip, size, hop, window) for clip in (reference, degraded))
        if not a.any():
            raise UndefinedScoreError("the reference is silent")
        total += float(
            (a - b).norm() / a.norm()
            + (a.clamp_min(1e-5).log() - b.clamp_min(1e-5).log()).abs().mean()
        )
    return total / len(STFT_SIZES)


def _magnitudes(clip: Tensor, size: int, hop: int, window: int) -> Tensor:
    shape = torch.hann_window(window)
    return torch.stft(
        clip, size, hop, window, shape, center=True, pad_mode="constant", return_complex=True
    ).abs()


def mel_cepstral_distortion(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Return the mean over frames of 10/ln(10) sqrt(2 sum of squared cepstral differences) in dB, frame by frame.

    Cepstra are the orthonormal DCT-II of 80 natural-log mel bands, coefficients 1 to 13; no time warping, since a codec
    keeps time. Not comparable with values from other cepstra (SPTK, WORLD). Source: Kubichek 1993, eq. 1.
    """
    a, b = (_cepstra(clip, sample_rate) for clip in (reference, degraded))
    return float((10 / math.log(10)) * (2 * (a - b).square().sum(dim=0)).sqrt().mean())


def _cepstra(clip: Tensor, sample_rate: int) -> Tensor:
    """Return coefficients (13, T)."""
    mel = log_mel(clip, sample_rate=sample_rate).double()
    size = mel.shape[0]
    k, n = torch.arange(1, CEPSTRA + 1)[:, None], torch.arange(size)[None]
    basis = math.sqrt(2 / size) * torch.cos(math.pi * k * (2 * n + 1) / (2 * size)).double()
    return basis @ mel


def _defined(value: float | None, reason: str) -> float:
    if value is None:
        raise UndefinedScoreError(reason)
    return value


def f0_errors(reference: Tensor, degraded: Tensor, sample_rate: int) -> tuple[float | None, float]:
    """Return the RMSE of F0 in Hz over frames voiced in both, and the share of frames whose voicing differs.

    The former is None where no frame is voiced in both.
    """
    (a, voiced_a), (b, voiced_b) = (pitch(clip, sample_rate) for clip in (reference, degraded))
    both = voiced_a & voiced_b
    rmse = float((a - b)[both].square().mean().sqrt()) if both.any() else None
    return rmse, float((voiced_a != voiced_b).float().mean())


def pitch(clip: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Return F0 (T,) in Hz and voicing (T,) of a waveform (S,) every 10 ms.

    The peak of the window-corrected autocorrelation, between samples by a parabola. Source: Boersma 1993, without
    the path search over frames. (Packages with F0 and voicing need a compiler, numba or a GPL licence.)
    """
    size = round(F0_WINDOW_SECONDS * sample_rate)
    padded = torch.nn.functional.pad(clip.double(), (size // 2, size))
    frames = padded.unfold(0, size, round(F0_HOP_SECONDS * sample_rate))
    frames = frames - frames.mean(dim=1, keepdim=True)
    window = torch.hann_window(size, dtype=torch.float64)
    raw = _autocorrelation(frames * window)
    normal = (
        raw / raw[:, :1].clamp_min(1e-12) / (_autocorrelation(window[None]) / window.square().sum())
    )
    first, last = (round(sample_rate / hz) for hz in reversed(F0_RANGE))
    lags = torch.arange(first, last + 1)
    peaks = normal[:, first : last + 1]
    is_peak = (peaks >= normal[:, first - 1 : last]) & (peaks >= normal[:, first + 1 : last + 2])
    cost = OCTAVE_COST * torch.log2(lags / first)
    best = torch.where(is_peak, peaks - cost, torch.full_like(peaks, -1.0)).argmax(dim=1)
    left, middle, right = (normal.gather(1, (best + first + d)[:, None])[:, 0] for d in (-1, 0, 1))
    curve = (left - 2 * middle + right).clamp_max(-1e-12)
    offset = (0.5 * (left - right) / curve).clamp(-0.5, 0.5)
    loud = frames.abs().amax(dim=1) > SILENCE * clip.abs().max().clamp_min(1e-4)
    return sample_rate / (best + first + offset), (middle > VOICED) & loud


def _autocorrelation(frames: Tensor) -> Tensor:
    """Return the autocorrelation (T, N) of frames (T, N), without wrapping around."""
    size = frames.shape[1]
    return torch.fft.irfft(torch.fft.rfft(frames, 2 * size).abs().square())[:, :size]


def mel_distance(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Return the mean absolute difference of natural-log mel spectrograms (80 bands) of two waveforms (S,)."""
    a, b = (log_mel(w, sample_rate=sample_rate) for w in (reference, degraded))
    return float((a - b).abs().mean())


def stoi(reference: Tensor, degraded: Tensor, sample_rate: int) -> float:
    """Return short-time objective intelligibility, at most 1 (pystoi), of two waveforms (S,) of equal length.

    A silent clip has 0.

    Raises:
        UndefinedScoreError: less than about 0.4 s of the reference is above its noise floor.
    """
    import pystoi

    if not reference.any():
        raise UndefinedScoreError("the reference is silent")
    with warnings.catch_warnings():
        # Pystoi warns and returns 1e-5 where it has too few frames.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            value = float(
                pystoi.stoi(reference.double().numpy(), degraded.double().numpy(), sample_rate)
            )
        except (RuntimeWarning, ValueError, IndexError) as error:
            raise UndefinedScoreError(
                f"too little speech for STOI ({type(error).__name__})"
            ) from None
    if not degraded.any():
        return WORST_STOI
    return _finite(value, "STOI")


def pesq(reference: Tensor, degraded: Tensor, sample_rate: int, band: str) -> float:
    """Return PESQ of two waveforms (S,), computed at 16 kHz by the ITU's reference code.

    A clip in which that code finds no speech, beside a reference in which it does, has 1.0.

    `band` is `wb` (P.862.2, about 1.0 to 4.64) or `nb` (P.862, 300-3400 Hz, about 1.0 to 4.55).

    Raises:
        UndefinedScoreError: shorter than 1/4 s, or the reference code finds no utterance in it.
    """
    import pesq as itu

    clips = [
        resample(w.reshape(1, -1), sample_rate, SPEECH_RATE)[0].numpy().astype(np.float64)
        for w in (reference, degraded)
    ]
    if not clips[0].any():
        raise UndefinedScoreError("the reference is silent")
    if clips[1].any():
        try:
            return _finite(float(itu.pesq(SPEECH_RATE, *clips, band)), "PESQ")
        except (itu.PesqError, ValueError):
            pass  # of either clip: the reference alone tells of which
    try:
        itu.pesq(SPEECH_RATE, clips[0], clips[0], band)
    except (itu.PesqError, ValueError) as error:
        raise UndefinedScoreError(f"PESQ: {_pesq_message(error)}") from None
    return WORST_PESQ


def _pesq_message(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode() if isinstance(text, bytes) else str(text)


def _finite(value: float, name: str) -> float:
    if not np.isfinite(value):
        raise UndefinedScoreError(f"{name} is {value}")
    return value
