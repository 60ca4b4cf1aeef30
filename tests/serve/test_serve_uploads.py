"""Uploads beside speech, fields of forms, and what a stream of events says where it breaks."""

from __future__ import annotations

import copy
import io
import json
import queue
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import av
import httpx
import numpy as np
import pytest
import soundfile
from tiny_tts import PROMPT_TEXT

from svae.errors import ConfigError, DataError
from svae.serve import engine as engine_module
from svae.serve import voices as voices_module
from svae.serve.voices import NoSuchVoice, Voices, check_length
from svae.synthesis.load import load_tts
from svae.synthesis.voices import keep_voice, saved_voices


def ask(server, **changes):
    asked = {"voice": "anna", "input": "Hello.", "steps": 1, "response_format": "wav"}
    with server.client() as client:
        return client.post("/v1/audio/speech", json=asked | changes)


def test_speech_of_an_opened_voice_does_not_wait_for_an_upload(server, recording, monkeypatch):
    assert ask(server).status_code == 200  # anna is in memory now
    listening, go_on, open_reference = (
        threading.Event(),
        threading.Event(),
        voices_module.open_reference,
    )

    def slowly(*arguments, **options):
        listening.set()
        assert go_on.wait(60)
        return open_reference(*arguments, **options)

    monkeypatch.setattr(voices_module, "open_reference", slowly)
    with ThreadPoolExecutor(1) as pool, server.client() as client:
        upload = pool.submit(
            client.post,
            "/v1/audio/voices",
            data={"name": "slow", "text": PROMPT_TEXT},
            files={"audio_sample": ("a.flac", recording.read_bytes())},
        )
        try:
            assert listening.wait(60)
            assert ask(server).status_code == 200
            assert not upload.done()
            assert ask(server, voice="nobody").status_code == 404
        finally:
            go_on.set()
        assert upload.result().status_code == 200
        assert client.delete("/v1/audio/voices/slow").status_code == 200


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("ref_text", PROMPT_TEXT)], "ref_text: no field here; expected name, file"),
        ([("text", "one"), ("text", "two")], "text: given 2 times"),
        ([("audio_sample", "RECORDING")], "file and audio_sample"),
    ],
)
def test_fields_of_a_form_that_nothing_would_be_done_with_are_refused(
    server, recording, rows, message
):
    data = recording.read_bytes()
    parts = [("name", (None, "eve")), ("file", ("a.flac", data))]
    for name, value in rows:
        parts.append((name, ("b.flac", data) if value == "RECORDING" else (None, value)))
    with server.client() as client:
        answer = client.post("/v1/audio/voices", files=parts)
    assert answer.status_code == 400 and message in answer.json()["error"]["message"], answer.text
    assert saved_voices() == ["anna"]


@pytest.mark.parametrize(
    ("error", "message"),
    [(DataError("it is too much"), "it is too much"), (ZeroDivisionError("x"), "server's log")],
)
def test_events_say_why_they_end_early(server, monkeypatch, error, message):
    spoken, speak = [], engine_module.speak_chunks

    def breaking(*arguments):
        spoken.append(arguments)
        if len(spoken) > 1:
            raise error
        return speak(*arguments)

    monkeypatch.setattr(engine_module, "speak_chunks", breaking)
    asked = {"voice": "anna", "input": "Hello there. Here we go.", "steps": 1}
    asked |= {"response_format": "pcm", "stream_format": "sse"}
    heard = io.BytesIO()
    with server.client() as client, client.stream("POST", "/v1/audio/speech", json=asked) as answer:
        with pytest.raises(httpx.RemoteProtocolError):  # nobody takes it for whole
            for piece in answer.iter_bytes():
                heard.write(piece)
    rows = [row.removeprefix("data: ") for row in heard.getvalue().decode().split("\n\n") if row]
    events = [json.loads(row) for row in rows]
    assert events[0]["type"] == "speech.audio.delta" and events[-1]["type"] == "error"
    assert message in events[-1]["error"]["message"] and "division" not in str(events[-1])
    assert server.service.engine.taken == 0


def test_a_client_that_heard_all_is_not_counted_as_gone(server, monkeypatch):
    engine, gone = server.service.engine, server.service.metrics.gone._value
    admit, free, drop, before = engine.admit, engine._free, engine.drop, gone.get()
    admitted, dropped = [], queue.SimpleQueue()

    def noted():
        admitted.append(admit())
        return admitted[-1]

    def slowly(job):
        time.sleep(0.2)
        free(job)

    def told(job):
        drop(job)
        dropped.put(job)

    for name, replaced in (("admit", noted), ("_free", slowly), ("drop", told)):
        monkeypatch.setattr(engine, name, replaced)
    assert ask(server, stream=True).status_code == 200
    while dropped.get(timeout=60) is not admitted[0]:
        pass  # a client has its answer a moment before the server counts it
    assert gone.get() == before


def test_a_saved_voice_takes_the_place_of_no_models_own(folder, voices, recording):
    """The folder of saved voices is that of all models, one of which has a voice of its own."""
    plain = load_tts(folder, "cpu")
    adapted = copy.copy(plain)
    adapted.prompt_file = voices / "anna.safetensors"
    without, with_own = (Voices(tts, "pocketsphinx", 120.0, 4) for tts in (plain, adapted))
    for each in (without, with_own):
        with pytest.raises(ConfigError, match="voice 'own'"):
            each.save("own", recording.read_bytes(), "a.flac", text=PROMPT_TEXT)
    with pytest.raises(ConfigError, match="voice 'own'"):
        keep_voice("own", recording, PROMPT_TEXT, folder, asr="pocketsphinx", device="cpu")
    assert saved_voices() == ["anna"]
    for name in ("own", "flite-slt"):  # as older ones could be saved
        shutil.copy(voices / "anna.safetensors", voices / f"{name}.safetensors")
    expected = {"own": "model", "flite-slt": "svae", "flite-rms": "svae", "libri-6415": "svae", "anna": "saved"}  # fmt: skip
    assert list(with_own.names().items()) == list(expected.items())
    assert without.names()["own"] == "saved"
    with pytest.raises(NoSuchVoice, match="not among the saved"):
        with_own.delete("own")
    without.delete("own")
    (voices / "flite-slt.safetensors").unlink()


def _flac_in_matroska(channels: int, seconds: float) -> bytes:
    """Return a recording at 96 kHz that libsndfile does not read."""
    data = io.BytesIO()
    with av.open(data, "w", format="matroska") as container:
        stream = container.add_stream(
            "flac", rate=96000, layout="7.1" if channels == 8 else "stereo"
        )
        silence = np.zeros((1, channels * round(96000 * seconds)), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, "s16", stream.layout)
        frame.sample_rate, frame.pts = 96000, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return data.getvalue()


def _flac(channels: int, seconds: float) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, np.zeros((round(96000 * seconds), channels)), 96000, format="FLAC")
    return data.getvalue()


@pytest.mark.parametrize("made", [_flac, _flac_in_matroska])
def test_recordings_are_bounded_in_samples_as_in_seconds(made):
    check_length(made(2, 0.9), "a", 1.0)
    with pytest.raises(DataError, match="more than the 192000 samples in all channels"):
        check_length(made(8, 0.5), "a", 1.0)
    with pytest.raises(DataError, match="longer than the 1 s"):
        check_length(made(2, 1.1), "a", 1.0)
