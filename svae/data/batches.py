"""From a plan to tensors: read samples of shards and put them into batches.

A sample that cannot be read is left out of its batch and named in `failures`; nothing takes its place silently.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np
import soundfile
import torch
from torch import Tensor

from svae.data.features import FeatureCache
from svae.data.index import ShardIndex, read_array, read_member
from svae.data.order import Crop
from svae.data.samples import Sample
from svae.data.timings import Timings
from svae.errors import DataError
from svae.frames import num_frames
from svae.runtime.http import RemoteError
from svae.text.phonemes import FramePhonemes
from svae.text.vocabulary import PADDING_ID, Vocabulary

MAX_FAILURE_SHARE = 0.01
"""A run stops when more than this share of the utterances it asked for, of at least 100, could not be read."""

_Batch = TypeVar("_Batch", bound="_TensorBatch")


@dataclass
class _TensorBatch:
    """What batches have in common: moving all their tensors."""

    def to(self: _Batch, device: torch.device | str) -> _Batch:
        """Return a copy on `device`; from pinned memory the transfer does not block."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: _Batch) -> _Batch:
        """Return a copy in page-locked memory (needs an accelerator)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self: _Batch, function: Callable[[Tensor], Tensor]) -> _Batch:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items()})


@dataclass
class CropBatch(_TensorBatch):
    """Crops of equal length with real audio on both sides, for the VAE."""

    keys: list[str]
    waveform: Tensor
    """(B, 1, C + S + C) float32: context, crop, context. Zero beyond the utterance on either side."""
    lengths: Tensor
    """(B,) int64: valid samples of the crop itself, at most S."""
    starts: Tensor
    """(B,) int64: where the crop begins in its utterance, in samples."""
    teacher_features: Tensor | None = None
    """(B, T, C) float32: stored teacher features at the crop's latent frames; None without a cache."""
    failures: list[str] = field(default_factory=list)
    """One message for each planned sample that could not be read and is missing here."""
    places: list[int] = field(default_factory=list)
    """Where each row stands in what was asked for; in training, in the whole batch of the step."""
    weight: float = 1.0
    """0 where a process has no part of a step's batch: it computes along with what another has, and it must not count."""


@dataclass(frozen=True)
class CachedTeacherFeatures:
    """Stored teacher features, and the samples a latent frame at which they are wanted."""

    cache: FeatureCache
    hop_length: int


@dataclass
class UtteranceBatch(_TensorBatch):
    """Whole utterances with their text, padded to the longest. Either the waveform or the latents are there."""

    keys: list[str]
    tokens: Tensor
    """(B, L) int64, padded with -1."""
    token_lengths: Tensor
    """(B,) int64."""
    waveform: Tensor | None = None
    """(B, 1, S) float32, zero-padded."""
    lengths: Tensor | None = None
    """(B,) int64, samples."""
    latent_mean: Tensor | None = None
    """(B, D, T) float32, zero-padded, not normalised."""
    latent_logvar: Tensor | None = None
    """(B, D, T) float32, zero-padded."""
    latent_lengths: Tensor | None = None
    """(B,) int64, frames."""
    failures: list[str] = field(default_factory=list)
    """One message for each planned sample that could not be read and is missing here."""
    places: list[int] = field(default_factory=list)
    """Where each row stands in what was asked for; in training, in the whole batch of the step."""
    weight: float = 1.0
    """0 where a process has no part of a step's batch: it computes along with what another has, and it must not count."""


def read_waveform(
    index: ShardIndex, sample: Sample, start: int = 0, length: int | None = None
) -> Tensor:
    """Decode a stretch of an utterance, to its end unless a length is given: (1, length) float32.

    Raises:
        DataError: the shard is truncated or corrupt, or the audio is not what the index says.
    """
    wanted = sample.num_samples - start if length is None else length
    data = read_member(index, sample, "flac")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            found = (file.samplerate, file.channels, file.frames)
            if start:
                file.seek(start)
            audio = file.read(wanted, dtype="float32")
    except (soundfile.SoundFileError, ValueError) as error:
        raise DataError(
            f"{index.describe(sample)}: .flac cannot be decoded ({error}). Prepare the corpus again."
        ) from error
    expected = (index.sample_rate, 1, sample.num_samples)
    if found != expected or audio.shape != (wanted,):
        raise DataError(
            f"{index.describe(sample)}: .flac has (sample rate, channels, samples) = {found}, expected {expected}; it "
            f"gave {audio.shape[0]} of {wanted} samples. Prepare the corpus again."
        )
    return torch.from_numpy(audio)[None]


def read_latents(index: ShardIndex, sample: Sample, hop_length: int) -> tuple[Tensor, Tensor]:
    """Read the stored posterior of an utterance: mean and logvar, (D, T) float32 each.

    Where a sample of the posterior was stored, it comes as the mean, with the log-variance -inf of a value that is
    certain: a sample of it is itself.

    Raises:
        DataError: the shard is truncated or corrupt, or the array is not (2, D, T) or (1, D, T) of finite float16 or
            float32.
    """
    frames = num_frames(sample.num_samples, hop_length)
    array = read_array(index, sample)
    if (
        array.dtype not in (np.float16, np.float32)
        or array.ndim != 3
        or array.shape[0] not in (1, 2)
        or array.shape[2] != frames
    ):
        raise DataError(
            f"{index.describe(sample)}: .npy is {array.dtype} of shape {array.shape}. Expected float16 or float32 of "
            f"shape (2, D, {frames}) or (1, D, {frames}): {sample.num_samples} samples at hop length {hop_length}."
        )
    if not np.isfinite(array).all():
        raise DataError(
            f"{index.describe(sample)}: .npy holds NaN or infinite values. Run `svae encode` again."
        )
    stored = torch.from_numpy(array.astype(np.float32))
    mean = stored[0]
    logvar = stored[1] if len(stored) == 2 else torch.full_like(mean, -torch.inf)
    return mean, logvar


def read_crops(
    index: ShardIndex,
    crops: Sequence[Crop],
    *,
    segment_samples: int,
    context_samples: int,
    cached_features: CachedTeacherFeatures | None = None,
) -> CropBatch:
    """Read planned crops into a batch; unreadable ones are named in `failures`."""
    width = segment_samples + 2 * context_samples
    rows, features, kept, failures = [], [], [], []
    places = []
    for place, crop in enumerate(crops):
        first = max(crop.start - context_samples, 0)
        last = min(crop.start + segment_samples + context_samples, crop.sample.num_samples)
        try:
            audio = read_waveform(index, crop.sample, first, last - first)
            if cached_features is not None:
                hop = cached_features.hop_length
                features.append(
                    cached_features.cache.read(
                        crop.sample.key, crop.start, segment_samples // hop, hop
                    )
                )
        except RemoteError:
            raise  # a server that was given up is not asked for every sample of a shard
        except DataError as error:
            failures.append(str(error))
            continue
        row = torch.zeros(1, width)
        left = first - (crop.start - context_samples)
        row[:, left : left + last - first] = audio
        rows.append(row)
        kept.append(crop)
        places.append(place)
    return CropBatch(
        keys=[crop.sample.key for crop in kept],
        waveform=torch.stack(rows) if rows else torch.zeros(0, 1, width),
        lengths=torch.tensor([crop.length for crop in kept], dtype=torch.int64),
        starts=torch.tensor([crop.start for crop in kept], dtype=torch.int64),
        teacher_features=torch.stack(features) if features else None,
        failures=failures,
        places=places,
    )


def read_utterances(
    index: ShardIndex,
    samples: Sequence[Sample],
    *,
    vocabulary: Vocabulary,
    hop_length: int,
    timings: Timings | None = None,
) -> UtteranceBatch:
    """Read planned utterances into a batch; unreadable ones are named in `failures`.

    With `timings`, of FramePhonemes, the tokens are one a frame.

    Raises:
        DataError: a text holds a character that is not in the vocabulary.
    """
    kept: list[Sample] = []
    arrays: list[tuple[Tensor, ...]] = []
    failures, places = [], []
    for place, sample in enumerate(samples):
        try:
            if index.kind == "latents":
                arrays.append(read_latents(index, sample, hop_length))
            else:
                arrays.append((read_waveform(index, sample),))
            kept.append(sample)
            places.append(place)
        except RemoteError:
            raise  # a server that was given up is not asked for every sample of a shard
        except DataError as error:
            failures.append(str(error))
    texts = []
    for sample in kept:
        try:
            if timings is None:
                read_as = vocabulary.in_language(sample.language)
                ids = read_as.encode(read_as.fit(sample.text))
            else:
                # The recipe takes times of phones with this vocabulary only.
                assert isinstance(vocabulary, FramePhonemes)
                ids = timings.frames(sample, vocabulary, index.sample_rate, hop_length)
            texts.append(torch.tensor(ids, dtype=torch.int64))
        except DataError as error:
            raise DataError(f"{index.describe(sample)}: {error}") from error
    batch = UtteranceBatch(
        keys=[sample.key for sample in kept],
        tokens=_pad(texts, PADDING_ID) if texts else torch.zeros(0, 0, dtype=torch.int64),
        token_lengths=torch.tensor([len(text) for text in texts], dtype=torch.int64),
        failures=failures,
        places=places,
    )
    lengths = torch.tensor([array[0].shape[-1] for array in arrays], dtype=torch.int64)
    if index.kind == "latents":
        batch.latent_lengths = lengths
        batch.latent_mean = _pad([array[0] for array in arrays])
        batch.latent_logvar = _pad([array[1] for array in arrays])
    else:
        batch.lengths = lengths
        batch.waveform = _pad([array[0] for array in arrays])
    return batch


def _pad(tensors: Sequence[Tensor], value: float = 0) -> Tensor:
    """Stack tensors (..., T_i) into (B, ..., max T), filled with `value` on the right."""
    if not tensors:
        return torch.zeros(0)
    longest = max(tensor.shape[-1] for tensor in tensors)
    out = tensors[0].new_full((len(tensors), *tensors[0].shape[:-1], longest), value)
    for row, tensor in zip(out, tensors, strict=True):
        row[..., : tensor.shape[-1]] = tensor
    return out
