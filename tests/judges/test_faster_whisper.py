"""`--asr faster-whisper:…` hears what faster-whisper's own interface hears, exactly."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from svae.audio import load_audio
from svae.errors import ConfigError
from svae.evaluation.protocols import PROTOCOLS
from svae.judges.asr import load_asr
from svae.judges.wer import word_errors

REAL = Path(
    os.environ.get("SVAE_WHISPER_CT2", "~/.cache/real-judges/whisper-base/ct2")
).expanduser()


class FakeModel:
    """Hears the number of samples; clips of more than 2000 make it draw, and what it draws counts up in one model."""

    made: list[dict] = []
    asked: list[dict] = []

    def __init__(self, folder, **settings):
        self.made.append({"folder": folder} | settings)
        self.draws = 0

    def transcribe(self, clip, **settings):
        self.asked.append(settings)
        drawn = clip.size > 2000
        self.draws += drawn
        ending = f" drawn {self.draws}" if drawn else ""
        texts = [f" {clip.size} samples,", f" heard.{ending}"]
        return iter([SimpleNamespace(text=text, temperature=0.2 * drawn) for text in texts]), None


@pytest.fixture
def fake(monkeypatch, tmp_path):
    import faster_whisper

    monkeypatch.setattr(faster_whisper, "WhisperModel", FakeModel)
    FakeModel.made.clear()
    FakeModel.asked.clear()
    (tmp_path / "model.bin").write_bytes(b"weights")
    return f"faster-whisper:{tmp_path}"


def test_segments_are_joined_as_the_engine_writes_them(fake):
    asr = load_asr(fake, language="de", num_beams=1)
    assert asr.transcribe([torch.zeros(1000), torch.zeros(0)]) == ["1000 samples, heard.", ""]
    assert FakeModel.asked == [{"beam_size": 1, "language": "de", "task": "transcribe"}]
    assert asr.description["dtype"] == "float32" and asr.description["asr"] == "faster-whisper"
    assert asr.description["decoding"]["language"] == "de"
    assert len(asr.description["sha256"]) == 64


def test_a_text_does_not_depend_on_what_was_drawn_before(fake):
    clips = [torch.zeros(n) for n in (3000, 1000, 4000)]
    alone = [load_asr(fake).transcribe([clip])[0] for clip in clips]
    assert alone[0] == "3000 samples, heard. drawn 1"
    asr = load_asr(fake, batch_size=3)
    assert asr.transcribe(clips) == alone and asr.transcribe(clips[::-1]) == alone[::-1]


def test_eight_bits_are_another_judge(fake):
    spec = fake.replace("faster-whisper:", "faster-whisper-int8:")
    description = load_asr(spec).description
    assert description["spec"] == spec and description["dtype"] == "int8"
    assert FakeModel.made[-1]["compute_type"] == "int8"


def test_a_real_engine_loads_a_converted_folder(ct2_folder):
    from faster_whisper import WhisperModel

    torch.manual_seed(0)
    clip = 0.1 * torch.randn(16000)
    asr = load_asr(f"faster-whisper:{ct2_folder}")
    own = WhisperModel(str(ct2_folder), device="cpu", compute_type="float32", cpu_threads=1)
    segments, _ = own.transcribe(clip.numpy(), beam_size=5, language="en")
    assert asr.transcribe([clip]) == ["".join(segment.text for segment in segments).strip()]


def test_what_cannot_be_loaded_says_why(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="cannot be loaded.*faster-whisper:FOLDER"):
        load_asr(f"faster-whisper:{tmp_path}")
    with pytest.raises(ConfigError, match="neither a folder nor a hub id"):
        load_asr("faster-whisper:large-v3")
    with pytest.raises(ConfigError, match="unknown; use one of"):
        load_asr("faster-whisper:")
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("faster_whisper"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'svae\[faster-whisper\]'"):
        load_asr(f"faster-whisper:{tmp_path}")


def test_f5s_protocol_runs_f5s_engine():
    assert PROTOCOLS["f5-librispeech-pc"].asr.startswith(
        "faster-whisper:Systran/faster-whisper-large-v3@"
    )
    assert PROTOCOLS["seed-tts-en"].asr.startswith("whisper:openai/whisper-large-v3@")


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "model.bin").is_file(), reason=f"needs Whisper base in {REAL}")
def test_real_weights_hear_what_the_engine_alone_hears(shared):
    """Of files at 16 kHz, which neither resamples."""
    from faster_whisper import WhisperModel

    files = sorted((shared / "data/real-speech/librispeech_test_other").rglob("*.flac"))[:4]
    own = WhisperModel(str(REAL), device="cpu", compute_type="float32")
    asr = load_asr(f"faster-whisper:{REAL}", batch_size=2)
    clips = [load_audio(file)[0][0] for file in files]
    texts = [
        "".join(s.text for s in own.transcribe(str(file), beam_size=5, language="en")[0]).strip()
        for file in files
    ]
    assert asr.transcribe(clips) == texts and len(texts) == 4


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "model.bin").is_file(), reason=f"needs Whisper base in {REAL}")
@pytest.mark.skipif(
    not (REAL.parent / "model.safetensors").is_file(), reason=f"needs Whisper base in {REAL.parent}"
)
def test_engines_and_eight_bits_hear_nearly_the_same(shared):
    """Four recordings of a reader; less than one word in ten is what rounding and other decoding may do."""
    files = sorted((shared / "data/real-speech/librispeech_test_other").rglob("*.flac"))[:4]
    clips = [load_audio(file)[0][0] for file in files]
    specs = [f"whisper:{REAL.parent}", f"whisper-int8:{REAL.parent}", f"faster-whisper:{REAL}"]
    specs.append(f"faster-whisper-int8:{REAL}")
    texts = [" ".join(load_asr(spec).transcribe(clips)) for spec in specs]
    for other in texts[1:]:
        assert word_errors(texts[0], other).rate < 0.1
