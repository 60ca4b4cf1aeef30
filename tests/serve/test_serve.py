"""`svae serve` as its clients meet it: OpenAI's own client, httpx, and bare sockets that behave badly."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import numpy as np
import pytest
import soundfile
import torch
from openai import OpenAI
from serving import running
from tiny_tts import PROMPT_TEXT, changed
from typer.testing import CliRunner

from svae.audio import load_audio
from svae.cli import app as command_line
from svae.errors import ConfigError
from svae.serve.requests import SpeechRequest
from svae.serve.run import ServeOptions, check_options, listen, parse_models
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.long_text import ChunkReport, SpokenChunk
from svae.synthesis.types import Sampling
from svae.synthesis.voices import keep_voice, saved_voices

TEXT = "Hello there, you are here. Here we go on, and on. Hello."
ASKED = {"model": "tiny", "voice": "anna", "input": TEXT, "seed": 5, "steps": 2}


def ask(server, **changes):
    with server.client() as client:
        return client.post("/v1/audio/speech", json=ASKED | {"response_format": "wav"} | changes)


def samples(data):
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def wait_until(holds):
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("waited for 30 s")


@pytest.fixture(scope="module")
def written(folder, voices, tmp_path_factory):
    """What `svae synthesize --stream` makes of the same text."""
    options = SynthesizeOptions(
        model=folder,
        text=TEXT,
        voice="anna",
        out=tmp_path_factory.mktemp("written") / "a.wav",
        stream=True,
        device="cpu",
        sampling=Sampling(seed=5, num_steps=2),
    )
    return {speed: _write(options, speed) for speed in (1.0, 1.5)}


def _write(options, speed):
    path = synthesize_file(changed(options, speed=speed, out=options.out.with_stem(f"s{speed}")))
    return soundfile.read(path, dtype="int16")[0]


# ------------------------------------------------------------------------------------------- speech


def test_openais_client_gets_what_svae_synthesize_writes(server, written):
    client = OpenAI(base_url=f"{server.url}/v1", api_key="any")
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "svae"
    for speed, expected in written.items():
        answer = client.audio.speech.create(
            model="tiny",
            voice="anna",
            input=TEXT,
            speed=speed,
            response_format="wav",
            extra_body={"seed": 5, "steps": 2},
        )
        assert np.array_equal(samples(answer.content), expected)
    assert len(written[1.0]) > len(written[1.5])


def test_openais_client_streams_sentence_by_sentence(server, written, gate):
    client = OpenAI(base_url=f"{server.url}/v1", api_key="any")
    gate.set()
    with client.audio.speech.with_streaming_response.create(
        model="tiny",
        voice="anna",
        input=TEXT,
        response_format="wav",
        extra_body={"seed": 5, "steps": 2, "stream": True},
    ) as answer:
        assert answer.headers["content-type"] == "audio/wav"
        assert float(answer.headers["x-first-audio-seconds"]) > 0
        pieces = list(answer.iter_bytes())
    assert np.array_equal(samples(b"".join(pieces)), written[1.0])


def test_audio_leaves_before_the_next_sentence_is_spoken(server, monkeypatch):
    from svae.serve import engine

    spoken, go_on, speak = [], threading.Event(), engine.speak_chunks

    def one_by_one(*arguments):
        if spoken:
            assert go_on.wait(60)
        spoken.append(arguments)
        return speak(*arguments)

    monkeypatch.setattr(engine, "speak_chunks", one_by_one)
    with server.client() as client, client.stream("POST", "/v1/audio/speech", json=ASKED | {"response_format": "pcm"}) as answer:  # fmt: skip
        pieces = answer.iter_bytes()
        assert len(next(pieces)) > 1000 and len(spoken) == 1
        go_on.set()
        assert len(b"".join(pieces)) > 1000 and len(spoken) == 3


def test_early_audio_leaves_while_the_first_sentence_is_decoded(server, written, monkeypatch):
    from svae.synthesis import model

    monkeypatch.setattr(model, "PIECE_SECONDS", 0.25)
    tts = server.service.models["tiny"].tts
    go_on, decode = threading.Event(), tts.representation.decode_in_pieces

    def slowly(*arguments):
        for number, piece in enumerate(decode(*arguments)):
            assert not number or go_on.wait(60)
            yield piece

    monkeypatch.setattr(tts.representation, "decode_in_pieces", slowly)
    asked = ASKED | {"response_format": "wav", "stream": True, "early": True}
    with server.client() as client, client.stream("POST", "/v1/audio/speech", json=asked) as answer:
        assert answer.status_code == 200 and float(answer.headers["x-first-audio-seconds"]) > 0
        pieces = answer.iter_bytes()
        first = next(pieces)
        go_on.set()
        whole = samples(b"".join([first, *pieces])).astype(float)
    assert len(samples(first)) < len(whole) / 3
    # The same speech at another level.
    expected = written[1.0].astype(float)
    assert len(whole) == len(expected) and np.corrcoef(whole, expected)[0, 1] > 0.98
    again = ask(server, stream=True, early=True)
    assert np.array_equal(samples(again.content), whole)


def test_early_words_have_the_times_of_others(server):
    body = {"stream_format": "sse", "subtitles": "json", "response_format": "pcm"}
    plain, early = (events(ask(server, **body, early=early))[-1] for early in (False, True))
    assert early["subtitles"] == plain["subtitles"]


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus", "pcm"])
def test_every_format_holds_the_speech_and_says_that_it_is_synthetic(server, written, name):
    whole = ask(server, response_format=name, stream=False)
    streamed = ask(server, response_format=name, stream=True)
    for answer in (whole, streamed):
        assert answer.status_code == 200, answer.text
        rate = int(answer.headers["x-sample-rate"])
        if name == "pcm":
            found = np.frombuffer(answer.content, "<i2") / 32768
            assert rate == 24000
        else:
            waveform, rate = load_audio(io.BytesIO(answer.content))
            found = waveform[0].numpy()
            assert b"AI-generated speech" in answer.content
        assert len(found) / rate == pytest.approx(len(written[1.0]) / 16000, abs=0.15)
        if name in ("wav", "flac"):
            assert np.array_equal((found * 32768).astype(np.int16), written[1.0])
    assert ask(server, response_format=name, stream=False).content == whole.content


def test_server_sent_events_carry_the_same_bytes(server):
    answer = ask(server, response_format="pcm", stream_format="sse")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events[-2:]] == ["speech.audio.delta", "speech.audio.done"]
    joined = b"".join(base64.b64decode(event.get("audio", "")) for event in events)
    assert joined == ask(server, response_format="pcm", stream=True).content


def events(answer):
    assert answer.headers["content-type"].startswith("text/event-stream")
    rows = answer.text.split("\n\n")
    return [json.loads(row.removeprefix("data: ")) for row in rows if row]


def test_words_and_their_times_come_as_events(server, folder, tmp_path):
    """They are those that `svae synthesize --subtitles` writes for the same speech."""
    options = SynthesizeOptions(
        model=folder, text=TEXT, voice="anna", out=tmp_path / "a.wav", stream=True, device="cpu",
        sampling=Sampling(seed=5, num_steps=2), subtitles="json",
    )  # fmt: skip
    synthesize_file(options)
    expected = json.loads((tmp_path / "a.words.json").read_text())
    found = events(ask(server, stream_format="sse", subtitles="json", response_format="pcm"))
    kinds = [event["type"].removeprefix("speech.audio.") for event in found]
    assert kinds[:2] == ["delta", "words"] and kinds[-1] == "done"
    spoken = [word for event in found for word in event.get("words", [])]
    assert spoken == expected["words"] and len(spoken) == 12
    assert json.loads(found[-1]["subtitles"]) == expected
    assert events(ask(server, stream_format="sse", subtitles="vtt", response_format="mp3"))[-1]["subtitles"].startswith("WEBVTT")  # fmt: skip
    assert "words" not in str([event["type"] for event in events(ask(server, stream_format="sse"))])


def test_answers_among_many_are_those_of_each_alone(server):
    kinds = [
        {"seed": i % 3, "steps": 1 + i % 2, "response_format": ("wav", "opus", "pcm")[i % 3], "stream": i % 4 > 0,
         "input": ("Hello there, you.", TEXT)[i % 2]}
        for i in range(12)
    ]  # fmt: skip
    alone = [ask(server, **kind).content for kind in kinds]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda kind: ask(server, **kind).content, kinds))
    assert together == alone and len(set(alone)) >= 8


def test_chunks_of_several_requests_go_through_the_network_together_where_there_is_a_budget(
    folder, voices, monkeypatch
):
    from svae.serve import engine

    sizes, speak = [], engine.speak_chunks
    queued, enqueue = [], engine.Engine.speak

    def watching(tts, chunks):
        wait_until(lambda: len(queued) == 4)  # however late the last of them comes
        sizes.append(len(chunks))
        return speak(tts, chunks)

    def enqueueing(*arguments):
        enqueue(*arguments)
        queued.append(arguments)

    with running(folder) as server:
        alone = [samples(ask(server, seed=i).content) for i in range(4)]
        monkeypatch.setattr(engine, "speak_chunks", watching)
        monkeypatch.setattr(engine.Engine, "speak", enqueueing)
        server.service.models["tiny"].tts.batch_frames = 100_000
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda i: samples(ask(server, seed=i).content), range(4)))
    assert sum(sizes) == 12 and max(sizes) > 1
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other) and abs(one.astype(int) - other).max() <= 40


def test_lexicon_pauses_and_what_is_spelled_out(server):
    with server.client() as client:
        spelled = client.post(
            "/v1/audio/spell", json={"input": "I have 3 cats. [pause 0.5s] You.", "pauses": 2}
        ).json()
    assert [row["text"] for row in spelled["sentences"]] == ["i have three cats.", "you."]
    assert spelled["sentences"][0]["pause_after"] == 1.0
    length = {
        pauses: len(samples(ask(server, input="Hello. [pause 1s] Hello.", pauses=pauses).content))
        for pauses in (0, 1, 2)
    }
    assert length[2] - length[1] == 16000 and 15000 < length[1] - length[0] < 17000
    plain, other = (
        ask(server, input="Hello you.", lexicon=lexicon) for lexicon in (None, {"you": "me"})
    )
    assert other.content != plain.content
    assert other.content == ask(server, input="Hello me.").content
    assert other.content == ask(server, input="Hello you.", lexicon="# mine\nyou = me").content


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"input": ""}, 400, "input: empty"),
        ({"input": " \n "}, 400, "input: empty"),
        ({"input": "."}, 400, "nothing in it is spoken"),
        ({"input": "Hello. " * 1000}, 400, "at most 4096"),
        ({"input": "\ud800"}, 400, "input"),
        ({"input": "[pause 1s]", "pauses": 0}, 400, "nothing is said"),
        ({"input": "Hello. [pause 60s] " * 16}, 400, "at most 900 s"),
        ({"input": 7}, 400, "input"),
        ({"input": "漢字", "language": "none"}, 400, "漢"),
        ({"language": "klingon"}, 400, "klingon"),
        ({"voice": "nobody"}, 404, "expected one of"),
        ({"voice": "../anna"}, 404, "not there"),
        ({"voice": "/etc/passwd"}, 404, "not there"),
        ({"voice": {"id": "x\0y"}}, 404, "not there"),
        ({"model": "other"}, 404, "expected one of tiny"),
        ({"model": "../tiny"}, 404, "not here"),
        ({"response_format": "aac"}, 400, "response_format"),
        ({"speed": 9}, 400, "speed"),
        ({"speed": "nan"}, 400, "speed"),
        ({"steps": 0}, 400, "steps"),
        ({"seed": -1}, 400, "seed"),
        ({"guidance": -1}, 400, "guidance"),
        ({"temperature": -1}, 400, "temperature"),
        ({"pauses": 99}, 400, "pauses"),
        ({"lexicon": "nonsense"}, 400, "lexicon: 1 wrong line"),
        ({"lexicon": {"a b\tc": ""}}, 400, "lexicon"),
        ({"instructions": "Whisper."}, 400, "instructions"),
        ({"early": True, "response_format": "flac"}, 400, "only what is streamed leaves early"),
        ({"subtitles": "srt"}, 400, '"stream_format": "sse"'),
        ({"subtitles": "txt", "stream_format": "sse"}, 400, "subtitles"),
        ({"stream": False, "stream_format": "sse", "subtitles": "srt"}, 400, "events are a stream"),
        ({"colour": "red"}, 400, "colour"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_said_in_json(server, changes, status, message):
    body = json.dumps(ASKED | changes)
    with server.client() as client:
        answer = client.post(
            "/v1/audio/speech", content=body, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert message in error["message"] and error["code"] == status
    assert "Traceback" not in answer.text and "site-packages" not in answer.text
    assert server.service.engine.taken == 0


def test_a_body_that_is_no_json_and_paths_that_are_none(server):
    with server.client() as client:
        for answer in (
            client.post("/v1/audio/speech", content=b"\xff{"),
            client.post("/v1/audio/speech", json=[1]),
            client.get("/v1/audio/speech"),
            client.get("/../../etc/passwd"),
            client.get("/docs"),
            client.delete("/v1/audio/voices/..%2F..%2Fanna"),
            client.delete("/v1/audio/voices/flite-slt"),
        ):
            assert 400 <= answer.status_code < 500 and answer.json()["error"]["message"]
        for method, path in (("GET", "/v1/audio/speech"), ("POST", "/v1/audio/transcriptions")):
            error = client.request(method, path).json()["error"]["message"]
            assert f"{method} {path}: not here" in error and "POST /v1/audio/speech," in error
        broken = client.post("/v1/audio/speech", content='{"input": "a"', headers={"Content-Type": "application/json"})  # fmt: skip
        assert "the body is no JSON: Expecting ',' delimiter at character 13" in broken.text
        # As curl sends `-d` where no header is given, and without any.
        for kind in ("application/x-www-form-urlencoded", ""):
            answer = client.post(
                "/v1/audio/speech", content=json.dumps(ASKED), headers={"Content-Type": kind}
            )
            assert "`Content-Type: application/json`" in answer.json()["error"]["message"]

        def endless():
            for _ in range(40):
                yield b"x" * 2**16

        for content in (b"x" * (2**20 + 1), endless()):
            # The server hangs up while there is more; a client that still sends may see no more than that.
            with suppress(httpx.TransportError):
                assert client.post("/v1/audio/speech", content=content).status_code == 413
        assert client.get("/health").status_code == 200


def test_a_bug_is_no_trace_in_the_answer_and_the_next_request_is_answered(server, monkeypatch):
    from svae.serve import engine

    with monkeypatch.context() as patch:
        patch.setattr(engine, "speak_chunks", lambda *_: 1 / 0)
        answer = ask(server)
    assert answer.status_code == 500 and answer.json()["error"]["type"] == "server_error"
    assert "division" not in answer.text and "Traceback" not in answer.text
    assert ask(server).status_code == 200 and server.service.engine.taken == 0


def test_keys_hosts_and_origins(folder, voices):
    with running(folder, api_key="secret") as server:
        with server.client() as client:
            assert client.get("/").status_code == client.get("/health").status_code == 200
            for path in ("/v1/models", "/metrics", "/v1/audio/voices"):
                answer = client.get(path)
                assert answer.status_code == 401 and "api-key" in answer.json()["error"]["message"]
                wrong = client.get(path, headers={"Authorization": "Bearer secre"})
                assert wrong.status_code == 401
                right = client.get(path, headers={"Authorization": "Bearer secret"})
                assert right.status_code == 200
        client = OpenAI(base_url=f"{server.url}/v1", api_key="secret")
        assert client.models.list().data


def test_other_sites_and_names_are_not_answered(server):
    with server.client() as client:
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403
        assert client.get("/health", headers={"Host": "127.0.0.1.evil.example"}).status_code == 403
        assert client.get("/health", headers={"Host": "localhost:1"}).status_code == 200
        other = {"Origin": "https://evil.example"}
        assert client.delete("/v1/audio/voices/anna", headers=other).status_code == 403
        assert client.get("/v1/models", headers={"Origin": "null"}).status_code == 403
        assert client.get("/v1/models", headers={"Origin": server.url}).status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "0.0.0.0"}, "--api-key"),
        ({"host": "192.168.0.7", "api_key": ""}, "--api-key"),
        ({"api_key": " x"}, "printable"),
        ({"models": [("a", "b"), ("a", "c")]}, "given twice"),
    ],
)
def test_options_that_do_not_fit(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_options(ServeOptions(**changes))


def test_models_have_names_and_ports_may_be_taken():
    assert [(n, str(p)) for n, p in parse_models(["a=x/y", "z/b", "embedded"])] == [
        ("a", "x/y"), ("b", "z/b"), ("embedded", "embedded")
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="expected NAME=PATH"):
        parse_models(["=x"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigError, match="choose another port"):
            listen(ServeOptions(port=taken.getsockname()[1]))


def test_the_command_refuses_to_be_open_to_all():
    result = CliRunner().invoke(
        command_line, ["serve", "--host", "0.0.0.0"], env={"SVAE_API_KEY": ""}
    )
    assert result.exit_code == 2 and "--api-key" in result.output


# ------------------------------------------------------------------------------------------- many, slow, gone


def test_more_than_there_are_places_for_come_back_later(folder, voices, gate):
    with running(folder, places=2) as server, ThreadPoolExecutor(2) as pool:
        held = [pool.submit(ask, server) for _ in range(2)]
        wait_until(lambda: server.service.engine.taken == 2)
        refused = ask(server)
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
        gate.set()
        assert [answer.result().status_code for answer in held] == [200, 200]
        assert ask(server).status_code == 200


def test_nobody_is_admitted_while_too_much_waits_for_slow_readers(server, monkeypatch):
    from svae.serve import engine

    with monkeypatch.context() as patch:
        patch.setattr(engine, "MAX_UNREAD_BYTES", -1)
        assert ask(server, input="Hello.").status_code == 429
    assert ask(server, input="Hello.").status_code == 200


def raw_request(server, **changes):
    """Send a request over a bare socket and return the socket."""
    body = json.dumps(ASKED | {"response_format": "wav"} | changes).encode()
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_go_free_their_places(server, gate, stream):
    before = server.service.metrics.gone._value.get()
    connections = [raw_request(server, stream=stream, seed=i) for i in range(5)]
    wait_until(lambda: server.service.engine.taken == 5)
    for connection in connections:
        connection.close()
    wait_until(lambda: server.service.engine.taken == 0)
    gate.set()
    assert ask(server).status_code == 200
    assert server.service.metrics.gone._value.get() == before + 5
    # An answer in one piece is unread until the server has seen that it was taken: its client knows that sooner.
    wait_until(lambda: server.service.engine.unread == 0)


def test_a_client_that_goes_in_the_middle_is_not_spoken_for(server, monkeypatch):
    from svae.serve import engine

    spoken, go_on, speak = [], threading.Event(), engine.speak_chunks

    def slow(*arguments):
        spoken.append(arguments)
        if len(spoken) == 2:
            assert go_on.wait(60)
        return speak(*arguments)

    monkeypatch.setattr(engine, "speak_chunks", slow)
    connection = raw_request(server, stream=True)
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    connection.close()
    wait_until(lambda: server.service.engine.taken == 0)
    go_on.set()
    assert ask(server, input="Hello.").status_code == 200
    assert (
        len(spoken) <= 3
    )  # of the first text's three sentences the third was not begun, nor the second where the client was seen to go


def test_a_client_that_does_not_read_holds_nobody_up(server, monkeypatch):
    from svae.serve import engine

    speak = engine.speak_chunks

    def much(tts, chunks):
        """More than the buffers of a connection hold, where it is about minutes."""
        if "minutes" not in chunks[0].text:
            return speak(tts, chunks)
        return [SpokenChunk(0.1 * torch.rand(120 * 16000), ChunkReport("minutes", 0, 120.0, {}))]

    monkeypatch.setattr(engine, "speak_chunks", much)
    text = "These are minutes. " * 6
    slow = [raw_request(server, stream=True, input=text) for _ in range(3)]
    assert ask(server).status_code == 200
    wait_until(lambda: server.service.engine.unread > 2**20)
    wait_until(lambda: server.service.engine.taken == 0)
    for connection in slow:
        connection.close()
    wait_until(lambda: server.service.engine.unread == 0)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_an_answer_that_does_not_stream_is_unread_until_its_client_has_it(
    server, monkeypatch, kind
):
    from svae.serve import engine

    monkeypatch.setattr(
        engine,
        "speak_chunks",
        lambda *_: [SpokenChunk(0.1 * torch.rand(600 * 16000), ChunkReport("", 0, 600.0, {}))],
    )
    idle = raw_request(server, stream=False, response_format=kind, input="Minutes.")
    assert idle.recv(12) == b"HTTP/1.1 200"
    assert server.service.engine.taken == 0 and server.service.engine.unread > 2**20
    with monkeypatch.context() as patch:
        patch.setattr(engine, "MAX_UNREAD_BYTES", 2**20)
        assert ask(server, input="Hello.").status_code == 429
    idle.close()
    wait_until(lambda: server.service.engine.unread == 0)
    answer = ask(server, stream=False, response_format=kind, input="Minutes.")
    assert int(answer.headers["content-length"]) == len(answer.content) > 2**21
    wait_until(lambda: server.service.engine.unread == 0)


def test_what_was_begun_is_finished_before_the_end(folder, voices, written, gate):
    with running(folder) as server, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, server, stream=stream) for stream in (True, False)]
        wait_until(lambda: server.service.engine.taken == 2)
        server.stop()
        time.sleep(0.3)
        gate.set()
        for answer in asked:
            assert np.array_equal(samples(answer.result().content), written[1.0])


def test_health_and_metrics_tell(server):
    ask(server)
    with server.client() as client:
        health = client.get("/health").json()
        text = client.get("/metrics").text
    assert health["status"] == "ok" and health["models"] == ["tiny"] and health["requests"] == 0
    assert 'svae_requests_total{path="/v1/audio/speech",status="200"}' in text
    for name in ("svae_first_audio_seconds_count", "svae_speech_seconds_total", "svae_clients_gone_total",
                 "svae_requests_in_place 0.0", "svae_voices_kept"):  # fmt: skip
        assert name in text


# ------------------------------------------------------------------------------------------- voices


def upload(server, name, data, filename="a.flac", **fields):
    with server.client() as client:
        return client.post(
            "/v1/audio/voices", data={"name": name, **fields}, files={"file": (filename, data)}
        )


def test_voices_are_listed_saved_as_by_the_command_and_deleted(server, folder, recording):
    with server.client() as client:
        assert client.get("/v1/audio/voices").json()["voices"] == [
            "flite-slt", "flite-rms", "libri-6415", "anna"
        ]  # fmt: skip
        made = upload(server, "bob", recording.read_bytes(), text=PROMPT_TEXT)
        assert made.status_code == 200, made.text
        assert made.json()["text"] == PROMPT_TEXT + "." and not made.json()["replaced"]
        assert saved_voices() == ["anna", "bob"]
        spoken = ask(server, voice="bob").content
        assert spoken == ask(server, voice={"id": "bob"}).content
        assert np.array_equal(samples(spoken), samples(ask(server).content))  # anna's recording
        keep_voice("bob", recording, PROMPT_TEXT, folder, asr="pocketsphinx", device="cpu")
        assert ask(server, voice="bob").content == spoken
        note = "Bob agreed, 2026"
        other = upload(server, "bob", recording.read_bytes(), text="another sentence", consent=note)
        assert other.json()["consent"] == note and note.encode() in ask(server, voice="bob").content
        assert other.json()["replaced"] and ask(server, voice="bob").content != spoken
        assert client.delete("/v1/audio/voices/bob").json()["deleted"]
        assert ask(server, voice="bob").status_code == 404
        assert client.delete("/v1/audio/voices/bob").status_code == 404
    assert saved_voices() == ["anna"]


def test_a_recording_without_text_is_listened_to(server, recording, heard):
    heard.append("the first sentence")
    made = upload(server, "carl", recording.read_bytes())
    assert made.status_code == 200 and made.json()["text_from"] == "asr"
    with server.client() as client:
        assert client.delete("/v1/audio/voices/carl").status_code == 200


def test_uploads_that_are_no_voices(server, recording, tmp_path, voices):
    data = recording.read_bytes()
    long = io.BytesIO()
    soundfile.write(long, np.zeros(16000 * 121, np.int16), 16000, format="FLAC")
    cases = [
        ("x", b"no audio", 400, "cannot be read as audio"),
        ("x", b"", 400, "a.flac"),
        ("../x", data, 400, "letters, digits"),
        ("x" * 300, data, 400, "not longer than 240 bytes"),
        ("flite-slt", data, 400, "choose another name"),
        ("x", long.getvalue(), 400, "longer than the 120 s"),
        ("x", b"\0" * (20 * 2**20 + 1), 413, "too large"),
    ]
    before = sorted(voices.iterdir())
    wrong = upload(server, "x", data, text=PROMPT_TEXT, consent="x" * 501)
    assert wrong.status_code == 400 and "consent" in wrong.json()["error"]["message"]
    for name, content, status, message in cases:
        answer = upload(server, name, content, text=PROMPT_TEXT)
        assert answer.status_code == status and message in answer.json()["error"]["message"], (
            answer.text
        )
    assert sorted(voices.iterdir()) == before
    with server.client() as client:
        missing = client.post("/v1/audio/voices", data={"name": "x"})
        assert missing.status_code == 400 and "file: missing" in missing.json()["error"]["message"]
    outside = upload(server, "safe", data, filename="../../../tmp/x.flac", text=PROMPT_TEXT)
    assert outside.status_code == 200
    assert [path.name for path in sorted(voices.iterdir())] == [
        "anna.safetensors",
        "safe.safetensors",
    ]
    with server.client() as client:
        client.delete("/v1/audio/voices/safe")


def test_few_voices_stay_in_memory(folder, voices):
    with running(folder, voices=2) as server:
        for name in ("anna", "flite-slt", "flite-rms", "anna"):
            assert ask(server, voice=name, input="Hello.").status_code == 200
        assert len(server.service.models["tiny"].voices) == 2


def test_defaults_are_openais():
    asked = SpeechRequest(input="x", model="m", voice="v")
    assert (asked.response_format, asked.speed, asked.streams, asked.seed) == ("mp3", 1.0, True, 0)
    assert not SpeechRequest(input="x", response_format="wav").streams


def test_the_referee_has_the_server_speak(server, written, tmp_path):
    """`svae evaluate --endpoint` gets what `svae synthesize` writes."""
    from svae.evaluation.external.endpoint import Endpoint
    from svae.evaluation.external.system import Request

    fields = ("model=null", "voice=anna", "seed={seed}", "steps=2")
    system = Endpoint(server.url, fields, timeout=120)
    out = tmp_path / "a.wav"
    timing = system.speak(Request("a", TEXT, 5, "en", None, None, out), threading.Event())
    assert 0 < timing.first_audio_seconds <= timing.seconds
    assert np.array_equal(soundfile.read(out, dtype="int16")[0], written[1.0])


@pytest.mark.slow
def test_the_referee_judges_what_the_server_says(server, written, tmp_path):
    """A whole `svae evaluate --endpoint` of svae's own server, with real judges, several requests at a time."""
    from svae.evaluation.options import EvaluateOptions
    from svae.evaluation.run import evaluate

    rows = [{"id": "a", "text": TEXT}, {"id": "b", "text": "Hello there."}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = EvaluateOptions(
        endpoint=server.url, fields=("model=null", "voice=anna", "seed={seed}", "steps=2"), jobs=3,
        list_file=tmp_path / "list.jsonl", asr="ctc:embedded", speaker="none", seeds=(5, 6),
        out=tmp_path / "out", device="cpu",
    )  # fmt: skip
    metrics = evaluate(options)
    assert metrics["errors"] == [] and metrics["task"] == "external"
    assert set(metrics["system_recordings"]) == {"seed 5", "seed 6"}
    timings = json.loads((tmp_path / "out/timings.json").read_text())
    assert timings["jobs"] == 3 and 0 < timings["first_audio_seconds"]["median"]
    made, _ = soundfile.read(tmp_path / "out/wavs/seed-5/a.wav", dtype="int16")
    assert np.array_equal(made, written[1.0])
