"""`svae train-tts`: a diffusion transformer that learns, by flow matching, a frozen VAE's latents or mel frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from svae import recipe
from svae.checkpoint import load_strict, open_checkpoint, publish, write_checkpoint
from svae.config import TTSTrainConfig
from svae.data.batches import UtteranceBatch
from svae.data.index import ShardIndex
from svae.data.loaders import utterance_loader, validation_batches
from svae.data.select import unfit_utterances
from svae.data.timings import Timings
from svae.errors import CheckpointError, DataError
from svae.models.mel import MelFrames
from svae.models.tts.dit import DiT
from svae.models.tts.flow import (
    VALIDATION_TIMES,
    flow_matching_loss,
    posterior_latents,
    validation_error,
)
from svae.models.vae.vae import SpeechVAE
from svae.runtime.distributed import World, barrier, data_parallel, open_world, sum_over_ranks
from svae.synthesis.durations import DURATION_FILE, open_rule
from svae.text.phonemes import PhonemeVocabulary
from svae.text.vocabulary import Vocabulary
from svae.training.loop import (
    Session,
    TrainOptions,
    check_data,
    data_fingerprint,
    new_checkpoint_folder,
    open_session,
    run_loop,
)
from svae.training.meter import StepResult
from svae.training.optim import ExponentialMovingAverage, build_optimizer, learning_rate, update
from svae.training.tts.fit_durations import kept_predictor
from svae.training.tts.judged_speech import Speaking, open_speaking
from svae.training.tts.memory import longest_batch, try_batch, wants_trial
from svae.training.tts.representation import find_vae, open_data, open_representation
from svae.training.warm_start import choose_vocabulary, open_start, take_weights


@dataclass
class TTSState:
    """Everything a training step changes, plus what makes its latents."""

    step: int
    model: DiT
    optimizer: torch.optim.Optimizer
    ema: ExponentialMovingAverage
    vae: SpeechVAE | MelFrames
    vocabulary: Vocabulary
    timings: Timings | None
    """Of the phones, with `tokens: frame-phonemes`."""
    network: nn.Module
    """`model`, averaged over ranks in its backward pass."""

    def training_state(self) -> dict[str, object]:
        """Return what resuming needs besides the published EMA weights."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }


def train_tts(options: TrainOptions) -> Path:
    """Train a TTS model on the latents of a VAE and return the run folder; see `svae train-tts --help`.

    Raises:
        ConfigError, DataError, CheckpointError: before the first step, if anything does not fit.
    """
    config: TTSTrainConfig = options.config
    index, validation, timings = open_data(config)
    start = open_start(config)
    source = find_vae(config, index, start)
    vocabulary = choose_vocabulary(index, config, start)
    with open_world(options.device) as world, open_session(options, "tts", world) as session:
        vae = open_representation(session, source, index, config)
        state = build_state(config, vae, vocabulary, world, timings)
        if start is not None and session.checkpoint is None:
            take_weights(state.model, start, config.dit, state.vocabulary, session.console)
            state.ema = ExponentialMovingAverage(state.model, config.ema)
        if session.checkpoint is not None:
            resume_state(session, state, index, config)
        limits = {
            "batch_frames": config.batch_frames // world.world_size,
            "hop_length": vae.hop_length,
            "min_seconds": config.min_seconds,
            "max_seconds": config.max_seconds,
        }
        report_unfit(session, index, limits, timings)
        if wants_trial(config, world):
            try_longest(session, state, index, limits, config)
        loader = utterance_loader(
            index,
            **limits,
            vocabulary=spelled(vocabulary, config),
            timings=timings,
            seed=config.trainer.seed,
            start_step=state.step,
            rank=world.rank,
            world_size=world.world_size,
            loader=config.loader,
            pin_memory=world.device.type == "cuda",
        )
        samples = None if config.data.validation_root is None else validation.samples
        count = config.validation_utterances
        held_out = list(
            validation_batches(
                validation,
                **limits,
                count=count,
                vocabulary=vocabulary,
                samples=samples,
                timings=timings,
            )
        )
        weights = None if timings is None else fitted_predictor(session, state, index, config)
        rule = None
        if weights is not None:
            rule = open_rule(vocabulary, vae.sample_rate / vae.hop_length, weights)
        speaking = open_speaking(config, index, vae, vocabulary, session, rule)
        finished = run_loop(
            session,
            state,
            loader,
            train_step=lambda batch: train_step(state, batch.to(world.device), config, world),
            validate=lambda: validate(session, state, held_out, config),
            save=lambda last: save(session, state, index, config),
            synthesize=(lambda: synthesize(session, state, speaking))
            if config.trainer.synthesize_every
            else None,
            synthesize_every=config.trainer.synthesize_every,
        )
        if finished:
            session.console.print(f"TTS model in [bold]{session.run}[/] (step {state.step})")
            session.console.print(
                f'Next: svae synthesize --model {session.run} --ref REF.wav --text "…"'
            )
    return options.out


def build_state(
    config: TTSTrainConfig,
    vae: SpeechVAE | MelFrames,
    vocabulary: Vocabulary,
    world: World,
    timings: Timings | None = None,
) -> TTSState:
    """Build the network and its optimizer with weights that depend on the seed only."""
    torch.manual_seed(config.trainer.seed)
    model = DiT(config.dit, vocab_size=len(vocabulary), latent_dim=vae.latent_dim).to(world.device)
    ema = ExponentialMovingAverage(model, config.ema)
    if config.trainer.compile:
        model.compile()
    return TTSState(
        step=0,
        model=model,
        optimizer=build_optimizer(config.optimizer, model.parameters(), world.device),
        ema=ema,
        vae=vae,
        vocabulary=vocabulary,
        timings=timings,
        network=data_parallel(model, world),
    )


def spelled(vocabulary: Vocabulary, config: TTSTrainConfig) -> Vocabulary:
    """Return the vocabulary that encodes texts for training: of phonemes, some words in letters."""
    return (
        type(vocabulary)(config.spelled_words)
        if isinstance(vocabulary, PhonemeVocabulary)
        else vocabulary
    )


def fitted_predictor(
    session: Session, state: TTSState, index: ShardIndex, config: TTSTrainConfig
) -> dict[str, Tensor] | None:
    """Return the weights of the run's duration predictor; only rank 0 fits and keeps it, others get None."""
    if not session.world.is_main:
        return None
    return kept_predictor(
        session.run,
        index.train,
        spelled(state.vocabulary, config) if state.timings is not None else state.vocabulary,
        timings=state.timings,
        sample_rate=index.sample_rate,
        hop_length=state.vae.hop_length,
        seed=config.trainer.seed,
    )


def report_unfit(
    session: Session, index: ShardIndex, limits: dict[str, Any], timings: Timings | None
) -> None:
    """Print how many utterances no batch will hold, by reason; `limits` as `unfit_utterances` takes them.

    Raises:
        DataError: none is left.
    """
    if timings is not None and timings.left_out:
        session.console.print(f"Left out: {timings.left_out} utterances without times of phones")
    reasons = unfit_utterances(index, **limits)
    left = len(index.train) - sum(reasons.values())
    if reasons:
        text = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        session.console.print(f"Left out of training: {text}; {left} utterances remain")
    if left <= 0:
        raise DataError(
            f"{index.root}: every utterance is left out ({text}); raise batch_frames or max_seconds"
        )


def try_longest(
    session: Session,
    state: TTSState,
    index: ShardIndex,
    limits: dict[str, Any],
    config: TTSTrainConfig,
) -> None:
    """Compute the gradients of the longest batch that can come, forget them, and print the memory they take."""
    batch = longest_batch(index, **limits, latent_dim=state.vae.latent_dim)
    trial = try_batch(
        batch, lambda b: forward(state, b, config, session.world)[0], state.optimizer, session.world
    )
    session.console.print(trial, highlight=False)


@torch.no_grad()
def latents_of(
    vae: SpeechVAE | MelFrames, batch: UtteranceBatch, config: TTSTrainConfig
) -> tuple[Tensor, Tensor]:
    """Return normalised latents (B, D, T), zero at padding, and their lengths (B,): encoded now, or read from shards."""
    if batch.latent_mean is not None:
        mean, logvar, lengths = batch.latent_mean, batch.latent_logvar, batch.latent_lengths
    else:
        posterior = vae.encode(batch.waveform, batch.lengths)
        mean, logvar, lengths = posterior.mean, posterior.logvar, posterior.lengths
    latents = posterior_latents(
        mean.float(), logvar.float(), batch.keys, config.flow.posterior, config.trainer.seed
    )
    mask = torch.arange(latents.shape[2], device=latents.device) < lengths[:, None]
    return vae.normalize(latents) * mask[:, None], lengths


def forward(
    state: TTSState, batch: UtteranceBatch, config: TTSTrainConfig, world: World
) -> tuple[Tensor, Tensor, int]:
    """Return this rank's share of the loss, the latents' lengths (B,) and how long they are padded."""
    latents, lengths = latents_of(state.vae, batch, config)
    with torch.autocast(
        world.device.type, torch.bfloat16, enabled=config.trainer.precision == "bf16"
    ):
        error, count = flow_matching_loss(
            state.network, latents, lengths, batch.tokens, config.flow
        )
    # Gradients are averaged over ranks; every hidden frame of the global batch is to weigh the same.
    return error * world.world_size / sum_over_ranks(count, world), lengths, latents.shape[2]


def train_step(
    state: TTSState, batch: UtteranceBatch, config: TTSTrainConfig, world: World
) -> StepResult:
    """Take one step: latents, flow-matching loss over the hidden spans of the global batch, update, EMA."""
    rate = learning_rate(config.optimizer, state.step, config.trainer.steps)
    loss, lengths, num_frames = forward(state, batch, config, world)
    norm = update(state.optimizer, loss, list(state.model.parameters()), config.optimizer, rate)
    state.step += 1
    if norm is not None:
        state.ema.update(state.model, state.step)
    values = {"loss/flow": loss.detach(), "learning_rate": torch.tensor(rate)}
    values |= {} if norm is None else {"gradient_norm": norm}
    values["padding_share"] = 1 - lengths.sum() / (lengths.numel() * num_frames)
    seconds = float(lengths.sum()) * state.vae.hop_length / state.vae.sample_rate
    return StepResult(values, seconds, batch.keys, batch.failures, skipped=norm is None)


def validate(
    session: Session, state: TTSState, batches: list[UtteranceBatch], config: TTSTrainConfig
) -> dict[str, float]:
    """Return the EMA weights' loss on held-out utterances at fixed times, and its mean; rank 0 does it."""
    row: dict[str, float] = {}
    if session.world.is_main:
        sums, count = (
            torch.zeros(len(VALIDATION_TIMES), dtype=torch.float64),
            torch.zeros((), dtype=torch.float64),
        )
        for batch in batches:
            batch = batch.to(session.world.device)
            latents, lengths = latents_of(state.vae, batch, config)
            part, elements = validation_error(
                state.ema.module,
                latents,
                lengths,
                batch.tokens,
                batch.keys,
                config.flow,
                seed=config.trainer.seed,
            )
            sums, count = sums + part.cpu(), count + elements.cpu()
        by_time = (sums / count.clamp_min(1)).tolist()
        row = {"loss/flow": sum(by_time) / len(by_time)}
        row |= {
            f"loss/t={time:g}": value for time, value in zip(VALIDATION_TIMES, by_time, strict=True)
        }
    barrier(session.world)
    return row


def synthesize(session: Session, state: TTSState, speaking: Speaking | None) -> dict[str, float]:
    """Return what the judges say of the EMA weights' speech; rank 0 does it, the others wait."""
    row: dict[str, float] = {}
    if speaking is not None:
        row = speaking(session, state.step, state.ema.module, state.vae, state.vocabulary)
    barrier(session.world)
    return row


def save(session: Session, state: TTSState, index: ShardIndex, config: TTSTrainConfig) -> None:
    """Write a checkpoint on rank 0, the VAE inside it."""
    world = session.world
    if world.is_main:
        vae = (
            None
            if config.representation == "mel"
            else open_checkpoint(session.run / "vae", kind="vae")
        )
        predictor = fitted_predictor(session, state, index, config)
        write_checkpoint(
            new_checkpoint_folder(session, state),
            config={
                "kind": "tts",
                "step": state.step,
                "model": recipe.to_tree(config.dit),
                "vocabulary": state.vocabulary.to_json(),
                "latent_dim": state.vae.latent_dim,
                "sample_rate": state.vae.sample_rate,
                "hop_length": state.vae.hop_length,
                "max_seconds": config.max_seconds,
                "representation": config.representation,
                "vae_hash": None if vae is None else vae.hash,
                "vocoder": None if vae is not None else config.vocoder,
            },
            model_state=state.ema.module.state_dict(),
            training_state=state.training_state()
            | {
                "data": data_fingerprint(index),
                "layout": {
                    "world_size": world.world_size,
                    "num_workers": config.loader.num_workers,
                },
            },
            vae_folder=None if vae is None else vae.folder,
            more=None if predictor is None else {DURATION_FILE: predictor},
        )
        publish(session.run, state.step, keep=config.trainer.keep_checkpoints)
    barrier(world)


def resume_state(
    session: Session, state: TTSState, index: ShardIndex, config: TTSTrainConfig
) -> None:
    """Load weights, optimizer and EMA of the session's checkpoint into the state.

    Raises:
        CheckpointError: other data, another vocabulary, or damage.
    """
    assert session.checkpoint is not None
    stored = session.checkpoint.training_state()
    check_data(session, stored, index, config.loader.num_workers)
    where = session.checkpoint.folder
    if session.checkpoint.config["vocabulary"] != state.vocabulary.to_json():
        raise CheckpointError(
            f"{where}: its vocabulary is not that of {index.root}; resume with the data it was trained on"
        )
    load_strict(state.model, stored["model"], where)
    load_strict(state.ema.module, session.checkpoint.model_state(), where)
    state.optimizer.load_state_dict(stored["optimizer"])
    state.step = stored["step"]
