"""`svae train-tts`: a diffusion transformer that learns, by flow matching, a frozen VAE's latents or mel frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from svae import recipe
from svae.checkpoint import Checkpoint
from svae.config import TTSTrainConfig
from svae.data.batches import UtteranceBatch
from svae.data.features import FeatureCache
from svae.data.index import ShardIndex
from svae.data.loaders import utterance_loader, validation_batches
from svae.data.stream import BatchStream
from svae.data.timings import Timings
from svae.errors import CheckpointError, DataError
from svae.frames import length_mask, num_frames
from svae.models.recompute import recompute_activations
from svae.models.representation import Representation
from svae.models.tts.dit import DiT
from svae.models.tts.flow import Row, posterior_latents
from svae.runtime.distributed import (
    World,
    averaging,
    barrier,
    data_parallel,
    open_world,
    set_arithmetic,
    sum_over_ranks,
)
from svae.runtime.fake_gpu import fake_gpu, freeing
from svae.synthesis.open_durations import DURATION_FILE, open_rule, stored_durations
from svae.text.phonemes import PhonemeVocabulary
from svae.text.vocabulary import Vocabulary
from svae.training.draws import number_of, seed_by
from svae.training.loop import (
    TrainOptions,
    agreed_resume,
    check_same_data_on_all,
    open_session,
    resume_state,
    run_loop,
    save_checkpoint,
)
from svae.training.memory_plan import Plan, measure, on_fake_gpu, tensors_of
from svae.training.meter import StepResult, over_sources
from svae.training.optim import ExponentialMovingAverage, build_optimizer, learning_rate, update
from svae.training.pieces import choose_pieces
from svae.training.session import Session
from svae.training.tts.distill import StudentState, build_student, open_teacher, take_student
from svae.training.tts.fit_durations import kept_predictor
from svae.training.tts.hidden_alignment import AlignedNetwork, AlignedState, align, open_features
from svae.training.tts.judged_speech import JudgedSpeech, open_judged_speech
from svae.training.tts.memory import longest_batch, try_batch, wants_trial
from svae.training.tts.objective import Example, FlowMatching, Known
from svae.training.tts.representation import find_representation, keep_in_run, kept_vae
from svae.training.tts.state import FlowState, TTSState
from svae.training.tts.utterances import (
    Limits,
    TrainingData,
    check_pieces,
    fewest_pieces,
    limits_of,
    most_pieces,
    open_data,
    report_left_out,
)
from svae.training.warm_start import choose_vocabulary, open_start, take_weights
from svae.training.watch import note_no_validation


def train_tts(options: TrainOptions[TTSTrainConfig]) -> Path:
    """Train a TTS model, or a student of one, and return the run folder; see `svae train-tts --help`, `svae distill --help`.

    Raises:
        ConfigError, DataError, CheckpointError: before the first step, if anything does not fit.
    """
    config = options.config
    with (
        open_world(options.device, timeout_minutes=config.trainer.collective_minutes) as world,
        nullcontext(_read(options, world)) as (data, start, teacher, found, vocabulary),
        open_session(options, "tts", world) as session,
    ):
        set_arithmetic(config.trainer.tf32, config.trainer.cudnn_benchmark)
        index, validation, timings, validation_timings = data
        representation = keep_in_run(session, found, index, config)
        features = open_features(config, index)
        state = build_state(config, representation, vocabulary, world, timings, teacher, features)
        if session.checkpoint is not None:
            check_vocabulary(session.checkpoint, vocabulary, index)
            resume_state(session, state, index)
        elif isinstance(state, TTSState) and start is not None:
            take_weights(state.model, start, config.dit, vocabulary, session.console)
            state.ema = ExponentialMovingAverage(state.model, config.ema)
        if isinstance(state, StudentState):
            session.console.print(state.description, highlight=False)
            if session.checkpoint is None and config.init is not None:
                take_student(state.model, config)
                state.ema = ExponentialMovingAverage(state.model, config.ema)
                session.console.print(f"Starts as the student {config.init}", highlight=False)
        limits = limits_of(config, representation.hop_length)
        read_as = spelled(vocabulary, config)
        report_left_out(session.console, index, limits, timings, read_as)
        choose_pieces(
            session,
            fewest_pieces(config, world),
            most_pieces(index, limits, config, world),
            lambda pieces: (
                plan_memory(
                    config,
                    representation,
                    vocabulary,
                    piece_like(index, limits, representation.latent_dim, config, world, pieces),
                    pieces,
                    teacher,
                ).total
            ),
        )
        if wants_trial(config, world):
            try_longest(session.console, world, state, index, limits, config, session.accumulate)
        batches = training_batches(index, state, config, limits, read_as, world, session.accumulate)
        held_out = held_out_batches(validation, vocabulary, validation_timings, config, limits)
        note_no_validation(session.console, validation, held_out)
        weights = None if timings is None else duration_weights(session, state, index, config)
        rule = None
        if weights is not None:
            frame_rate = representation.sample_rate / representation.hop_length
            rule = open_rule(vocabulary, frame_rate, weights)
        judged = open_judged_speech(session, config, index, representation, vocabulary, rule)
        finished = run_loop(
            session,
            state,
            batches,
            train_step=lambda pieces: train_step(state, pieces, config, world),
            validate=lambda: validate(session, state, held_out, config, index.shares),
            save=lambda last: save(session, state, index, config),
            synthesize=lambda: synthesize(session, state, judged),
            synthesize_every=config.trainer.synthesize_every,
        )
        if finished:
            session.console.print(f"TTS model in [bold]{session.run}[/] (step {state.step})")
            session.console.print(
                f'Next: svae synthesize --model {session.run} --ref REF.wav --text "…"'
            )
    return options.out


def _read(
    options: TrainOptions[TTSTrainConfig], world: World
) -> tuple[
    TrainingData,
    Checkpoint | None,
    Checkpoint | None,
    Representation,
    Vocabulary,
]:
    """Return the data, what `init` names where nothing is resumed, the teacher, what is learned, and its symbols."""
    config = options.config
    check_pieces(config, world)
    data = open_data(config)
    # A run that has a checkpoint goes on from it; what it began with may have been moved or deleted since.
    resumed = agreed_resume(options, "tts", world)
    start = open_start(config) if resumed is None else None
    teacher = open_teacher(config, resumed)
    kept = None if resumed is None else kept_vae(options.out, resumed)
    found = find_representation(config, data.train, start, kept)
    vocabulary = choose_vocabulary(data.train, config, resumed or start)
    read = {"init": start, "teacher": teacher, "VAE": found.checkpoint}
    check_same_data_on_all(data.train, read, world)
    return data, start, teacher, found, vocabulary


def training_batches(
    index: ShardIndex,
    state: FlowState,
    config: TTSTrainConfig,
    limits: Limits,
    read_as: Vocabulary,
    world: World,
    accumulate: int = 1,
) -> BatchStream[UtteranceBatch]:
    """Return this rank's endless batches from the state's step on; `read_as` encodes their texts (`spelled`)."""
    return utterance_loader(
        index,
        **limits,
        vocabulary=read_as,
        timings=state.timings,
        seed=config.trainer.seed,
        start_step=state.step,
        slots=config.data.slots,
        rank=world.rank,
        world_size=world.world_size,
        accumulate=accumulate,
        loader=config.loader,
        pin_memory=world.device.type == "cuda",
    )


def held_out_batches(
    validation: ShardIndex,
    vocabulary: Vocabulary,
    timings: Timings | None,
    config: TTSTrainConfig,
    limits: Limits,
) -> dict[str, list[UtteranceBatch]]:
    """Return the utterances that are validated on, by the source that they are of; sources with none are left out."""
    samples = validation.validated_by_source(whole=config.data.validation_root is not None)
    batches = {
        name: list(
            validation_batches(
                validation,
                **limits,
                count=config.validation_utterances,
                vocabulary=vocabulary,
                samples=own,
                timings=timings,
            )
        )
        for name, own in samples.items()
    }
    return {name: own for name, own in batches.items() if own}


def build_state(
    config: TTSTrainConfig,
    representation: Representation,
    vocabulary: Vocabulary,
    world: World,
    timings: Timings | None = None,
    teacher: Checkpoint | None = None,
    features: FeatureCache | None = None,
) -> FlowState:
    """Build the network and its optimizer; what is new in it depends on the seed only.

    `features` are what `loss.hidden_alignment` aligns with; None: nothing.
    """
    if teacher is not None:
        weights = channel_weights(representation, config, world.device)
        student = build_student(config, teacher, representation, vocabulary, weights, world)
        student.timings = timings
        return student
    torch.manual_seed(config.trainer.seed)
    model = DiT(config.dit, vocab_size=len(vocabulary), latent_dim=representation.latent_dim).to(
        world.device
    )
    ema = ExponentialMovingAverage(model, config.ema)
    if config.trainer.checkpoint_activations:
        recompute_activations(model)
    if config.trainer.compile:
        model.compile()
    objective = flow_matching(representation, config, world.device)
    common: dict[str, Any] = {
        "step": 0,
        "model": model,
        "ema": ema,
        "representation": representation,
        "vocabulary": vocabulary,
        "timings": timings,
    }
    if features is not None:
        layer, width = config.loss.hidden_layer, features.description["feature_dim"]
        aligned = AlignedNetwork(model, layer, width).to(world.device)
        return AlignedState(
            **common,
            aligned=aligned,
            optimizer=build_optimizer(config.optimizer, aligned.parameters(), world.device),
            network=data_parallel(aligned, world),
            objective=align(objective, features, representation, config),
        )
    return TTSState(
        **common,
        optimizer=build_optimizer(config.optimizer, model.parameters(), world.device),
        network=data_parallel(model, world),
        objective=objective,
    )


def plan_memory(
    config: TTSTrainConfig,
    representation: Representation,
    vocabulary: Vocabulary,
    batch: UtteranceBatch,
    accumulate: int,
    teacher: Checkpoint | None = None,
) -> Plan:
    """Return what a step takes of a GPU's memory, in so many pieces like `batch`."""
    with fake_gpu() as device, freeing():
        here = World(0, 1, device)
        there = on_fake_gpu(representation, device)
        state = build_state(config, there, vocabulary, here, None, teacher)
        parts = [*vars(there).values(), *vars(state.objective).values(), *vars(state).values()]
        networks = [each for each in (there, *parts) if isinstance(each, nn.Module)]
        known = {
            "frozen networks": [*tensors_of(*networks), *getattr(state, "base", {}).values()],
            "parameters": tensors_of(state.network, state.model),
            "EMA": tensors_of(state.ema.module),
        }
        return measure(
            # More than two pieces are at no moment more than two.
            lambda: train_step(state, [batch] * min(accumulate, 2), config, here),
            known,
            [state.optimizer],
        )


def piece_like(
    index: ShardIndex,
    limits: Limits,
    latent_dim: int,
    config: TTSTrainConfig,
    world: World,
    accumulate: int,
) -> UtteranceBatch:
    """Return the longest piece that a step in so many pieces can have."""
    sharers = max(1, world.world_size * accumulate // config.data.slots)
    return longest_batch(index, **limits, latent_dim=latent_dim, sharers=sharers)


def flow_matching(
    representation: Representation, config: TTSTrainConfig, device: torch.device
) -> FlowMatching:
    """Return the objective of a training on data."""
    weights = channel_weights(representation, config, device)
    return FlowMatching(config.flow, weights, config.trainer.seed)


def channel_weights(
    representation: Representation, config: TTSTrainConfig, device: torch.device
) -> Tensor | None:
    """Return what `flow.weighting` says: None, or weights (D, 1) of mean 1 in proportion to the channels' variances.

    What `normalize` does to a channel is undone by its deviation, so the error of the loss becomes that of the frames
    themselves: a channel that hardly varies does not take as much of the network as one that carries the loudness.
    """
    if config.flow.weighting == "equal":
        return None
    zero = torch.zeros(1, representation.latent_dim, 1, device=device)
    deviation = representation.denormalize(zero + 1) - representation.denormalize(zero)
    variance = deviation[0].square()
    return variance / variance.mean()


def check_vocabulary(checkpoint: Checkpoint, vocabulary: Vocabulary, index: ShardIndex) -> None:
    """Raise CheckpointError where a run would continue with other symbols than it began with."""
    if checkpoint.config["vocabulary"] != vocabulary.to_json():
        raise CheckpointError(
            f"{checkpoint.folder}: its vocabulary is not that of {index.root}; resume with the data it was trained on"
        )


def spelled(vocabulary: Vocabulary, config: TTSTrainConfig) -> Vocabulary:
    """Return the vocabulary that encodes texts for training: one of phonemes gives some words in letters."""
    if not isinstance(vocabulary, PhonemeVocabulary):
        return vocabulary
    return type(vocabulary)(config.spelled_words)


def duration_weights(
    session: Session, state: FlowState, index: ShardIndex, config: TTSTrainConfig
) -> dict[str, Tensor] | None:
    """Return the weights of the run's duration predictor, a teacher's where there is one.

    Only the first rank fits and keeps it. None on others, and where the fit fails, which is a note.
    """
    if not session.world.is_main:
        return None
    if state.teacher is not None:
        return stored_durations(state.teacher)
    vocabulary = state.vocabulary
    if state.timings is not None:
        vocabulary = spelled(vocabulary, config)
    weights: dict[str, Tensor] | None = None
    # Speech without it is as long as its text in bytes says; a checkpoint without it is better than none.
    with session.side_work("fitting the duration predictor", but=(DataError,)):
        weights = kept_predictor(
            session.run,
            index.train,
            vocabulary,
            timings=state.timings,
            sample_rate=index.sample_rate,
            hop_length=state.representation.hop_length,
            seed=config.trainer.seed,
        )
    return weights


def try_longest(
    console: Console,
    world: World,
    state: FlowState,
    index: ShardIndex,
    limits: Limits,
    config: TTSTrainConfig,
    accumulate: int,
) -> None:
    """Compute the gradients of the longest batch that can come, forget them, and print the memory they take."""
    latent_dim = state.representation.latent_dim
    batch = piece_like(index, limits, latent_dim, config, world, accumulate)

    def compute(batch: UtteranceBatch) -> None:
        gradients(state, [batch], config, world)

    trial = try_batch(batch, compute, state.optimizer, world)
    console.print(trial, highlight=False)


@torch.no_grad()
def latents_of(
    representation: Representation, batch: UtteranceBatch, config: TTSTrainConfig
) -> tuple[Tensor, Tensor]:
    """Return normalised latents (B, D, T), zero at padding, and their lengths (B,): encoded now, or read from shards."""
    if batch.waveform is not None:
        posterior = representation.encode(batch.waveform, batch.lengths)
        mean, logvar, lengths = posterior.mean, posterior.logvar, posterior.lengths
    else:
        assert batch.latent_mean is not None
        assert batch.latent_logvar is not None and batch.latent_lengths is not None
        mean, logvar, lengths = batch.latent_mean, batch.latent_logvar, batch.latent_lengths
    latents = posterior_latents(
        mean.float(), logvar.float(), batch.keys, config.flow.posterior, config.trainer.seed
    )
    mask = length_mask(lengths, latents.shape[2])
    return representation.normalize(latents) * mask[:, None], lengths


def examples_of(
    state: FlowState, pieces: Sequence[UtteranceBatch], config: TTSTrainConfig, world: World
) -> list[Example]:
    """Return what is learned of each piece, on the device, with all that is random drawn."""
    examples = []
    for piece in pieces:
        frames = frames_of(piece, state.representation.hop_length)
        rows = [
            Row(number_of(config.trainer.seed, state.step, place), size)
            for place, size in zip(piece.places or range(len(piece.keys)), frames, strict=True)
        ]
        batch = piece.to(world.device)
        latents, lengths = latents_of(state.representation, batch, config)
        with autocast(config, world):
            examples.append(state.objective.draw(latents, lengths, batch.tokens, rows, batch.keys))
    return examples


def autocast(config: TTSTrainConfig, world: World) -> torch.autocast:
    """Return the context of the recipe's precision."""
    bf16 = config.trainer.precision == "bf16"
    return torch.autocast(world.device.type, torch.bfloat16, enabled=bf16)


def frames_of(batch: UtteranceBatch, hop_length: int) -> list[int]:
    """Return the utterances' frames, without padding; the batch is on the host still."""
    if batch.latent_lengths is not None:
        return batch.latent_lengths.tolist()
    assert batch.lengths is not None
    return num_frames(batch.lengths, hop_length).tolist()


def gradients(
    state: FlowState, pieces: Sequence[UtteranceBatch], config: TTSTrainConfig, world: World
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add up the gradients of the pieces of a step, one after the other, and return this rank's share of the loss.

    Every number of the global batch weighs the same, whatever the pieces and the ranks. What an example minimises besides
    (`Example.besides`) is returned by name, unweighted.
    """
    examples = examples_of(state, pieces, config, world)
    counts = [example.count * piece.weight for example, piece in zip(examples, pieces, strict=True)]
    total = sum_over_ranks(torch.stack(counts).sum(), world)
    loss = torch.zeros((), device=world.device)
    besides: dict[str, Tensor] = {}
    for number, (example, piece) in enumerate(zip(examples, pieces, strict=True)):
        # What dropout draws: the pieces' own, as the examples have left the generators anywhere.
        seed_by(config.trainer.seed, state.step, world.rank, number)
        with averaging(state.network, number == len(examples) - 1):
            with autocast(config, world):
                error, _ = example.error(state.network, state.objective.weights)
            # Gradients are averaged over ranks, of which there are so many.
            share = error * (piece.weight * world.world_size) / total
            share.backward()
        loss += share.detach()
        for name, value in example.besides.items():
            part = value * (piece.weight * world.world_size) / total
            besides[name] = besides.get(name, 0.0) + part
    return loss, besides


def train_step(
    state: FlowState, pieces: Sequence[UtteranceBatch], config: TTSTrainConfig, world: World
) -> StepResult:
    """Take one step: latents, the objective's loss over the global batch, update, EMA.

    `pieces` are this rank's share of the batch, still on the host; their gradients are computed one after the other.
    """
    rate = learning_rate(config.optimizer, state.step, config.trainer.steps)
    state.optimizer.zero_grad(set_to_none=True)
    loss, besides = gradients(state, pieces, config, world)
    for name, value in besides.items():
        loss = loss - getattr(config.loss, name) * value
    norm, finite = update(state.optimizer, state.trained(), config.optimizer, rate)
    state.step += 1
    state.ema.update(state.model, state.step, finite)
    representation = state.representation
    pieces = [piece for piece in pieces if piece.weight]
    frames = [frames_of(piece, representation.hop_length) for piece in pieces]
    padded = sum(len(each) * max(each, default=0) for each in frames)
    valid = sum(map(sum, frames))
    values: dict[str, Tensor | float] = {"loss/flow": loss, "gradient_norm": norm}
    values |= {f"loss/{name}": value for name, value in besides.items()}
    values |= {"learning_rate": rate, "padding_share": 1 - valid / max(padded, 1)}
    return StepResult(
        values,
        audio_seconds=valid * representation.hop_length / representation.sample_rate,
        keys=[key for piece in pieces for key in piece.keys],
        failures=[failure for piece in pieces for failure in piece.failures],
        finite=finite,
    )


def validate(
    session: Session,
    state: FlowState,
    held_out: dict[str, list[UtteranceBatch]],
    config: TTSTrainConfig,
    shares: Mapping[str, float],
) -> dict[str, float]:
    """Return what the objective says of the EMA weights on held-out utterances, by source; the first rank does it.

    Without held-out utterances the row is empty: a loss of nothing would be the best of all.
    """
    row: dict[str, float] = {}
    if session.world.is_main and held_out:
        with session.side_work("the validation", but=(DataError,)):
            rows = {
                name: _validation_row(session, state, batches, config)
                for name, batches in held_out.items()
            }
            row = over_sources(rows, shares)
    barrier(session.world)
    return row


def _validation_row(
    session: Session, state: FlowState, batches: list[UtteranceBatch], config: TTSTrainConfig
) -> dict[str, float]:
    def known(batch: UtteranceBatch) -> Known:
        batch = batch.to(session.world.device)
        latents, lengths = latents_of(state.representation, batch, config)
        return Known(latents, lengths, batch.tokens, batch.keys)

    return state.objective.row(state.averaged(), map(known, batches))


def synthesize(session: Session, state: FlowState, judged: JudgedSpeech | None) -> dict[str, float]:
    """Return what the judges say of the EMA weights' speech; the first rank does it, the others wait."""
    row: dict[str, float] = {}
    if judged is not None:
        with session.side_work("synthesising and judging"):
            row = judged.row(session, state.step, state.averaged())
    barrier(session.world)
    return row


def save(session: Session, state: FlowState, index: ShardIndex, config: TTSTrainConfig) -> None:
    """Write a checkpoint on the first rank, the VAE and the duration predictor inside it."""
    representation = state.representation
    vae = representation.checkpoint
    if session.world.is_main:
        durations = duration_weights(session, state, index, config)
        save_checkpoint(
            session,
            state,
            index,
            {
                "kind": "tts",
                "step": state.step,
                "model": recipe.to_tree(config.dit),
                "vocabulary": state.vocabulary.to_json(),
                "latent_dim": representation.latent_dim,
                "sample_rate": representation.sample_rate,
                "hop_length": representation.hop_length,
                "max_seconds": config.max_seconds,
                **representation.to_config(),
                **state.objective.facts,
            },
            vae_folder=None if vae is None else vae.folder,
            more=None if durations is None else {DURATION_FILE: durations},
        )
    barrier(session.world)
