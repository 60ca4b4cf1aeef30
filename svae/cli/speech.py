"""`svae synthesize`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import Device, app, example
from svae.errors import ConfigError

DEFAULT_TTS = Path("embedded")
"""The small model in the package, trained on synthetic voices."""


class SolverName(StrEnum):
    """Solvers of the sampler."""

    euler = "euler"
    midpoint = "midpoint"


class PrecisionName(StrEnum):
    """Arithmetic of the network's products."""

    fp32 = "fp32"
    bf16 = "bf16"


class DurationName(StrEnum):
    """What decides how long new speech is."""

    auto = "auto"
    bytes = "bytes"
    predictor = "predictor"


Model = Annotated[
    Path,
    typer.Option(
        help="Run or checkpoint folder of train-tts; `embedded`: the small one in the package."
    ),
]
RefText = Annotated[
    str | None, typer.Option(help="What is said in --ref; default: transcribed and printed.")
]
Asr = Annotated[
    str,
    typer.Option(
        help="Transcribes --ref, and checks with --verify: pocketsphinx, whisper:ID, ctc:ID."
    ),
]


@app.command(
    epilog=example("""
        svae synthesize --ref a.wav --text "Good morning."
        svae synthesize --ref a.wav --text "Good morning." --model runs/libritts-tts-small-semantic64
        svae synthesize --ref a.wav --ref-text "What is said in it." --text "Good morning." --seed 7 --out hello.wav
        svae synthesize --voice anna --text-file chapter.txt --out chapter.flac
        svae synthesize --voice anna --batch list.jsonl --out out/lines
        echo "Read this." | svae synthesize --voice anna --text-file - --stream
    """)
)
def synthesize(
    ref: Annotated[
        Path | None,
        typer.Option(
            help="Recording of the voice: any format, rate, mono or stereo; at most 30 s are used (embedded model: 13.5 s)."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What to say, of any length.")] = None,
    text_file: Annotated[
        Path | None, typer.Option(help="UTF-8 file with what to say; - for standard input.")
    ] = None,
    ref_text: RefText = None,
    voice: Annotated[
        str | None, typer.Option(help="A voice of `svae voice save`, instead of --ref.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of {text, out, ref or voice, ref_text, seed}; --out is then a folder."
        ),
    ] = None,
    model: Model = DEFAULT_TTS,
    out: Annotated[
        Path | None,
        typer.Option(
            help=".wav or .flac, default out.wav; a .json with all settings goes beside it."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes (on the CPU).")] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Solver steps; default: the model's own number (16 embedded), else 32."
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            help="v = v_cond + g (v_cond - v_uncond); 0 = none, two to three times as fast."
        ),
    ] = 2.0,
    prompt_guidance: Annotated[
        float | None,
        typer.Option(
            min=-1,
            help="A scale of its own for the prompt: less says the words better, more is nearer to the voice; default: "
            "the model's own (0.3 embedded) up to --guidance, else --guidance.",
        ),
    ] = None,
    solver: Annotated[
        SolverName, typer.Option(help="midpoint evaluates the network twice a step.")
    ] = SolverName.euler,
    sway: Annotated[
        float, typer.Option(help="-1 puts steps near the noise; 0: even steps.")
    ] = -1.0,
    speed: Annotated[float, typer.Option(help="Of speaking, relative to the reference.")] = 1.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of new speech; default: from the texts.")
    ] = None,
    duration_rule: Annotated[
        DurationName,
        typer.Option(
            help="bytes: F5's ratio of text lengths; auto: the model's predictor if it has one."
        ),
    ] = DurationName.auto,
    precision: Annotated[
        PrecisionName,
        typer.Option(
            help="bf16: nearly twice as fast where the processor or GPU has it; differs a little."
        ),
    ] = PrecisionName.fp32,
    language: Annotated[
        str, typer.Option(help="Spells out numbers and symbols: en, zh, ja; none: leaves them.")
    ] = "en",
    skip_unknown: Annotated[
        bool,
        typer.Option(
            "--skip-unknown", help="Leave out characters the model does not know, and say which."
        ),
    ] = False,
    verify: Annotated[
        int,
        typer.Option(
            min=0, help="Transcribe each chunk; try so many other seeds where it is not understood."
        ),
    ] = 0,
    verify_wer: Annotated[
        float, typer.Option(help="Understood: a word error rate of at most this.")
    ] = 0.3,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Write into --out as soon as the first sentence is ready."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show every sentence as it is spoken.")
    ] = False,
    asr: Asr = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Say a text in the voice of a short recording."""
    from svae.synthesis.command import SynthesizeOptions, synthesize_file
    from svae.synthesis.types import Sampling

    sampling = Sampling(
        seed=seed,
        num_steps=steps,
        guidance_scale=guidance,
        prompt_guidance=prompt_guidance,
        solver=solver.value,
        sway=sway,
        speed=speed,
        duration_seconds=duration,
        duration_rule=duration_rule.value,
        precision=precision.value,
    )
    options = SynthesizeOptions(
        model=model,
        text=text,
        text_file=text_file,
        ref=ref,
        ref_text=ref_text,
        voice=voice,
        out=Path("out.wav") if out is None else out,
        sampling=sampling,
        language=None if language == "none" else language,
        skip_unknown=skip_unknown,
        verify=verify,
        verify_wer=verify_wer,
        stream=stream,
        verbose=verbose,
        asr=asr,
        device=device,
    )
    if batch is None:
        synthesize_file(options)
        return
    from svae.synthesis.batch import synthesize_batch

    if text is not None or text_file is not None:
        raise ConfigError("--batch: the texts are in the list; leave out --text and --text-file")
    synthesize_batch(batch, options, Path("out/batch") if out is None else out)


voice_app = typer.Typer(
    help="Voices that are encoded once and kept.",
    no_args_is_help=True,
    epilog=example("svae voice list"),
)
app.add_typer(voice_app, name="voice")


@voice_app.command(
    "save",
    epilog=example("""
        svae voice save anna --ref anna.wav --ref-text "What Anna says."
        svae synthesize --voice anna --text "Good morning."
    """),
)
def voice_save(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.")],
    ref: Annotated[Path, typer.Option(help="Recording of the voice.")],
    ref_text: RefText = None,
    model: Model = DEFAULT_TTS,
    asr: Asr = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Encode a recording once and keep it with its transcript under a name."""
    from svae.synthesis.voices import keep_voice

    keep_voice(name, ref, ref_text, model, asr=asr, device=device)


@voice_app.command("list", epilog=example("svae voice list"))
def voice_list() -> None:
    """Print the names of the saved voices."""
    from svae.synthesis.voices import saved_voices, voices_folder

    names = saved_voices()
    print(
        "\n".join(names)
        if names
        else f"No voices in {voices_folder()}; `svae voice save NAME --ref a.wav` makes one."
    )
