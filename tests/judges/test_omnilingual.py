"""omnilingual-asr in a process of its own: a package written here in its place, and, where it is installed, the real one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import soundfile
import tiny_omniasr
import torch

from svae.errors import ConfigError, SvaeError
from svae.evaluation.protocols import FLEURS_LANGUAGES
from svae.judges.asr import load_asr
from svae.judges.omnilingual import ISO_639_3, PYTHON_VARIABLE
from svae.judges.omnilingual_worker import _code

ROOT = Path(__file__).resolve().parents[2]
CARD = "omnilingual:small"
TONE = 0.1 * torch.sin(torch.arange(24000) / 20)


def test_clips_come_back_in_order_at_their_own_rate_and_silence_is_nothing(omnilingual_package):
    recognizer = load_asr(CARD, language="de", batch_size=7)
    heard = recognizer.transcribe([TONE, torch.zeros(24000), TONE[:20000] / 2], 24000)
    assert heard == ["deu_Latn é 24000 24000 7 0.1000", "", "deu_Latn é 20000 24000 7 0.0500"]
    assert recognizer.transcribe([], 24000) == []
    assert recognizer.transcribe([TONE[:16000]]) == ["deu_Latn é 16000 16000 7 0.1000"]
    assert recognizer.description == {
        "spec": CARD,
        "asr": "omnilingual",
        "model": "small",
        "checkpoint": "https://example.org/small.pt",
        "language": "deu_Latn",
        "decoding": "the package's pipeline, its defaults",
        "dtype": "bfloat16",
        "batch_size": 7,
        "omnilingual-asr": "9",
        "fairseq2": "9",
        "torch": metadata.version("torch"),
    }


def test_weights_of_ones_own_are_told_apart(omnilingual_package, tmp_path, monkeypatch):
    own = tmp_path / "own.pt"
    monkeypatch.setenv("OMNILINGUAL_OWN_WEIGHTS", str(own))
    found = []
    for content in (b"one", b"two"):
        own.write_bytes(content)
        description = load_asr(CARD).description
        assert description["checkpoint"] == f"file://{own}"
        assert description["sha256"] == hashlib.sha256(content).hexdigest()
        found.append(description)
    assert found[0] != found[1]


def test_the_language_is_the_packages_as_omnivoice_chooses_it(omnilingual_package):
    told = {
        language: load_asr(CARD, language=language).description["language"]
        for language in ("zh", "yue", "ur")
    }
    assert told == {"zh": "cmn_Hans", "yue": "yue_Hant", "ur": "urd_Latn"}
    with pytest.raises(
        ConfigError, match="(?s)omnilingual:small cannot be loaded.*no language fra"
    ):
        load_asr(CARD, language="fr")


def test_what_is_missing_is_said_with_the_commands_that_help(omnilingual_package, monkeypatch):
    with pytest.raises(
        ConfigError,
        match=r"omnilingual:absent cannot be .*no card of this name \(from OSError: no network\)",
    ):
        load_asr("omnilingual:absent")
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(ConfigError, match="(?s)No module named 'omnilingual_asr'.*pip install omn"):
        load_asr(CARD)
    monkeypatch.setenv(PYTHON_VARIABLE, str(omnilingual_package / "no-python"))
    with pytest.raises(ConfigError, match=f"(?s){PYTHON_VARIABLE}=.*no-python: No such.*-m venv"):
        load_asr(CARD)
    monkeypatch.delenv(PYTHON_VARIABLE)
    with pytest.raises(ConfigError, match="(?s)needs the package omnilingual-asr.*-m venv"):
        load_asr(CARD)


def test_another_program_than_python_is_an_error_not_a_traceback(omnilingual_package, monkeypatch):
    program = omnilingual_package / "program"
    monkeypatch.setenv(PYTHON_VARIABLE, str(program))
    for said in ("hello", "1", r"\0377"):
        program.write_text(f"#!/bin/sh\nprintf '{said}\\n'\n")
        program.chmod(0o755)
        with pytest.raises(
            ConfigError, match="(?s)cannot be loaded: .*program answered .*expected the Python int"
        ):
            load_asr(CARD)


def test_a_refused_clip_is_an_error_and_the_process_goes_on(omnilingual_package):
    recognizer = load_asr(CARD)
    with pytest.raises(
        SvaeError, match=r"omnilingual:small: ValueError: Max audio length.*1 heard .*42\.0 s"
    ):
        recognizer.transcribe([TONE.repeat(42)], 24000)
    assert recognizer.transcribe([TONE], 24000) == ["eng_Latn é 24000 24000 1 0.1000"]


def test_a_process_that_ends_is_an_error(omnilingual_package):
    recognizer = load_asr(CARD)
    for _ in range(2):
        with pytest.raises(SvaeError, match="its process ended with code 3"):
            recognizer.transcribe([TONE[:23000]], 24000)


def test_its_process_ends_with_it(omnilingual_package):
    recognizer = load_asr(CARD)
    process = recognizer._process
    assert process.poll() is None
    del recognizer
    assert process.poll() is not None


@pytest.fixture(scope="module")
def real_python() -> str:
    """Give the interpreter of an environment with the real package."""
    python = os.environ.get(PYTHON_VARIABLE)
    if not python:
        pytest.skip(f"{PYTHON_VARIABLE} names no environment with omnilingual-asr")
    return python


def test_fleurs_has_no_language_that_the_real_package_lacks(real_python):
    code = (
        "from omnilingual_asr.models.wav2vec2_llama.lang_ids import supported_langs as s; print(*s)"
    )
    listed = subprocess.run([real_python, "-c", code], capture_output=True, text=True, check=True)
    supported = listed.stdout.split()
    told = {each: _code(ISO_639_3.get(each, each), supported) for each in FLEURS_LANGUAGES}
    assert len(set(told.values())) == 102
    assert (told["de"], told["zh"], told["ne"], told["sw"]) == (
        "deu_Latn", "cmn_Hans", "nep_Deva", "swh_Latn"
    )  # fmt: skip


def test_texts_are_those_of_the_packages_own_pipeline(real_python, tmp_path, monkeypatch):
    import sentencepiece

    monkeypatch.setenv("FAIRSEQ2_USER_ASSET_DIR", str(tmp_path))
    with (tmp_path / "tokenizer.model").open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["abcdefghijklmnopqrstuvwxyz 'é"] * 9), model_writer=model, model_type="char",
            vocab_size=33, bos_id=0, pad_id=1, eos_id=2, unk_id=3, character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
    tiny_omniasr.write_card(tmp_path, 33)
    clips = sorted((ROOT / "svae/assets/references").glob("*.wav"))[:2]
    clips += sorted((ROOT / "svae/assets/references").glob("*.flac"))[:1]

    def run(*arguments):
        command = [real_python, tiny_omniasr.__file__, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    run("make", tmp_path)
    expected = [json.loads(line) for line in run("hear", "deu_Latn", *clips).splitlines() if line]
    recognizer = load_asr("omnilingual:tiny_llm", language="de")
    heard = []
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        heard += recognizer.transcribe([torch.from_numpy(samples)], rate)
    assert heard == expected
    assert len(set(heard)) == 3 and all(heard)
    assert recognizer.description["dtype"] == "bfloat16"
    own = tmp_path / "model.pt"
    assert recognizer.description["sha256"] == hashlib.sha256(own.read_bytes()).hexdigest()
