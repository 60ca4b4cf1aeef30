"""`svae export` and the runtime package: the same speech without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_tts import DIT, VOCABULARY, speech, write_tts
from tiny_vae import TINY_VAE
from typer.testing import CliRunner

from svae.audio import resample, save_audio
from svae.checkpoint import open_checkpoint, write_checkpoint
from svae.cli import app
from svae.config import SourceFilterConfig, VAEConfig
from svae.errors import ConfigError
from svae.export.folder import ExportOptions, _write_own_voice, export
from svae.export.networks import TOLERANCE, networks, parity
from svae.models.tts.dit import DiT
from svae.models.tts.durations import DurationPredictor, PhoneDurations
from svae.models.tts.flow import keyed_noise
from svae.synthesis.load import load_tts
from svae.synthesis.loudness import measure
from svae.synthesis.marks import read_mark
from svae.synthesis.reference import open_reference
from svae.synthesis.trim import trim_silence
from svae.synthesis.types import Sampling
from svae.synthesis.voices import write_voice
from svae.text.phonemes import FramePhonemes
from svae.text.sentences import _after_marks, split_sentences
from svae.text.spell_out import PlainNumbers, _normalizer

ROOT = Path(__file__).resolve().parents[2]
PHONES = FramePhonemes()
REF_TEXT, TEXT = "The first sentence.", "Hello there, you. It costs 25 dollars."
SOURCE = SourceFilterConfig(channels=8, blocks=1, expansion=1, phase_terms=4, pitch_bins=16)
VAE = VAEConfig(
    latent_dim=8,
    encoder_channels=8,
    encoder_strides=(2, 2),
    encoder_mel_hop=100,
    encoder_mel_bands=20,
    encoder_pitch_window=512,
    encoder_linear_path=True,
    encoder_linear_latents=4,
    attention_heads=2,
    source_filter=SOURCE,
)
SETTINGS = {
    "num_steps": 2,
    "guidance_scale": 2.0,
    "prompt_guidance": 0.5,
    "temperature": 0.8,
    "seed": 5,
}

SPEAK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "svae", "torchaudio", "wetext", "sentencex"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import json
import numpy as np
from svae_runtime import Voice

folder, ref, ref_text, text, settings, out = sys.argv[1:]
voice = Voice.load(folder, threads=1)
speech = voice.speak(text, ref, ref_text, loudness=None, **json.loads(settings))
speech.save(out + ".wav")
np.save(out, speech.waveform)
print(json.dumps(speech.notes))
"""


@pytest.fixture(scope="module")
def phone_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame-level phones with their durations, as the embedded model, and BigVGAN."""
    torch.manual_seed(1)
    durations = PhoneDurations(len(PHONES)).state_dict()
    folder = tmp_path_factory.mktemp("phones") / "model"
    return write_tts(folder, TINY_VAE, vocabulary=PHONES, more={"duration.safetensors": durations})


@pytest.fixture(scope="module")
def voice(phone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "voice"
    return export(ExportOptions(run=phone_model, folder=folder, licence="cc-by-4.0"))


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime package as it is installed, in a folder for sys.path."""
    sys.path.insert(0, str(ROOT / "runtime"))
    try:
        from build_shared import stage
    finally:
        sys.path.pop(0)
    return stage(tmp_path_factory.mktemp("staged"))


@pytest.fixture(scope="module")
def runtime(staged: Path):
    """The runtime package in this process."""
    sys.path.insert(0, str(staged))
    try:
        import svae_runtime.voice

        yield svae_runtime
    finally:
        sys.path.pop(0)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "ref.flac"
    save_audio(path, speech(1.5), 16000)
    return path


def test_graphs_do_what_torch_does_at_lengths_that_the_exporter_did_not_see(
    phone_model: Path, voice: Path
):
    for part in networks(load_tts(phone_model)):
        found = parity(part, (voice / f"{part.name}.onnx").read_bytes(), (2, 63, 101))
        assert max(found.values()) <= TOLERANCE, (part.name, found)


def test_the_folder_says_what_it_is(phone_model: Path, voice: Path):
    about = json.loads((voice / "voice.json").read_text())
    assert about["model_hash"] == open_checkpoint(phone_model, kind="tts").hash
    assert set(about["parity"]) == {"text", "step", "encoder", "decoder", "durations"}
    card = (voice / "README.md").read_text()
    for word in ("cc-by-4.0", about["model_hash"], *about["files"].values()):
        assert word in card


def test_the_runtime_speaks_without_torch_and_svae_what_svae_speaks(
    phone_model: Path, voice: Path, staged: Path, reference: Path, tmp_path: Path
):
    out = tmp_path / "out"
    settings = json.dumps(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-c", SPEAK, voice, reference, REF_TEXT, TEXT, settings, out],
        env=os.environ | {"PYTHONPATH": str(staged), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = spoken_by_svae(phone_model, reference)
    got = np.load(out.with_suffix(".npy"))
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2e-3 * np.abs(expected).max()
    assert out.with_suffix(".wav").stat().st_size > 44 + 2 * len(got)


def spoken_by_svae(model: Path, reference: Path) -> np.ndarray:
    from svae.synthesis.long_text import ChunkJoiner, speak_long
    from svae.text.sentences import prepare_sentences

    tts = load_tts(model)
    console = Console(quiet=True)
    prompt = open_reference(tts, reference, REF_TEXT, asr="pocketsphinx", console=console).prompt
    sentences, _ = prepare_sentences(TEXT, tts.vocabulary, language="en")
    joiner = ChunkJoiner(tts.sample_rate)
    parts = [
        joiner.join(chunk) for chunk in speak_long(tts, sentences, prompt, Sampling(**SETTINGS))
    ]
    return torch.cat([*parts, joiner.rest()]).numpy()


def test_the_runtime_names_what_is_wrong(runtime, voice: Path, reference: Path, tmp_path: Path):
    from svae_runtime.shared.errors import SvaeError

    speaking = runtime.Voice.load(voice)
    cut = Path(shutil.copytree(voice, tmp_path / "cut"))  # a copy that ended early
    words = (cut / "pronunciations.txt").read_bytes()
    (cut / "pronunciations.txt").write_bytes(words[: len(words) // 2])
    wrong = [
        (lambda: runtime.Voice.load(cut), "pronunciations.txt: damaged"),
        (lambda: runtime.Voice.load(tmp_path), "no exported voice"),
        (lambda: speaking.speak("Hello.", reference), "--ref-text"),
        (lambda: speaking.speak("Hello."), "no voice of its own"),
        (lambda: speaking.speak("Hello.", tmp_path / "no.wav", "Hello."), "no such file"),
        (lambda: speaking.speak("Hello.", voice / "voice.json", "Hello."), "cannot be read"),
        (lambda: speaking.speak("", reference, REF_TEXT), "nothing in it is spoken"),
        (lambda: speaking.speak("Hello.", reference, REF_TEXT, stepz=2), "unknown setting"),
        (lambda: speaking.speak("Hello.", reference, REF_TEXT, speed=0.0), "speed"),
    ]
    for call, words in wrong:
        with pytest.raises(SvaeError, match=words):
            call()


def test_a_models_own_voice_comes_with_it(
    runtime, phone_model: Path, voice: Path, reference: Path, tmp_path: Path
):
    tts, console = load_tts(phone_model), Console(quiet=True)
    opened = open_reference(tts, reference, REF_TEXT, asr="pocketsphinx", console=console)
    opened.description["consent"] = "Anna agreed, 2026"
    write_voice(tmp_path / "own.safetensors", opened, tts)
    tts.prompt_file = tmp_path / "own.safetensors"
    folder = Path(shutil.copytree(voice, tmp_path / "voice"))
    consent = _write_own_voice(tts, folder, console)
    about = json.loads((folder / "voice.json").read_text())
    assert about["consent"] is None  # the model that was exported has no voice
    (folder / "voice.json").write_text(json.dumps(about | {"consent": consent}))
    settings = {"num_steps": 1, "guidance_scale": 0.0}
    speaking = runtime.Voice.load(folder)
    own = speaking.speak("Hello.", **settings)
    given = runtime.Voice.load(voice).speak("Hello.", reference, REF_TEXT, **settings)
    np.testing.assert_allclose(own.waveform, given.waveform, atol=1e-3)
    own.save(tmp_path / "own.flac")
    assert read_mark(tmp_path / "own.flac")["consent"] == "Anna agreed, 2026"
    assert "consent" not in speaking.speak("Hello.", reference, REF_TEXT, **settings).said


def test_the_runtime_draws_svaes_noise(runtime):
    from svae_runtime.noise import keyed_noise as drawn

    for seed, key, channels, frames in (
        (0, "a", 64, 3),
        (7, "Hello.", 8, 100),
        (2**40, "é", 1, 16),
    ):
        expected = keyed_noise(seed, key, channels, frames).numpy()
        np.testing.assert_allclose(drawn(seed, key, channels, frames), expected, atol=2e-5)


def test_the_runtime_reads_and_measures_recordings_as_svae_does(runtime):
    from svae_runtime import audio

    waveform = torch.cat([torch.zeros(1, 9000), speech(0.7), 1e-4 * speech(0.5)], dim=1)
    for rate in (16000, 44100, 48000, 8000):
        got = audio.resample(waveform[0].numpy(), rate, 16000)
        np.testing.assert_allclose(got, resample(waveform, rate, 16000)[0].numpy(), atol=1e-5)
        trimmed = audio.trim_silence(waveform[0].numpy(), rate)
        np.testing.assert_array_equal(trimmed, trim_silence(waveform, rate)[0].numpy())
    for seconds in (0.3, 0.7, 2.0):
        loud = speech(seconds)[0]
        ours = measure(loud, 16000, audio.integrated_loudness)
        assert ours == pytest.approx(measure(loud, 16000), abs=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "I have 3 apples.",
        "It is 25 of 12345.",
        "Pi is 3.14.",
        "In all 100, at least.",
        "0",
    ],
)
def test_plain_numbers_are_read_as_the_grammar_reads_them(text: str):
    assert PlainNumbers("en").normalize(text) == _normalizer("en").normalize(text)


def test_other_numbers_are_refused_where_there_is_no_grammar():
    with pytest.raises(ConfigError, match="12x"):
        PlainNumbers("en").normalize("It is 12x.")


def test_marks_divide_as_sentencex_does():
    for text in (
        'He said "No." Then he left. Why? Because! It was 5.',
        "One sentence only, with J. Smith in it",
        "First (so they say.) Second one.",
    ):
        assert [part.strip() for part in _after_marks("en", text)] == split_sentences(text, "en")


def test_what_cannot_be_exported_is_named(tmp_path: Path, phone_model: Path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    result = CliRunner().invoke(app, ["export", str(phone_model), "--onnx", str(tmp_path / "full")])
    assert result.exit_code == 2 and "not empty" in result.output
    tts = load_tts(phone_model)
    monkeypatch.setattr(tts.vocabulary, "tokens", "pinyin")
    with pytest.raises(ConfigError, match="pinyin"):
        networks(tts)
    tts.representation = object.__new__(__import__("svae.models.mel").models.mel.MelFrames)
    with pytest.raises(ConfigError, match="vocoder"):
        networks(tts)


def test_characters_a_decoder_with_a_source_and_text_durations(tmp_path: Path):
    """Such a decoder's phase makes much of little, so whole chains are compared with the other one."""
    predictor = DurationPredictor(len(VOCABULARY)).state_dict()
    model = write_tts(tmp_path / "model", VAE, more={"duration.safetensors": predictor})
    folder = export(ExportOptions(run=model, folder=tmp_path / "voice"))
    for part in networks(load_tts(model)):
        found = parity(part, (folder / f"{part.name}.onnx").read_bytes(), (2, 63))
        assert max(found.values()) <= TOLERANCE, (part.name, found)
    assert (folder / "durations.onnx").is_file()
    assert "none stated" in (folder / "README.md").read_text()


def test_a_students_network_is_the_one_that_speaks(tmp_path: Path, runtime, reference: Path):
    model = write_tts(tmp_path / "model", TINY_VAE)
    checkpoint = open_checkpoint(model, kind="tts")
    layer = "blocks.0.expand"
    weight = checkpoint.model_state()[f"{layer}.weight"]
    added = {
        f"{layer}.lora_A.weight": torch.randn(1, weight.shape[1]),
        f"{layer}.lora_B.weight": torch.randn(weight.shape[0], 1),
    }
    student = {
        "steps": 2,
        "guidance": 1.0,
        "prompt_guidance": 1.0,
        "teacher_steps": 4,
        "scale": 1.0,
    }
    config = {k: v for k, v in checkpoint.config.items() if k not in ("files", "format")}
    write_checkpoint(
        tmp_path / "student",
        config=config | {"student": student},
        model_state=checkpoint.model_state(),
        vae_folder=model / "vae",
        more={"student.safetensors": added},
    )
    folder = export(ExportOptions(run=tmp_path / "student", folder=tmp_path / "voice"))
    tts = load_tts(tmp_path / "student")
    plain = DiT(DIT, len(tts.vocabulary), 8)
    assert not torch.equal(tts.model.blocks[0].expand.weight, plain.blocks[0].expand.weight)
    step = next(part for part in networks(tts) if part.name == "step")
    assert max(parity(step, (folder / "step.onnx").read_bytes(), (5,)).values()) <= TOLERANCE
    speaking = runtime.Voice.load(folder)
    assert speaking.speak("Hello.", reference, "the first sentence").said["seed"] == 0
    from svae_runtime.shared.errors import ConfigError as RuntimeConfigError

    with pytest.raises(RuntimeConfigError, match="student"):
        speaking.speak("Hello.", reference, "the first sentence", guidance_scale=2.0)


@pytest.mark.slow
def test_int8_is_near_and_smaller(phone_model: Path, voice: Path, tmp_path: Path):
    folder = export(ExportOptions(run=phone_model, folder=tmp_path / "int8", int8=True))
    about = json.loads((folder / "voice.json").read_text())
    assert 0 < about["parity"]["step"]["int8_difference"] < 0.2


@pytest.mark.slow
def test_the_wheel_speaks_with_the_embedded_model_in_an_environment_without_torch(
    tmp_path: Path, shared: Path
):
    folder = export(ExportOptions(run=Path("embedded"), folder=tmp_path / "voice"))
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", ROOT / "runtime"], check=True)
    found = subprocess.run(
        [python, "-m", "pip", "list"], capture_output=True, text=True, check=True
    )
    assert "torch" not in found.stdout
    ref = ROOT / "svae" / "assets" / "references" / "flite-slt.wav"
    texts = json.loads(ref.with_name("references.json").read_text())
    said = next(row["text"] for row in texts if row["audio"].endswith("flite-slt.wav"))
    command = [tmp_path / "env" / "bin" / "svae-speak", folder, "--ref", ref, "--text", "Hello."]
    out = tmp_path / "x.wav"
    subprocess.run([*command, "--ref-text", said, "--out", out], check=True)
    assert out.stat().st_size > 8000
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--ref-text" in refused.stderr
