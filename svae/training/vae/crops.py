"""What `train-vae` reads: which data, how long a crop is, and the teacher features and pitch that belong to it."""

from __future__ import annotations

from torch import Tensor

from svae.config import VAETrainConfig
from svae.data.batches import CachedTeacherFeatures, CropBatch
from svae.data.features import open_cache
from svae.data.index import ShardIndex, read_index
from svae.data.sources import mix
from svae.errors import ConfigError
from svae.models.teacher import Teacher
from svae.models.vae.pitch import track_pitch
from svae.models.vae.source_filter import SourceFilterDecoder
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World
from svae.training.draws import number_of


def open_data(config: VAETrainConfig) -> tuple[ShardIndex, ShardIndex]:
    """Return the training index and the index validation reads.

    Raises:
        DataError: a folder is missing or damaged.
        ConfigError: the shards are not waveforms at the model's sample rate.
    """
    data = config.data
    if data.sources:
        opened = [read_index(source.root) for source in data.sources]
        index = mix(opened, data.sources, data.temperature)
    else:
        assert data.root is not None  # the recipe has seen to it
        index = read_index(data.root)
    validation = index
    if config.data.validation_root is not None:
        validation = read_index(config.data.validation_root)
    for each in (index, validation):
        if each.kind != "waveforms":
            raise ConfigError(
                f"{each.root}: holds {each.kind}, but train-vae needs waveform shards from `svae prepare`"
            )
        if each.sample_rate != config.vae.sample_rate:
            raise ConfigError(
                f"{each.root}: audio at {each.sample_rate} Hz, but vae.sample_rate is {config.vae.sample_rate}.\n"
                f"Run `svae prepare … --sample-rate {config.vae.sample_rate}` into another folder."
            )
    return index, validation


def check_batch(config: VAETrainConfig, world: World) -> None:
    """Raise ConfigError where the global batch has no crop for each piece of each rank."""
    accumulate = config.trainer.accumulate
    pieces = world.world_size * (1 if accumulate == "auto" else accumulate)
    if config.batch_size < pieces:
        several = "" if pieces == world.world_size else f" with {accumulate} pieces each"
        raise ConfigError(
            f"batch_size {config.batch_size}: it is over all ranks, and there are {world.world_size} of them{several}; "
            f"use at least {pieces}, or fewer ranks" + (" or pieces" if several else "")
        )


def segment_samples(config: VAETrainConfig) -> int:
    """Return the crop length in samples, a multiple of the hop."""
    hop = config.vae.hop_length
    return round(config.segment_seconds * config.vae.sample_rate / hop) * hop


def context_samples(config: VAETrainConfig) -> int:
    """Return the samples on each side of the crop that only the teacher hears."""
    if config.loss.alignment is None:
        return 0
    return round(config.teacher.context_seconds * config.vae.sample_rate)


def open_teacher_features(
    config: VAETrainConfig, index: ShardIndex
) -> CachedTeacherFeatures | None:
    """Return the stored teacher features that the recipe names, or None where the teacher runs online.

    Raises:
        DataError: the folder is missing or damaged.
        ConfigError: it holds features of other data or of another teacher.
    """
    if config.loss.alignment is None or config.teacher.cache is None:
        return None
    if config.data.validation_root is not None:
        raise ConfigError(
            "teacher.cache: holds the features of data.root only; leave data.validation_root null"
        )
    cache = open_cache(
        config.teacher.cache, index, model=config.teacher.model, layer=config.teacher.layer
    )
    return CachedTeacherFeatures(cache, config.vae.hop_length)


def crop_of(batch: CropBatch, config: VAETrainConfig) -> Tensor:
    """Return the crop (B, 1, S) without the context that only the teacher hears."""
    context = context_samples(config)
    return batch.waveform[..., context : context + segment_samples(config)]


def teacher_features_of(
    teacher: Teacher | None, batch: CropBatch, config: VAETrainConfig
) -> Tensor | None:
    """Return the teacher's features at the latents' frames, (B, T, C), which `loss.alignment` compares with the latents.

    They come with the batch where they are stored, and are computed now where the teacher runs online, on its device; None
    without either. The batch may be on the host.
    """
    if batch.teacher_features is not None or teacher is None:
        return batch.teacher_features
    hop = config.vae.hop_length
    return teacher.aligned_features(
        batch.waveform, context_samples(config), segment_samples(config) // hop, hop
    )


def measured_pitch(model: SpeechVAE, crop: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the pitch of crops (B, 1, S) at the frames of the decoder's source and how periodic they are; None without one."""
    decoder = model.decoder
    if not isinstance(decoder, SourceFilterDecoder):
        return None
    cfg = decoder.cfg
    return track_pitch(crop, model.sample_rate, cfg.hop, decoder.grid, cfg.pitch_range)


def judged_stretch(config: VAETrainConfig, step: int) -> slice:
    """Return the samples of all crops that the discriminators hear in a step."""
    size = segment_samples(config)
    if config.discriminator.window_seconds is None:
        return slice(0, size)
    length = min(size, round(config.discriminator.window_seconds * config.vae.sample_rate))
    # Known on the host: a place drawn on a device would have to be waited for.
    start = number_of(config.trainer.seed, step, "judged") % (size - length + 1)
    return slice(start, start + length)
