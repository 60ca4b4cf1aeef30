"""`--dry-run`: what a training command would do, without doing it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from svae import recipe
from svae.checkpoint import Checkpoint, Kind, load_strict, open_checkpoint
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.index import ShardIndex
from svae.data.order import worst_frames
from svae.data.samples import Samples
from svae.data.select import check_some
from svae.frames import num_frames
from svae.judges.asr import load_asr
from svae.judges.distillmos import load_naturalness
from svae.judges.speaker import load_speaker_model
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.models.vae.discriminators import Discriminators
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, describe_device, open_world
from svae.runtime.files import check_unlocked, check_writable
from svae.synthesis.open_durations import stored_durations
from svae.text.vocabulary import Vocabulary
from svae.training.changes import changes_since, describe
from svae.training.loop import (
    TrainOptions,
    find_resume,
    load_training_state,
    note_unknown_recipe,
    order_change,
    stored_recipe,
)
from svae.training.memory_plan import Plan
from svae.training.optim import build_optimizer
from svae.training.pieces import free_bytes, verdict
from svae.training.tts import utterances
from svae.training.tts.build import build_state
from svae.training.tts.distill import StudentState, open_teacher, take_student, teacher_sampling
from svae.training.tts.hidden_alignment import open_features
from svae.training.tts.judged_speech import ASR, SPEAKER, items_to_say
from svae.training.tts.lora import inject
from svae.training.tts.memory import GIB, estimate_bytes, try_longest, wants_trial
from svae.training.tts.memory import step_plans as tts_plans
from svae.training.tts.representation import (
    check_kept,
    find_representation,
    kept_vae,
)
from svae.training.tts.state import TTSState
from svae.training.tts.train import check_vocabulary, held_out_batches, spelled
from svae.training.vae import crops
from svae.training.vae.step import trained
from svae.training.vae.train import describe_teacher, freeze_encoder, held_out_crops, teacher_of
from svae.training.vae.train import step_plans as vae_plans
from svae.training.warm_start import (
    choose_vocabulary,
    open_start,
    open_vae_start,
    take_vae_weights,
    take_weights,
)
from svae.training.watch import note_no_validation

Parts = dict[str, nn.Module | torch.optim.Optimizer]
META = torch.device("meta")
"""Tensors there have a shape and take no memory: what is loaded into them is checked and forgotten."""


@dataclass
class Outlook:
    """What a run would consist of."""

    kind: Kind
    index: ShardIndex
    usable: Samples
    """What of it is trained on."""
    parts: Parts
    """What a checkpoint is loaded into, as `State.parts` has it; without memory for the weights."""
    networks: dict[str, nn.Module]
    """By name; without memory for their weights, but for a teacher."""
    worst_batch: str
    memory: dict[str, int] = field(default_factory=dict)
    """Bytes of a rank by what takes them, where they can be estimated."""
    averages_file: str = "model.safetensors"
    """See `State`."""
    pieces: tuple[int, int] = (1, 1)
    """How many a process can cut its share of a step into: at least, at most."""
    needs: Callable[[int, bool], Plan] | None = None
    """Plans a step of so many pieces, with activations computed twice or not."""


def dry_run(
    options: TrainOptions[VAETrainConfig | TTSTrainConfig], memory: int | None = None
) -> None:
    """Check everything that training checks before step 0, and print recipe, parameters, shards and worst batch.

    With `memory`, bytes of a GPU that need not be there, or on a GPU, it is also planned whether a step fits.

    Raises:
        ConfigError, DataError, CheckpointError: what training would raise.
    """
    config = options.config
    console = Console()
    kind: Kind = "vae" if isinstance(config, VAETrainConfig) else "tts"
    checkpoint = find_resume(options, kind)
    check_writable(options.out, option="--out")
    check_unlocked(options.out)
    console.print(recipe.dump(config), highlight=False, markup=False, end="")
    with open_world(options.device, timeout_minutes=config.trainer.collective_minutes) as world:
        console.print(f"\nDevice: {describe_device(world.device)}; {world.world_size} process(es)")
        if isinstance(config, VAETrainConfig):
            outlook = _outlook_vae(config, checkpoint, world, console)
        else:
            outlook = _outlook_tts(options.out, config, checkpoint, world, console)
        index = outlook.index
        check_some(index, outlook.usable)
        if checkpoint is not None:
            _check_resumable(checkpoint, outlook, options, console)
        if memory is None and world.device.type == "cuda":
            memory = free_bytes(world)
    _print_parameters(console, outlook.networks)
    metadata = index.metadata
    console.print(
        f"Shards: {len(index.shards)} in {index.root}: {metadata['utterances']} utterances, "
        f"{metadata['seconds'] / 3600:.2f} h, {len(metadata['speakers'])} speakers, "
        f"{len(metadata['validation'])} utterances held out"
    )
    _print_sources(console, outlook)
    slots = config.data.slots
    parts = (
        f"{config.batch_size} crops" if isinstance(config, VAETrainConfig) else f"{slots} part(s)"
    )
    console.print(
        f"Batch of a step: {parts} from {slots} slot(s) of the shards, the same for any number of processes and readers"
    )
    console.print(f"Worst-case batch per rank: {outlook.worst_batch}")
    if outlook.memory:
        parts = ", ".join(
            f"{name} {size / GIB:.2f}" for name, size in outlook.memory.items() if size
        )
        total = sum(outlook.memory.values()) / GIB
        console.print(f"Memory per rank, estimated: {total:.1f} GiB ({parts})", highlight=False)
    if memory is not None and outlook.needs is not None:
        for line in verdict(config.trainer, outlook.needs, *outlook.pieces, memory):
            console.print(line, highlight=False, soft_wrap=True)
    console.print(
        f"Would {'start at step 0' if checkpoint is None else f'resume from {checkpoint.folder}'} in {options.out}"
    )


def _print_sources(console: Console, outlook: Outlook) -> None:
    """Print what each source of a mixture has, and what part of the frames that are read comes from it."""
    usable = outlook.index.by_source(outlook.usable)
    held_out = outlook.index.by_source(outlook.index.validation)
    for source in outlook.index.sources:
        hours = sum(sample.duration_seconds for sample in usable[source.name]) / 3600
        console.print(
            f"Source {source.name}: {source.share:.1%} of what is read; {len(usable[source.name])} utterances to train on, "
            f"{hours:.2f} h, {len(held_out[source.name])} held out, {len(source.shards)} shards in {source.root}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _check_resumable(
    checkpoint: Checkpoint, outlook: Outlook, options: TrainOptions[Any], console: Console
) -> None:
    """Read what a resumption reads, and print what it would change.

    Raises:
        CheckpointError: the checkpoint is damaged, lacks its training state, is of other data, or does not fit.
    """
    stored = load_training_state(checkpoint, outlook.parts, outlook.index, options.out)
    model = outlook.parts["model"]
    assert isinstance(model, nn.Module)
    load_strict(model, checkpoint.state(outlook.averages_file), checkpoint.folder)
    note_unknown_recipe(checkpoint, console)
    changes = changes_since(options.config, stored_recipe(checkpoint))
    for line in describe(changes | order_change(stored, options.config)):
        console.print(f"Would change: {line}", highlight=False, markup=False)


def _outlook_vae(
    config: VAETrainConfig, checkpoint: Checkpoint | None, world: World, console: Console
) -> Outlook:
    index, validation = crops.open_data(config)
    start = open_vae_start(config) if checkpoint is None else None
    crops.check_batch(config, world)
    if world.is_main:
        load_naturalness(config.trainer.naturalness, "trainer.naturalness")
    cached = crops.open_teacher_features(config, index)
    teacher = None
    teacher_dim = None
    if cached is not None:
        teacher_dim = cached.cache.description["feature_dim"]
    elif config.loss.alignment is not None:
        teacher = teacher_of(config, "cpu")
        teacher_dim = teacher.feature_dim
    console.print(f"Teacher: {describe_teacher(teacher, cached)}")
    with META:
        model = SpeechVAE(config.vae, teacher_dim)
        discriminator = Discriminators(config.discriminator, config.vae.sample_rate)
        if config.freeze_encoder:
            freeze_encoder(model)
        parts: Parts = {
            "model": model,
            "discriminator": discriminator,
            "optimizer": build_optimizer(config.optimizer, trained(model), META),
            "discriminator_optimizer": build_optimizer(
                config.optimizer, discriminator.parameters(), META
            ),
        }
    if start is not None:
        take_vae_weights(model, discriminator, start, console)
    note_no_validation(console, validation, held_out_crops(validation, config, cached))
    networks: dict[str, nn.Module] = {"VAE": model, "discriminators": discriminator}
    if teacher is not None:
        networks["teacher (frozen)"] = teacher.model
    rate = config.vae.sample_rate
    most = math.ceil(config.batch_size / world.world_size)
    asked = config.trainer.accumulate
    count = math.ceil(most / (1 if asked == "auto" else asked))
    samples = crops.segment_samples(config)
    batch = (
        f"{count} crops of {samples / rate:g} s ({samples} samples, {samples // config.vae.hop_length} latent frames), "
        f"{count * samples / rate:g} s of audio"
    )
    needs = vae_plans(config, world, teacher=teacher, teacher_dim=teacher_dim)
    return Outlook("vae", index, index.train, parts, networks, batch, pieces=(1, most), needs=needs)


def _load_representation(
    out: Path,
    config: TTSTrainConfig,
    checkpoint: Checkpoint | None,
    index: ShardIndex,
    start: Checkpoint | None,
    world: World,
) -> Representation:
    """Load what is learned from where training would: from the run, where that holds a VAE already."""
    kept = None if checkpoint is None else kept_vae(out, checkpoint)
    representation = find_representation(config, index, start, kept)
    vae = representation.checkpoint
    if vae is not None:
        if checkpoint is not None:
            check_kept(checkpoint.folder, vae)
        if check_kept(out, vae):
            vae = open_checkpoint(out / "vae", kind="vae")
        representation = type(representation).make(vae, config.vocoder)
    representation.load(world.device)
    return representation


def _outlook_tts(
    out: Path,
    config: TTSTrainConfig,
    checkpoint: Checkpoint | None,
    world: World,
    console: Console,
) -> Outlook:
    utterances.check_pieces(config, world)
    index, validation, timings, validation_timings = utterances.open_data(config)
    start = open_start(config) if checkpoint is None else None
    teacher = open_teacher(config, checkpoint)
    representation = _load_representation(out, config, checkpoint, index, start, world)
    console.print(representation.describe())
    vocabulary = choose_vocabulary(index, config, checkpoint or start)
    if checkpoint is not None:
        check_vocabulary(checkpoint, vocabulary, index)
        stored_durations(checkpoint)
    if teacher is not None:
        stored_durations(teacher)
        words = teacher_sampling(config, teacher).words(teacher.config)
        console.print(f"Teacher: {teacher.folder} ({teacher.hash[:12]}…), {words}", soft_wrap=True)
    if world.is_main:
        _check_judges(config, index, representation, vocabulary, console)
    latent_dim = representation.latent_dim
    with META:
        dit = DiT(config.dit, vocab_size=len(vocabulary), latent_dim=latent_dim)
    networks: dict[str, nn.Module] = {"DiT": dit}
    model: nn.Module = dit
    if teacher is not None:
        model = _student(dit, teacher, config)
        if checkpoint is None and config.init is not None:
            take_student(model, config)
        networks = {"teacher (frozen)": dit, "student": model}
    elif start is not None:
        take_weights(dit, start, config.dit, vocabulary, console)
    optimizer = build_optimizer(config.optimizer, model.parameters(), META)
    hop = representation.hop_length
    limits = utterances.limits_of(config, hop)
    read_as = spelled(vocabulary, config)
    usable = utterances.report_left_out(console, index, limits, timings, read_as)
    held_out = held_out_batches(validation, vocabulary, validation_timings, config, limits)
    note_no_validation(console, validation, held_out)
    fewest = utterances.fewest_pieces(config, world)
    most = utterances.most_pieces(index, limits, config, world) if usable else fewest
    asked = config.trainer.accumulate
    pieces = fewest if asked == "auto" else asked
    features = open_features(config, index)
    needs = tts_plans(config, representation, vocabulary, index, limits, world, teacher, features)
    if wants_trial(config, world) and asked != "auto":
        state = build_state(config, representation, vocabulary, world, timings, teacher, features)
        try_longest(console, world, state, index, limits, config, asked)
        del state
    lengths = np.array([num_frames(sample.num_samples, hop) for sample in usable] or [1])
    sharers = max(1, world.world_size * pieces // config.data.slots)
    longest = int(lengths.max())
    budget = worst_frames(lengths, limits["batch_frames"], sharers)
    memory = estimate_bytes(
        config.dit,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        latent_dim=latent_dim,
        frames=budget * (1 if config.distill is None else config.distill.steps),
        bf16=config.trainer.precision == "bf16",
    )
    rate = index.sample_rate
    batch = (
        f"{budget} frames ({budget * hop / rate:g} s, padding included); the longest utterance is "
        f"{longest * hop / rate:.1f} s ({longest} frames, {budget // longest} of them in a batch)"
    )
    parts: Parts = {"model": model, "optimizer": optimizer}
    averages_file = (TTSState if teacher is None else StudentState).averages_file
    return Outlook(
        "tts", index, usable, parts, networks, batch, memory, averages_file, (fewest, most), needs
    )


def _check_judges(
    config: TTSTrainConfig,
    index: ShardIndex,
    representation: Representation,
    vocabulary: Vocabulary,
    console: Console,
) -> None:
    """Load who listens while training. Raises what loading raises."""
    if config.trainer.synthesize_every and items_to_say(console, config, index, vocabulary):
        representation.load_decoder()
        load_asr(ASR)
        load_naturalness(config.trainer.naturalness, "trainer.naturalness")
        load_speaker_model(SPEAKER)


def _student(dit: DiT, teacher: Checkpoint, config: TTSTrainConfig) -> nn.Module:
    """Return what a student trains, without memory. Raises as `build_student`."""
    assert config.distill is not None
    load_strict(dit, teacher.model_state(), teacher.folder)
    with META:
        return inject(copy.deepcopy(dit), config.distill.lora)


def _print_parameters(console: Console, networks: dict[str, nn.Module]) -> None:
    table = Table(title="Parameters", show_edge=False)
    table.add_column("network")
    table.add_column("parameters", justify="right")
    for name, network in networks.items():
        parameters = sum(parameter.numel() for parameter in network.parameters())
        table.add_row(name, f"{parameters:,}")
    console.print(table)
