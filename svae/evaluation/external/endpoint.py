"""`svae evaluate --endpoint`: a server with OpenAI's interface for speech, POST /v1/audio/speech."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from svae.audio import encode_flac, load_audio
from svae.errors import ConfigError
from svae.evaluation.external.system import HEADER_BYTES, Request, SpeechFailed, Timing
from svae.evaluation.external.template import Template, parse_template
from svae.runtime.http import public_url

PATH = "/v1/audio/speech"
PLACEHOLDERS = ("text", "ref", "ref_text", "ref_data", "seed", "id", "language")
FIELDS = {"model": "tts-1", "voice": "alloy", "input": "{text}", "response_format": "wav"}
"""What a request has where --field does not say otherwise; the names that OpenAI's servers know."""
FORMATS = ("wav", "flac", "mp3", "opus", "aac")
"""`pcm` says neither its rate nor its width."""
KEY = "SVAE_ENDPOINT_KEY"
"""The environment variable whose value is sent as a bearer token."""
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
LONGEST_WAIT = 30.0


class Endpoint:
    """A server that answers a request in JSON with a recording.

    Args:
        url: its address; /v1/audio/speech is added to one without a path, or that ends with /v1.
        fields: NAME=VALUE of the request. A value may hold placeholders; one that is JSON (a number, true, an object) is sent as
            that, with placeholders in its strings, {seed} alone as a number; null leaves the field out.
        timeout: seconds that one answer may take, waiting for a busy server included.

    Raises:
        ConfigError: not an address, an unknown placeholder, a format that cannot be read.
    """

    def __init__(self, url: str, fields: Sequence[str] = (), *, timeout: float) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a bracket too few, a port too large
            usable = False
        if not usable:
            raise ConfigError(
                f"--endpoint {url!r}: expected http(s)://HOST[:PORT], with or without {PATH}"
            )
        path = parts.path.rstrip("/")
        if path in ("", "/v1"):
            url = parts._replace(path=PATH).geturl()
        given = dict(FIELDS)
        for field in fields:
            name, equals, value = field.partition("=")
            if not (name and equals):
                raise ConfigError(f"--field {field!r}: expected NAME=VALUE")
            given[name] = value
        if given["response_format"] not in FORMATS:
            raise ConfigError(
                f"--field response_format={given['response_format']}: expected one of {', '.join(FORMATS)}"
            )
        self._fields = {name: _read_value(name, value) for name, value in given.items()}
        self.names = _names(self._fields)
        if "text" not in self.names:
            raise ConfigError("--field: no field holds {text}; `input` does unless it is given")
        self._url, self._timeout = url, timeout
        self.title = parts.netloc.rpartition("@")[2]
        self.description: dict[str, Any] = {
            "endpoint": public_url(url),
            "fields": given,
            "timeout_seconds": timeout,
        }

    @property
    def stamp(self) -> dict[str, Any]:
        """Address and fields. What model answers there is not known."""
        return {key: self.description[key] for key in ("endpoint", "fields")}

    def speak(self, request: Request, stop: threading.Event) -> Timing:
        """Ask the server. Its first audio is there when bytes behind a header are; waiting for a busy one is not counted."""
        import requests  # half a second, which only who asks a server pays

        values = request.values
        if "ref_data" in self.names:
            assert request.prompt is not None
            values["ref_data"] = _data_uri(request.prompt)
        body = {
            name: _fill(value, values) for name, value in self._fields.items() if value is not None
        }
        headers = {"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {}
        deadline = time.monotonic() + self._timeout
        while True:
            left = max(deadline - time.monotonic(), 0.01)
            start = time.perf_counter()
            try:
                answer = requests.post(
                    self._url, json=body, headers=headers, stream=True, timeout=left, allow_redirects=False
                )  # fmt: skip
                with answer:
                    wait = _seconds_to_wait(answer)
                    if wait is None:
                        return self._receive(answer, request.out, start, deadline, stop)
            except requests.Timeout:
                raise self._late() from None
            except (requests.RequestException, OSError) as error:
                raise SpeechFailed(f"{self.title}: {str(error)[:200]}") from None
            if time.monotonic() + wait > deadline:
                raise SpeechFailed(f"{self.title} was busy for {self._timeout:g} s")
            if stop.wait(wait):
                raise SpeechFailed(f"{self.title}: stopped")

    def _receive(
        self, answer: Any, out: Path, start: float, deadline: float, stop: threading.Event
    ) -> Timing:
        """Write the body of an answer that was asked for at `start`."""
        import urllib3

        kind = answer.headers.get("Content-Type", "")
        if answer.status_code != HTTPStatus.OK or kind.startswith(("application/json", "text/")):
            try:
                body = answer.raw.read(2000, decode_content=True).decode("utf-8", "replace")
            except urllib3.exceptions.HTTPError as error:  # torn, or packed otherwise than it says
                body = str(error)
            said = " ".join(body.split())
            status = f"{answer.status_code} {kind}".strip()
            raise SpeechFailed(f"{self.title} answered {status}: {said[:300]}")
        first, size = None, 0
        with out.open("wb") as file:
            for piece in answer.iter_content(None):
                file.write(piece)
                size += len(piece)
                if first is None and size > HEADER_BYTES:
                    first = time.perf_counter() - start
                if time.monotonic() > deadline:
                    raise self._late()
                if stop.is_set():
                    raise SpeechFailed(f"{self.title}: stopped")
        spent = time.perf_counter() - start
        return Timing(spent, spent if first is None else first)

    def _late(self) -> SpeechFailed:
        return SpeechFailed(f"{self.title} took more than {self._timeout:g} s")


def _read_value(name: str, value: str) -> Any:
    """Return a template, or the JSON that stands there, its strings as templates."""
    try:
        found = json.loads(value)
    except ValueError:
        found = value
    # JSON that is a string alone is sent with its quotes, as any other text is.
    return _templates(value if isinstance(found, str) else found, option=f"--field {name}")


def _templates(value: Any, *, option: str) -> Any:
    """Return JSON with a template in the place of every string. Raises ConfigError as `parse_template`."""
    if isinstance(value, str):
        return parse_template(value, PLACEHOLDERS, option=option)
    if isinstance(value, list):
        return [_templates(each, option=option) for each in value]
    if isinstance(value, dict):
        return {key: _templates(each, option=option) for key, each in value.items()}
    return value


def _names(value: Any) -> set[str]:
    """Return the placeholders in what `_templates` made."""
    if isinstance(value, Template):
        return value.names
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_names, inside))


def _fill(value: Any, values: dict[str, str]) -> Any:
    """Return the JSON that `_templates` made templates of, with every placeholder replaced."""
    if isinstance(value, list):
        return [_fill(each, values) for each in value]
    if isinstance(value, dict):
        return {key: _fill(each, values) for key, each in value.items()}
    if not isinstance(value, Template):
        return value
    if value.pieces == (("", "seed"),):
        return int(values["seed"])
    return value.fill(values)


def _seconds_to_wait(answer: Any) -> float | None:
    """Return after how long a busy server wants to be asked again; None of one that is not busy."""
    if answer.status_code not in BUSY:
        return None
    after = answer.headers.get("Retry-After", "")
    return min(float(after), LONGEST_WAIT) if after.isdigit() else 1.0


def _data_uri(path: Path) -> str:
    """Return a recording as a data URI, as servers take prompts in JSON: a WAV or FLAC file as it is, others as FLAC."""
    kind = path.suffix.lower().removeprefix(".")
    if kind in ("wav", "flac"):
        content = path.read_bytes()
    else:
        kind, content = "flac", encode_flac(*load_audio(path))
    return f"data:audio/{kind};base64,{base64.b64encode(content).decode()}"
