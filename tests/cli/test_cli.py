"""The command line: help, exit statuses, and one wrong input of each kind."""

from __future__ import annotations

import re
import shutil
import socket
import sys

import numpy as np
import pytest
import soundfile
import typer
from rich.text import Text
from typer.testing import CliRunner

from svae.assets import asset_path
from svae.cli import app
from svae.runtime.ray_jobs import RayOptions

COMMANDS = [
    "download",
    "prepare",
    "prepare recordings",
    "prepare libritts",
    "prepare webdataset",
    "prepare huggingface",
    "prepare lhotse",
    "train-vae",
    "train-tts",
    "distill",
    "adapt",
    "synthesize",
    "serve",
    "evaluate",
    "voice save",
    "voice list",
    "encode",
    "decode",
    "cache-teacher",
    "inspect",
    "import semantic-vae",
    "import f5-tts",
    "compare",
    "export",
    "doctor",
]


@pytest.fixture
def call(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def _call(*arguments: object):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return _call


@pytest.fixture
def fails(call):
    """Run a command that must end with status 2 and one message on one screen, without a traceback."""

    def _fails(*arguments: object, match: str):
        result = call(*arguments)
        text = result.stderr
        assert result.exit_code == 2, (result.exit_code, text, result.exception)
        assert "Traceback" not in text and 0 < len(text.splitlines()) < 25
        assert re.search(match, text), text
        return text

    return _fails


def test_help_lists_the_commands(call):
    text = call("--help").stdout
    assert all(command.split()[0] in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_that_can_be_copied(call, command):
    result = call(*command.split(), "--help")
    assert result.exit_code == 0 and f"svae {command}" in result.stdout.split("Examples")[1]


def commands_of(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        yield from commands_of(command, (*path, name)) if hasattr(command, "commands") else ()


def test_no_help_loses_words_in_brackets():
    """Rich takes `[mos]` for a colour, and an unknown colour is left out in silence."""
    count = 0
    for path, command in commands_of(typer.main.get_command(app)):
        texts = [command.help, *(getattr(option, "help", None) for option in command.params)]
        for text in filter(None, texts):
            count += 1
            assert Text.from_markup(text).plain == text.replace("\\[", "["), (path, text)
    assert count > 100


def test_the_version_is_printed(call):
    import svae

    assert call("--version").stdout.strip() == f"svae {svae.__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "jsonl", "--root", "x" * 300),
        ("prepare", "vctk", "--root", "é" * 150),
        ("evaluate", "--list", "x" * 300, "--wavs", "."),
        ("synthesize", "--text", "hi", "--ref", "x" * 300 + ".wav"),
        ("inspect", "/a" * 3000),
    ],
)
def test_a_name_that_no_file_system_takes_is_an_error(fails, arguments):
    assert "255 bytes" in fails(*arguments, match="File name too long")


def test_the_limits_of_prepared_utterances_are_options(call, fails, tmp_path):
    from fake_corpora import make_corpus

    corpus = make_corpus(tmp_path / "corpus", 5)  # 0.4, 0.45, … 0.6 s
    limits = ("--min-seconds", 0.42, "--max-seconds", 0.52, "--shards", 1, "--workers", 1)
    result = call("prepare", "jsonl", "--root", corpus, "--out", "out", *limits)
    assert result.exit_code == 0 and "Rejected: 3 (2 too long, 1 too short)" in result.output
    prepare = ("prepare", "jsonl", "--root", corpus)
    fails(*prepare, "--out", "out", "--shards", 1, match="min_seconds 0.42 there, 0.3 now")
    wrong = ("--min-seconds", 2, "--max-seconds", 1)
    fails(*prepare, *wrong, match="--min-seconds 2, --max-seconds 1: expected")
    fails(*prepare, "--max-seconds", "nan", match="--max-seconds")


def test_a_missing_corpus_says_how_to_get_it(fails):
    text = fails("prepare", "libritts", match="data/LibriTTS")
    assert "openslr" in text and "CC BY 4.0" in text and "normalized.txt" in text


def test_a_corpus_that_svae_does_not_know_is_named(call, fails):
    assert "libritts" in call("prepare", "--help").stdout
    assert call("prepare").exit_code == 2
    fails("prepare", "nothing", match="No such command 'nothing'")


def test_recordings_that_cannot_be_prepared(fails, tmp_path):
    from fake_corpora import make_corpus

    corpus = make_corpus(tmp_path / "corpus", 1)
    fails("prepare", "recordings", match="--root")
    fails("prepare", "recordings", "--root", "nowhere", match="--root nowhere: no such folder")
    fails("prepare", "recordings", "--root", corpus, match="--speaker NAME")
    anna = ("prepare", "recordings", "--root", corpus, "--speaker", "anna")
    fails(*anna, "--asr", "x", match="--asr 'x'")
    fails(*anna, "--review", "nowhere.json", match="nowhere.json: No such file")


def test_unknown_key_wrong_type_and_unknown_recipe(fails):
    fails("train-vae", "tiny/vae", "--set", "vae.latnt_dim=3", match="did you mean `latent_dim`")
    fails("train-vae", "tiny/vae", "--set", "trainer.steps=many", match="trainer.steps.*integer")
    fails("train-vae", "tiny/vea", match="Did you mean 'tiny/vae'")
    fails("train-tts", "tiny/vae", match="unknown key")


def test_missing_shards_and_missing_vae(fails, tone_shards):
    fails("train-vae", "--data", "nowhere", match="nowhere: no such folder")
    fails("train-tts", "--data", tone_shards, match="no VAE given")
    fails("train-tts", "--data", tone_shards, "--vae", "nowhere", match="no vae checkpoint here")


@pytest.mark.parametrize("command", ["train-vae", "train-tts", "distill"])
def test_memory_that_nobody_plans_for_is_refused_before_a_run_begins(
    fails, tone_shards, toy_tts, tmp_path, command
):
    characters = ("--set", "data.timings=null")
    given = (toy_tts, "tiny/distill", *characters) if command == "distill" else ()
    out = tmp_path / "run"
    where = ("--data", tone_shards, "--out", out)
    fails(command, *given, *where, "--memory", "16G", match="--memory 16G.*--dry-run")
    assert not out.exists()


def test_a_truncated_shard(fails, tone_shards, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tone_shards, broken)
    tar = broken / "shard-00001.tar"
    tar.write_bytes(tar.read_bytes()[:-3000])
    fails("train-vae", "--data", broken, match=r"shard-00001\.tar: truncated")


def test_a_folder_that_cannot_be_written(fails, tone_shards, tmp_path):
    (tmp_path / "file").write_text("")
    acoustic = ("--set", "loss.alignment=null")
    fails(
        "train-vae",
        "--data",
        tone_shards,
        *acoustic,
        "--out",
        tmp_path / "file" / "run",
        match="cannot write there",
    )
    fails("prepare", "sample", "--out", tmp_path / "file" / "shards", match="file/shards")


def test_a_device_that_is_not_there(fails, tone_shards):
    fails("train-vae", "--data", tone_shards, "--device", "cuda:99", match="--device")


class TestSynthesize:
    """Wrong references, texts and models."""

    @pytest.fixture
    def wav(self, tmp_path):
        def _wav(name: str, samples: np.ndarray):
            soundfile.write(tmp_path / name, samples, 16000, subtype="FLOAT")
            return tmp_path / name

        return _wav

    @pytest.fixture
    def speak(self, fails, toy_tts):
        def _speak(
            ref: object,
            match: str,
            text: str = "one",
            model: object = toy_tts,
            ref_text: str = "two",
        ):
            return fails(
                "synthesize",
                "--ref",
                ref,
                "--text",
                text,
                "--model",
                model,
                "--ref-text",
                ref_text,
                match=match,
            )

        return _speak

    def test_references(self, speak, wav, tmp_path):
        (tmp_path / "text.wav").write_text("I am not audio")
        speak(tmp_path / "none.wav", "none.wav: .*no such file|none.wav.*not found|does not exist")
        speak(tmp_path / "text.wav", "text.wav")
        speak(wav("empty.wav", np.zeros(0)), "empty.wav.*(empty|no samples|zero)")
        speak(wav("nan.wav", np.full(16000, np.nan)), "nan.wav.*NaN")
        speak(tmp_path, "folder|directory")

    def test_texts(self, speak, wav):
        good = asset_path("references", "flite-slt.wav")
        speak(good, "empty", text="  ")
        speak(good, "'ß'", text="Straße")
        speak(good, "empty", ref_text=" ")

    def test_models(self, speak, toy_tts, tmp_path):
        good = asset_path("references", "flite-slt.wav")
        speak(good, "no tts checkpoint here", model=tmp_path / "nowhere")
        speak(good, "this is a vae checkpoint", model=toy_tts / "vae")
        broken = tmp_path / "broken"
        shutil.copytree(toy_tts, broken)
        weights = next(broken.glob("checkpoints/step-*/model.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-10])
        speak(good, "damaged", model=broken)


def test_evaluate_needs_something_to_evaluate(fails, tmp_path):
    fails("evaluate", match="--model DIR")
    (tmp_path / "list.jsonl").write_text("{}\n")
    fails(
        "evaluate",
        "--model",
        tmp_path,
        "--list",
        tmp_path / "list.jsonl",
        match="line 1: field 'id' is missing",
    )
    fails("evaluate", "--model", tmp_path, "--reconstruction", match="no vae checkpoint here")
    fails("evaluate", "--model", tmp_path, "--seeds", "0,x", match="--seeds '0,x'")
    fails("evaluate", "--model", tmp_path, "--other", "codec", match="expected NAME=DIR")
    fails("evaluate", "--model", tmp_path, "--protocol", "f5", match="f5-librispeech-pc")
    fails("evaluate", "--compare", tmp_path, tmp_path, match="no results of `svae evaluate`")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--other", "codec=x"), "--other"),
        (("--steps", 4), "--steps"),
        (("--guidance", 2), "--guidance"),
        (("--prompt-guidance", 1), "--prompt-guidance"),
        (("--sim-o", "x.pth", "--utmos", "x.onnx", "--dnsmos", "speechmos"), "--sim-o, --utmos, --dnsmos"),
        (("--distillmos",), "--distillmos"),
        (("--model", "x"), "--model"),
        (("--list", "x", "--audio-root", "y"), "--list, --audio-root"),
        (("--data", "x"), "--data"),
        (("--cache", "x"), "--cache"),
        (("--field", "voice=x", "--jobs", 1, "--timeout", 300), "--field, --jobs, --timeout"),
        (("--reconstruction",), "--reconstruction"),
        (("--report-megabytes", 40), "--report-megabytes"),
        (("--batch-size", 2), "--batch-size"),
        (("--device", "auto"), "--device"),
        (("--protocol", "offline"), "--protocol"),
    ],
)  # fmt: skip
def test_a_comparison_refuses_what_it_would_not_read(fails, tmp_path, given, named):
    said = f"beside it only --cluster-by-speaker and --out are read; leave out {named}$"
    fails("evaluate", "--compare", tmp_path, tmp_path, *given, match=said)


def test_a_comparison_reads_its_own_options(fails, tmp_path):
    own = ("--cluster-by-speaker", "--out", tmp_path / "out")
    fails("evaluate", "--compare", tmp_path, tmp_path, *own, match="no results of `svae evaluate`")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--command", "true {text} {out}", "--steps", 8), "--steps, --guidance: of the synthesis"),
        (("--endpoint", "http://127.0.0.1:9", "--guidance", 2), "--steps, --guidance: of the synthesis"),
        (("--wavs", ".", "--steps", 8), "--steps, --guidance: of the synthesis"),
        (("--model", "x", "--reconstruction", "--steps", 8), "--steps, --guidance: of the synthesis"),
        (("--endpoint", "http://127.0.0.1:9", "--prompt-guidance", 1), "--prompt-guidance: nothing"),
        (("--wavs", ".", "--timeout", 5), "--timeout: of the calls"),
        (("--wavs", ".", "--audio-root", "x"), "--audio-root: .*pass --list"),
        (("--wavs", ".", "--list", "x", "--data", "y"), "--data and --list exclude each other"),
        (("--wavs", ".", "--field", "voice=x"), "--field: belongs to"),
    ],
)  # fmt: skip
def test_an_evaluation_refuses_what_it_would_not_read(fails, given, named):
    fails("evaluate", *given, match=named)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--listeners", 10), "--listeners"),
        (("--seed", 0, "--loudness", "keep"), "--seed, --loudness"),
        (("--questions", 3), "--questions"),
        (("--kind", "mos"), "--kind"),
        (("--out", "x"), "--out"),
        (("--serve", "--port", 0), "--serve, --port"),
    ],
)
def test_scoring_answers_refuses_what_it_would_not_read(fails, tmp_path, given, named):
    fails("listen", "--score", tmp_path, *given, match=f"listen --score: .*; leave out {named}$")


def test_serving_and_making_a_test_refuse_what_they_would_not_read(fails, tmp_path):
    made = ("listen", "--serve", "--out", tmp_path)
    fails(*made, "--listeners", 3, match="as it was made; leave out --listeners$")
    fails("listen", tmp_path, "--port", 1, match="--port is that of --serve; leave out --port$")
    fails(*made, match="no listening test in")


def test_ray_is_the_users_to_install_and_to_start(fails, tone_shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    missing = r"--ray auto: needs ray.*pip install 'svae\[ray\]'"
    fails("prepare", "sample", "--out", tmp_path / "a", "--ray", "auto", match=missing)
    fails("align", tone_shards, "--out", tmp_path / "b", "--ray", "auto", match=missing)
    teacher = ("cache-teacher", tone_shards, "--teacher", "embedded", "--layer", "3")
    fails(*teacher, "--out", tmp_path / "c", "--ray", "auto", match=missing)
    monkeypatch.setitem(sys.modules, "ray", object())  # not asked where nobody answers
    with socket.socket() as held:  # bound, not listening
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        nobody = f"--ray {address}: nobody answers"
        fails("prepare", "sample", "--out", tmp_path / "a", "--ray", address, match=nobody)
        fails("align", tone_shards, "--out", tmp_path / "b", "--ray", address, match=nobody)


def test_shares_of_gpus_reach_the_jobs(call, monkeypatch, tmp_path):
    from svae.precompute import latents

    asked = []
    monkeypatch.setattr(latents, "encode_shards", asked.append)
    arguments = ("encode", tmp_path, "--vae", tmp_path, "--out", tmp_path)
    assert call(*arguments, "--ray", "head:6379", "--ray-gpus", "0.25").exit_code == 0
    assert call(*arguments).exit_code == 0
    assert [options.ray for options in asked] == [RayOptions("head:6379", 0.25), None]
