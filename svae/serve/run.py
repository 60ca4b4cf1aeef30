"""`svae serve`: load the models, listen, answer until somebody says stop."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from rich.console import Console
from rich.markup import escape

from svae.errors import ConfigError
from svae.judges.asr import load_asr
from svae.runtime.distributed import describe_device, select_device
from svae.serve.app import ServedModel, Service, create_app
from svae.serve.guard import is_loopback
from svae.serve.texts import Limits
from svae.serve.voices import Voices
from svae.synthesis.load import load_tts

GRACE_SECONDS = 120
"""At the end, how long is waited for clients who do not read."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options of `svae serve`."""

    models: Sequence[tuple[str, Path]] = (("embedded", Path("embedded")),)
    """Names and folders; the first one speaks where none is named."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0: any that is free."""
    api_key: str | None = None
    """What clients must send; needed where others than this machine can connect."""
    places: int = 64
    """Requests that wait or are spoken; more are told to come back."""
    voices: int = 32
    """Opened voices that are kept in memory."""
    limits: Limits = field(default_factory=Limits)
    asr: str = "pocketsphinx"
    device: str = "auto"


def check_options(options: ServeOptions) -> None:
    """Raise ConfigError for what cannot be served."""
    if not is_loopback(options.host) and not options.api_key:
        raise ConfigError(
            f"--host {options.host}: others than this machine could speak and delete voices; pass --api-key KEY as well "
            "(or set SVAE_API_KEY)"
        )
    key = options.api_key
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
        raise ConfigError(
            "--api-key: expected printable ASCII characters without spaces around them"
        )
    names = [name for name, _ in options.models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"--model: {', '.join(twice)} given twice; give each model a name of its own"
        )


def parse_models(given: Sequence[str]) -> list[tuple[str, Path]]:
    """Read `--model NAME=PATH` or `--model PATH`, whose name is that of its folder."""
    models = []
    for text in given:
        name, equals, path = text.partition("=")
        if not equals:
            name, path = Path(text).name, text
        if not name or not path:
            raise ConfigError(f"--model {text!r}: expected NAME=PATH, or a path")
        models.append((name, Path(path)))
    return models


def load_models(options: ServeOptions) -> dict[str, ServedModel]:
    """Load the models that are to be served. Raises as `load_tts`."""
    device = select_device(options.device)
    limit = options.limits.max_recording_seconds
    models = {}
    for name, path in options.models:
        tts = load_tts(path, device)
        tts.representation.load_decoder()
        voices = Voices(tts, options.asr, limit, options.voices)
        models[name] = ServedModel(name, tts, voices, int(time.time()))
    return models


def listen(options: ServeOptions) -> socket.socket:
    """Return a socket at the address that is asked for. Raises ConfigError where it cannot be had."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {options.host} --port {options.port}: cannot listen there ({error}); choose another port, "
            "or 0 for any"
        ) from None


def open_server(options: ServeOptions) -> tuple[uvicorn.Server, Service]:
    """Return a server that is ready to run, and what answers in it. Raises as `check_options` and `load_tts`."""
    check_options(options)
    load_asr(options.asr, "cpu")  # a recogniser that is not there is named now
    service = Service(load_models(options), options.limits, options.places)
    app = create_app(service, api_key=options.api_key, loopback=is_loopback(options.host))
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return uvicorn.Server(config), service


def serve(options: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM, and then finish what was begun.

    Raises:
        ConfigError: options that do not fit, an address that cannot be had.
        CheckpointError: a model is unusable.
    """
    console = Console()
    check_options(options)
    with listen(options) as listener:
        server, service = open_server(options)
        for model in service.models.values():
            console.print(
                f"Model [bold]{escape(model.name)}[/] ({escape(model.tts.short_description)}) on "
                f"{describe_device(model.tts.device)}",
                highlight=False,
            )
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{port}"
        console.print(f"Page: {url}/", highlight=False, markup=False)
        console.print(f"OpenAI's interface: base_url={url}/v1", highlight=False, markup=False)
        console.print("Stop: Ctrl+C; what was begun is finished first.")
        # uvicorn ends at a signal, and raises it again when all is finished: that is no failure.
        before = {number: signal.signal(number, _finished) for number in _SIGNALS}
        try:
            server.run(sockets=[listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _finished(number: int, frame: object) -> None:
    """Do nothing: what a signal asked for is done."""
