"""`svae synthesize` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import Device, app, example

DEFAULT_TTS = Path("runs/tiny-tts")
"""Where `svae train-tts` writes if it is told nothing else."""


@app.command(
    epilog=example("""
        svae synthesize --ref a.wav --text "Good morning." --model runs/tiny-tts
        svae synthesize --ref a.wav --ref-text "What is said in it." --text "Good morning." --seed 7 --out hello.wav
    """)
)
def synthesize(
    ref: Annotated[Path, typer.Option(help="Recording of the voice: any format, rate, mono or stereo; at most 30 s.")],
    text: Annotated[str, typer.Option(help="What to say.")],
    ref_text: Annotated[
        str | None, typer.Option(help="What is said in --ref; default: transcribed and printed.")
    ] = None,
    model: Annotated[Path, typer.Option(help="Run or checkpoint folder of train-tts.")] = DEFAULT_TTS,
    out: Annotated[Path, typer.Option(help=".wav or .flac; a .json with all settings goes beside it.")] = Path(
        "out.wav"
    ),
    seed: Annotated[int, typer.Option(help="Same seed, same bytes (on the CPU).")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Solver steps.")] = 32,
    guidance: Annotated[float, typer.Option(help="v = v_cond + g (v_cond - v_uncond); 0 = none, twice as fast.")] = 2.0,
    speed: Annotated[float, typer.Option(help="Of speaking, relative to the reference.")] = 1.0,
    duration: Annotated[float | None, typer.Option(help="Seconds of new speech; default: from the texts.")] = None,
    asr: Annotated[str, typer.Option(help="Transcribes --ref: pocketsphinx, whisper:ID, ctc:ID.")] = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Say a text in the voice of a short recording."""
    from svae.synthesis import SynthesizeOptions, synthesize_file

    synthesize_file(
        SynthesizeOptions(
            ref=ref,
            text=text,
            ref_text=ref_text,
            model=model,
            out=out,
            seed=seed,
            steps=steps,
            guidance=guidance,
            speed=speed,
            duration=duration,
            asr=asr,
            device=device,
        )
    )


@app.command(
    epilog=example("""
        svae evaluate --model runs/tiny-tts
        svae evaluate --reconstruction --model runs/tiny-vae
        svae evaluate --wavs generated/ --list list.jsonl --asr whisper:openai/whisper-large-v3
        svae evaluate --model runs/tts --list librispeech_pc.lst --audio-root data/LibriSpeech/test-clean
    """)
)
def evaluate(
    model: Annotated[Path | None, typer.Option(help="Run or checkpoint to synthesise with.")] = None,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="JSONL {id, text, ref, ref_text, target}, or LibriSpeech-PC .lst.")
    ] = None,
    wavs: Annotated[Path | None, typer.Option(help="Score DIR/ID.wav instead of synthesising.")] = None,
    audio_root: Annotated[Path | None, typer.Option(help="Folder of the recordings that a .lst names.")] = None,
    data: Annotated[Path, typer.Option(help="Without --list: shards whose held-out utterances are used.")] = Path(
        "data/shards/sample"
    ),
    asr: Annotated[
        str, typer.Option(help="pocketsphinx, ctc:embedded, whisper:ID_OR_FOLDER or ctc:ID_OR_FOLDER.")
    ] = "pocketsphinx",
    speaker: Annotated[str, typer.Option(help="embedded, or ecapa:ID_OR_FOLDER.")] = "embedded",
    reconstruction: Annotated[bool, typer.Option("--reconstruction", help="Score the VAE alone.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, utterances.jsonl, wavs/.")] = Path(
        "out/evaluation"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    seed: Annotated[int, typer.Option(help="Of the synthesis.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Solver steps.")] = 32,
    guidance: Annotated[float, typer.Option(help="As in synthesize.")] = 2.0,
    device: Device = "auto",
) -> None:
    """Score word error rate and speaker similarity, with the original recordings' scores beside the system's."""
    from svae.evaluation.run import EvaluateOptions
    from svae.evaluation.run import evaluate as run

    run(
        EvaluateOptions(
            model=model,
            list_file=list_file,
            wavs=wavs,
            audio_root=audio_root,
            data=data,
            asr=asr,
            speaker=speaker,
            reconstruction=reconstruction,
            out=out,
            limit=limit,
            seed=seed,
            steps=steps,
            guidance=guidance,
            device=device,
        )
    )
