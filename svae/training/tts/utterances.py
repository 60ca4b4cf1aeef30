"""What `train-tts` reads: which shards, which of their utterances, and where prompts come from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypedDict

from rich.console import Console

from svae.config import TTSDataConfig, TTSTrainConfig
from svae.data.index import ShardIndex, read_index
from svae.data.samples import Samples
from svae.data.select import select_utterances
from svae.data.sources import mix
from svae.data.timings import Timings
from svae.errors import ConfigError, DataError
from svae.frames import ceil_div, num_frames
from svae.runtime.distributed import World
from svae.text.vocabulary import Vocabulary


class Limits(TypedDict):
    """Which utterances are used, and how many fit into a batch; as the loaders in `svae.data` take them."""

    batch_frames: int
    """Padded frames of a part of a step's batch."""
    hop_length: int
    """Samples a frame."""
    min_seconds: float
    max_seconds: float


def limits_of(config: TTSTrainConfig, hop_length: int) -> Limits:
    """Return the recipe's limits."""
    return {
        "batch_frames": config.batch_frames // config.data.slots,
        "hop_length": hop_length,
        "min_seconds": config.min_seconds,
        "max_seconds": config.max_seconds,
    }


def fewest_pieces(config: TTSTrainConfig, world: World) -> int:
    """Return into how many pieces each process must cut its share of a step at least.

    A step has `data.slots` parts of different lengths. Padded to the longest, several at once would take many times the memory.
    """
    return ceil_div(config.data.slots, world.world_size)


def most_pieces(index: ShardIndex, limits: Limits, config: TTSTrainConfig, world: World) -> int:
    """Return into how many pieces each process can cut its share of a step: then each is one of the longest utterances."""
    usable, _ = select_utterances(index.train, **limits)
    longest = max(num_frames(sample.num_samples, limits["hop_length"]) for sample in usable)
    return ceil_div(config.data.slots * (limits["batch_frames"] // longest), world.world_size)


def check_pieces(config: TTSTrainConfig, world: World) -> None:
    """Raise ConfigError where processes would have to compute parts of different lengths as one."""
    accumulate, fewest = config.trainer.accumulate, fewest_pieces(config, world)
    if accumulate != "auto" and accumulate < fewest:
        raise ConfigError(
            f"data.slots {config.data.slots}: a step has so many parts of different lengths, which are computed one by one, but "
            f"there are {world.world_size} process(es) with {accumulate} piece(s) each. Pass --set trainer.accumulate=auto (or "
            f"{fewest}, or more), use torchrun --nproc-per-node {config.data.slots}, or lower data.slots."
        )


class TrainingData(NamedTuple):
    """What a training reads. With times of phones, indexes hold only the utterances that have them."""

    train: ShardIndex
    validation: ShardIndex
    """The same, of which what is held out is taken, or another, which is taken whole."""
    timings: Timings | None
    """When the phones of the training utterances are spoken."""
    validation_timings: Timings | None
    """The same of those that are validated on."""


def open_data(config: TTSTrainConfig) -> TrainingData:
    """Open what the recipe names.

    Raises:
        ConfigError: a folder holds another kind of shards; prompts for `trainer.synthesize_every` are nowhere.
        DataError: a folder is missing, damaged or has no texts.
    """
    index, timings = _open(config.data)
    validation, validation_timings = index, timings
    if config.data.validation_root is not None:
        validation, validation_timings = _read(
            config.data.validation_root, config.data.validation_timings
        )
    if index.kind == "features":
        raise ConfigError(
            f"{index.root}: holds teacher features; train-tts needs waveform or latent shards"
        )
    if not index.metadata["characters"]:
        raise DataError(f"{index.root}: no utterance has a text; train-tts needs transcripts")
    if validation.kind != index.kind:
        raise ConfigError(
            f"{validation.root}: holds {validation.kind}, but {index.root} holds {index.kind}"
        )
    if validation.sample_rate != index.sample_rate:
        raise ConfigError(
            f"{validation.root}: audio at {validation.sample_rate} Hz, but that of {index.root} is at {index.sample_rate} Hz"
        )
    if _vae_of(validation) != _vae_of(index):
        raise ConfigError(
            f"{validation.root}: latents of another VAE than those of {index.root}; run `svae encode` again"
        )
    if config.trainer.synthesize_every:
        waveform_root(config, index)
    return TrainingData(index, validation, timings, validation_timings)


def _open(data: TTSDataConfig) -> tuple[ShardIndex, Timings | None]:
    """Return the folder, or the mixture of folders, that is trained on, and the times of its phones."""
    if not data.sources:
        assert data.root is not None  # the recipe has seen to it
        return _read(data.root, data.timings)
    opened = [_read(source.root, source.timings) for source in data.sources]
    index = mix([each for each, _ in opened], data.sources, data.temperature)
    timings = {
        source.name: found
        for source, (_, found) in zip(index.sources, opened, strict=True)
        if found is not None
    }
    return index, Timings.of_sources(timings) if timings else None


def _read(root: str, timings_root: str | None) -> tuple[ShardIndex, Timings | None]:
    index = read_index(root)
    if timings_root is None:
        return index, None
    timings = Timings(timings_root)
    return timings.select(index), timings


def _vae_of(index: ShardIndex) -> str | None:
    return index.metadata["latents"]["vae_hash"] if index.kind == "latents" else None


def waveform_root(config: TTSTrainConfig, index: ShardIndex) -> Path:
    """Return the waveform shards that prompts are taken from.

    Raises:
        ConfigError: the run reads stored latents and the recipe does not name them.
    """
    if config.data.waveform_root is not None:
        return Path(config.data.waveform_root)
    if index.kind == "waveforms":
        return index.home
    raise ConfigError(
        f"trainer.synthesize_every: {index.root} holds {index.kind}, and prompts are recordings. Pass "
        "--set data.waveform_root=DIR (the shards that were encoded), or --set trainer.synthesize_every=0."
    )


def report_left_out(
    console: Console,
    index: ShardIndex,
    limits: Limits,
    timings: Timings | None,
    vocabulary: Vocabulary,
) -> Samples:
    """Print how many utterances no batch will hold, by reason, and return the others.

    Raises:
        DataError: none is left to train on.
    """
    if timings is not None and timings.left_out:
        console.print(f"Left out: {timings.left_out} utterances without times of phones")
    if not index.train:
        raise DataError(
            f"{index.root}: nothing to train on: all {len(index.samples)} utterances are held out for validation.\n"
            "Run `svae prepare` with a smaller --validation, or on more data."
        )
    usable, reasons = select_utterances(index.train, **limits, vocabulary=vocabulary)
    if not reasons:
        return usable
    text = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    console.print(f"Left out of training: {text}; {len(usable)} utterances remain")
    if not usable:
        raise DataError(
            f"{index.root}: every utterance is left out ({text}); raise batch_frames or max_seconds, or mend the texts"
        )
    return usable
