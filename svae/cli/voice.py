"""`svae voice save`, `svae voice list` and `svae voice delete`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import (
    DEFAULT_TTS,
    Device,
    Recognizer,
    ReferenceText,
    SpeakingModel,
    SpokenLanguage,
)

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
    ref_text: ReferenceText = None,
    model: SpeakingModel = DEFAULT_TTS,
    language: SpokenLanguage = "en",
    consent: Annotated[
        str | None,
        typer.Option(
            help="Who agreed to what, and when; kept with the voice and written into each file made with it."
        ),
    ] = None,
    asr: Recognizer = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Encode a recording once and keep it with its transcript under a name."""
    from svae.synthesis.voices import keep_voice

    spelled_in = None if language == "none" else language
    keep_voice(
        name, ref, ref_text, model, asr=asr, device=device, language=spelled_in, consent=consent
    )


@voice_app.command("list", epilog=example("svae voice list"))
def voice_list() -> None:
    """Print the names of the saved voices."""
    from svae.synthesis.voices import saved_voices, voices_folder

    names = saved_voices()
    if not names:
        print(f"No voices in {voices_folder()}; `svae voice save NAME --ref a.wav` makes one.")
    for name in names:
        print(name)


@voice_app.command("delete", epilog=example("svae voice delete anna"))
def voice_delete(name: Annotated[str, typer.Argument(help="A name of `svae voice list`.")]) -> None:
    """Delete a saved voice."""
    from svae.synthesis.voices import delete_voice

    print(f"Voice {name} deleted: {delete_voice(name)}")
