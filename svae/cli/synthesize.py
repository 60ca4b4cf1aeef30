"""`svae synthesize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from svae.cli.app import app, example
from svae.cli.options import (
    DEFAULT_TTS,
    Device,
    Guidance,
    PromptGuidance,
    Recognizer,
    ReferenceText,
    SpeakingModel,
    SpokenLanguage,
    Steps,
    Temperature,
)
from svae.config import Precision
from svae.errors import ConfigError


@app.command(
    epilog=example("""
        svae synthesize --ref a.wav --text "Good morning."
        svae synthesize --ref a.wav --text "Good morning." --model runs/libritts-tts-small-semantic64
        svae synthesize --ref a.wav --ref-text "What is said in it." --text "Good morning." --seed 7 --out hello.wav
        svae synthesize --model runs/my-voice --text "Good morning."
        svae synthesize --voice anna --text-file chapter.txt --out chapter.flac
        svae synthesize --voice anna --batch list.jsonl --out out/lines
        echo "Read this." | svae synthesize --voice anna --text-file - --stream
    """)
)
def synthesize(
    ref: Annotated[
        Path | None,
        typer.Option(
            help="Recording of the voice: any format, rate, number of channels; at most 30 s are used (embedded model: 13.5 s). Default: "
            "the model's own voice, where it has one (svae adapt)."
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What to say, of any length.")] = None,
    text_file: Annotated[
        Path | None, typer.Option(help="UTF-8 file with what to say; - for standard input.")
    ] = None,
    ref_text: ReferenceText = None,
    voice: Annotated[
        str | None, typer.Option(help="A voice of `svae voice save`, instead of --ref.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            help="JSONL of {text, out, ref or voice, ref_text, seed, language}; --out is then a folder."
        ),
    ] = None,
    model: SpeakingModel = DEFAULT_TTS,
    out: Annotated[
        Path | None,
        typer.Option(
            help=".wav or .flac, default: out.wav; a .json with all settings goes beside it. Never a file that is read."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(help="Same seed, same bytes (on the CPU, with the same number of threads)."),
    ] = 0,
    steps: Steps = None,
    guidance: Guidance = None,
    prompt_guidance: PromptGuidance = None,
    temperature: Temperature = None,
    solver: Annotated[
        Literal["euler", "midpoint"],
        typer.Option(help="midpoint evaluates the network twice a step."),
    ] = "euler",
    sway: Annotated[
        float, typer.Option(help="-1 puts steps near the noise; 0: even steps.")
    ] = -1.0,
    speed: Annotated[
        float, typer.Option(help="Speed of speaking, relative to the reference.")
    ] = 1.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of new speech; default: from the texts.")
    ] = None,
    duration_rule: Annotated[
        Literal["auto", "bytes", "predictor"],
        typer.Option(
            help="bytes: F5's ratio of text lengths; auto: the model's predictor if it has one."
        ),
    ] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            help="bf16: nearly twice as fast where the processor or GPU has it; differs a little."
        ),
    ] = "fp32",
    language: SpokenLanguage = "en",
    skip_unknown: Annotated[
        bool,
        typer.Option(
            "--skip-unknown", help="Leave out characters the model does not know, and say which."
        ),
    ] = False,
    lexicon: Annotated[
        Path | None,
        typer.Option(help="Your pronunciations: a word and its phones or a respelling a line."),
    ] = None,
    subtitles: Annotated[
        Literal["srt", "vtt", "json"] | None,
        typer.Option(help="When each word is spoken, in OUT.srt, OUT.vtt or OUT.words.json."),
    ] = None,
    c2pa_cert: Annotated[
        Path | None,
        typer.Option(
            help="Sign the audio as made by a machine (C2PA, extra c2pa): your certificate chain, PEM; with --c2pa-key."
        ),
    ] = None,
    c2pa_key: Annotated[
        Path | None, typer.Option(help="The private key of --c2pa-cert, PEM.")
    ] = None,
    loudness: Annotated[
        str,
        typer.Option(
            help="Of the speech, in LUFS, whatever the reference's; keep: as loud as the reference."
        ),
    ] = "-23",
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
    asr: Recognizer = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Say a text in the voice of a short recording."""
    from svae.synthesis.command import SynthesizeOptions, synthesize_file
    from svae.synthesis.credentials import Credentials
    from svae.synthesis.loudness import parse_loudness
    from svae.synthesis.types import Sampling

    if (c2pa_cert is None) != (c2pa_key is None):
        raise ConfigError("pass both --c2pa-cert and --c2pa-key, or neither")
    sampling = Sampling(
        seed=seed,
        num_steps=steps,
        guidance_scale=guidance,
        prompt_guidance=prompt_guidance,
        temperature=temperature,
        solver=solver,
        sway=sway,
        speed=speed,
        duration_seconds=duration,
        duration_rule=duration_rule,
        precision=precision,
    )
    options = SynthesizeOptions(
        model=model,
        text=text,
        text_file=text_file,
        ref=ref,
        ref_text=ref_text,
        voice=voice,
        out=out or Path("out.wav"),
        sampling=sampling,
        language=None if language == "none" else language,
        skip_unknown=skip_unknown,
        lexicon=lexicon,
        subtitles=subtitles,
        credentials=None
        if c2pa_cert is None or c2pa_key is None
        else Credentials(c2pa_cert, c2pa_key),
        loudness=parse_loudness(loudness),
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
    synthesize_batch(batch, options, out or Path("out/batch"))
