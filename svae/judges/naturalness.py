"""Predictors of mean opinion scores: what they have in common, and those given as ONNX files (DNSMOS P.835, UTMOS or one like it).

DistillMOS, which needs no file, is in `distillmos`. ONNX runs no code of the file's author, which the TorchScript and pickle files of the published UTMOS would. Nothing here is
a listening test: predictors of different names, or of different files, do not compare.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from svae.audio import SPEECH_RATE
from svae.errors import ConfigError, DataError
from svae.runtime.files import file_sha256

WORST = 1.0
"""The least mean opinion score; a recording that is missing or unreadable counts as this."""
UTMOS = "utmos"
DNSMOS = "dnsmos"
SPEECHMOS = "speechmos"
"""The package of DNSMOS's authors, which carries its networks."""
DNSMOS_WINDOW_SECONDS = 9.01
DNSMOS_WINDOW = 144160
"""Samples that DNSMOS P.835 hears at a time."""
DNSMOS_SCALES = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}
"""Column → polynomial from what the network says to the scale of the listeners, highest power first.
Source: DNS-Challenge, dnsmos_local.py, the polynomials that are not personalised."""


class NotFinite(DataError):
    """A score is no number, as of samples of 1e25: the fault of the recording, where others have scores."""


class QualityPredictor(Protocol):
    """What predicts how people would rate speech."""

    name: str
    """Its key under `judges` in results."""
    columns: tuple[str, ...]
    """The scores that it gives."""
    description: dict[str, Any]
    """Model, version and hash of its weights, as stored with results."""

    def predict(self, waveforms: Sequence[Tensor]) -> list[dict[str, float]]:
        """Return column → score of each waveform (S,) at 16 kHz, independent of the others. Raises NotFinite."""
        ...


class OnnxPredictor:
    """A network from a waveform at 16 kHz to one score; with the name `dnsmos`, to the three of sig_bak_ovr.onnx.

    Args:
        name: `utmos` or `dnsmos`: what the columns are called.
        path: ONNX file. Its input is (1, samples) or (samples,) float32; its output holds one number (`dnsmos`: three).

    Raises:
        ConfigError: no such file, not ONNX, other inputs, or onnxruntime is not installed.
    """

    def __init__(self, name: str, path: Path) -> None:
        where = f"--{name} {path}"
        if not path.is_file():
            raise ConfigError(f"{where}: no such file; expected an ONNX file")
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError(f"{where}: needs onnxruntime; try: pip install 'svae[mos]'") from None
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        # One thread sums in one order: the same score every time.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base class
            raise ConfigError(f"{where}: not a usable ONNX file ({_reason(error)})") from None
        inputs = self.session.get_inputs()
        if (
            len(inputs) != 1
            or inputs[0].type != "tensor(float)"
            or len(inputs[0].shape) not in (1, 2)
        ):
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ConfigError(
                f"{where}: expected one float input (1, samples) or (samples,), got {found}"
            )
        self.name = name
        self.path = path
        self.input = inputs[0]
        self.columns = tuple(DNSMOS_SCALES) if name == DNSMOS else (name,)
        self.description: dict[str, Any] = {
            "model": str(path),
            "sha256": file_sha256(path),
            "sample_rate": SPEECH_RATE,
            "onnxruntime": metadata.version("onnxruntime"),
            "device": "cpu",
        }

    def predict(self, waveforms: Sequence[Tensor]) -> list[dict[str, float]]:
        """Return column → score of each waveform (S,) at 16 kHz, independent of the others.

        Raises:
            DataError: the network fails, or returns other numbers than scores. NotFinite: one of them is not finite.
        """
        return [
            self._predict(waveform.detach().cpu().numpy().astype(np.float32))
            for waveform in waveforms
        ]

    def _predict(self, samples: np.ndarray) -> dict[str, float]:
        if self.name != DNSMOS:
            return {self.name: float(self._run(samples, 1)[0])}
        scores = np.stack([self._run(window, 3) for window in dnsmos_windows(samples)])
        return {
            column: float(np.polyval(scale, scores[:, i].astype(np.float64)).mean())
            for i, (column, scale) in enumerate(DNSMOS_SCALES.items())
        }

    def _run(self, samples: np.ndarray, count: int) -> np.ndarray:
        shaped = samples[None] if len(self.input.shape) == 2 else samples
        try:
            outputs = self.session.run(None, {self.input.name: shaped})
            found = np.concatenate([np.ravel(part) for part in outputs])
        except Exception as error:
            raise DataError(f"--{self.name} {self.path}: {_reason(error)}") from None
        if found.shape != (count,) or not np.isfinite(found).all():
            kind = NotFinite if found.shape == (count,) else DataError
            raise kind(
                f"--{self.name} {self.path}: expected {count} finite number(s) for {samples.shape[0]} samples, got {found[:8]}"
            )
        return found


def dnsmos_windows(samples: np.ndarray) -> list[np.ndarray]:
    """Return the windows of 9.01 s, a second apart, that DNSMOS averages over; a short clip is repeated first.

    Source: DNS-Challenge, dnsmos_local.py, and the package speechmos: floor(seconds) - 9 windows of a clip of ten seconds or
    more, else one; but a window whose end, computed in seconds, falls a sample short is left out there, which are those
    that begin 7 to 23 s and 119 to 121 s into a recording. Scores that compare need the same.
    """
    if samples.size == 0:
        raise DataError("an empty recording has no windows")
    while samples.shape[0] < DNSMOS_WINDOW:
        samples = np.concatenate([samples, samples])
    count = max(1, samples.shape[0] // SPEECH_RATE - 9)
    begins = [i * SPEECH_RATE for i in range(count)]
    ends = [int((i + DNSMOS_WINDOW_SECONDS) * SPEECH_RATE) for i in range(count)]
    return [
        samples[begin:end]
        for begin, end in zip(begins, ends, strict=True)
        if end - begin == DNSMOS_WINDOW
    ]


def dnsmos_file(given: Path) -> Path:
    """Return the ONNX file of `--dnsmos`: the one given, or for `speechmos` that of the package of this name.

    The package's own code, which needs librosa, is not run.

    Raises:
        ConfigError: the package is not installed.
    """
    if str(given) != SPEECHMOS or given.is_file():
        return given
    spec = importlib.util.find_spec(SPEECHMOS)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "dnsmos_models" / "sig_bak_ovr.onnx"
        if path.is_file():
            return path
    raise ConfigError(
        f"--dnsmos {SPEECHMOS}: the package is not installed; try: pip install 'svae[mos]', or name sig_bak_ovr.onnx"
    )


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
