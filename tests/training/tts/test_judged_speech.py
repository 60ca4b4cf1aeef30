"""Speech while training: rows, samples, determinism, and that it leaves the training alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
from tiny_runs import TTS, assert_equal_runs, killed_copy, tts_config, vae_of

from svae import recipe
from svae.config import TTSTrainConfig
from svae.errors import ConfigError, DataError
from svae.synthesis.marks import read_mark
from svae.training.dry_run import dry_run
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts

SPEAK = {"synthesize_every": 2, "synthesize_utterances": 3, "synthesize_steps": 2}


def rows_of(run: Path, split: str) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("time", "session")}
        for row in rows
        if row["split"] == split
    ]


@pytest.fixture(scope="module")
def speaking_run(
    toy_tts: Path, tone_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=TTS["trainer"] | SPEAK)
    return train_tts(
        TrainOptions(config, tmp_path_factory.mktemp("speaking") / "run", device="cpu")
    )


def test_held_out_utterances_are_said_scored_and_kept_every_so_many_steps_and_at_the_end(
    speaking_run: Path,
) -> None:
    rows = rows_of(speaking_run, "synthesis")
    assert [row["step"] for row in rows] == [2, 4, 5]
    for row in rows:
        assert row["utterances"] == 1 and row["failed"] == 0  # one utterance is held out
        assert row["wer"] >= 0 and -1 <= row["similarity"] <= 1
        path = speaking_run / "samples" / f"step-{row['step']:08d}" / "tone-000.wav"
        audio, rate = soundfile.read(path)
        assert rate == 16000 and len(audio) > 0
        mark = read_mark(path)  # it is synthetic
        assert (
            mark is not None
            and mark["tool"].startswith("svae ")
            and set(mark) == {"tool", "vae", "seed"}
        )


def test_speaking_changes_no_bit_of_the_training_and_a_resumed_run_says_the_same(
    speaking_run: Path, toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    silent = tts_config(tone_shards, vae_of(toy_tts))
    assert_equal_runs(
        train_tts(TrainOptions(silent, tmp_path / "silent", device="cpu")), speaking_run, "tts"
    )
    resumed = killed_copy(speaking_run, 2, tmp_path / "run")
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=TTS["trainer"] | SPEAK)
    train_tts(TrainOptions(config, resumed, device="cpu"))
    assert rows_of(resumed, "synthesis") == rows_of(speaking_run, "synthesis")


def test_an_utterance_that_cannot_be_said_is_named_and_counted(
    speaking_run: Path,
    toy_tts: Path,
    tone_shards: Path,
    tmp_path: Path,
    monkeypatch,
    capsys,  # noqa: ANN001
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise DataError("reference: silent")

    monkeypatch.setattr("svae.synthesis.model.TTS.generate", refuse)
    config = tts_config(tone_shards, vae_of(toy_tts), trainer=TTS["trainer"] | SPEAK | {"steps": 1})
    run = train_tts(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert rows_of(run, "synthesis") == [
        {"step": 1, "split": "synthesis", "utterances": 0, "failed": 1}
    ]
    assert "synthesis of tone-000: reference: silent" in capsys.readouterr().out


def test_stored_latents_need_the_recordings_and_say_so_before_step_0(
    toy_tts: Path, tone_shards: Path, tmp_path: Path
) -> None:
    from svae.precompute.latents import EncodeOptions, encode_shards

    latents = encode_shards(
        EncodeOptions(data=tone_shards, vae=vae_of(toy_tts), out=tmp_path / "latents", device="cpu")
    )
    trainer = TTS["trainer"] | SPEAK | {"steps": 1}
    config = tts_config(latents, vae_of(toy_tts), trainer=trainer)
    for start in (train_tts, dry_run):
        with pytest.raises(ConfigError, match="data.waveform_root=DIR"):
            start(TrainOptions(config, tmp_path / "run", device="cpu"))
    assert not (tmp_path / "run").exists()
    tree = recipe.to_tree(config) | {
        "data": {"root": str(latents), "waveform_root": str(tone_shards)}
    }
    config = recipe.build(TTSTrainConfig, tree, where="test")
    assert (
        len(rows_of(train_tts(TrainOptions(config, tmp_path / "two", device="cpu")), "synthesis"))
        == 1
    )
