"""`svae adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import DEFAULT_TTS, Device, Overrides, SpeakingModel, SpokenLanguage
from svae.config import JudgesConfig
from svae.errors import ConfigError


@app.command(
    epilog=example("""
        svae adapt my-recordings --out runs/my-voice
        svae synthesize --model runs/my-voice --text "Good morning."
        svae adapt my-recordings --out runs/my-voice --model runs/libritts-tts-small-semantic64 --asr whisper:FOLDER
        svae adapt my-recordings --out runs/my-voice --merge
    """)
)
def adapt(
    recordings: Annotated[
        Path,
        typer.Argument(
            help="Folder of one person's recordings, or one recording, of any length, with the words in NAME.txt beside it "
            "or without; or a list as `svae prepare jsonl` reads it."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Run folder; the same command continues what it holds.")
    ],
    model: SpeakingModel = DEFAULT_TTS,
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1, help="About so long in all; it ends earlier where nothing gets better."
        ),
    ] = 20.0,
    held_out: Annotated[
        int,
        typer.Option(
            min=1, help="Recordings not trained on, said anew and judged; at most a sixth of all."
        ),
    ] = 8,
    asr: Annotated[
        str,
        typer.Option(
            help="Transcribes recordings without texts, and judges: pocketsphinx, whisper:ID, ctc:ID."
        ),
    ] = "pocketsphinx",
    speaker: Annotated[
        str, typer.Option(help="Judges the voice: embedded, ecapa:ID_OR_FOLDER, wavlm-ecapa:FILE.")
    ] = "embedded",
    distillmos: Annotated[
        bool,
        typer.Option(
            "--distillmos", help="Judge naturalness, 1 to 5; needs: pip install 'svae\\[mos]'."
        ),
    ] = False,
    utmos: Annotated[
        Path | None,
        typer.Option(help="Judges naturalness: ONNX file, waveform at 16 kHz to one score."),
    ] = None,
    language: SpokenLanguage = "en",
    consent: Annotated[
        str | None,
        typer.Option(
            help="Who agreed to what, and when; kept with the voice and written into each file made with it."
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Also write a whole model, without need of its base.")
    ] = False,
    overrides: Overrides = [],  # noqa: B006
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; read and train nothing.")
    ] = False,
) -> None:
    """Make a model speak like one person, from minutes of recordings; continues where it was stopped."""
    from svae.training.adapt.run import AdaptOptions
    from svae.training.adapt.run import adapt as run
    from svae.training.adapt.run import dry_run as show_plan

    if distillmos and utmos is not None:
        raise ConfigError(
            "--distillmos, --utmos: one judge of naturalness chooses the best point; give one"
        )
    mos = "distillmos" if distillmos else None if utmos is None else str(utmos)
    options = AdaptOptions(
        recordings=recordings,
        out=out,
        model=model,
        minutes=minutes,
        held_out=held_out,
        judges=JudgesConfig(asr=asr, speaker=speaker, mos=mos),
        language=None if language == "none" else language,
        consent=consent,
        merge=merge,
        device=device,
        overrides=tuple(overrides),
    )
    (show_plan if dry_run else run)(options)
