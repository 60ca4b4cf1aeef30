"""`--dry-run`: what a training command would do, without doing it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from svae import recipe
from svae.checkpoint import Kind
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.index import ShardIndex
from svae.data.select import check_slots, unfit_utterances
from svae.evaluation.items import held_out_list
from svae.models.teacher import load_teacher
from svae.models.tts.dit import DiT
from svae.models.vae.discriminators import Discriminators
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, describe_device, open_world
from svae.training.loop import TrainOptions, find_resume
from svae.training.tts import utterances
from svae.training.tts.memory import GIB, estimate_bytes
from svae.training.tts.representation import find_representation
from svae.training.vae import crops
from svae.training.vae.train import describe_teacher
from svae.training.warm_start import choose_vocabulary, open_start, open_vae_start


@dataclass
class Outlook:
    """What a run would consist of."""

    kind: Kind
    index: ShardIndex
    networks: dict[str, nn.Module]
    """By name; without memory for their weights, but for a teacher."""
    worst_batch: str
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes of a rank by what takes them, where they can be estimated."""


def dry_run(options: TrainOptions[VAETrainConfig | TTSTrainConfig]) -> None:
    """Check everything that training checks before step 0, and print recipe, parameters, shards and worst batch.

    Raises:
        ConfigError, DataError, CheckpointError: what training would raise.
    """
    config = options.config
    console = Console()
    console.print(recipe.dump(config), highlight=False, markup=False, end="")
    with open_world(options.device) as world:
        console.print(f"\nDevice: {describe_device(world.device)}; {world.world_size} process(es)")
        if isinstance(config, VAETrainConfig):
            outlook = _outlook_vae(config, world, console)
        else:
            outlook = _outlook_tts(config, world, console)
        index = outlook.index
        check_slots(
            index, index.train, world_size=world.world_size, num_workers=config.loader.num_workers
        )
        checkpoint = find_resume(options, outlook.kind)
    _print_parameters(console, outlook.networks)
    metadata = index.metadata
    console.print(
        f"Shards: {len(index.shards)} in {index.root}: {metadata['utterances']} utterances, "
        f"{metadata['seconds'] / 3600:.2f} h, {len(metadata['speakers'])} speakers, "
        f"{len(metadata['validation'])} utterances held out"
    )
    console.print(f"Worst-case batch per rank: {outlook.worst_batch}")
    if outlook.memory:
        parts = ", ".join(
            f"{name} {size / GIB:.2f}" for name, size in outlook.memory.items() if size
        )
        total = sum(outlook.memory.values()) / GIB
        console.print(f"Memory per rank, estimated: {total:.1f} GiB ({parts})", highlight=False)
    console.print(
        f"Would {'start at step 0' if checkpoint is None else f'resume from {checkpoint.folder}'} in {options.out}"
    )


def _outlook_vae(config: VAETrainConfig, world: World, console: Console) -> Outlook:
    index, _ = crops.open_data(config)
    open_vae_start(config)
    crops.check_batch(config, world)
    cached = crops.open_teacher_features(config, index)
    teacher = None
    teacher_dim = None
    if cached is not None:
        teacher_dim = cached.cache.description["feature_dim"]
    elif config.loss.alignment is not None:
        teacher = load_teacher(config.teacher, "cpu", sample_rate=config.vae.sample_rate)
        teacher_dim = teacher.feature_dim
    console.print(f"Teacher: {describe_teacher(teacher, cached)}")
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "VAE": SpeechVAE(config.vae, teacher_dim),
            "discriminators": Discriminators(config.discriminator, config.vae.sample_rate),
        }
    if teacher is not None:
        networks["teacher (frozen)"] = teacher.model
    rate = config.vae.sample_rate
    count = config.batch_size // world.world_size
    samples = crops.segment_samples(config)
    batch = (
        f"{count} crops of {samples / rate:g} s ({samples} samples, {samples // config.vae.hop_length} latent frames), "
        f"{count * samples / rate:g} s of audio"
    )
    return Outlook("vae", index, networks, batch)


def _outlook_tts(config: TTSTrainConfig, world: World, console: Console) -> Outlook:
    index, _, _ = utterances.open_data(config)
    if config.trainer.synthesize_every:
        held_out_list(utterances.waveform_root(config, index))
    start = open_start(config)
    representation = find_representation(config, index, start)
    console.print(representation.describe())
    vocabulary = choose_vocabulary(index, config, start)
    latent_dim = representation.latent_dim
    with torch.device("meta"):
        dit = DiT(config.dit, vocab_size=len(vocabulary), latent_dim=latent_dim)
    hop = representation.hop_length
    limits = utterances.limits_of(config, hop, world.world_size)
    reasons = unfit_utterances(index, **limits)
    if reasons:
        text = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        console.print(f"Left out of training: {text}")
    longest = max((sample.duration_seconds for sample in index.train), default=0.0)
    longest = min(config.max_seconds, longest)
    frames = math.ceil(longest * index.sample_rate / hop)
    budget = limits["batch_frames"]
    count = budget // max(frames, 1)
    memory = estimate_bytes(
        config.dit,
        parameters=sum(parameter.numel() for parameter in dit.parameters()),
        latent_dim=latent_dim,
        frames=count * frames,
        bf16=config.trainer.precision == "bf16",
    )
    batch = (
        f"{budget} frames ({budget * hop / index.sample_rate:g} s, padding included); the longest utterance is "
        f"{longest:.1f} s ({frames} frames, {count} of them in a batch)"
    )
    return Outlook("tts", index, {"DiT": dit}, batch, memory)


def _print_parameters(console: Console, networks: dict[str, nn.Module]) -> None:
    table = Table(title="Parameters", show_edge=False)
    table.add_column("network")
    table.add_column("parameters", justify="right")
    for name, network in networks.items():
        parameters = sum(parameter.numel() for parameter in network.parameters())
        table.add_row(name, f"{parameters:,}")
    console.print(table)
