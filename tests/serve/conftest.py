"""Servers with a tiny model and one saved voice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'svae[serve]'")

from serving import Running, running
from tiny_tts import PROMPT_TEXT, speech

from svae.audio import save_audio
from svae.serve import engine as engine_module
from svae.synthesis.voices import keep_voice


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "ref.flac"
    save_audio(path, speech(), 16000)
    return path


@pytest.fixture(scope="module")
def voices(folder: Path, recording: Path, tmp_path_factory: pytest.TempPathFactory):
    """A folder of saved voices with one in it, `anna`."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("voices")
        patch.setenv("SVAE_VOICES", str(path))
        keep_voice("anna", recording, PROMPT_TEXT, folder, asr="pocketsphinx", device="cpu")
        yield path


@pytest.fixture(scope="module")
def server(folder: Path, voices: Path) -> Iterator[Running]:
    with running(folder) as made:
        yield made


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is closed (as at first), no chunk is spoken."""
    opened, speak = threading.Event(), engine_module.speak_chunks

    def waiting(*arguments):
        assert opened.wait(60)
        return speak(*arguments)

    monkeypatch.setattr(engine_module, "speak_chunks", waiting)
    yield opened
    opened.set()
