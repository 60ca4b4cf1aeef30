"""Recordings in, speech out: reading, resampling, silence, loudness, the joints between chunks; all in numpy, as svae does it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import soundfile

from svae_runtime.shared.errors import ConfigError, DataError
from svae_runtime.shared.synthesis.loudness import Leveller

FRAME_SECONDS, SILENCE_DB, MARGIN_SECONDS = 0.02, 40.0, 0.1
CROSSFADE_SECONDS, MAX_MATCH_DB = 0.03, 6.0
FILTER_ZEROS, FILTER_ROLLOFF, FILTER_BETA = 64, 0.9475937167399596, 14.769656459379492
FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG"}


def read(path: str | Path) -> tuple[np.ndarray, int, list[str]]:
    """Return a recording (S,), float32, its rate, and notes of what was done to it.

    Raises:
        DataError: it is not there, is no audio that libsndfile reads, is empty or not finite.
    """
    if not Path(path).is_file():
        raise DataError(
            f"{path}: no such file. Expected a recording of the voice: wav, flac, ogg or mp3."
        )
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(
            f"{path}: cannot be read as audio ({error.error_string}). Expected wav, flac, ogg or mp3; convert it with ffmpeg."
        ) from None
    if not samples.size:
        raise DataError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise DataError(f"{path}: holds NaN or infinite samples")
    channels = samples.shape[1]
    notes = [f"{path}: the mean of its {channels} channels is used"] if channels > 1 else []
    return samples[:, 0] if channels == 1 else samples.mean(axis=1), rate, notes


def resample(x: np.ndarray, before: int, after: int) -> np.ndarray:
    """Change the rate of (S,) by a long Kaiser-windowed sinc, as svae does (torchaudio's `sinc_interp_kaiser`)."""
    if before == after:
        return x
    divisor = math.gcd(before, after)
    before, after = before // divisor, after // divisor
    rate = min(before, after) * FILTER_ROLLOFF
    width = math.ceil(FILTER_ZEROS * before / rate)
    if after * (2 * width + before) > 2**24:
        raise DataError(
            f"{before * divisor} Hz: too odd a rate to become {after * divisor} Hz; resample the recording with another program"
        )
    times = np.arange(-width, width + before) / before - np.arange(after)[:, None] / after
    times = (times * rate).clip(-FILTER_ZEROS, FILTER_ZEROS)
    window = np.i0(FILTER_BETA * np.sqrt(1 - (times / FILTER_ZEROS) ** 2)) / np.i0(FILTER_BETA)
    kernels = (np.sinc(times) * window * (rate / before)).astype(np.float32)
    padded = np.pad(x, (width, width + before))
    rows = np.lib.stride_tricks.sliding_window_view(padded, kernels.shape[1])[::before]
    parts = [rows[start : start + 4096] @ kernels.T for start in range(0, len(rows), 4096)]
    return np.concatenate(parts).reshape(-1)[: -(-after * len(x) // before)]


def _silent(x: np.ndarray, size: int) -> np.ndarray:
    """Return (frames,), True where a frame of (S,) is silent beside the loudest one."""
    padded = np.pad(x, (0, -len(x) % size)).reshape(-1, size)
    levels = np.square(padded).mean(axis=1)
    return levels <= levels.max(initial=0.0) * np.float32(10 ** (-SILENCE_DB / 10))


def trim_silence(x: np.ndarray, rate: int) -> np.ndarray:
    """Return (S,) without the silence at its ends, but for a margin; as it is where all is silent."""
    size = max(1, round(FRAME_SECONDS * rate))
    loud = np.flatnonzero(~_silent(x, size))
    if not len(loud):
        return x
    margin = round(MARGIN_SECONDS * rate)
    return x[max(loud[0] * size - margin, 0) : (loud[-1] + 1) * size + margin]


def rms(x: np.ndarray) -> float:
    """Return the root mean square of samples."""
    return float(np.sqrt(np.square(x).mean())) if x.size else 0.0


def speech_level(x: np.ndarray, rate: int) -> float:
    """Return the root mean square of what is not silent in (S,); 0 for silence."""
    size = max(1, round(FRAME_SECONDS * rate))
    whole = x[: len(x) // size * size]
    return rms(whole.reshape(-1, size)[~_silent(whole, size)]) if whole.size else rms(x)


def integrated_loudness(x: np.ndarray, rate: int) -> float:
    """Return the loudness of (S,) in LUFS by ITU-R BS.1770, with the filters of pyloudnorm's meter; they are applied as spectra."""
    size = len(x) + rate  # the filters have rung out long before
    z = np.exp(-1j * 2 * np.pi * np.fft.rfftfreq(size))
    response = np.ones(len(z), dtype=complex)
    for gain, q, hertz, is_shelf in (
        (4.0, 1 / math.sqrt(2), 1500.0, True),
        (0.0, 0.5, 38.0, False),
    ):
        a, omega = 10 ** (gain / 40), 2 * math.pi * hertz / rate
        alpha, cos = math.sin(omega) / (2 * q), math.cos(omega)
        if is_shelf:
            root = 2 * math.sqrt(a) * alpha
            top = a * np.array(
                [
                    a + 1 + (a - 1) * cos + root,
                    -2 * (a - 1 + (a + 1) * cos),
                    a + 1 + (a - 1) * cos - root,
                ]
            )
            bottom = np.array(
                [
                    a + 1 - (a - 1) * cos + root,
                    2 * (a - 1 - (a + 1) * cos),
                    a + 1 - (a - 1) * cos - root,
                ]
            )
        else:
            top = np.array([(1 + cos) / 2, -(1 + cos), (1 + cos) / 2])
            bottom = np.array([1 + alpha, -2 * cos, 1 - alpha])
        response *= np.polyval(top[::-1], z) / np.polyval(bottom[::-1], z)
    weighted = np.square(np.fft.irfft(np.fft.rfft(x, size) * response, size)[: len(x)])
    block, step = 0.4, 0.25
    count = int(np.round((len(x) / rate - block) / (block * step))) + 1
    bounds = [
        (int(block * (i * step) * rate), int(block * (i * step + 1) * rate)) for i in range(count)
    ]
    power = np.array([weighted[start:stop].sum() / (block * rate) for start, stop in bounds])
    with np.errstate(divide="ignore", invalid="ignore"):
        levels = -0.691 + 10 * np.log10(power)
        audible = levels >= -70.0
        gate = -0.691 + 10 * np.log10(power[audible].mean()) - 10.0 if audible.any() else 0.0
        kept = power[(levels > gate) & (levels > -70.0)]
        return float(-0.691 + 10 * np.log10(kept.mean())) if kept.size else -math.inf


class Joiner:
    """Joins chunks of speech: brought to one level, cross-faded, with pauses between; see svae's `ChunkJoiner`."""

    def __init__(self, rate: int, leveller: Leveller) -> None:
        self.rate, self.leveller = rate, leveller
        self.overlap = round(CROSSFADE_SECONDS * rate)
        self.level: float | None = None
        self.tail = np.zeros(0, np.float32)

    def add(self, x: np.ndarray) -> np.ndarray:
        """Return what is complete with this chunk (S,): all but the end that the next one may fade into."""
        x = self._at_one_level(x)
        size = min(len(self.tail), len(x))
        fade = np.linspace(0, 1, size + 2, dtype=np.float32)[1:-1]
        mixed = self.tail[:size] * (1 - fade) + x[:size] * fade
        x = np.concatenate([mixed, self.tail[size:], x[size:]])
        kept = max(len(x) - self.overlap, 0)
        self.tail = x[kept:]
        return x[:kept]

    def pause(self, seconds: float) -> np.ndarray:
        """Return the end of the last chunk and then silence."""
        ended = np.concatenate([self.tail, np.zeros(round(seconds * self.rate), np.float32)])
        self.tail = np.zeros(0, np.float32)
        return ended

    def _at_one_level(self, x: np.ndarray) -> np.ndarray:
        own = speech_level(x, self.rate)
        if own == 0.0:
            return x
        if self.level is None and self.leveller.hear(x):
            self.level = own
        bound = 10 ** (MAX_MATCH_DB / 20)
        factor = min(max((self.level or own) / own, 1 / bound), bound)
        peak = max(float(np.abs(x).max()), 1e-9)
        return x * np.float32(self.leveller.within(factor, peak))


def check_output(path: Path) -> None:
    """Raise ConfigError where speech cannot be written to a path."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--out {path}: ends in {path.suffix or 'nothing'}; expected {', '.join(FORMATS)}"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}; create it first")


def write(path: Path, x: np.ndarray, rate: int, said: dict[str, object]) -> None:
    """Write (S,) in 16 bits, marked as synthetic as svae's files are. Raises as `check_output`, and where the disk fails."""
    check_output(path)
    try:
        with soundfile.SoundFile(
            str(path),
            "w",
            rate,
            1,
            None if path.suffix.lower() == ".ogg" else "PCM_16",
            format=FORMATS[path.suffix.lower()],
        ) as file:
            file.software = str(said["tool"])
            file.comment = f"AI-generated speech {json.dumps(said)}"
            file.write((x * 32767).round().clip(-32767, 32767).astype(np.int16))
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(
            f"{path}: cannot be written ({error}). Choose another path or make room."
        ) from None
