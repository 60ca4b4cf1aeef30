"""`--dry-run`: what a training command would do, without doing it."""

from __future__ import annotations

import math

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.index import ShardIndex
from svae.data.select import check_slots, unfit_utterances
from svae.evaluation.items import held_out_list
from svae.models.teacher import load_teacher
from svae.models.tts.dit import DiT
from svae.models.vae.discriminators import Discriminators
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import describe_device, open_world
from svae.training.loop import TrainOptions, find_resume
from svae.training.tts import representation
from svae.training.tts.memory import GIB, estimate_bytes
from svae.training.vae import crops
from svae.training.vae import train as vae
from svae.training.warm_start import choose_vocabulary, open_start


def dry_run(options: TrainOptions) -> None:
    """Check everything that training checks before step 0, and print recipe, parameters, shards and worst batch.

    Raises:
        ConfigError, DataError, CheckpointError: what training would raise.
    """
    console = Console()
    console.print(recipe.dump(options.config), highlight=False, markup=False, end="")
    with open_world(options.device) as world:
        console.print(f"\nDevice: {describe_device(world.device)}; {world.world_size} process(es)")
        if isinstance(options.config, VAETrainConfig):
            index, networks, batch = _plan_vae(options.config, world.world_size, console)
            kind, memory = "vae", {}
        else:
            index, networks, batch, memory = _plan_tts(options.config, world.world_size, console)
            kind = "tts"
        check_slots(
            index,
            index.train,
            world_size=world.world_size,
            num_workers=options.config.loader.num_workers,
        )
        checkpoint = find_resume(options, kind)
    _print_parameters(console, networks)
    metadata = index.metadata
    console.print(
        f"Shards: {len(index.shards)} in {index.root}: {metadata['utterances']} utterances, "
        f"{metadata['seconds'] / 3600:.2f} h, {len(metadata['speakers'])} speakers, "
        f"{len(metadata['validation'])} utterances held out"
    )
    console.print(f"Worst-case batch per rank: {batch}")
    if memory:
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in memory.items() if size)
        total = sum(memory.values()) / GIB
        console.print(f"Memory per rank, estimated: {total:.1f} GiB ({parts})", highlight=False)
    console.print(
        f"Would {'start at step 0' if checkpoint is None else f'resume from {checkpoint.folder}'} in {options.out}"
    )


def _plan_vae(
    config: VAETrainConfig, world_size: int, console: Console
) -> tuple[ShardIndex, dict[str, nn.Module], str]:
    index, _ = crops.open_data(config)
    teacher_features = crops.open_teacher_features(config, index)
    online = config.loss.alignment is not None and teacher_features is None
    rate = config.vae.sample_rate
    teacher = (
        load_teacher(config.teacher, torch.device("cpu"), sample_rate=rate) if online else None
    )
    teacher_dim = None if teacher is None else teacher.feature_dim
    if teacher_features is not None:
        teacher_dim = teacher_features.cache.description["feature_dim"]
    console.print(f"Teacher: {vae.describe_teacher(teacher, teacher_features)}")
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "VAE": SpeechVAE(config.vae, teacher_dim),
            "discriminators": Discriminators(config.discriminator, config.vae.sample_rate),
        }
    if teacher is not None:
        networks["teacher (frozen)"] = teacher.model
    count, samples = config.batch_size // world_size, crops.segment_samples(config)
    hop = config.vae.hop_length
    text = (
        f"{count} crops of {samples / config.vae.sample_rate:g} s ({samples} samples, {samples // hop} latent frames), "
        f"{count * samples / config.vae.sample_rate:g} s of audio"
    )
    return index, networks, text


def _plan_tts(
    config: TTSTrainConfig, world_size: int, console: Console
) -> tuple[ShardIndex, dict[str, nn.Module], str, dict[str, int]]:
    index, _, _ = representation.open_data(config)
    if config.trainer.synthesize_every:
        held_out_list(representation.waveform_root(config, index))
    start = open_start(config)
    source = representation.find_vae(config, index, start)
    latent_dim, hop = representation.frame_sizes(source)
    if source is None:
        console.print(f"Representation: mel frames, {latent_dim} bins, decoded by {config.vocoder}")
    else:
        console.print(f"VAE: {source.folder} (step {source.step}, {source.hash[:12]}…)")
    vocabulary = choose_vocabulary(index, config, start)
    with torch.device("meta"):
        networks: dict[str, nn.Module] = {
            "DiT": DiT(config.dit, vocab_size=len(vocabulary), latent_dim=latent_dim)
        }
    budget = config.batch_frames // world_size
    limits = {
        "batch_frames": budget,
        "min_seconds": config.min_seconds,
        "max_seconds": config.max_seconds,
    }
    reasons = unfit_utterances(index, hop_length=hop, **limits)
    if reasons:
        console.print(
            "Left out of training: "
            + ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
        )
    longest = min(config.max_seconds, max((s.duration_seconds for s in index.train), default=0.0))
    frames = math.ceil(longest * index.sample_rate / hop)
    memory = estimate_bytes(
        config.dit,
        parameters=sum(p.numel() for p in networks["DiT"].parameters()),
        latent_dim=latent_dim,
        frames=budget // max(frames, 1) * frames,
        bf16=config.trainer.precision == "bf16",
    )
    text = (
        f"{budget} frames ({budget * hop / index.sample_rate:g} s, padding included); the longest utterance is "
        f"{longest:.1f} s ({frames} frames, {max(budget // max(frames, 1), 0)} of them in a batch)"
    )
    return index, networks, text, memory


def _print_parameters(console: Console, networks: dict[str, nn.Module]) -> None:
    table = Table(title="Parameters", show_edge=False)
    table.add_column("network")
    table.add_column("parameters", justify="right")
    for name, network in networks.items():
        table.add_row(name, f"{sum(p.numel() for p in network.parameters()):,}")
    console.print(table)
