"""`svae train-tts`: a diffusion transformer that learns, by flow matching, a frozen VAE's latents or mel frames."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from svae import recipe
from svae.checkpoint import Checkpoint
from svae.config import TTSTrainConfig
from svae.data.batches import UtteranceBatch
from svae.data.index import ShardIndex
from svae.data.loaders import utterance_loader, validation_batches
from svae.data.stream import BatchStream
from svae.data.timings import Timings
from svae.errors import CheckpointError, DataError
from svae.models.representation import Representation
from svae.runtime.distributed import (
    World,
    barrier,
    open_world,
    set_arithmetic,
)
from svae.synthesis.open_durations import DURATION_FILE, open_rule, stored_durations
from svae.text.phonemes import PhonemeVocabulary
from svae.text.vocabulary import Vocabulary
from svae.training.loop import (
    TrainOptions,
    agreed_resume,
    check_same_data_on_all,
    open_session,
    resume_state,
    run_loop,
    save_checkpoint,
)
from svae.training.meter import over_sources
from svae.training.optim import ExponentialMovingAverage
from svae.training.pieces import choose_pieces
from svae.training.session import Session
from svae.training.tts.build import build_state
from svae.training.tts.distill import StudentState, open_teacher, take_student
from svae.training.tts.fit_durations import fit_predictor
from svae.training.tts.hidden_alignment import open_features
from svae.training.tts.judged_speech import JudgedSpeech, open_judged_speech
from svae.training.tts.memory import step_plans, try_longest, wants_trial
from svae.training.tts.objective import Known
from svae.training.tts.representation import find_representation, keep_in_run, kept_vae
from svae.training.tts.state import FlowState, TTSState
from svae.training.tts.step import latents_of, train_step
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
        plans = step_plans(
            config, representation, vocabulary, index, limits, world, teacher, features
        )
        fewest, most = fewest_pieces(config, world), most_pieces(index, limits, config, world)
        choose_pieces(session, fewest, most, plans)
        if wants_trial(config, world):
            try_longest(session.console, world, state, index, limits, config, session.accumulate)
        batches = training_batches(index, state, config, limits, read_as, world, session.accumulate)
        held_out = held_out_batches(validation, vocabulary, validation_timings, config, limits)
        note_no_validation(session.console, validation, held_out)
        durations = duration_weights(session, state, index, config)
        rule = None
        if timings is not None and durations is not None:
            frame_rate = representation.sample_rate / representation.hop_length
            rule = open_rule(vocabulary, frame_rate, durations)
        judged = open_judged_speech(session, config, index, representation, vocabulary, rule)
        finished = run_loop(
            session,
            state,
            batches,
            train_step=lambda pieces: train_step(state, pieces, config, world),
            validate=lambda: validate(session, state, held_out, config, index.shares),
            save=lambda: save(session, state, index, config, durations),
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
    """Return the weights of the run's duration predictor: a teacher's where there is one, or those fitted when the run began.

    Only the first rank fits any. None on others, and where the fit fails, which is a note.
    """
    if not session.world.is_main:
        return None
    if state.teacher is not None:
        return stored_durations(state.teacher)
    if session.checkpoint is not None:
        kept = stored_durations(session.checkpoint)
        if kept is not None:
            return kept
    vocabulary = state.vocabulary
    if state.timings is not None:
        vocabulary = spelled(vocabulary, config)
    weights: dict[str, Tensor] | None = None
    # Speech without it is as long as its text in bytes says; a checkpoint without it is better than none.
    with session.side_work("fitting the duration predictor", but=(DataError,)):
        weights = fit_predictor(
            index.train,
            vocabulary,
            timings=state.timings,
            sample_rate=index.sample_rate,
            hop_length=state.representation.hop_length,
            seed=config.trainer.seed,
        )
    return weights


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


def save(
    session: Session,
    state: FlowState,
    index: ShardIndex,
    config: TTSTrainConfig,
    durations: dict[str, Tensor] | None,
) -> None:
    """Write a checkpoint on the first rank, the VAE and the duration predictor inside it."""
    representation = state.representation
    vae = representation.checkpoint
    if session.world.is_main:
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
