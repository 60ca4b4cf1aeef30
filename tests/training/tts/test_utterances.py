"""Which utterances train-tts reads, and what it says where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TTS, tts_config, vae_of
from tone_shards import write_tone_shards

from svae import recipe
from svae.config import TTSTrainConfig
from svae.data.index import read_index
from svae.data.timings import DESCRIPTION, timings_name
from svae.errors import DataError
from svae.text.phonemes import FramePhonemes, Word, pieces
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import held_out_batches, train_tts
from svae.training.tts.utterances import TrainingData, limits_of, open_data


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


def write_times(root: Path, shards: Path) -> Path:
    """Write times of phones as `svae align` does: every phone of an utterance lasts a hundredth of a second."""
    index = read_index(shards)
    root.mkdir()
    source = [shard["sha256"] for shard in index.shards]
    (root / DESCRIPTION).write_text(json.dumps({"source": source}))
    for number in range(len(source)):
        lines = []
        for sample in index.samples_of(number):
            words = [piece for piece in pieces(sample.text) if isinstance(piece, Word)]
            times = [[n + i / 100 for i in range(len(w.phones) + 1)] for n, w in enumerate(words)]
            lines.append(json.dumps({"key": sample.key, "words": times}) + "\n")
        (root / timings_name(number)).write_text("".join(lines))
    return root


def test_times_of_phones_go_with_the_folder_that_is_validated_on_and_with_every_source(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    other = write_tone_shards(tmp_path / "other", shards=1, seconds=0.5)
    times = write_times(tmp_path / "times", tone_shards)
    other_times = write_times(tmp_path / "other-times", other)
    base = TTS | {"vae": str(vae_of(toy_tts)), "tokens": "frame-phonemes"}

    def held_out(data: dict[str, Any]) -> tuple[TrainingData, list[int]]:
        config = recipe.build(TTSTrainConfig, base | {"data": data}, where="test")
        found = open_data(config)
        vocabulary = FramePhonemes()
        batches = held_out_batches(
            found.validation, vocabulary, found.validation_timings, config, limits_of(config, 400)
        )
        for sample in found.train.train:
            assert found.timings is not None
            ids = found.timings.frames(sample, vocabulary, 16000, 400)
            assert len(ids) == -(-sample.num_samples // 400)
        return found, [len(batch.keys) for own in batches.values() for batch in own]

    data = {"root": str(tone_shards), "timings": str(times)}
    data |= {"validation_root": str(other), "validation_timings": str(other_times)}
    found, sizes = held_out(data)
    assert len(found.train.samples) == 8 and len(found.validation.samples) == 4 and sizes == [1]
    with pytest.raises(DataError, match="holds the times of other shards"):
        held_out(data | {"validation_timings": str(times)})

    pairs = [(tone_shards, times), (other, other_times)]
    found, sizes = held_out(
        {"sources": [{"root": str(root), "timings": str(each)} for root, each in pairs]}
    )
    assert len(found.train.samples) == 12 and sizes == [1, 1]
