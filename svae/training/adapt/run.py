"""`svae adapt`: recordings → data → prompt → training, judged by held-out texts → the best point → a model that speaks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from svae import recipe
from svae.checkpoint import (
    EMBEDDED,
    Checkpoint,
    best_checkpoint,
    load_strict,
    mark_best,
    write_checkpoint,
)
from svae.config import AdaptConfig, DiTConfig, JudgesConfig
from svae.data.index import read_index
from svae.errors import CheckpointError, ConfigError, DataError
from svae.judges.asr import load_asr
from svae.models.recompute import recompute_activations
from svae.models.representation import kind_of
from svae.models.tts.dit import DiT
from svae.recordings.find import find_recordings
from svae.recordings.speech import SileroVAD
from svae.runtime.distributed import World, open_world, select_device, set_arithmetic
from svae.runtime.files import check_unlocked, check_writable, write_text
from svae.synthesis.adapter import STUDENT_FILE, open_speaking
from svae.synthesis.load import load_tts
from svae.synthesis.marks import save_speech, tags
from svae.synthesis.model import TTS
from svae.synthesis.open_durations import DURATION_FILE
from svae.synthesis.types import Sampling
from svae.synthesis.voices import own_voice
from svae.text.sentences import check_readable, prepare_sentences
from svae.training.adapt.base import Base, open_base
from svae.training.adapt.data import (
    DataFolders,
    held_out_count,
    make_latents,
    make_shards,
    make_times,
)
from svae.training.adapt.held_out import open_judges, show_table
from svae.training.adapt.prompt import check_consent_of_run
from svae.training.adapt.recordings import (
    SPEAKER,
    Studio,
    Survey,
    check_enough,
    cut,
    must_be_cut,
    show_left_out,
    survey,
)
from svae.training.adapt.speaker import Clock, Speaker, judged_rows, rows_of
from svae.training.loop import (
    TrainOptions,
    find_resume,
    open_session,
    resume_state,
    run_loop,
    save_checkpoint,
)
from svae.training.optim import ExponentialMovingAverage, build_optimizer
from svae.training.pieces import choose_pieces
from svae.training.session import Session
from svae.training.tts.build import flow_matching
from svae.training.tts.lora import AdapterState, adapted_layers, copies, inject
from svae.training.tts.step import train_step
from svae.training.tts.train import held_out_batches, spelled, training_batches, validate
from svae.training.tts.utterances import fewest_pieces, limits_of, open_data, report_left_out

HELLO = "Hello! This is my voice, and I can say whatever you write."
BATCH_SECONDS = 30.0
"""Of speech in a step, padding included; more than the longest recording."""


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Options of `svae adapt`."""

    recordings: Path
    out: Path
    model: Path = Path(EMBEDDED)
    """Checkpoint or run folder of the model that is adapted."""
    minutes: float = 20.0
    """The whole command ends about then, all its sessions together."""
    held_out: int = 8
    """Recordings that are said anew and judged; fewer where there are few."""
    judges: JudgesConfig = field(default_factory=JudgesConfig)
    """Its recogniser also transcribes recordings without texts."""
    language: str | None = "en"
    consent: str | None = None
    """Who agreed to what; kept with the voice. None: what is kept already."""
    merge: bool = False
    """Also write a whole model into `merged/`."""
    device: str = "auto"
    overrides: Sequence[str] = ()


def make_config(options: AdaptOptions, base: Base) -> AdaptConfig:
    """Return what is trained how: sizes from the base, the rest for minutes of speech by one person.

    Raises:
        ConfigError: a field or a value that there is not, or a language that the base cannot read.
    """
    check_readable(options.language, base.vocabulary)
    folders = DataFolders(options.out / "data")
    tokens = base.vocabulary.tokens
    tree: dict[str, Any] = {
        "data": {
            "root": str(folders.latents if base.stored else folders.shards),
            "waveform_root": str(folders.shards),
            "timings": str(folders.times) if base.timed else None,
            "language": options.language,
        },
        "trainer": {
            "steps": 20000,
            "log_every": 20,
            "validate_every": 200,
            "checkpoint_every": 200,
            "keep_checkpoints": 1,
            "synthesize_every": 200,
            "synthesize_utterances": options.held_out,
            "synthesize_steps": base.checkpoint.config.get("num_steps", 16),
        },
        "representation": kind_of(base.checkpoint),
        "tokens": tokens,
        "init": base.named,
        "loader": {"num_workers": 0},
        "dit": recipe.to_tree(base.checkpoint.section(DiTConfig)),
        "flow": {"drop_audio": 0.2, "drop_both": 0.1},
        "optimizer": {
            "learning_rate": 1e-3,
            "weight_decay": 0.0,
            "warmup_steps": 50,
            "schedule": "constant",
        },
        "ema": {"decay": 0.98, "every": 1, "start_step": 20},
        "batch_frames": round(BATCH_SECONDS * base.frame_rate),
        "judges": recipe.to_tree(options.judges),
    }
    if base.vocabulary.reads_phones:
        tree["spelled_words"] = 0.0  # there is too little speech to learn letters from
    if vocoder := base.checkpoint.config.get("vocoder"):
        tree["vocoder"] = vocoder
    config = recipe.build(AdaptConfig, tree, where="svae adapt", overrides=options.overrides)
    trainer = config.trainer
    if trainer.synthesize_every % trainer.checkpoint_every:
        raise ConfigError(
            f"trainer.synthesize_every {trainer.synthesize_every}: must be a multiple of trainer.checkpoint_every "
            f"({trainer.checkpoint_every}), as the best point is kept by its checkpoint"
        )
    return config


# ----------------------------------------------------------------------------------------------- the command


def adapt(options: AdaptOptions) -> Path:
    """Adapt a model to a voice and return the run folder; see `svae adapt --help`.

    Raises:
        ConfigError, DataError, CheckpointError: before the first step, if anything does not fit.
    """
    clock = Clock(options.minutes)
    _check_alone()
    consent = check_consent_of_run(options.consent, DataFolders(options.out / "data").prompt)
    found = _survey(options)
    base = open_base(options.model, str(select_device(options.device)))
    config = make_config(options, base)
    with open_world(options.device, timeout_minutes=config.trainer.collective_minutes) as world:
        set_arithmetic(config.trainer.tf32, config.trainer.cudnn_benchmark)
        train_options = TrainOptions(config, options.out, device=options.device)
        with open_session(train_options, "adapter", world) as session:
            _check_base(session.checkpoint, base)
            console = session.console
            console.print(f"Model [bold]{escape(base.named)}[/] ({base.checkpoint.hash[:12]}…)")
            folders = DataFolders(options.out / "data")
            if found is None:
                segments = cut(
                    options.recordings,
                    folders.cut,
                    config.judges,
                    sample_rate=base.representation.sample_rate,
                    language=options.language,
                    device=options.device,
                    console=console,
                )
                found = survey(segments, options.out)
            console.print(
                f"{len(found.utterances)} recordings {'with' if found.has_texts else 'without'} texts"
            )
            studio = Studio(
                folders.recordings,
                base.representation.sample_rate,
                base.vocabulary,
                options.language,
                None if found.has_texts else load_asr(config.judges.asr, str(world.device)),
            )
            if not found.has_texts:
                console.print(_transcription_note(config.judges.asr), highlight=False)
            takes = studio.make(found, console)
            show_left_out(found, console)
            seconds = sum(take.seconds for take in takes)
            check_enough(options.recordings, len(takes), seconds)
            if not found.has_texts:
                console.print(f"Transcripts: {studio.list_file()}", highlight=False, soft_wrap=True)
            held_out = held_out_count(len(takes), config.trainer.synthesize_utterances)
            console.print(
                f"{len(takes)} recordings, {seconds / 60:.1f} min of speech; {held_out} of them are held out"
            )
            make_shards(
                folders,
                studio.list_file(),
                sample_rate=base.representation.sample_rate,
                count=len(takes),
                held_out=held_out,
                console=console,
            )
            if base.timed:
                make_times(folders, console)
            if base.stored:
                vae = base.representation.checkpoint
                assert vae is not None
                make_latents(folders, vae, options.device, console)
            finished = _train(session, config, base, folders, world, clock, consent)
        if finished:
            conclude(options, base, config)
    return options.out


def _survey(options: AdaptOptions) -> Survey | None:
    """Look at the recordings, or return None where they must be cut first. Raises DataError where they cannot be used."""
    if must_be_cut(options.recordings, options.out):
        find_recordings(options.recordings, options.out, SPEAKER)
        SileroVAD()  # whether it is there is better known now
        return None
    found = survey(options.recordings, options.out)
    check_enough(options.recordings, len(found.utterances))
    return found


def _check_alone() -> None:
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("svae adapt: runs in one process; start it without torchrun")


def _check_base(checkpoint: Checkpoint | None, base: Base) -> None:
    """Raise CheckpointError where a run would be continued on other weights than those it was begun on."""
    if checkpoint is None:
        return
    wanted = checkpoint.config["base"]["hash"]
    if wanted != base.checkpoint.hash:
        raise CheckpointError(
            f"{checkpoint.folder}: was begun on the weights {wanted[:12]}…, but --model {base.named} has "
            f"{base.checkpoint.hash[:12]}…; pass the model it was begun on, or choose another --out"
        )


def _transcription_note(asr: str) -> str:
    text = f"Transcribing by {asr}, as no recording has a text beside it."
    if asr == "pocketsphinx":
        text += (
            " [yellow]It gets about every third word of people's speech wrong (docs/adapt.md), and what is wrong is "
            "learned: correct the transcripts, or pass --asr whisper:FOLDER.[/]"
        )
    return text


# ----------------------------------------------------------------------------------------------- training


def build_state(config: AdaptConfig, base: Base, world: World) -> AdapterState:
    """Build the network with its matrices; what is new depends on the seed only."""
    network = DiT(config.dit, len(base.vocabulary), base.representation.latent_dim)
    load_strict(network, base.checkpoint.model_state(), base.checkpoint.folder)
    speaking, weights = copies(network.to(world.device))
    torch.manual_seed(config.trainer.seed)
    adapter = inject(network, config.lora).to(world.device)
    if config.trainer.checkpoint_activations:
        recompute_activations(network)
    return AdapterState(
        step=0,
        ema=ExponentialMovingAverage(adapter, config.ema),
        model=adapter,
        optimizer=build_optimizer(config.optimizer, adapter.parameters(), world.device),
        representation=base.representation,
        vocabulary=base.vocabulary,
        timings=None,
        network=network.train(),
        objective=flow_matching(base.representation, config, world.device),
        base=weights,
        scale=config.lora.scale,
        speaking=speaking,
        student=base.student,
    )


def _train(
    session: Session,
    config: AdaptConfig,
    base: Base,
    folders: DataFolders,
    world: World,
    clock: Clock,
    consent: str | None,
) -> bool:
    """Train until nothing gets better or the time is up; return False where a signal stopped it."""
    index, validation, timings, validation_timings = open_data(config)
    waveforms = read_index(folders.shards)
    state = build_state(config, base, world)
    state.timings = timings
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    session.console.print(
        f"Adapter of rank {config.lora.rank}: {parameters:,} parameters beside the "
        f"{sum(p.numel() for p in state.speaking.parameters()):,} of the model"
    )
    if session.checkpoint is not None:
        resume_state(session, state, index)
        clock.before = float(session.checkpoint.config.get("seconds", 0.0))
    speaker = Speaker(session, config, base, folders, waveforms, index, world, clock, consent)
    limits = limits_of(config, base.representation.hop_length)
    read_as = spelled(base.vocabulary, config)
    # `make_times` has named those without times.
    report_left_out(session.console, index, limits, None, read_as)
    choose_pieces(session, fewest_pieces(config, world), 1)
    batches = training_batches(index, state, config, limits, read_as, world, session.accumulate)
    held_out = held_out_batches(validation, base.vocabulary, validation_timings, config, limits)

    def save() -> None:
        save_checkpoint(
            session,
            state,
            index,
            {
                "kind": "adapter",
                "step": state.step,
                "model": recipe.to_tree(config.lora),
                "base": {"model": base.named, "hash": base.checkpoint.hash},
                "scale": config.lora.scale,
                "seconds": round(clock.seconds, 1),
            },
            copied=[folders.prompt],
        )

    if session.checkpoint is None:
        save()
        mark_best(session.run, 0)
    speaker.judge_now(state)
    return run_loop(
        session,
        state,
        batches,
        train_step=lambda pieces: train_step(state, pieces, config, world),
        validate=lambda: validate(session, state, held_out, config, index.shares),
        save=save,
        synthesize=lambda: speaker.row(state),
        synthesize_every=config.trainer.synthesize_every,
        enough=speaker.enough,
    )


# ----------------------------------------------------------------------------------------------- the end


def conclude(options: AdaptOptions, base: Base, config: AdaptConfig) -> None:
    """Print before and after, say hello with the best point as `svae synthesize` would, and name the next command."""
    console = Console()
    run = options.out
    rows = judged_rows(run)
    originals = next((row for row in rows_of(run) if row["split"] == "recordings"), {})
    folder = best_checkpoint(run)
    assert folder is not None
    step = int(folder.name.removeprefix("step-"))
    table = {
        "before": rows.get(0, {}),
        f"after (step {step})": rows.get(step, {}),
        "the recordings": originals,
    }
    show_table(table, config.judges, console)
    if step == 0:
        console.print(
            "[yellow]No point was better than the start: the model speaks with these recordings as its prompt, and no "
            "weight was changed. More recordings, or more --minutes, may help.[/]"
        )
    tts = load_tts(run, select_device(options.device))
    opened = own_voice(tts, console)
    result = tts.speak([greeting(tts, run)], [opened.prompt], Sampling())[0]
    made_by = tags(tts.identity, result.sampling.seed, opened.description)
    save_speech(run / "hello.wav", result.waveform, result.sample_rate, made_by)
    report = {
        "base": {"model": base.named, "hash": base.checkpoint.hash},
        "best_step": step,
        "before": rows.get(0),
        "after": rows.get(step),
        "recordings": originals,
        "judges": recipe.to_tree(config.judges),
        "prompt": opened.prompt.text.rstrip(),
    }
    write_text(run / "adapt.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    model = run
    if options.merge:
        model = merge(run)
        console.print(f"Whole model in [bold]{escape(str(model))}[/]")
    size = (folder / "model.safetensors").stat().st_size / 1e6
    console.print(
        f"Voice in [bold]{escape(str(run))}[/] (adapter of {size:.1f} MB); it says hello in {escape(str(run / 'hello.wav'))}"
    )
    console.print(
        f'Next: svae synthesize --model {escape(str(model))} --text "…"',
        highlight=False,
        soft_wrap=True,
    )


def greeting(tts: TTS, run: Path) -> str:
    """Return what a model can say of `HELLO`; of another language than English, a text that was held out."""
    try:
        sentences, _ = prepare_sentences(HELLO, tts.vocabulary, language="en", skip_unknown=True)
    except DataError:
        return read_index(DataFolders(run / "data").shards).validation[0].text
    return " ".join(sentences)


def merge(run: Path) -> Path:
    """Write the best adapter of a run and its base as one TTS model into `merged/`, and return that folder."""
    opened = open_speaking(run)
    base = opened.checkpoint
    config = {name: value for name, value in base.config.items() if name not in ("format", "files")}
    config |= opened.description
    vae = base.folder / "vae"
    more = {
        name: base.state(name)
        for name in (DURATION_FILE, STUDENT_FILE)
        if name in base.config["files"]
    }
    write_checkpoint(
        run / "merged",
        config=config | {"step": base.step},
        model_state=opened.weights(),
        vae_folder=vae if vae.is_dir() else None,
        more=more,
        copied=[] if opened.prompt_file is None else [opened.prompt_file],
    )
    return run / "merged"


# ----------------------------------------------------------------------------------------------- --dry-run


def dry_run(options: AdaptOptions) -> None:
    """Check what `adapt` checks before it reads a recording, and print what it would do.

    Raises:
        ConfigError, DataError, CheckpointError: what `adapt` would raise.
    """
    console = Console()
    _check_alone()
    check_consent_of_run(options.consent, DataFolders(options.out / "data").prompt)
    found = _survey(options)
    check_writable(options.out, option="--out")
    check_unlocked(options.out)
    base = open_base(options.model, str(select_device(options.device)))
    config = make_config(options, base)
    with open_world(options.device, timeout_minutes=config.trainer.collective_minutes) as world:
        resumed = find_resume(TrainOptions(config, options.out), "adapter")
        _check_base(resumed, base)
        open_judges(config.judges, str(world.device))
        console.print(recipe.dump(config), highlight=False, markup=False, end="")
        with torch.device("meta"):
            network = DiT(config.dit, len(base.vocabulary), base.representation.latent_dim)
        load_strict(network, base.checkpoint.model_state(), base.checkpoint.folder)
        with torch.device("meta"):
            layers = adapted_layers(network)
            adapter = inject(network, config.lora)
        base.rule(str(world.device))
        base.representation.load_decoder()
        if resumed is not None:
            resumed.training_state()
            load_strict(adapter, resumed.model_state(), resumed.folder)
    added = sum(parameter.numel() for parameter in adapter.parameters())
    if found is None:
        recordings = f"to be cut to utterances first, transcribed by {config.judges.asr} where no text is beside them"
    else:
        show_left_out(found, console)
        texts = (
            "with texts"
            if found.has_texts
            else f"without texts, to be transcribed by {config.judges.asr}"
        )
        held_out = held_out_count(len(found.utterances), config.trainer.synthesize_utterances)
        recordings = f"{len(found.utterances)} {texts}; {held_out} of them would be held out"
    console.print(
        f"Recordings: {recordings}\n"
        f"Adapter: {added:,} parameters in {len(layers)} layers of {base.named}\n"
        f"Time: {options.minutes:g} min at most\n"
        f"Would {'start' if resumed is None else f'resume from {resumed.folder}'} in {options.out}",
        highlight=False,
    )
