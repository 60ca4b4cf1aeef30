"""`svae train-vae`: the adversarially trained speech VAE whose latents follow a frozen speech model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from svae import recipe
from svae.checkpoint import Checkpoint, checkpoint_folder, open_checkpoint
from svae.config import VAETrainConfig
from svae.data.batches import CachedTeacherFeatures, CropBatch
from svae.data.index import ShardIndex
from svae.data.loaders import crop_loader, validation_crops
from svae.errors import ConfigError, DataError
from svae.frames import ceil_div
from svae.judges.clips import at_speech_rate
from svae.judges.distillmos import DISTILLMOS, DistillMOS, load_naturalness
from svae.models.recompute import recompute_activations
from svae.models.teacher import Teacher, load_teacher
from svae.models.vae.discriminators import Discriminators
from svae.models.vae.vae import SpeechVAE
from svae.precompute.statistics import measure_statistics
from svae.runtime.distributed import (
    World,
    barrier,
    data_parallel,
    open_world,
    set_arithmetic,
    share_of,
)
from svae.runtime.fake_gpu import fake_gpu, freeing, on_host
from svae.runtime.files import write_text
from svae.training.loop import (
    TrainOptions,
    agreed_resume,
    check_same_data_on_all,
    open_session,
    resume_state,
    run_loop,
    save_checkpoint,
)
from svae.training.memory_plan import (
    ROWS,
    StepPlans,
    Trace,
    measure,
    on_fake_gpu,
    tensors_of,
)
from svae.training.meter import over_sources
from svae.training.optim import (
    ExponentialMovingAverage,
    build_optimizer,
)
from svae.training.pieces import choose_pieces
from svae.training.session import Session
from svae.training.vae.anchor_start import start_anchor
from svae.training.vae.crops import (
    check_batch,
    context_samples,
    crop_of,
    measured_pitch,
    open_data,
    open_teacher_features,
    segment_samples,
    teacher_features_of,
)
from svae.training.vae.linear_path import start_linear_path
from svae.training.vae.losses import (
    MultiScaleMelLoss,
)
from svae.training.vae.step import VAEState, piece_of, train_step, trained, vae_losses
from svae.training.warm_start import open_vae_start, take_vae_weights
from svae.training.watch import note_no_validation

AUDIO_SAMPLES = 4
"""Validation crops of a source written as wav and picture."""


def train_vae(options: TrainOptions[VAETrainConfig]) -> Path:
    """Train a VAE and return the run folder; see `svae train-vae --help`.

    Raises:
        ConfigError, DataError, CheckpointError: before the first step, if anything does not fit.
    """
    config = options.config
    with (
        open_world(options.device, timeout_minutes=config.trainer.collective_minutes) as world,
        nullcontext(_read(options, world)) as (index, validation, start),
        open_session(options, "vae", world) as session,
    ):
        check_batch(config, world)
        set_arithmetic(config.trainer.tf32, config.trainer.cudnn_benchmark)
        naturalness = None
        if world.is_main:
            naturalness = load_naturalness(config.trainer.naturalness, "trainer.naturalness")
        if naturalness is not None:
            session.console.print(
                f"Validation crops are judged by {naturalness.description['model']}"
            )
        cached = open_teacher_features(config, index)
        state = build_state(config, cached, world)
        session.console.print(f"Teacher: {describe_teacher(state.teacher, cached)}")
        if session.checkpoint is not None:
            resume_state(session, state, index)
        else:
            if start is not None:
                take_vae_weights(state.model, state.discriminator, start, session.console)
            else:
                start_linear_path(state.model, index, world, session.console)
            if start is None or start.config["teacher_dim"] is None:
                start_anchor(state.model, state.teacher, cached, index, world, session.console)
            state.ema = ExponentialMovingAverage(state.model, config.ema)
        plans = step_plans(
            config, world, teacher=state.teacher, teacher_dim=state.model.teacher_dim
        )
        share = share_of(config.batch_size, world)
        choose_pieces(session, 1, share, plans)
        batches = crop_loader(
            index,
            batch_size=config.batch_size,
            segment_samples=segment_samples(config),
            context_samples=context_samples(config),
            seed=config.trainer.seed,
            start_step=state.step,
            slots=config.data.slots,
            rank=world.rank,
            world_size=world.world_size,
            accumulate=session.accumulate,
            loader=config.loader,
            cached_features=cached,
            pin_memory=world.device.type == "cuda",
        )
        held_out = held_out_crops(validation, config, cached)
        note_no_validation(session.console, validation, held_out)
        finished = run_loop(
            session,
            state,
            batches,
            train_step=lambda batches: train_step(state, batches, config, world),
            validate=lambda: validate(session, state, held_out, config, naturalness, index.shares),
            save=lambda: save(session, state, index, config),
        )
        if finished:
            complete(session, state, index, config)
            session.console.print(f"VAE in [bold]{session.run}[/] (step {state.step})")
            session.console.print(f"Next: svae train-tts --vae {session.run}")
    return options.out


def _read(
    options: TrainOptions[VAETrainConfig], world: World
) -> tuple[ShardIndex, ShardIndex, Checkpoint | None]:
    """Return the data, and what `init` names where nothing is resumed."""
    index, validation = open_data(options.config)
    # A run that has a checkpoint goes on from it; what it began with may have been moved or deleted since.
    resumed = agreed_resume(options, "vae", world)
    start = open_vae_start(options.config) if resumed is None else None
    check_same_data_on_all(index, {"init": start}, world)
    return index, validation, start


def held_out_crops(
    validation: ShardIndex, config: VAETrainConfig, cached: CachedTeacherFeatures | None
) -> dict[str, list[CropBatch]]:
    """Return the crops that are validated on, by the source that they are of; sources with none are left out."""
    samples = validation.validated_by_source(whole=config.data.validation_root is not None)
    batches = {
        name: list(
            validation_crops(
                validation,
                count=config.validation_crops,
                batch_size=config.batch_size,
                segment_samples=segment_samples(config),
                context_samples=context_samples(config),
                samples=own,
                cached_features=cached,
            )
        )
        for name, own in samples.items()
    }
    return {name: own for name, own in batches.items() if own}


def describe_teacher(teacher: Teacher | None, cached: CachedTeacherFeatures | None) -> str:
    """Return in words where the teacher's features come from."""
    if cached is not None:
        stored = cached.cache.description
        return f"{stored['model']}, layer {stored['layer']}, features stored in {cached.cache.index.root}"
    return "none (acoustic baseline)" if teacher is None else teacher.description


def teacher_of(config: VAETrainConfig, device: str | torch.device) -> Teacher:
    """Load the teacher that a run hears crops with. Raises ConfigError, also where they are longer than it can hear."""
    teacher = load_teacher(config.teacher, device, sample_rate=config.vae.sample_rate)
    samples = segment_samples(config) + 2 * context_samples(config)
    if teacher.max_samples is not None and samples > teacher.max_samples:
        raise ConfigError(
            f"segment_seconds {config.segment_seconds:g} with twice teacher.context_seconds {config.teacher.context_seconds:g}: "
            f"{samples / config.vae.sample_rate:g} s, but {teacher.description} hears at most "
            f"{teacher.max_samples / teacher.sample_rate:g} s at once; take less of either"
        )
    return teacher


def build_state(
    config: VAETrainConfig,
    cached: CachedTeacherFeatures | None,
    world: World,
    *,
    teacher: Teacher | None = None,
    teacher_dim: int | None = None,
) -> VAEState:
    """Build networks and optimizers with weights that depend on the seed only; load the teacher where it runs online.

    One that is loaded already, or the width of its features, can be given.
    """
    device = world.device
    if cached is not None:
        teacher_dim = cached.cache.description["feature_dim"]
    elif config.loss.alignment is not None and teacher is None and teacher_dim is None:
        teacher = teacher_of(config, device)
    if teacher is not None:
        teacher_dim = teacher.feature_dim
    torch.manual_seed(config.trainer.seed)
    model = SpeechVAE(config.vae, teacher_dim).to(device)
    if config.freeze_encoder:
        freeze_encoder(model)
    discriminator = Discriminators(config.discriminator, config.vae.sample_rate).to(device)
    ema = ExponentialMovingAverage(model, config.ema)
    if config.trainer.checkpoint_activations:
        recompute_activations(model)
    if config.trainer.compile:
        model.compile()
        discriminator.compile()
    return VAEState(
        step=0,
        model=model,
        discriminator=discriminator,
        optimizer=build_optimizer(config.optimizer, trained(model), device),
        discriminator_optimizer=build_optimizer(
            config.optimizer, discriminator.parameters(), device
        ),
        ema=ema,
        teacher=teacher,
        mel_loss=MultiScaleMelLoss(config.vae.sample_rate).to(device),
        network=data_parallel(model, world),
        discriminator_network=data_parallel(discriminator, world),
    )


def step_plans(
    config: VAETrainConfig,
    world: World,
    *,
    teacher: Teacher | None = None,
    teacher_dim: int | None = None,
) -> StepPlans:
    """Return what a step of both optimizers takes of a GPU's memory."""
    share = ceil_div(config.batch_size, world.world_size)

    def trace(pieces: int, twice: bool) -> Trace:
        trainer = replace(config.trainer, checkpoint_activations=twice)
        return trace_step(
            replace(config, trainer=trainer), pieces, teacher=teacher, teacher_dim=teacher_dim
        )

    return StepPlans(trace, lambda pieces: ceil_div(share, pieces), fewest=1)


def teacher_on_fake_gpu(teacher: Teacher, device: torch.device) -> Teacher:
    """Return a copy whose model is on the GPU that is not there, while what it computes on the host has numbers."""
    heard = on_fake_gpu(teacher, device)
    heard.device = device
    if heard.hears_on_host:
        heard.extractor = on_host(heard.extractor)
    return heard


def trace_step(
    config: VAETrainConfig,
    pieces: int,
    rows: int = ROWS,
    *,
    teacher: Teacher | None = None,
    teacher_dim: int | None = None,
) -> Trace:
    """Return what a step of so many pieces with so many crops in each takes and gives back on a GPU."""
    size, context = segment_samples(config), context_samples(config)
    features = None
    if teacher is None and teacher_dim is not None:
        features = torch.zeros(rows, size // config.vae.hop_length, teacher_dim)
    batch = CropBatch(
        keys=[str(i) for i in range(rows)],
        waveform=torch.zeros(rows, 1, size + 2 * context),
        lengths=torch.full((rows,), size),
        starts=torch.zeros(rows, dtype=torch.int64),
        teacher_features=features,
    )
    # Tables of filters are made once in a process, and that where numbers are.
    with torch.device("meta"):
        SpeechVAE(config.vae, teacher_dim)
    MultiScaleMelLoss(config.vae.sample_rate)
    with fake_gpu() as device, freeing():
        here = World(0, 1, device)
        heard = None if teacher is None else teacher_on_fake_gpu(teacher, device)
        state = build_state(config, None, here, teacher=heard, teacher_dim=teacher_dim)
        state.step = max(1, config.loss.adversarial_start_step)
        known = {
            "parameters": tensors_of(state.model, state.discriminator, state.mel_loss),
            "teacher": [] if heard is None else tensors_of(heard.model),
            "EMA": tensors_of(state.ema.module),
        }
        return measure(
            lambda: train_step(state, [batch] * pieces, config, here),
            known,
            [state.optimizer, state.discriminator_optimizer],
            bring=lambda: piece_of(state, batch, config, here),
            rows=rows,
        )


def freeze_encoder(model: SpeechVAE) -> None:
    """Keep everything as it is that decides what latents mean."""
    for part in (model.encoder, model.projection, model.mean, model.logvar, model.linear_path):
        if part is not None:
            part.requires_grad_(False)


@torch.inference_mode()
def validate(
    session: Session,
    state: VAEState,
    held_out: dict[str, list[CropBatch]],
    config: VAETrainConfig,
    naturalness: DistillMOS | None,
    shares: Mapping[str, float],
) -> dict[str, float]:
    """Score the EMA weights on fixed crops, by source, with the posterior mean; the first rank does it, the others wait."""
    row: dict[str, float] = {}
    if session.world.is_main and held_out:
        with session.side_work("the validation", but=(DataError,)):
            rows = {
                name: _validation_row(
                    session, state, batches, config, naturalness, AUDIO_SAMPLES * number
                )
                for number, (name, batches) in enumerate(held_out.items())
            }
            row = over_sources(rows, shares)
    barrier(session.world)
    return row


def _validation_row(
    session: Session,
    state: VAEState,
    batches: list[CropBatch],
    config: VAETrainConfig,
    naturalness: DistillMOS | None,
    first_sample: int,
) -> dict[str, float]:
    """Return what is measured on crops; the wavs and pictures of some are numbered from `first_sample` on."""
    opinions: list[tuple[float, float]] = []
    sums: dict[str, Tensor] = {}
    count = shown = 0
    for batch in batches:
        batch = batch.to(session.world.device)
        crop = crop_of(batch, config)
        output = state.ema.module(
            crop, batch.lengths, teacher_features_of(state.teacher, batch, config), use_mean=True
        )
        pitch = measured_pitch(state.model, crop)
        for name, value in vae_losses(
            state, output, crop, config.loss.alignment_form, pitch
        ).items():
            sums[name] = sums.get(name, 0) + value * len(batch.keys)
        count += len(batch.keys)
        for real, fake, length in zip(crop, output.reconstruction, batch.lengths, strict=True):
            if naturalness is not None:
                with session.side_work("predicting naturalness"):
                    pair = [
                        at_speech_rate(clip[..., :length], config.vae.sample_rate)
                        for clip in (fake, real)
                    ]
                    said, original = naturalness.predict(pair)
                    opinions.append((said[DISTILLMOS], original[DISTILLMOS]))
            if shown < AUDIO_SAMPLES:
                with session.side_work("writing a validation sample"):
                    write_sample(
                        session,
                        state.step,
                        first_sample + shown,
                        real,
                        fake,
                        config.vae.sample_rate,
                    )
                shown += 1
    row = {f"loss/{name}": float(total) / count for name, total in sums.items()}
    if opinions:
        row["mos"], row["mos_input"] = (
            sum(each) / len(opinions) for each in zip(*opinions, strict=True)
        )
    return row


def write_sample(
    session: Session, step: int, number: int, real: Tensor, fake: Tensor, sample_rate: int
) -> None:
    """Write a validation crop and its reconstruction as wav files and as one picture."""
    session.tracker.audio(step, f"{number}-input", real, sample_rate)
    session.tracker.audio(step, f"{number}-reconstruction", fake, sample_rate)
    session.tracker.mel_picture(
        step, f"{number}-mel", {"input": real, "reconstruction": fake}, sample_rate
    )


def save(session: Session, state: VAEState, index: ShardIndex, config: VAETrainConfig) -> None:
    """Write a checkpoint on the first rank, without latent statistics."""
    if session.world.is_main:
        teacher_dim = state.model.teacher_dim
        save_checkpoint(
            session,
            state,
            index,
            {
                "kind": "vae",
                "step": state.step,
                "model": recipe.to_tree(config.vae),
                "teacher_dim": teacher_dim,
                "teacher": None if teacher_dim is None else recipe.to_tree(config.teacher),
                "sample_rate": config.vae.sample_rate,
                "hop_length": state.model.hop_length,
                "latent_mean": None,
                "latent_std": None,
                "latent_statistics": None,
            },
        )
    barrier(session.world)


def complete(session: Session, state: VAEState, index: ShardIndex, config: VAETrainConfig) -> None:
    """Measure the latents over the training set on the first rank, and write that into the checkpoint of the last step.

    It is there already, as measuring takes long and can fail. A finished run that lacks them gets them when it is run again.
    """
    world = session.world
    folder = checkpoint_folder(session.run, state.step)
    if world.is_main and (folder / "config.json").is_file():
        checkpoint = open_checkpoint(folder, kind="vae")
        if checkpoint.config["latent_mean"] is None:
            statistics = measure_statistics(
                state.ema.module,
                index,
                limit=config.statistics_utterances,
                device=world.device,
                console=session.console,
            )
            write_text(
                folder / "config.json", json.dumps(checkpoint.config | statistics, indent=2) + "\n"
            )
    barrier(world)
