"""The recordings of an evaluation are spoken together and are what each is alone."""

from __future__ import annotations

import json

import pytest
import soundfile
from rich.console import Console
from tiny_tts import PROMPT_TEXT, speech, write_tts
from tiny_vae import TINY_VAE

from svae.audio import save_audio
from svae.errors import DataError
from svae.evaluation.items import Item
from svae.evaluation.make import synthesize_items, synthesized_items
from svae.evaluation.recordings import recording_from_file
from svae.runtime.distributed import open_world
from svae.synthesis.load import load_tts
from svae.synthesis.model import TTS
from svae.synthesis.types import Sampling
from svae.text import espeak

TEXTS = ["Hello there, you.", "Here on.", "Hello, you are here."]


@pytest.fixture
def make(folder, tmp_path):
    """Speak items of three lengths with two seeds and return the samples by seed and item."""
    tts = load_tts(folder)
    items = []
    for i, text in enumerate(TEXTS):
        save_audio(tmp_path / f"{i}.wav", speech(0.6 + 0.3 * i), 16000)
        prompt = recording_from_file(tmp_path / f"{i}.wav")
        items.append(Item(f"i{i}", text, prompt, PROMPT_TEXT, None, "s"))

    def _make(name, frames, items=items):
        tts.batch_frames = frames
        with open_world("cpu") as world:
            synthesize_items(
                tts,
                items,
                [0, 3],
                sampling=tts.resolve(Sampling(num_steps=2)),
                folder=tmp_path / name,
                world=world,
                console=Console(quiet=True),
            )
        made, factors = synthesized_items(items, [0, 3], tmp_path / name)
        assert len(factors) == 2 * len(items) and min(factors) > 0
        return {
            (seed, key): recording.path
            for seed, of_item in made.items()
            for key, recording in of_item.items()
        }

    return _make, items


@pytest.mark.parametrize("frames", [0, 200, 10_000])
def test_wavs_do_not_depend_on_who_is_spoken_with_them(make, frames, monkeypatch):
    make, items = make
    sizes, together = [], TTS._speak_together

    def watching(tts, utterances):
        sizes.append(len(utterances))
        return together(tts, utterances)

    monkeypatch.setattr(TTS, "_speak_together", watching)
    made = make("together", frames)
    assert sum(sizes) == 6 and max(sizes) == {0: 1, 200: 2, 10_000: 6}[frames]
    for item in items:
        for key, path in make(f"alone-{item.id}", 0, [item]).items():
            if frames == 0:
                assert made[key].read_bytes() == path.read_bytes()
            a, b = soundfile.read(made[key])[0], soundfile.read(path)[0]
            assert len(a) == len(b) and abs(a - b).max() <= 1e-3


def test_an_item_that_cannot_be_said_is_named(make):
    make, items = make
    long = Item("long one", "here " * 2000, items[0].prompt, PROMPT_TEXT, None, "s")
    with pytest.raises(DataError, match="item 'long one': text: .* s are possible"):
        make("bad", 10_000, [items[0], long])


def test_wavs_of_another_language_are_made_again(tmp_path, monkeypatch):
    """Where the language decides what a text is read as; of other models, wavs of before know nothing of it."""
    monkeypatch.setattr(espeak, "espeak_language", lambda language: language)
    monkeypatch.setattr(espeak, "_phones", lambda text, language: text[:: 1 if language == "en" else -1])  # fmt: skip
    save_audio(tmp_path / "ref.wav", speech(), 16000)
    prompt = recording_from_file(tmp_path / "ref.wav")
    item = Item("i0", TEXTS[0], prompt, PROMPT_TEXT, None, "s")
    models = {
        "reads": write_tts(tmp_path / "espeak", TINY_VAE, vocabulary=espeak.EspeakVocabulary()),
        "spells": write_tts(tmp_path / "characters", TINY_VAE),
    }

    def made(model, language, out):
        tts = load_tts(models[model]).in_language(language)
        sampling = tts.resolve(Sampling(num_steps=2))
        with open_world("cpu") as world:
            synthesize_items(tts, [item], [0], sampling=sampling, folder=tmp_path / out, world=world, console=Console(quiet=True))  # fmt: skip
        wav = tmp_path / out / "seed-0/i0.wav"
        return wav.read_bytes(), json.loads(wav.with_suffix(".json").read_text())["made_with"]

    english, german = made("reads", "en", "out"), made("reads", "de", "out")
    assert german[0] == made("reads", "de", "alone")[0] != english[0]
    assert "language" not in made("spells", "de", "spelled")[1]
