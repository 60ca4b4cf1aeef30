"""What is written never takes the place of what is read, of another file's details, or of somebody else's JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tiny_tts import PROMPT_TEXT, TEXT, changed, speech
from typer.testing import CliRunner

from svae.audio import save_audio
from svae.cli.app import app
from svae.errors import ConfigError, DataError
from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import SynthesizeOptions, synthesize_file


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model is loaded: refusals come before it."""
    monkeypatch.setattr(
        "svae.synthesis.command.load_tts", lambda *_: pytest.fail("loaded a model first")
    )


@pytest.mark.parametrize(
    "name", ["same", "relative", "symlink", "hard link", "folder link", "dots"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_reference_is_not_written_over(
    options: SynthesizeOptions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: None,
    name: str,
    stream: bool,
) -> None:
    ref = tmp_path / "voice" / "ref.wav"
    save_audio(ref, speech(), 16000)
    before = ref.read_bytes()
    monkeypatch.chdir(tmp_path)
    outs = {
        "same": ref,
        "relative": Path("voice/ref.wav"),
        "symlink": tmp_path / "link.wav",
        "hard link": tmp_path / "hard.wav",
        "folder link": tmp_path / "other" / "ref.wav",
        "dots": tmp_path / "voice" / ".." / "voice" / "ref.wav",
    }
    (tmp_path / "link.wav").symlink_to(ref)
    os.link(ref, tmp_path / "hard.wav")
    (tmp_path / "other").symlink_to(tmp_path / "voice", target_is_directory=True)
    with pytest.raises(ConfigError, match="--out .* same file as --ref"):
        synthesize_file(changed(options, ref=ref, out=outs[name], stream=stream))
    assert ref.read_bytes() == before


@pytest.mark.parametrize(
    "text", ['{"name": "mine"}', "[1, 2]", "not json", "", '{"made_with": 1, "sha256": "a"}']
)
def test_a_json_that_is_not_ours_stays(options: SynthesizeOptions, quick: None, text: str) -> None:
    mine = options.out.with_suffix(".json")
    mine.parent.mkdir(parents=True)
    mine.write_text(text)
    with pytest.raises(ConfigError, match="not written by svae synthesize"):
        synthesize_file(options)
    assert mine.read_text() == text and not options.out.exists()


def test_texts_and_lexicons_stay(options: SynthesizeOptions, tmp_path: Path, quick: None) -> None:
    text = tmp_path / "speech.json"
    text.write_text("Hello.")
    out = tmp_path / "speech.wav"
    with pytest.raises(ConfigError, match="--text-file"):
        synthesize_file(changed(options, text=None, text_file=text, out=out))
    with pytest.raises(ConfigError, match="--lexicon"):
        synthesize_file(changed(options, lexicon=text, out=out))
    assert text.read_text() == "Hello."


def test_our_own_files_are_replaced(options: SynthesizeOptions) -> None:
    first = synthesize_file(options).read_bytes()
    again = synthesize_file(changed(options, seed=6))
    assert again.read_bytes() != first
    assert json.loads(again.with_suffix(".json").read_text())["seed"] == 6


def test_two_formats_have_their_own_details(options: SynthesizeOptions, tmp_path: Path) -> None:
    wav = synthesize_file(changed(options, out=tmp_path / "x.wav", seed=1))
    flac = synthesize_file(changed(options, out=tmp_path / "x.flac", seed=2))
    assert json.loads(wav.with_suffix(".json").read_text())["seed"] == 1
    assert json.loads((tmp_path / "x.flac.json").read_text())["seed"] == 2
    synthesize_file(changed(options, out=flac, seed=3))
    assert json.loads(wav.with_suffix(".json").read_text())["seed"] == 1
    assert json.loads((tmp_path / "x.flac.json").read_text())["seed"] == 3


def test_two_formats_in_one_list_are_both_made_and_kept(
    options: SynthesizeOptions, tmp_path: Path
) -> None:
    rows = [{"text": TEXT, "out": "x.wav"}, {"text": TEXT, "out": "x.flac", "seed": 9}]
    listed = tmp_path / "list.jsonl"
    for order, made in ((rows, 2), (rows, 0), (rows[::-1], 0)):
        listed.write_text("".join(json.dumps(row) + "\n" for row in order))
        assert synthesize_batch(listed, options, tmp_path / "out") == made
    details = {json.loads(p.read_text())["audio"] for p in (tmp_path / "out").glob("*.json")}
    assert details == {"x.wav", "x.flac"}


def test_a_row_that_would_replace_what_is_read_fails_alone(
    options: SynthesizeOptions, tmp_path: Path
) -> None:
    save_audio(tmp_path / "a.wav", speech(), 16000)
    save_audio(tmp_path / "b.wav", speech(), 16000)
    (tmp_path / "mine.json").write_text("{}")
    before = (tmp_path / "a.wav").read_bytes()
    rows = [
        {"text": TEXT, "ref": "b.wav", "ref_text": PROMPT_TEXT, "out": str(tmp_path / "a.wav")},
        {"text": TEXT, "ref": "a.wav", "ref_text": PROMPT_TEXT, "out": "good.wav"},
        {"text": TEXT, "ref": "a.wav", "ref_text": PROMPT_TEXT, "out": str(tmp_path / "mine.wav")},
        {"text": TEXT, "out": "sub/../good.wav"},
        {"text": TEXT, "out": str(tmp_path / "list.wav")},
    ]
    listed = tmp_path / "list.json"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = listed.read_text()
    with pytest.raises(DataError, match="4 of 5 rows failed") as caught:
        synthesize_batch(listed, options, tmp_path / "out")
    message = str(caught.value)
    assert "row 1" in message and "row 3" in message and "row 4" in message and "--batch" in message
    assert (tmp_path / "a.wav").read_bytes() == before and listed.read_text() == text
    assert (tmp_path / "mine.json").read_text() == "{}" and (tmp_path / "out/good.wav").is_file()


@pytest.mark.parametrize("stream", [False, True])
def test_subtitles_go_with_the_speech_that_they_tell_of(
    options: SynthesizeOptions, stream: bool
) -> None:
    asked = changed(options, subtitles="srt", stream=stream)
    out = synthesize_file(asked)
    subtitles = out.with_suffix(".srt")
    assert subtitles.is_file()
    synthesize_file(changed(options, text="And you.", stream=stream))
    assert not subtitles.exists()  # those of another text
    synthesize_file(asked)
    assert subtitles.is_file()
    synthesize_file(changed(asked, subtitles="vtt"))
    assert out.with_suffix(".vtt").is_file() and not subtitles.exists()
    subtitles.write_text("mine")
    synthesize_file(options)
    assert subtitles.read_text() == "mine"


@pytest.mark.parametrize("stopped_in", ["write_chunks", "write_report", "write_subtitles"])
def test_a_list_with_subtitles_that_was_stopped_is_finished_by_the_same_command(
    options: SynthesizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    listed, out = tmp_path / "list.jsonl", tmp_path / "out"
    listed.write_text(json.dumps({"text": TEXT, "out": "a.wav"}) + "\n")
    asked = changed(options, subtitles="srt")
    assert synthesize_batch(listed, asked, out) == 1
    first = (out / "a.wav").read_bytes()
    other = changed(asked, seed=6)
    module = "batch" if stopped_in == "write_chunks" else "command"
    with monkeypatch.context() as patch:
        patch.setattr(f"svae.synthesis.{module}.{stopped_in}", stop)
        with pytest.raises(KeyboardInterrupt):
            synthesize_batch(listed, other, out)
    assert not (out / "a.srt").exists()
    assert synthesize_batch(listed, other, out) == 1
    assert (out / "a.srt").is_file() and (out / "a.wav").read_bytes() != first


def test_subtitles_that_are_gone_are_made_again(options: SynthesizeOptions, tmp_path: Path) -> None:
    listed, out = tmp_path / "list.jsonl", tmp_path / "out"
    listed.write_text(json.dumps({"text": TEXT, "out": "a.wav"}) + "\n")
    asked = changed(options, subtitles="vtt")
    assert synthesize_batch(listed, asked, out) == 1
    (out / "a.vtt").unlink()
    assert [synthesize_batch(listed, asked, out) for _ in range(2)] == [1, 0]
    assert (out / "a.vtt").is_file()


def test_a_voice_can_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVAE_VOICES", str(tmp_path))
    (tmp_path / "anna.safetensors").write_bytes(b"")
    (tmp_path / "ben.safetensors").write_bytes(b"")
    done = CliRunner().invoke(app, ["voice", "delete", "anna"])
    assert done.exit_code == 0 and "anna" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["ben.safetensors"]
    for name, message in (("anna", "there: ben"), ("../ben", "letters, digits")):
        failed = CliRunner().invoke(app, ["voice", "delete", name])
        assert failed.exit_code == 2 and message in " ".join(failed.output.split())
