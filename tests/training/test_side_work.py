"""What a run does beside learning may fail without ending it, and nothing learned is lost by it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tiny_runs import TTS, VAE, rows_of, tts_config, vae_config, vae_of

from svae.checkpoint import open_checkpoint
from svae.errors import DataError
from svae.runtime.tracking import Tracker
from svae.training.dry_run import dry_run
from svae.training.loop import StopRequest, TrainOptions
from svae.training.tts.judged_speech import JudgedSpeech
from svae.training.tts.train import train_tts
from svae.training.vae.train import train_vae

SPEAK = {"synthesize_every": 2, "synthesize_utterances": 1, "synthesize_steps": 2}


def test_a_synthesis_that_fails_is_a_note_and_the_checkpoint_is_there_before_it(
    toy_tts: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    saved: list[int] = []

    def fail(self: JudgedSpeech, session: object, step: int, model: object) -> dict[str, float]:
        saved.append(open_checkpoint(run, kind="tts").step)
        raise RuntimeError("[CUDA] error")

    monkeypatch.setattr(JudgedSpeech, "row", fail)
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=TTS["trainer"] | SPEAK)
    train_tts(TrainOptions(config, run, device="cpu"))
    assert saved == [2, 4, 5]
    printed = " ".join(capsys.readouterr().out.split())
    assert "synthesising and judging failed, the training goes on: RuntimeError: [CUDA]" in printed
    assert rows_of(run, "synthesis") == []


def test_a_judge_that_fails_costs_its_item_alone(
    toy_tts: Path, tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf:
        def transcribe(self, waveforms: object) -> list[str]:
            raise ValueError("no words")

    monkeypatch.setattr("svae.training.tts.judged_speech.load_asr", lambda spec: Deaf())
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=TTS["trainer"] | SPEAK)
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert [(row["utterances"], row["failed"]) for row in rows_of(run, "synthesis")] == [(0, 1)] * 3


def test_a_sample_that_cannot_be_written_does_not_end_a_run(
    tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("svae.runtime.tracking.draw_mels", full)
    run = train_vae(TrainOptions(vae_config(tone_shards), tmp_path / "run", device="cpu"))
    assert len(rows_of(run, "validation")) == 3


@pytest.mark.parametrize("kind", ["vae", "tts"])
def test_a_validation_that_fails_is_a_note_unless_the_data_are_wrong(
    kind: str,
    toy_tts: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = vae_config(tone_shards) if kind == "vae" else tts_config(tone_shards, vae_of(toy_tts))
    train = train_vae if kind == "vae" else train_tts
    errors: list[Exception] = [RuntimeError("out of memory")] * 9

    def fail(*arguments: object) -> dict[str, float]:
        raise errors.pop()

    monkeypatch.setattr(f"svae.training.{kind}.train._validation_row", fail)
    run = train(TrainOptions(config, tmp_path / "run", device="cpu"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "the validation failed, the training goes on: RuntimeError: out of memory" in printed
    assert rows_of(run, "validation") == [] and rows_of(run, "train")
    errors[:] = [DataError("damaged")]
    with pytest.raises(DataError, match="damaged"):
        train(TrainOptions(config, tmp_path / "other", device="cpu"))


def test_a_duration_fit_that_fails_is_a_note(
    toy_tts: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise RuntimeError("singular")

    monkeypatch.setattr("svae.training.tts.train.fit_predictor", fail)
    config = tts_config(tone_shards, vae_of(toy_tts))
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    printed = " ".join(capsys.readouterr().out.split())
    assert "fitting the duration predictor failed" in printed and "singular" in printed
    assert open_checkpoint(run, kind="tts").step == 5


def test_a_broken_tensorboard_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise TypeError("Descriptors cannot be created directly.")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Broken("tensorboard"))
    notes: list[str] = []
    tracker = Tracker(tmp_path, step=0, note=notes.append)
    tracker.log(1, "train", {"loss": 1.0})
    tracker.close()
    assert len(notes) == 1 and "TypeError: Descriptors" in notes[0]
    assert rows_of(tmp_path, "train")[0]["loss"] == 1.0


def test_a_board_that_fails_later_is_a_note_and_the_rows_are_kept(tmp_path: Path) -> None:
    class Board:
        def add_scalar(self, *arguments: object) -> None:
            raise AttributeError("module 'numpy' has no attribute 'bool8'")

    notes: list[str] = []
    tracker = Tracker(tmp_path, step=0, note=notes.append)
    tracker.begin()
    tracker._board = Board()
    for step in (1, 2):
        tracker.log(step, "train", {"loss": 1.0})
    tracker.close()
    assert len(notes) == 1
    assert len(rows_of(tmp_path, "train")) == 2


@pytest.mark.parametrize("kind", ["vae", "tts"])
def test_without_validation_data_there_is_no_row_and_one_note(
    kind: str,
    toy_tts: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"svae.training.{kind}.train.{HELD_OUT[kind]}", lambda *a, **k: iter(()))
    out = tmp_path / "run"
    if kind == "vae":
        train_vae(TrainOptions(vae_config(tone_shards), out, device="cpu"))
    else:
        train_tts(TrainOptions(tts_config(tone_shards, vae_of(toy_tts)), out, device="cpu"))
    assert rows_of(out, "validation") == []
    printed = " ".join(capsys.readouterr().out.split())  # the console breaks lines where they end
    assert printed.count("no usable utterance is held out") == 1


def test_with_nothing_held_out_nothing_is_said_and_a_note_says_so(
    toy_tts: Path, tone_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = shutil.copytree(tone_shards, tmp_path / "shards")
    index = json.loads((shards / "index.json").read_text()) | {"validation": []}
    (shards / "index.json").write_text(json.dumps(index))
    config = tts_config(shards, vae_of(toy_tts), trainer=TTS["trainer"] | SPEAK | {"steps": 2})
    for command in (dry_run, train_tts):
        command(TrainOptions(config, tmp_path / "run", device="cpu"))
        printed = " ".join(capsys.readouterr().out.split())
        assert printed.count("nothing is said and judged while training") == 1
        assert printed.count("this run has no validation rows") == 1
    assert rows_of(tmp_path / "run", "synthesis") == rows_of(tmp_path / "run", "validation") == []


HELD_OUT = {"vae": "validation_crops", "tts": "validation_batches"}


def test_sigusr1_asks_for_a_stop_and_a_sigterm_after_it_does_not_interrupt_the_saving() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGTERM)


def test_sigusr1_saves_and_exits(
    tone_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svae.training.meter import Meter

    add = Meter.add

    def signalled(self: Meter, *arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        add(self, *arguments)

    monkeypatch.setattr(Meter, "add", signalled)
    trainer = VAE["trainer"] | {"checkpoint_every": 1000}
    config = vae_config(tone_shards, trainer=trainer)
    run = train_vae(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert open_checkpoint(run, kind="vae").step == 1
