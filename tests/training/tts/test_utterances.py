"""Which utterances train-tts reads, and what it says where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import write_tone_shards
from tiny_runs import TTS, tts_config, vae_of

from svae.errors import DataError
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts


def test_shards_whose_every_utterance_is_held_out_are_refused(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(tone_shards, tmp_path / "shards")
    index = json.loads((shards / "index.json").read_text())
    index["validation"] = [
        json.loads(line)["key"]
        for path in sorted(shards.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    (shards / "index.json").write_text(json.dumps(index))
    config = tts_config(shards, vae_of(toy_tts))
    with pytest.raises(DataError, match=r"all 8 utterances are held out for validation"):
        train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))


def test_shards_whose_every_utterance_is_too_long_are_refused_with_the_reasons(
    tone_shards: Path, toy_tts: Path, tmp_path: Path
) -> None:
    config = tts_config(tone_shards, vae_of(toy_tts), max_seconds=0.35)
    with pytest.raises(DataError, match=r"every utterance is left out \(7 longer than 0.35 s\)"):
        train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))


def test_utterances_with_more_text_than_frames_are_counted_and_not_learned(
    toy_tts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = write_tone_shards(tmp_path / "shards")
    frames = 24  # of the shortest tone, 0.6 s at 40 a second
    path = shards / "shard-00001.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["text"] = "tone " * 8
    assert len(rows[1]["text"].strip()) > frames + 8
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = tts_config(shards, vae_of(toy_tts), trainer=TTS["trainer"] | {"steps": 1})
    for look in (dry_run, train_tts):
        look(TrainOptions(config, tmp_path / "run", device="cpu"))
        printed = " ".join("".join(capsys.readouterr()).split())
        assert "Left out of training: 1 with more text than frames; 6 utterances remain" in printed
