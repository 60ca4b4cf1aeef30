"""`svae synthesize`."""

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
