"""The paths of the server and what is answered there."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, File, Form, HTTPException, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Receive, Scope, Send

import svae
from svae.errors import SvaeError
from svae.serve.engine import Busy, Engine, Job
from svae.serve.formats import MEDIA_TYPES, PCM_RATE, Encoder, encode, open_encoder
from svae.serve.guard import Guard, error_body, problem
from svae.serve.metrics import Metrics
from svae.serve.requests import SpeechRequest, TextRequest
from svae.serve.texts import Limits, plan_speech, read_sentences, spoken_language
from svae.serve.voices import NoSuchVoice, Voices
from svae.synthesis import marks
from svae.synthesis.long_text import ChunkJoiner
from svae.synthesis.model import TTS
from svae.synthesis.subtitles import SubtitleFormat, WordTimes
from svae.text.phonemes import without_phones

T = TypeVar("T")
LOOK_SECONDS = 0.5
"""How often it is looked whether a client that waits for its first audio is still there."""
OPEN_PER_PLACE = 8
"""Requests beyond so many times the places are refused: speech that is done waits for whoever reads slowly."""
MAX_WAITING_UPLOADS = 8
"""Recordings that are opened or wait for it; further ones are told to come back."""

UPLOAD_FIELDS = ("name", "file", "audio_sample", "text", "consent", "language", "model")
"""Of `POST /v1/audio/voices`."""
BUG = "internal error; the server's log says more"


class ClientGone(Exception):
    """Nobody waits for the answer."""


@dataclass(frozen=True)
class ServedModel:
    """A model under its name."""

    name: str
    tts: TTS
    voices: Voices
    loaded_at: int
    """Seconds since 1970."""


class Service:
    """Answers requests.

    Args:
        models: by name; the first one speaks where none is named.
        limits: of what a request may ask for.
        places: requests that wait or are spoken at most.
    """

    def __init__(self, models: dict[str, ServedModel], limits: Limits, places: int) -> None:
        self.models = models
        self.limits = limits
        self.engine = Engine(places)
        self.metrics = Metrics()
        self.reader = ThreadPoolExecutor(1, "svae-reader")
        """Spells out texts."""
        self.opener = ThreadPoolExecutor(1, "svae-opener")
        """Opens voices: a recording may take seconds, and nobody else should wait for it."""
        self.opening = 0
        self.page = Path(__file__).with_name("page.html").read_text("utf-8")
        for name, words, value in (
            (
                "svae_requests_in_place",
                "Requests that wait or are spoken",
                lambda: self.engine.taken,
            ),
            ("svae_unread_bytes", "Speech that waits for its clients", lambda: self.engine.unread),
            (
                "svae_voices_kept",
                "Opened voices in memory",
                lambda: sum(len(model.voices) for model in self.models.values()),
            ),
        ):
            self.metrics.watch(name, words, value)

    # ------------------------------------------------------------------------------------------- speech

    async def speech(self, request: Request, asked: SpeechRequest) -> Response:
        """Speak a text: `POST /v1/audio/speech`."""
        arrived = time.perf_counter()
        model = self.model(asked.model)
        job = self.engine.admit()
        try:
            tags = await self._plan(job, model, asked)
            first = await self._first_piece(job, request)
        except BaseException as error:
            self.engine.drop(job)
            if isinstance(error, ClientGone | asyncio.CancelledError):
                self.metrics.gone.inc()
            raise
        waited = time.perf_counter() - arrived
        self.metrics.first_audio.observe(waited)
        rate = model.tts.sample_rate
        headers = {
            "X-First-Audio-Seconds": f"{waited:.3f}",
            "X-Sample-Rate": str(PCM_RATE if asked.response_format == "pcm" else rate),
            "X-Model": model.tts.identity.get("hash", ""),
            "X-Seed": str(asked.seed),
            "Cache-Control": "no-store",
        }
        if asked.streams:
            encoder = open_encoder(asked.response_format, rate, tags)
            pieces = self._stream(job, first, encoder, rate)
            kind = MEDIA_TYPES[asked.response_format]
            if asked.stream_format == "sse":
                pieces, kind = _events(pieces, job, asked.subtitles), "text/event-stream"
            pieces = (data async for data in pieces if data)
            return SpeechResponse(pieces, headers, kind, lambda: self._leave(job))
        try:
            samples = await self._all(job, first, request)
            whole = await run_in_threadpool(encode, asked.response_format, samples, rate, tags)
        except BaseException as error:
            self.engine.drop(job)
            if isinstance(error, ClientGone):
                self.metrics.gone.inc()
            raise
        self.metrics.speech.inc(len(samples) / rate)
        headers["Content-Length"] = str(len(whole))
        kind = MEDIA_TYPES[asked.response_format]
        return SpeechResponse(_one(whole), headers, kind, lambda: self._leave(job))

    def model(self, name: str | None) -> ServedModel:
        """Return the model of a name."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise HTTPException(
                404, f"model {name[:100]!r}: not here; expected one of {', '.join(self.models)}"
            )
        return self.models[name]

    async def _plan(self, job: Job, model: ServedModel, asked: SpeechRequest) -> dict[str, str]:
        """Have a request spoken; return what its file says of itself."""
        # A voice in memory waits for nobody's upload, which may be listened to for many seconds.
        voice = await run_in_threadpool(model.voices.opened, asked.voice_name)
        if voice is None:
            voice = await self._in(self.opener, model.voices.open, asked.voice_name)
        chunks = await self._in(
            self.reader, plan_speech, model.tts, asked, voice.opened.prompt, self.limits
        )
        rate = model.tts.sample_rate
        word_times = None
        if asked.subtitles is not None:
            language = spoken_language(asked)
            reads = model.tts.in_language(language)
            word_times = WordTimes(reads, voice.opened.prompt, language=language)
        job.plan(
            model.tts,
            chunks,
            ChunkJoiner(rate, voice.leveller(rate)),
            word_times,
            early=asked.early,
            leaves_whole=not asked.streams,
        )
        self.engine.speak(job)
        return marks.tags(model.tts.identity, asked.seed, voice.opened.description)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    async def _first_piece(self, job: Job, request: Request) -> np.ndarray | None:
        """Wait for a piece of speech, as long as somebody else waits for it."""
        waiting = asyncio.ensure_future(self.engine.next_piece(job))
        try:
            while not (await asyncio.wait([waiting], timeout=LOOK_SECONDS))[0]:
                if await request.is_disconnected():
                    raise ClientGone
        finally:
            waiting.cancel()  # of no effect where it is done
        return waiting.result()

    async def _all(self, job: Job, first: np.ndarray | None, request: Request) -> np.ndarray:
        pieces = []
        piece = first
        while piece is not None:
            pieces.append(piece)
            piece = await self._first_piece(job, request)
        return np.concatenate([np.zeros(0, np.int16), *pieces])

    async def _stream(
        self, job: Job, first: np.ndarray | None, encoder: Encoder, rate: int
    ) -> AsyncIterator[bytes]:
        """Yield a job's speech in bytes as it comes; empty ones where an encoder keeps all for later."""
        piece = first
        while piece is not None:
            self.metrics.speech.inc(len(piece) / rate)
            yield await run_in_threadpool(encoder.add, piece)
            piece = await self.engine.next_piece(job)
        yield await run_in_threadpool(encoder.finish)

    def _leave(self, job: Job) -> None:
        """Note that an answer is over."""
        if job.has_place:
            self.metrics.gone.inc()
        self.engine.drop(job)

    async def spell(self, asked: TextRequest) -> dict[str, Any]:
        """Say how a text is spelled out: `POST /v1/audio/spell`."""
        model = self.model(asked.model)
        sentences, notes = await self._in(
            self.reader, read_sentences, model.tts, asked, self.limits
        )
        rows = [
            {
                "text": without_phones(sentence),
                "pause_before": sentence.pause_before,
                "pause_after": sentence.pause_after,
            }
            for sentence in sentences
        ]
        return {"sentences": rows, "notes": notes}

    # ------------------------------------------------------------------------------------------- voices

    async def list_voices(self, model: str | None = None) -> dict[str, Any]:
        """List voices: `GET /v1/audio/voices`."""
        names = self.model(model).voices.names()
        rows = [
            {"id": name, "name": name, "object": "audio.voice", "from": origin}
            for name, origin in names.items()
        ]
        return {"object": "list", "data": rows, "voices": list(names)}

    async def add_voice(
        self,
        request: Request,
        name: Annotated[str, Form()],
        file: Annotated[UploadFile | None, File()] = None,
        audio_sample: Annotated[UploadFile | None, File()] = None,
        text: Annotated[str | None, Form()] = None,
        model: Annotated[str | None, Form()] = None,
        language: Annotated[str, Form()] = "en",
        consent: Annotated[str | None, Form()] = None,
    ) -> dict[str, Any]:
        """Save a voice: `POST /v1/audio/voices`, a form of `name`, `file` (or `audio_sample`), more in docs/serve.md."""
        _check_form(await request.form())
        recording = file or audio_sample
        if recording is None:
            raise HTTPException(400, "file: missing; expected a recording of the voice")
        voices = self.model(model).voices
        if self.opening >= MAX_WAITING_UPLOADS:
            raise Busy(5)
        self.opening += 1
        try:
            data = await recording.read()
            label = (recording.filename or "recording").replace("\\", "/").rsplit("/", 1)[-1][:100]
            save = partial(
                voices.save,
                name,
                data,
                label,
                text=text if text and text.strip() else None,
                language=None if language == "none" else language,
                consent=consent if consent and consent.strip() else None,
            )
            return await self._in(self.opener, save)
        finally:
            self.opening -= 1

    async def remove_voice(self, name: str, model: str | None = None) -> dict[str, Any]:
        """Delete a saved voice: `DELETE /v1/audio/voices/NAME`."""
        await self._in(self.opener, self.model(model).voices.delete, name)
        return {"id": name, "object": "audio.voice.deleted", "deleted": True}

    # ------------------------------------------------------------------------------------------- about

    async def list_models(self) -> dict[str, Any]:
        """List models: `GET /v1/models`."""
        return {"object": "list", "data": [_about(model) for model in self.models.values()]}

    async def show_model(self, name: str) -> dict[str, Any]:
        """Describe one model: `GET /v1/models/NAME`."""
        return _about(self.model(name))

    async def health(self) -> dict[str, Any]:
        """Say that the server is there: `GET /health`."""
        return {
            "status": "ok",
            "version": svae.__version__,
            "models": list(self.models),
            "requests": self.engine.taken,
            "places": self.engine.places,
        }

    async def show_metrics(self) -> Response:
        """Give the numbers: `GET /metrics`."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def show_page(self) -> HTMLResponse:
        """Give the page: `GET /`."""
        rules = (
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
            "media-src blob:; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(self.page, headers={"Content-Security-Policy": rules})

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Get ready while the first client is on its way; at the end, finish what was begun."""
        for model in self.models.values():
            first = TextRequest(input="Ready.")
            self.reader.submit(read_sentences, model.tts, first, self.limits)
            self.opener.submit(model.voices.open, None)
        yield
        await run_in_threadpool(self.engine.close)
        self.reader.shutdown(cancel_futures=True)
        self.opener.shutdown(cancel_futures=True)


class SpeechResponse(StreamingResponse):
    """Speech in one piece or more; `over` is called when its client has taken it, or is gone."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        headers: dict[str, str],
        media_type: str,
        over: Callable[[], None],
    ) -> None:
        super().__init__(pieces, 200, headers, media_type)
        self.over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the speech."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.over()


async def _one(data: bytes) -> AsyncIterator[bytes]:
    """Yield an answer that is whole: of a stream the end waits until all before it was taken."""
    yield data


def _check_form(form: FormData) -> None:
    """Raise HTTPException for fields that nothing is done with: a text under another name would be lost unseen."""
    given = [name for name, _ in form.multi_items()]
    unknown = sorted(set(given) - set(UPLOAD_FIELDS))
    if unknown:
        raise HTTPException(
            400, f"{unknown[0][:100]}: no field here; expected {', '.join(UPLOAD_FIELDS)}"
        )
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise HTTPException(400, f"{twice[0]}: given {given.count(twice[0])} times; send it once")
    if "file" in given and "audio_sample" in given:
        raise HTTPException(400, "file and audio_sample: two names of one field; send one")


async def _events(
    pieces: AsyncIterator[bytes], job: Job, subtitles: SubtitleFormat | None
) -> AsyncIterator[bytes]:
    """Yield server-sent events; the last one says what went wrong, where something does."""
    try:
        async for event in _speech_events(pieces, job, subtitles):
            yield event
    except Exception as error:
        said = str(error) if isinstance(error, SvaeError) else BUG
        status = 400 if isinstance(error, SvaeError) else 500
        yield f"data: {json.dumps({'type': 'error'} | error_body(status, said))}\n\n".encode()
        raise


async def _speech_events(
    pieces: AsyncIterator[bytes], job: Job, subtitles: SubtitleFormat | None
) -> AsyncIterator[bytes]:
    """Yield events as OpenAI's interface has them, and svae's own of words."""
    sent = 0
    async for data in pieces:
        if data:
            yield _event("delta", audio=base64.b64encode(data).decode())
        if job.word_times is not None:
            fresh = job.word_times.words[sent:]
            sent += len(fresh)
            if fresh:
                yield _event("words", words=[asdict(word) for word in fresh])
    if job.word_times is None or subtitles is None:
        yield _event("done")
    else:
        text = await run_in_threadpool(job.word_times.render, subtitles)
        yield _event("done", subtitles=text, note=job.word_times.note)


def _event(kind: str, **fields: Any) -> bytes:
    return f"data: {json.dumps({'type': f'speech.audio.{kind}'} | fields)}\n\n".encode()


def _about(model: ServedModel) -> dict[str, Any]:
    identity = model.tts.identity
    return {
        "id": model.name,
        "object": "model",
        "created": model.loaded_at,
        "owned_by": "svae",
        "hash": identity.get("hash"),
        "description": identity.get("description"),
        "sample_rate": model.tts.sample_rate,
    }


def create_app(service: Service, *, api_key: str | None, loopback: bool) -> FastAPI:
    """Return the application that answers by a service."""
    # Without FastAPI's own pages: they load scripts from elsewhere.
    app = FastAPI(
        title="svae",
        version=svae.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=service.lifespan,
    )
    for method, path, answer in (
        ("GET", "/", service.show_page),
        ("GET", "/health", service.health),
        ("GET", "/metrics", service.show_metrics),
        ("GET", "/v1/models", service.list_models),
        ("GET", "/v1/models/{name}", service.show_model),
        ("POST", "/v1/audio/speech", service.speech),
        ("POST", "/v1/audio/spell", service.spell),
        ("GET", "/v1/audio/voices", service.list_voices),
        ("POST", "/v1/audio/voices", service.add_voice),
        ("DELETE", "/v1/audio/voices/{name}", service.remove_voice),
    ):
        app.add_api_route(path, answer, methods=[method], response_model=None)
    app.add_exception_handler(SvaeError, _refused)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(ClientGone, _gone)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(StarletteHTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(
        Guard,
        api_key=api_key,
        loopback=loopback,
        max_upload_bytes=service.limits.max_upload_bytes,
        max_open=OPEN_PER_PLACE * service.engine.places,
        metrics=service.metrics,
    )
    return app


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return problem(404 if isinstance(error, NoSuchVoice) else 400, str(error))


async def _busy(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Busy)
    return problem(
        429,
        f"all places are taken; try again in {error.retry_after} s",
        headers={"Retry-After": str(error.retry_after)},
    )


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the number is nginx's for that


async def _not_valid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    kind = request.headers.get("content-type", "")
    if isinstance(error.body, bytes):  # curl sends `-d` as a form, unless it is told otherwise
        return problem(
            400,
            f"the body is of content type {kind[:100] or 'none'!r}; expected JSON, with the header `Content-Type: application/json`",
            param="body",
        )
    found = error.errors()
    if found and found[0]["type"] == "json_invalid":
        said = found[0].get("ctx", {}).get("error", "unreadable")
        place = found[0]["loc"][-1]
        return problem(400, f"the body is no JSON: {said} at character {place}", param="body")
    rows = [(".".join(map(str, row["loc"][1:])) or "body", row["msg"]) for row in found]
    message = "; ".join(f"{place}: {words}" for place, words in rows[:10])
    return problem(400, message, param=rows[0][0] if rows else None)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    message = str(error.detail)
    named_by_router = HTTPStatus(error.status_code).phrase  # its words name no place
    if message == named_by_router:
        routes = [route for route in request.app.routes if isinstance(route, APIRoute)]
        there = ", ".join(
            f"{' '.join(sorted(route.methods or ()))} {route.path}" for route in routes
        )
        message = f"{request.method} {request.url.path[:100]}: not here; expected one of {there}"
    return problem(error.status_code, message, headers=dict(error.headers or {}))


async def _bug(_: Request, error: Exception) -> JSONResponse:
    return problem(500, BUG)
