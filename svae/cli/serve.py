"""`svae serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import Device
from svae.errors import ConfigError


@app.command(
    epilog=example("""
        svae serve
        svae serve --model en=runs/my-voice --model embedded --port 9000
        svae serve --host 0.0.0.0 --api-key "$KEY"
        curl http://127.0.0.1:8000/v1/audio/speech -H "Content-Type: application/json" -d '{"input": "Good morning."}' -o a.mp3
    """)
)
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]PATH",
            help="Run or checkpoint folder of train-tts under a name; repeatable. Default: embedded.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's need --api-key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="SVAE_API_KEY", show_envvar=True, help="Key that clients must send as Bearer."
        ),
    ] = None,
    queue: Annotated[
        int,
        typer.Option(min=1, help="Requests that wait or are spoken; more are told to come back."),
    ] = 64,
    voices: Annotated[
        int, typer.Option(min=1, help="Opened voices that are kept in memory, of each model.")
    ] = 32,
    max_text: Annotated[int, typer.Option(min=1, help="Characters of a request.")] = 4096,
    max_seconds: Annotated[
        float, typer.Option(min=1, help="Seconds of speech that a request may ask for.")
    ] = 900.0,
    max_recording: Annotated[
        float, typer.Option(min=1, help="Seconds of an uploaded recording.")
    ] = 120.0,
    max_upload: Annotated[
        float, typer.Option(min=0.1, help="Megabytes of an uploaded recording.")
    ] = 20.0,
    asr: Annotated[
        str,
        typer.Option(
            help="Transcribes recordings that come without a text: pocketsphinx, whisper:ID, ctc:ID."
        ),
    ] = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Answer over HTTP as OpenAI's speech interface does, and show a page to try voices on."""
    try:
        from svae.serve.run import ServeOptions, parse_models, serve
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("svae"):
            raise
        raise ConfigError(
            f"svae serve: needs {error.name}, which is not installed; pip install 'svae[serve]'"
        ) from None
    from svae.serve.texts import Limits

    limits = Limits(
        max_text=max_text,
        max_speech_seconds=max_seconds,
        max_recording_seconds=max_recording,
        max_upload_bytes=int(max_upload * 2**20),
    )
    serve(
        ServeOptions(
            models=parse_models(model or ["embedded"]),
            host=host,
            port=port,
            api_key=api_key,
            places=queue,
            voices=voices,
            limits=limits,
            asr=asr,
            device=device,
        )
    )
