"""Speech as bytes of an audio format: whole, or piece by piece as it is spoken.

The same samples give the same bytes, whatever pieces they come in whole, and with the same pieces in a stream.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import av
import numpy as np
import soundfile
import soxr

PCM_RATE = 24000
"""Hz; what OpenAI's `pcm` has, and its clients expect."""
MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "pcm": "audio/pcm",
}
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_UNKNOWN = b"\xff\xff\xff\xff"
"""A size in a WAV's header that is not known yet."""
Tags = Mapping[str, str]
"""`software` and `comment`: what made the speech, kept in files that have a place for it."""


class Encoder(Protocol):
    """Turns samples (S,), int16, one channel, into bytes of a format."""

    def add(self, samples: np.ndarray) -> bytes:
        """Return what is complete with these samples."""

    def finish(self) -> bytes:
        """Return the rest."""


def open_encoder(name: str, sample_rate: int, tags: Tags, *, streams: bool = True) -> Encoder:
    """Return an encoder of a format; one that does not stream gives everything at the end, with its length in the header."""
    if name == "pcm":
        return PCM(sample_rate)
    if name == "wav" and streams:
        return StreamedWAV(sample_rate, tags)
    if name == "wav" or (name == "flac" and not streams):
        return WholeFile(name, sample_rate, tags)
    return FFmpeg(name, sample_rate, tags, streams=streams)


def encode(name: str, samples: np.ndarray, sample_rate: int, tags: Tags) -> bytes:
    """Return samples (S,), int16, as a whole file."""
    encoder = open_encoder(name, sample_rate, tags, streams=False)
    return encoder.add(samples) + encoder.finish()


class PCM:
    """16-bit little-endian samples at `PCM_RATE`, without a header."""

    def __init__(self, sample_rate: int) -> None:
        same = sample_rate == PCM_RATE
        self._resampler = (
            None if same else soxr.ResampleStream(sample_rate, PCM_RATE, 1, dtype="float32")
        )

    def add(self, samples: np.ndarray) -> bytes:
        """See `Encoder`."""
        return self._bytes(samples, last=False)

    def finish(self) -> bytes:
        """See `Encoder`."""
        return self._bytes(np.zeros(0, np.int16), last=True)

    def _bytes(self, samples: np.ndarray, *, last: bool) -> bytes:
        if self._resampler is not None:
            # Not in 16 bits: soxr's dither would be another one every time.
            floats = self._resampler.resample_chunk(samples.astype(np.float32), last=last)
            samples = floats.round().clip(-32768, 32767)
        return samples.astype("<i2").tobytes()


class StreamedWAV:
    """A WAV whose header says that its length is unknown."""

    def __init__(self, sample_rate: int, tags: Tags) -> None:
        header = _sound_file("wav", np.zeros(0, np.int16), sample_rate, tags)
        data = header.rindex(b"data")
        self._header = header[:4] + _UNKNOWN + header[8 : data + 4] + _UNKNOWN

    def add(self, samples: np.ndarray) -> bytes:
        """See `Encoder`."""
        header, self._header = self._header, b""
        return header + samples.astype("<i2").tobytes()

    def finish(self) -> bytes:
        """See `Encoder`."""
        return self._header


class WholeFile:
    """A WAV or FLAC that libsndfile writes when all samples are there."""

    def __init__(self, name: str, sample_rate: int, tags: Tags) -> None:
        self._name, self._sample_rate, self._tags = name, sample_rate, tags
        self._pieces = [np.zeros(0, np.int16)]

    def add(self, samples: np.ndarray) -> bytes:
        """See `Encoder`."""
        self._pieces.append(samples)
        return b""

    def finish(self) -> bytes:
        """See `Encoder`."""
        return _sound_file(self._name, np.concatenate(self._pieces), self._sample_rate, self._tags)


def _sound_file(name: str, samples: np.ndarray, sample_rate: int, tags: Tags) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", sample_rate, 1, "PCM_16", format=name.upper()) as file:
        for key, value in tags.items():
            setattr(file, key, value)
        file.write(samples)
    return buffer.getvalue()


class _Sink:
    """A file that cannot be entered again, and is emptied as it fills."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


class FFmpeg:
    """MP3, Opus in Ogg, or FLAC in a stream."""

    CODECS = {"mp3": ("mp3", "libmp3lame"), "opus": ("ogg", "libopus"), "flac": ("flac", "flac")}
    """Container and codec of a format."""

    def __init__(self, name: str, sample_rate: int, tags: Tags, *, streams: bool) -> None:
        container, codec = self.CODECS[name]
        self._streams = streams
        self._sink = _Sink()
        self._buffer = io.BytesIO()
        # Without `bitexact` FFmpeg draws a random number for each Ogg file.
        options = {"fflags": "+bitexact"}
        if streams:
            options |= {"ogg": {"page_duration": "200000"}, "mp3": {"write_xing": "0"}}.get(
                container, {}
            )
        file: Any = self._sink if streams else self._buffer
        self._container = av.open(file, "w", format=container, container_options=options)
        rate = sample_rate
        if name == "opus" and rate not in _OPUS_RATES:
            rate = 48000
        stream = self._container.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        if name == "opus":
            self._stream.bit_rate = 32000
        of_file = self._stream if container == "ogg" else self._container
        of_file.metadata.update({"encoder" if k == "software" else k: v for k, v in tags.items()})
        self._resampler = av.AudioResampler(self._stream.format.name, "mono", rate)
        self._sample_rate = sample_rate
        self._done = 0

    def add(self, samples: np.ndarray) -> bytes:
        """See `Encoder`."""
        if len(samples):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[None]), format="s16", layout="mono"
            )
            frame.sample_rate = self._sample_rate
            frame.pts = self._done
            self._done += len(samples)
            self._encode(self._resampler.resample(frame))
        return self._sink.take()

    def _encode(self, frames: Iterable[av.AudioFrame | None]) -> None:
        for frame in frames:
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        """See `Encoder`."""
        self._encode([*self._resampler.resample(None), None])
        self._container.close()
        return self._sink.take() if self._streams else self._buffer.getvalue()
