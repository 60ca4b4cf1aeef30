"""`evaluate --command` and `--endpoint`: any program, any server, under any protocol."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from svae.errors import ConfigError, DataError
from svae.evaluation.external import command as command_module
from svae.evaluation.external.command import Command
from svae.evaluation.external.endpoint import Endpoint
from svae.evaluation.external.system import Request, SpeechFailed
from svae.evaluation.leaderboard import leaderboard
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate

NASTY = """It's "quoted"; $(touch pwned) `touch pwned` | {out} %s \\ -- --help"""
SAMPLES = {"a": 3000, "b": 4000, "c": 5000}
TABLE = {3000: "one two three", 4000: "four five", 5000: "six", 7000: "p"}

PROGRAM = """
printf '%s\\n' "$@" >> "$0.log"
text="$2"; out="$4"
case "$text" in
  Six*) if [ -e "$0.fail" ]; then echo "no such voice" >&2; exit 3; fi; cp "$0.c.wav" "$out";;
  Four*) cp "$0.b.wav" "$out";;
  *) cp "$0.a.wav" "$out";;
esac
"""


def wav_bytes(samples):
    file = io.BytesIO()
    soundfile.write(file, np.full(samples, 0.5), 16000, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture
def task(tmp_path, judged):
    """Three items with a prompt, a program that says them, and judges that know what it says."""
    judged(TABLE)
    (tmp_path / "my prompt.wav").write_bytes(wav_bytes(7000))
    program = tmp_path / "say it.sh"
    program.write_text(PROGRAM)
    for name, samples in SAMPLES.items():
        (tmp_path / f"say it.sh.{name}.wav").write_bytes(wav_bytes(samples))
    texts = {"a": "One two three.", "b": "Four five.", "c": "Six."}
    rows = [
        {"id": name, "text": text, "ref": "my prompt.wav", "ref_text": "It's p."}
        for name, text in texts.items()
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluateOptions(
        command=f"sh '{program}' -t {{text}} -o {{out}} {{ref}} {{ref_text}} {{seed}}",
        list_file=tmp_path / "list.jsonl",
        out=tmp_path / "out",
        seeds=(0, 7),
        device="cpu",
    )


def log_of(options):
    return (options.list_file.parent / "say it.sh.log").read_text().splitlines()


def test_a_program_says_every_item_and_is_judged(task):
    metrics = evaluate(task)
    assert metrics["system"]["wer"] == 0 and metrics["system"]["utterances"] == 3
    assert metrics["task"] == "external" and metrics["settings"]["command"] == task.command
    assert metrics["settings"]["seeds"] == [0, 7]
    assert len(metrics["settings"]["program_sha256"]) == 64
    log = log_of(task)
    folder = task.list_file.parent
    assert log[:7] == ["-t", "One two three.", "-o", log[3], str(folder / "my prompt.wav"), "It's p.", "0"]  # fmt: skip
    assert len(log) == 2 * 3 * 7 and log.count("7") == 3
    timings = json.loads((task.out / "timings.json").read_text())
    assert timings["real_time_factor"] > 0
    assert 0 < timings["first_audio_seconds"]["median"] <= timings["first_audio_seconds"]["90 %"]


def test_a_second_run_calls_nothing_and_writes_the_same_bytes(task):
    evaluate(task)
    calls, first = len(log_of(task)), (task.out / "metrics.json").read_bytes()
    evaluate(replace(task, jobs=2))
    assert len(log_of(task)) == calls
    assert (task.out / "metrics.json").read_bytes() == first


def test_another_text_or_program_is_said_anew(task):
    evaluate(task)
    task.list_file.write_text(task.list_file.read_text().replace("Four five", "Four  five"))
    evaluate(task)
    assert len(log_of(task)) == 7 * (6 + 2)
    program = task.list_file.parent / "say it.sh"
    program.write_text(PROGRAM + "# changed\n")
    evaluate(task)
    assert len(log_of(task)) == 7 * (6 + 2 + 6)


def test_failures_count_are_shown_and_tried_again(task, capsys):
    mark = task.list_file.parent / "say it.sh.fail"
    mark.touch()
    metrics = evaluate(replace(task, jobs=2))
    assert metrics["system"]["errors"] == 2 and metrics["system"]["wer"] == pytest.approx(1 / 3)
    assert {(e["id"], e["recording"]) for e in metrics["errors"]} == {("c", "seed 0"), ("c", "seed 7")}  # fmt: skip
    assert all("status 3: no such voice" in e["error"] for e in metrics["errors"])
    printed = capsys.readouterr().out
    assert "failed at 2 of 6 recordings" in printed and "no such voice" in printed
    mark.unlink()
    assert evaluate(task)["errors"] == []
    assert len(log_of(task)) == 7 * (6 + 2)


def test_a_program_that_says_nothing_at_all_stops_with_its_reason(task):
    with pytest.raises(DataError, match="said none of 6 utterances.*status 9: sorry"):
        evaluate(replace(task, command="sh -c 'echo sorry; exit 9' {text} {out}"))
    assert not (task.out / "metrics.json").exists()


def request_to(tmp_path, text="Hello.", **more):
    given = {"id": "a", "text": text, "seed": 3, "language": "en", "prompt": None, "prompt_text": None}  # fmt: skip
    return Request(**(given | {"out": tmp_path / "out.wav"} | more))


def test_a_text_is_one_argument_whatever_is_in_it(tmp_path):
    command = Command('sh -c \'printf %s "$1" > "$2"\' sh {text} {out}', timeout=60)
    for text in (NASTY, "line one\nline two", "{ref} {{x}} {", "-t", "日本語 \u2028 é"):
        command.speak(request_to(tmp_path, text), threading.Event())
        assert (tmp_path / "out.wav").read_text() == text
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(SpeechFailed, match="cannot be called"):
        command.speak(request_to(tmp_path, "a\0b"), threading.Event())


def test_placeholders_stand_inside_arguments_and_braces_can_be_written(tmp_path):
    command = Command(
        'sh -c \'printf %s "$1" > "$2"\' sh \'{{"t": {seed}}}--text={text}\' {out}', timeout=60
    )
    command.speak(request_to(tmp_path), threading.Event())
    assert (tmp_path / "out.wav").read_text() == '{"t": 3}--text=Hello.'


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sh x {text}", r"no \{out\}"),
        ("sh x {out}", r"no \{text\}"),
        ("sh {text} {out} {voice}", r"unknown placeholder \{voice\}"),
        ("sh {text.__class__} {out}", "unknown placeholder"),
        ("sh {text!r} {out}", "unknown placeholder"),
        ("sh {0} {out}", "unknown placeholder"),
        ("sh {} {out}", "unknown placeholder"),
        ("sh {text} {out", "known are"),
        ("sh '{text} {out}", "No closing quotation"),
        ("", "empty"),
        ("no-such-program-here {text} {out}", "no program 'no-such-program-here'"),
        ("{text} {out}", "no placeholder"),
        ("sh -c 'say {text}' {out}", r"would run what stands in \{text\}"),
        ("bash -ec 'say {text} > {out}'", "would run what stands in"),
    ],
)
def test_commands_that_cannot_be_right_are_refused(command, said):
    with pytest.raises(ConfigError, match=said):
        Command(command, timeout=1)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('sleep 60 & touch "$1.begun"; sleep 60', "more than 9 s"),
        ('echo working; touch "$1.begun"; sleep 60', "more than 9 s: working"),
        ("true", "wrote no {out} and printed nothing"),
    ],
)
def test_what_hangs_or_writes_nothing_has_failed(tmp_path, monkeypatch, script, said):
    begun = tmp_path / "out.wav.begun"
    # No time goes by before the program has said what it says, however slow the machine is.
    clock = SimpleNamespace(perf_counter=lambda: 10.0 * begun.exists())
    monkeypatch.setattr(command_module, "time", clock)
    command = Command(f"sh -c '{script}' {{text}} {{out}}", timeout=9)
    start = time.monotonic()
    with pytest.raises(SpeechFailed) as failure:
        command.speak(request_to(tmp_path), threading.Event())
    assert said in str(failure.value) and time.monotonic() - start < 30


def test_a_file_that_is_no_audio_is_a_failure(task):
    command = "sh -c 'case $1 in Six*) echo hi > \"$2\";; *) cp \"$3\" \"$2\";; esac' sh {text} {out} {ref}"  # fmt: skip
    errors = evaluate(replace(task, command=command, seeds=(0,)))["errors"]
    assert [e["id"] for e in errors] == ["c"] and "what sh wrote" in errors[0]["error"]
    assert not list(task.out.glob("wavs/*/part-*"))


def test_items_without_what_the_command_names_are_refused_before_any_call(task):
    task.list_file.write_text('{"id": "a", "text": "One two three."}\n')
    with pytest.raises(DataError, match="1 of 1 items lack what sh is to be given:\n  a: no `ref`"):
        evaluate(task)
    assert not (task.list_file.parent / "say it.sh.log").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"endpoint": "http://127.0.0.1:1"}, "not --command and --endpoint"),
        ({"reconstruction": True}, "--command and --reconstruction exclude"),
        ({"fields": ("a=b",)}, "--field: belongs"),
        ({"jobs": 0}, "--jobs 0"),
        ({"timeout": 0.0}, "--timeout 0.0"),
        ({"timeout": float("nan")}, "--timeout nan"),
        ({"steps": 3}, "--steps, --guidance"),
    ],
)
def test_options_that_do_not_go_together_are_refused(task, more, said):
    with pytest.raises(ConfigError, match=said):
        evaluate(replace(task, **more))


PROGRAMS = {
    "slt": "flite -voice slt -t {text} -o {out}",
    "rms": "flite -voice rms -t {text} -o {out}",
    "espeak": "espeak-ng -v en-us -w {out} -- {text}",
}


@pytest.mark.slow
@pytest.mark.skipif(
    None in map(shutil.which, ("flite", "espeak-ng")), reason="needs flite and espeak-ng"
)
def test_programs_are_heard_by_a_real_recogniser_and_come_to_one_board(tmp_path):
    texts = (
        "He opened the door.",
        "She was not there that night.",
        "It was a cold day in the city.",
    )
    rows = [{"id": f"t{number}", "text": text} for number, text in enumerate(texts)]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, command in PROGRAMS.items():
        options = EvaluateOptions(command=command, list_file=tmp_path / "list.jsonl", asr="ctc:embedded", jobs=2,
                                  speaker="none", seeds=(0,), out=tmp_path / name, device="cpu")  # fmt: skip
        metrics = evaluate(options)
        assert metrics["errors"] == [] and metrics["system"]["seconds"] > 3
        assert metrics["system_name"] == f"{command.split()[0]}, seed 0"
        timings = json.loads((tmp_path / name / "timings.json").read_text())
        assert 0 < timings["real_time_factor"] < 20 and timings["first_audio_seconds"]["median"] > 0
    board = leaderboard([f"{name}={tmp_path / name}" for name in PROGRAMS], out=tmp_path / "board")
    assert set(board["systems"]) == set(PROGRAMS)
    words = {name: system["summary"]["wer"] for name, system in board["systems"].items()}
    assert min(words.values()) < 1.0  # the small recogniser understands something


@pytest.mark.skipif(shutil.which("flite") is None, reason="needs flite")
def test_flite_says_a_text(tmp_path):
    command = Command("flite -voice slt -t {text} -o {out}", timeout=60)
    command.speak(request_to(tmp_path, "He opened the door."), threading.Event())
    assert 0.8 < soundfile.info(tmp_path / "out.wav").duration < 3


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_espeak_says_a_text_with_quotes(tmp_path):
    command = Command("espeak-ng -w {out} -- {text}", timeout=60)
    timing = command.speak(request_to(tmp_path, "-v is not an option; it's \"text\""), threading.Event())  # fmt: skip
    assert soundfile.info(tmp_path / "out.wav").duration > 1 and timing.seconds > 0


@pytest.mark.slow
def test_svae_itself_is_a_command(toy_tts, task):
    program = f"'{sys.executable}' -m svae synthesize --model '{toy_tts}' --device cpu"
    command = f"{program} --ref {{ref}} --ref-text {{ref_text}} --text {{text}} --seed {{seed}} --out {{out}}"  # fmt: skip
    task.list_file.write_text('{"id": "a", "text": "one tone a", "ref": "my prompt.wav", "ref_text": "two tone"}\n')  # fmt: skip
    system = Command(command, timeout=300)
    out = request_to(task.list_file.parent, "one tone a", prompt=task.list_file.parent / "my prompt.wav", prompt_text="two tone")  # fmt: skip
    system.speak(out, threading.Event())
    assert soundfile.info(out.out).frames > 0


# ------------------------------------------------------------------------------------------ servers


class SpeechServer:
    """Speaks as OpenAI's does; `faults` are used up one a request."""

    def __init__(self):
        self.requests, self.faults = [], []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append((self.path, body, self.headers.get("Authorization")))
                fault = fake.faults.pop(0) if fake.faults else ""
                if fault == "busy":
                    return self.answer(503, b"later", {"Retry-After": "0"})
                if fault == "error":
                    return self.answer(400, b'{"error": "no voice of that name"}')
                if fault == "json":
                    return self.answer(200, b'{"a": 1}', {"Content-Type": "application/json"})
                if fault == "moved":
                    return self.answer(302, b"", {"Location": "/elsewhere"})
                if fault == "torn":
                    return self.answer(500, b'{"err', {"Content-Length": "100"})
                if fault == "no gzip":
                    return self.answer(500, b"oh", {"Content-Encoding": "gzip"})
                if fault == "slow":
                    time.sleep(0.6)
                name = body["input"].split()[0]
                data = wav_bytes({"One": 3000, "Four": 4000, "Six.": 5000}.get(name, 3000))
                if fault == "unknown length":
                    data = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
                self.answer(200, data, {"Content-Type": "audio/wav"})

            def answer(self, status, data, headers=()):
                self.send_response(status)
                for key, value in dict(headers).items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # whoever waits no longer has hung up
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def speech_server():
    server = SpeechServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_a_server_says_every_item_and_is_judged(task, speech_server, monkeypatch):
    monkeypatch.setenv("SVAE_ENDPOINT_KEY", "hidden")
    fields = (
        "voice={ref_data}",
        "seed={seed}",
        "speed=1.5",
        "ref_text={ref_text}",
        "note=n{seed}",
        "model=null",
    )
    options = replace(task, command=None, endpoint=speech_server.url, fields=fields, jobs=2)
    metrics = evaluate(options)
    assert metrics["system"]["wer"] == 0 and metrics["errors"] == []
    assert len(speech_server.requests) == 6
    path, body, key = next(r for r in speech_server.requests if r[1]["input"] == "Four five." and r[1]["seed"] == 7)  # fmt: skip
    assert path == "/v1/audio/speech" and key == "Bearer hidden"
    prompt = (task.list_file.parent / "my prompt.wav").read_bytes()
    assert body == {
        "voice": f"data:audio/wav;base64,{base64.b64encode(prompt).decode()}",
        "input": "Four five.", "response_format": "wav", "seed": 7, "speed": 1.5, "ref_text": "It's p.", "note": "n7",
    }  # fmt: skip
    assert "hidden" not in (task.out / "metrics.json").read_text()
    evaluate(options)
    assert len(speech_server.requests) == 6  # resumed: nothing is asked twice


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("error", "answered 400.*no voice of that name"),
        ("json", "answered 200 application/json"),
        ("moved", "answered 302"),
        ("torn", "answered 500: .*95 more expected"),
        ("no gzip", "answered 500: .*gzip"),
        ("slow", "took more than 0.3 s"),
    ],
)
def test_what_a_server_does_not_say_is_a_failure(tmp_path, speech_server, fault, said):
    speech_server.faults = [fault]
    with pytest.raises(SpeechFailed, match=said):
        Endpoint(speech_server.url, timeout=0.3 if fault == "slow" else 60).speak(
            request_to(tmp_path), threading.Event()
        )


def test_placeholders_are_filled_wherever_they_stand_in_json(tmp_path, speech_server):
    inside = '{"prompts": [{"file": "{ref_data}", "said": "\\"{ref_text}\\"", "rate": 1.5}], "seed": "{seed}", "as is": "{{text}}"}'
    endpoint = Endpoint(speech_server.url, (f"extra_body={inside}", "messages=[{}]"), timeout=60)
    assert endpoint.names == {"text", "ref_data", "ref_text", "seed"}
    prompt = tmp_path / "prompt.wav"
    prompt.write_bytes(wav_bytes(7000))
    endpoint.speak(request_to(tmp_path, prompt=prompt, prompt_text='{text} "p"'), threading.Event())
    [(_, body, _)] = speech_server.requests
    data = f"data:audio/wav;base64,{base64.b64encode(wav_bytes(7000)).decode()}"
    assert body["messages"] == [{}] and body["extra_body"] == {
        "prompts": [{"file": data, "said": '"{text} "p""', "rate": 1.5}],
        "seed": 3,
        "as is": "{text}",
    }
    only = Endpoint("http://x", ("input=null", 'messages=[{"content": "{text}"}]'), timeout=1)
    assert only.names == {"text"}


def test_a_busy_server_is_asked_again_and_a_length_need_not_be_known(tmp_path, speech_server):
    speech_server.faults = ["busy", "unknown length"]
    Endpoint(speech_server.url + "/v1/", timeout=60).speak(request_to(tmp_path), threading.Event())
    from svae.audio import load_audio

    assert load_audio(tmp_path / "out.wav")[0].shape == (1, 3000)
    assert [path for path, *_ in speech_server.requests] == ["/v1/audio/speech"] * 2


def test_no_server_there_is_a_failure(tmp_path):
    with pytest.raises(SpeechFailed, match="127.0.0.1:9"):
        Endpoint("http://127.0.0.1:9", timeout=5).speak(request_to(tmp_path), threading.Event())


@pytest.mark.parametrize(
    ("url", "fields", "said"),
    [
        ("ftp://x", (), "expected http"),
        ("localhost:80", (), "expected http"),
        ("http://[::1", (), "expected http"),
        ("http://x:99999", (), "expected http"),
        ("http://x", ("voice",), "NAME=VALUE"),
        ("http://x", ("voice={out}",), "unknown placeholder"),
        (
            "http://x",
            ('body={"voice": ["{ref_dat}"]}',),
            "--field body: unknown placeholder {ref_dat}",
        ),
        ("http://x", ("response_format=pcm",), "expected one of wav"),
        ("http://x", ("input=hello",), "no field holds"),
    ],
)
def test_requests_that_cannot_be_right_are_refused(url, fields, said):
    with pytest.raises(ConfigError, match=said):
        Endpoint(url, fields, timeout=1)
