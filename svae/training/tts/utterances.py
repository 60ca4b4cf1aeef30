"""What `train-tts` reads: which shards, which of their utterances, and where prompts come from."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from rich.console import Console

from svae.config import TTSTrainConfig
from svae.data.index import Sample, ShardIndex, read_index
from svae.data.select import select_utterances
from svae.data.timings import Timings
from svae.errors import ConfigError, DataError
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


def check_pieces(config: TTSTrainConfig, world: World) -> None:
    """Raise ConfigError where processes would have to compute parts of different lengths as one.

    Padded to the longest, they would take many times the memory.
    """
    if world.world_size < config.data.slots:
        raise ConfigError(
            f"data.slots {config.data.slots}: a step has so many parts of different lengths, and each takes a process of its "
            f"own, but there are {world.world_size} of them. Use torchrun --nproc-per-node {config.data.slots}, or lower "
            "data.slots."
        )


def open_data(config: TTSTrainConfig) -> tuple[ShardIndex, ShardIndex, Timings | None]:
    """Return the training index, the index validation reads, and the times of phones that the recipe names.

    With times of phones both hold only the utterances that have them.

    Raises:
        ConfigError: a folder holds another kind of shards; prompts for `trainer.synthesize_every` are nowhere.
        DataError: a folder is missing, damaged or has no texts.
    """
    index = read_index(config.data.root)
    validation = index
    if config.data.validation_root is not None:
        validation = read_index(config.data.validation_root)
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
    if config.data.timings is None:
        return index, validation, None
    timings = Timings(config.data.timings)
    if config.data.validation_root is not None:
        validation = timings.select(validation)
    # Last, because what `timings` counts as left out is that of its last selection.
    selected = timings.select(index)
    if config.data.validation_root is None:
        validation = selected
    return selected, validation, timings


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
        return index.root
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
) -> list[Sample]:
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
