"""`svae synthesize` as a function: files, transcripts, reports, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_tts import PROMPT_TEXT, TEXT, changed

from svae.errors import CheckpointError, ConfigError, DataError
from svae.synthesis.command import SynthesizeOptions, synthesize_file
from svae.synthesis.reference import fit_transcript
from svae.text.vocabulary import Vocabulary


def test_the_same_command_writes_the_same_bytes(options: SynthesizeOptions) -> None:
    first = synthesize_file(options).read_bytes()
    again = synthesize_file(changed(options, out=options.out.with_name("again.wav"))).read_bytes()
    other = synthesize_file(
        changed(options, out=options.out.with_name("other.wav"), seed=6)
    ).read_bytes()
    assert first == again != other


def test_the_json_tells_how_the_audio_was_made(
    options: SynthesizeOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    out = synthesize_file(options)
    row = json.loads(out.with_suffix(".json").read_text())
    info = soundfile.info(out)
    assert info.samplerate == row["sample_rate"] == 16000 and info.channels == 1
    assert info.duration == pytest.approx(row["generated_seconds"])
    assert (row["seed"], row["steps"], row["guidance"], row["speed"]) == (5, 2, 2.0, 1.0)
    assert (row["prompt_guidance"], row["temperature"]) == (2.0, 1.0)
    assert (
        row["text"] == TEXT
        and row["prompt_text"] == PROMPT_TEXT + "."
        and row["prompt_text_from"] == "given"
    )
    assert row["real_time_factors"].keys() == {"encode", "sample", "decode", "total"}
    config = json.loads((options.model / "config.json").read_text())
    assert row["model"]["hash"] == config["files"]["model.safetensors"]
    assert row["model"]["vae_hash"] == config["vae_hash"]
    printed = capsys.readouterr().out
    assert "Real-time factor" in printed and "svae evaluate" in printed


def test_a_stereo_reference_of_another_rate_is_taken(
    options: SynthesizeOptions, tmp_path: Path
) -> None:
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, torch.randn(44100, 2).numpy() * 0.1, 44100)
    out = synthesize_file(changed(options, ref=stereo))
    assert json.loads(out.with_suffix(".json").read_text())["prompt_seconds"] == 1.0


def test_without_its_text_the_reference_is_transcribed_and_the_transcript_printed(
    options: SynthesizeOptions, heard: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    heard.append("What was heard!")
    row = json.loads(
        synthesize_file(changed(options, ref_text=None)).with_suffix(".json").read_text()
    )
    assert row["prompt_text"] == "what was heard." and row["asr"] == {"asr": "stand-in"}
    assert "what was heard" in capsys.readouterr().out


@pytest.mark.parametrize("sentence", ["", "  ", "seventy 7", "..!"])
def test_unusable_transcripts_point_to_ref_text(
    options: SynthesizeOptions, heard: list[str], sentence: str
) -> None:
    heard.append(sentence.replace("..", ""))
    with pytest.raises(DataError, match="--ref-text"):
        synthesize_file(changed(options, ref_text=None))
    assert not options.out.exists()


def test_transcripts_lose_case_and_punctuation_but_no_sounds() -> None:
    upper = Vocabulary.from_characters("ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
    assert fit_transcript("Well-known, isn't it?", upper) == "WELL KNOWN ISN'T IT"
    assert (
        fit_transcript("kept as it is", Vocabulary.from_characters("kept as it is"))
        == "kept as it is"
    )
    assert "4" in fit_transcript("route 4", upper)


def test_wrong_inputs_are_refused(options: SynthesizeOptions, tmp_path: Path) -> None:
    text_file = tmp_path / "text.wav"
    text_file.write_text("not audio")
    cases = [
        ({"ref": tmp_path / "missing.wav"}, DataError, "missing.wav"),
        ({"ref": text_file}, DataError, "text.wav"),
        ({"text": " "}, DataError, "--text"),
        ({"text": "Ünknown"}, DataError, "'Ü'"),
        ({"model": tmp_path}, CheckpointError, "tts checkpoint"),
        ({"model": options.model / "vae"}, CheckpointError, "vae checkpoint"),
        ({"out": tmp_path / "x.mp3"}, ConfigError, ".wav or .flac"),
        ({"out": text_file / "x.wav"}, ConfigError, "--out"),
        ({"ref": None}, ConfigError, "--ref RECORDING or --voice"),
        ({"voice": "anna"}, ConfigError, "--ref RECORDING or --voice"),
        ({"text_file": text_file}, ConfigError, "--text or --text-file"),
        ({"text": None, "text_file": tmp_path / "no.txt"}, DataError, "no.txt: No such file"),
        ({"language": "tlh"}, ConfigError, "en, zh, ja"),
        ({"device": "abacus"}, ConfigError, "abacus"),
        ({"num_steps": 0}, ConfigError, "steps"),
    ]
    for changes, error, message in cases:
        with pytest.raises(error) as caught:
            synthesize_file(changed(options, **changes))
        assert message in str(caught.value)
