"""Reading, writing, resampling and picturing waveforms, which are float32 in [-1, 1] unless said otherwise."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import torch
import torchaudio
import torchaudio.functional as AF
from torch import Tensor

from svae.errors import DataError
from svae.frames import ceil_div
from svae.runtime.files import atomic_path

SPEECH_RATE = 16000
"""Hz; what recognisers, speaker models and the aligner of phones hear."""

FILTER_ZEROS, FILTER_ROLLOFF = 64, 0.9475937167399596
"""Zero crossings on each side of the resampling filter, and where it begins to close as a share of half the lower rate."""
MAX_FILTER_VALUES = 1_000_000
"""4 MB, made in half a second. Of all pairs of usual rates (8 to 192 kHz and 11.025 to 176.4 kHz) none needs more than
724,000."""


class AudioError(DataError):
    """An audio file that cannot be used; `reason` is missing, unreadable, empty, non-finite or no channel."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


FORMATS = {".wav": "WAV", ".flac": "FLAC"}
"""What audio is written as, by the suffix of the file."""
AUDIO_SUFFIXES = tuple(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .caf .w64 .m4a .mp4 .aac .wma .webm .mka .mov .amr".split()
)
"""By which recordings are found in a folder; a file that is named is read whatever its suffix."""


def load_audio(
    source: str | Path | BinaryIO,
    *,
    sample_rate: int | None = None,
    name: str | None = None,
    notes: list[str] | None = None,
    channel: int | None = None,
) -> tuple[Tensor, int]:
    """Read an audio file as one channel: by libsndfile, and what that does not know by FFmpeg (m4a, mp4, webm, wma, …).

    Args:
        source: a path, or an open binary file.
        sample_rate: resample to this rate (Hz); None keeps the file's own.
        name: what error messages call the source; the path where None.
        notes: gets a sentence on each thing that was done which a user should know.
        channel: which one alone, from 0; None: all.

    Returns:
        The waveform (1, S), float32, its channels mixed as `mix_channels` says, and its sample rate in Hz.

    Raises:
        AudioError: (a DataError) missing, a folder, not audio, damaged, broken off, without samples, with NaN or
            infinite samples, or without the channel that is wanted.
    """
    if isinstance(source, (str, Path)):
        label = str(source) if name is None else name
        _require_file(Path(source), label)
        with open(source, "rb") as file:
            data, rate = _decode(str(source), file, label)
    else:
        label = "audio stream" if name is None else name
        data, rate = _decode(source, source, label)
    if data.shape[0] == 0:
        raise AudioError(
            f"{label}: the file holds zero samples. Expected at least one; record or export it again.",
            "empty",
        )
    channels = torch.from_numpy(np.ascontiguousarray(data.T))
    if channel is not None:
        if not 0 <= channel < len(channels):
            raise AudioError(
                f"{label}: no channel {channel} (from 0) of {len(channels)}.", "no channel"
            )
        channels = channels[channel : channel + 1]
    mean = channels.mean(dim=0, keepdim=True)
    broken = int((~torch.isfinite(mean)).sum())
    if broken:
        raise AudioError(
            f"{label}: {broken} of {mean.shape[-1]} samples are NaN or infinite. Expected finite numbers "
            "in [-1, 1]; export the file again, as 16-bit PCM for example.",
            "non-finite",
        )
    waveform, done = mix_channels(channels)
    if notes is not None:
        notes += done
    if sample_rate is not None and rate != sample_rate:
        return resample(waveform, rate, sample_rate), sample_rate
    return waveform, rate


def mix_channels(channels: Tensor) -> tuple[Tensor, list[str]]:
    """Return (1, S), the channels (C, S) of a recording weighted by their energy, without their offsets; and notes.

    A voice that is in one channel of two or six keeps its level, where the mean would lose 6 or 15 dB; channels that
    are alike give their mean, to the bit. One in the opposite phase of the strongest is turned first, as swapped wires
    or a balanced line read as stereo give it. Where the mixture is still less than half as strong as the strongest
    channel, that one is taken alone. Each note says that one of the last two was done.
    """
    mean = channels.mean(dim=0, keepdim=True)
    if len(channels) == 1:
        return mean, []
    energies = channels.double().var(dim=1, correction=0)
    strongest = int(energies.argmax())
    if energies[strongest] == 0 or bool((channels == channels[0]).all()):
        return mean, []
    weights = (energies / energies.sum()).float()
    turned = _opposite(channels, energies, strongest)
    weights[turned] *= -1
    mixed = (weights[:, None] * channels).sum(dim=0, keepdim=True)
    if float(mixed.double().var(correction=0)) < 0.25 * float(energies[strongest]):
        alone = channels[strongest : strongest + 1]
        return alone, [f"its {len(channels)} channels disturb each other; {strongest + 1} is used"]
    if not turned:
        return mixed, []
    numbers = ", ".join(str(channel + 1) for channel in turned)
    return mixed, [
        f"of its {len(channels)} channels, {numbers} had the opposite phase of {strongest + 1} and was turned before mixing"
    ]


OPPOSITE = -0.5
"""A channel whose correlation with the strongest is below this is in the opposite phase."""


def _opposite(channels: Tensor, energies: Tensor, strongest: int) -> list[int]:
    """Return which of the channels (C, S) are in the opposite phase of one of them; `energies` are their variances."""
    means = channels.double().mean(dim=1)
    products = torch.mv(channels, channels[strongest]).double() / channels.shape[1]
    covariance = products - means * means[strongest]
    bound = OPPOSITE * (energies * energies[strongest]).sqrt()
    return (covariance < bound).nonzero()[:, 0].tolist()


def audio_seconds(source: str | Path | BinaryIO) -> float:
    """Return how long a file is without decoding it; 0 where that cannot be told, or it cannot be read.

    Where headers only estimate the length, as those of many MP3s do, its pieces are counted, which may give a twentieth
    of a second more than there is. An open file must be at its beginning, and is left anywhere.
    """
    try:
        if isinstance(source, (str, Path)):
            with open(source, "rb") as file:
                return audio_seconds(file)
        with contextlib.suppress(soundfile.SoundFileError, ValueError, TypeError):
            info = soundfile.info(source)
            if info.format not in _ESTIMATES_LENGTH and info.frames < UNKNOWN_FRAMES:
                return info.frames / info.samplerate
        source.seek(0)
        with _open_ffmpeg(source) as (container, stream):
            if container.format.name in _STATES_LENGTH:
                return _stated_seconds(container, stream)
            return _counted_seconds(container, stream)
    except (_NotDecoded, OSError):
        return 0.0


def save_audio(path: str | Path, waveform: Tensor, sample_rate: int) -> None:
    """Write 16-bit PCM, WAV or FLAC by the path's suffix, clipped to [-1, 1].

    The file appears under its name only when complete.

    Args:
        path: ends in .wav or .flac; its folder is made.
        waveform: (S,), (1, S) or (1, 1, S).
        sample_rate: in Hz.

    Raises:
        DataError: another suffix, more than one channel, no samples, NaN samples, or a path that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DataError(
            f"{path}: cannot write audio as {path.suffix or 'a file without suffix'!r}; use .wav or .flac."
        )
    data = _encode(waveform, sample_rate, FORMATS[path.suffix.lower()], label=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}). Choose another path or make room."
        ) from error


def pcm16(waveform: Tensor, *, full_scale: int = 32768, truncate: bool = False) -> Tensor:
    """Turn a waveform of any shape into 16-bit integers on the CPU, clipped to ±`full_scale`.

    Args:
        waveform: in [-1, 1].
        full_scale: what 1.0 becomes. 32768 is the inverse of reading 16-bit audio: what was read comes back exactly.
            32767, which spares only -1.0 from clipping, is what speech has been written and recognised with so far:
            files, voices and judges' answers depend on it.
        truncate: towards zero instead of rounding; also for answers that depend on it.
    """
    scaled = waveform.detach().to("cpu", torch.float32) * full_scale
    whole = scaled.trunc() if truncate else scaled.round()
    return whole.clamp(-full_scale, 32767).to(torch.int16)


def encode_flac(waveform: Tensor, sample_rate: int) -> bytes:
    """Encode (S,), (1, S) or (1, 1, S) as 16-bit FLAC; 16-bit input comes back exactly (clipped to [-1, 1])."""
    return _encode(waveform, sample_rate, "FLAC", label="waveform")


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Change the sample rate of (..., S) with a long Kaiser-windowed sinc (the "kaiser_best" of resampy and librosa).

    Its filter grows with the numbers in the reduced ratio of the rates: 441:160 is small, 44099:16000 takes gigabytes.
    Such ratios go through soxr at its highest quality, on the CPU and without gradient; that filter is about as steep.

    Returns:
        (..., ceil(S * to_rate / from_rate)); the input itself where the rates are equal.

    Raises:
        DataError: a rate below 1 Hz.
    """
    if from_rate < 1 or to_rate < 1:
        raise DataError(
            f"cannot resample from {from_rate} Hz to {to_rate} Hz: both must be at least 1."
        )
    if from_rate == to_rate:
        return waveform
    divisor = math.gcd(from_rate, to_rate)
    before, after = from_rate // divisor, to_rate // divisor
    half_width = FILTER_ZEROS * before / (min(before, after) * FILTER_ROLLOFF)
    if after * (2 * half_width + before) > MAX_FILTER_VALUES:
        return _resample_any(waveform, from_rate, to_rate)
    return _resampler(before, after, waveform.dtype, waveform.device)(waveform)


@functools.lru_cache(maxsize=16)
def _resampler(
    before: int, after: int, dtype: torch.dtype, device: torch.device
) -> torch.nn.Module:
    """Return a resampler with its filter; making that takes longer than using it on a sentence."""
    # Kept beyond the caller's inference mode, whose tensors no gradient can pass. Made on the CPU, so that all devices
    # have the same filter.
    with torch.inference_mode(False):
        return torchaudio.transforms.Resample(
            before,
            after,
            resampling_method="sinc_interp_kaiser",
            lowpass_filter_width=FILTER_ZEROS,
            rolloff=FILTER_ROLLOFF,
            beta=14.769656459379492,
            dtype=dtype,
        ).to(device)


def _resample_any(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample between any rates in time and memory that depend on the length alone."""
    import soxr

    flat = waveform.detach().cpu().double().reshape(-1, waveform.shape[-1])
    rows = [soxr.resample(row.numpy(), from_rate, to_rate, quality="VHQ") for row in flat]
    samples = ceil_div(waveform.shape[-1] * to_rate, from_rate)
    out = torch.zeros(len(rows), samples, dtype=torch.float64)
    for line, row in zip(out, rows, strict=True):
        length = min(
            samples, len(row)
        )  # soxr rounds the number of samples, which is one less or more
        line[:length] = torch.from_numpy(row[:length])
    return out.reshape(*waveform.shape[:-1], samples).to(waveform)


def log_mel(
    waveform: Tensor,
    *,
    sample_rate: int,
    n_fft: int = 1024,
    hop_length: int = 256,
    n_mels: int = 80,
) -> Tensor:
    """Natural-log mel magnitudes, for pictures and metrics (the training loss has its own, multi-scale one).

    Hann window, centred frames, slaney mel filters, floor 1e-5. Always float32.

    Args:
        waveform: (..., S).
        sample_rate: in Hz.
        n_fft: window and transform length in samples.
        hop_length: samples between frames.
        n_mels: mel bands from 0 Hz to half the sample rate.

    Returns:
        (..., n_mels, S // hop_length + 1).
    """
    flat = waveform.float().reshape(-1, waveform.shape[-1])
    # Zeros rather than reflection, which a waveform shorter than half a window does not have.
    window = torch.hann_window(n_fft, device=flat.device)
    spectrum = torch.stft(
        flat,
        n_fft,
        hop_length,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    ).abs()
    mel = _mel_filters(sample_rate, n_fft, n_mels).to(flat.device) @ spectrum
    return mel.clamp_min(1e-5).log().reshape(*waveform.shape[:-1], n_mels, -1)


@functools.lru_cache(maxsize=16)
def _mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Return the filter bank (n_mels, n_fft // 2 + 1)."""
    bank = AF.melscale_fbanks(
        n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, "slaney", "slaney"
    )
    return bank.T.contiguous()


class _NotDecoded(Exception):
    """FFmpeg cannot decode something; the message says why."""


def _decode(source: str | BinaryIO, file: BinaryIO, label: str) -> tuple[np.ndarray, int]:
    """Return the samples (S, C), float32, of a file and its sample rate in Hz.

    Args:
        source: what libsndfile opens, which for a path is faster than through Python.
        file: the same, open, for FFmpeg.
        label: what messages call it.
    """
    begin = file.tell() if file.seekable() else 0
    try:
        known = soundfile.SoundFile(source)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        reason, cause = _reason(error), error
    else:
        # By FFmpeg of what libsndfile began to read only what that would not read to its end: FFmpeg passes over damage
        # in silence.
        try:
            with known:
                if _is_mistaken(known, file, begin):
                    file.seek(begin)
                    return _decode_ffmpeg(file)
                if known.seekable():
                    # As soundfile.read does: MP3s decode a little differently after it.
                    known.seek(0)
                data = known.read(known.frames, dtype="float32", always_2d=True)
                lost = _lost_samples(known, len(data), file, begin) / known.samplerate
                if lost > LOST_SECONDS:
                    raise _breaks_off(len(data) / known.samplerate, lost)
                return data, known.samplerate
        except (soundfile.SoundFileError, _NotDecoded, OSError, ValueError) as error:
            raise _unreadable(label, _reason(error)) from error
    try:
        if file.seekable():
            file.seek(begin)
        return _decode_ffmpeg(file)
    except (_NotDecoded, OSError) as error:
        raise _unreadable(label, f"libsndfile: {reason}; FFmpeg: {error}") from cause


_ESTIMATES_LENGTH = ("MP3",)
"""Formats of libsndfile whose length may be an estimate: by the bit rate at the beginning where an MP3 has no header of its
encoder's, or that header is of the first of several files that were joined."""
UNKNOWN_FRAMES = 2**40
"""What a FLAC that was written to a pipe has as its length is beyond any recording's."""
MP3_ENDS = 4 * 1152
"""Samples that an encoder adds at both ends at most, and libsndfile leaves out."""


def _is_mistaken(known: soundfile.SoundFile, file: BinaryIO, begin: int) -> bool:
    """Tell whether libsndfile would stop before the end of a file, since it takes it to be shorter, or to have no end.

    Args:
        known: as libsndfile opened it.
        file: the same, maybe the one that libsndfile reads from; its position stays.
        begin: where the recording begins in `file`.
    """
    if known.frames >= UNKNOWN_FRAMES or known.frames == 0:
        return True  # whoever wrote it did not come back to say its length
    if known.format not in _ESTIMATES_LENGTH or not file.seekable():
        return False
    position = file.tell()
    file.seek(begin)
    try:
        with _open_ffmpeg(file) as (container, stream):
            stated = _stated_seconds(container, stream) * known.samplerate
            counted = _counted_seconds(container, stream) * known.samplerate
    except _NotDecoded:
        return False
    finally:
        file.seek(position)
    # An encoder's header says what it added at both ends, and both libraries leave that out.
    agree = abs(stated - known.frames) <= 2 and counted - known.frames <= MP3_ENDS
    return known.frames < round(counted) and not agree


LOST_SECONDS = 0.01
"""Less than so much may be missing of what a header says: some writers count their header too."""
UNKNOWN_BYTES = 2**31 - 2**16
"""Headers of what was written to a pipe say this much or more, for want of a better number."""
_SHORT_DATA = re.compile(
    r"^ *(?:data|SSND|BODY|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
"""How libsndfile says that less sound is there than a header says: WAV, AIFF, SVX, AU, W64, RF64; by bytes."""


def _lost_samples(known: soundfile.SoundFile, read: int, file: BinaryIO, begin: int) -> float:
    """Return how many samples of a file are missing, as far as it says how many there should be; 0 where it is whole.

    libsndfile gives what is there, and says so in its log of the header alone. Of Ogg, which does not say how long it is,
    it is known only that something is missing.

    Args:
        known: as libsndfile opened it, and has read it.
        read: how many samples were read.
        file: the same, maybe the one that libsndfile reads from.
        begin: where the recording begins in `file`.
    """
    missing = known.frames - read
    if known.format == "MP3":
        # Some encoders count the frame with the header too. Without such a header the length is an estimate.
        frame = 1152 if known.samplerate >= 32000 else 576
        return missing if missing > frame and _has_length(file, begin) else 0
    if known.format == "OGG":
        return math.inf if _is_cut_ogg(file, begin) else max(missing, 0)
    log = known.extra_info
    if match := _SHORT_DATA.search(log):
        stated, found = map(int, match.groups())
        if stated < UNKNOWN_BYTES:
            missing += known.frames * (stated - found) / found if found else math.inf
    elif known.format == "CAF" and (size := re.search(r"^Bytes / packet *: (\d+)", log, re.M)):
        data = re.search(r"^data : (\d+)", log, re.M)
        if data and int(size[1]) and int(data[1]) < UNKNOWN_BYTES:
            missing = (int(data[1]) - 4) // int(size[1]) - read
    elif known.format == "NIST":
        stated_count = re.search(rb"^sample_count -i (\d+)", _bytes(file, begin, 1024), re.M)
        if stated_count:
            missing = int(stated_count[1]) - read
    return max(missing, 0)


def _bytes(file: BinaryIO, place: int, count: int) -> bytes:
    """Return bytes of a file from a place on; none where it cannot be entered there. Its position stays."""
    if not file.seekable():
        return b""
    position = file.tell()
    try:
        file.seek(place)
        return file.read(count)
    finally:
        file.seek(position)


def _has_length(file: BinaryIO, begin: int) -> bool:
    """Tell whether an MP3 has its encoder's header, which says how many frames follow."""
    head = _bytes(file, begin, 10)
    if head[:3] == b"ID3" and len(head) == 10:
        begin += 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    return any(name in _bytes(file, begin, 256) for name in (b"Xing", b"Info", b"VBRI"))


def _is_cut_ogg(file: BinaryIO, begin: int) -> bool:
    """Tell whether an Ogg file ends inside a page, or behind one that is not marked as the last."""
    if not file.seekable():
        return False
    position = file.tell()
    end = file.seek(0, io.SEEK_END)
    file.seek(position)
    tail = _bytes(file, max(begin, end - 2 * 65307), 2 * 65307)  # a page has 65,307 bytes at most
    page = tail[tail.rfind(b"OggS") :]
    size = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 26 else math.inf
    is_last = len(page) > 5 and page[5] & 4
    return size > len(page) or (size < len(page) and not is_last)


def _breaks_off(found: float, lost: float) -> _NotDecoded:
    """Return the error of a file that holds `found` seconds, and of which `lost` seconds are missing."""
    if math.isinf(lost):
        return _NotDecoded(f"it breaks off after {found:.2f} s")
    return _NotDecoded(f"it breaks off after {found:.2f} of {found + lost:.2f} s")


def _unreadable(label: str, reason: str) -> AudioError:
    return AudioError(
        f"{label}: cannot be read as audio ({reason}). Expected a whole file that libsndfile or FFmpeg reads: "
        "WAV, FLAC, MP3, Ogg, AIFF, M4A, MP4, WebM, WMA, …",
        "unreadable",
    )


def _decode_ffmpeg(file: BinaryIO) -> tuple[np.ndarray, int]:
    """Return the samples (S, C) of the first audio track, and its rate. Raises _NotDecoded."""
    with _open_ffmpeg(file) as (container, stream):
        from av import AudioResampler

        resampler = AudioResampler(format="fltp")  # only the type of the samples changes
        pieces, rate = [], stream.rate
        for frame in container.decode(stream):
            rate = frame.sample_rate
            pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
        samples = np.concatenate(pieces, axis=1).T if pieces else np.zeros((0, 1), np.float32)
        stated, found = _stated_seconds(container, stream), len(samples) / rate
        # Such files end in whole frames, and some writers count what is played only.
        if container.format.name in _STATES_LENGTH and found < 0.98 * stated - 0.2:
            raise _breaks_off(found, stated - found)
        if (
            stream.codec_context.name.startswith("pcm_")
            and stream.frames / rate > found + LOST_SECONDS
        ):
            raise _breaks_off(found, stream.frames / rate - found)
        return samples, rate


_STATES_LENGTH = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "tta", "wv")
"""FFmpeg's names of containers whose header says how long they are; the length of others is an estimate."""


@contextlib.contextmanager
def _open_ffmpeg(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """Give the container that a file is, for FFmpeg, and its first audio track. Raises _NotDecoded, in the block too."""
    try:
        import av  # its libraries are large, and most recordings do without them
    except ImportError as error:
        raise _NotDecoded(f"PyAV cannot be loaded ({error}): pip install av") from error
    try:
        # No protocols: a playlist could otherwise open any other file or address.
        with av.open(file, container_options={"protocol_whitelist": "none"}) as container:
            if not container.streams.audio:
                raise _NotDecoded("it holds no audio track")
            yield container, container.streams.audio[0]
    except (av.FFmpegError, ValueError, IndexError, UnicodeError) as error:
        raise _NotDecoded(_reason(error)) from error


def _stated_seconds(container: Any, stream: Any) -> float:
    """Return how long an audio track says it is; 0 where it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / 1e6
    return 0.0


def _counted_seconds(container: Any, stream: Any) -> float:
    """Return how long an audio track is by adding up its pieces, without decoding them; reads to the end."""
    pieces = sum(packet.duration or 0 for packet in container.demux(stream))
    return float(pieces * stream.time_base)


def _require_file(path: Path, label: str) -> None:
    if path.is_dir():
        raise AudioError(f"{label}: is a folder. Expected an audio file.", "unreadable")
    if not path.exists():
        raise AudioError(
            f"{label}: no such file (looked from {Path.cwd()}). Expected an audio file.", "missing"
        )


def _reason(error: BaseException) -> str:
    """Reduce an error of soundfile or FFmpeg to what is not the file's name."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return text.strip().rstrip(".") or type(error).__name__


def _encode(waveform: Tensor, sample_rate: int, container: str, *, label: str) -> bytes:
    """Return a 16-bit PCM file."""
    flat = waveform.detach().to("cpu", torch.float32)
    if flat.numel() != flat.shape[-1]:
        raise DataError(
            f"{label}: got a waveform of shape {tuple(waveform.shape)}. Expected one channel: (1, samples)."
        )
    if flat.numel() == 0:
        raise DataError(f"{label}: nothing to write, the waveform holds zero samples.")
    if not bool(torch.isfinite(flat).all()):
        raise DataError(
            f"{label}: the waveform holds NaN or infinite samples; nothing was written."
        )
    pcm = pcm16(flat.reshape(-1))
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm.numpy(), sample_rate, format=container, subtype="PCM_16")
    return buffer.getvalue()
