from __future__ import annotations

import json

import pytest
import soundfile
import torch

from svae.errors import ConfigError, DataError
from svae.evaluation import run
from svae.evaluation.metrics import normalize_for_wer
from svae.evaluation.run import EvaluateOptions, evaluate


class FakeASR:
    """Hears what a table says, by the length of the clip."""

    description = {"asr": "fake", "model": "table"}

    def __init__(self, table):
        self.table = table

    def transcribe(self, waveforms, sample_rate=16000):
        return [self.table[waveform.shape[0]] for waveform in waveforms]


class FakeSpeaker:
    """Embeds a clip as the sign of its mean."""

    description = {"speaker": "fake", "model": "sign"}

    def embed(self, waveforms, sample_rate=16000):
        return torch.stack([torch.tensor([1.0, 0.0]) * w.mean().sign() for w in waveforms])


@pytest.fixture
def judged(monkeypatch):
    def _judged(table):
        monkeypatch.setattr(run, "load_asr", lambda spec, device: FakeASR(table))
        monkeypatch.setattr(run, "load_speaker_model", lambda spec, device: FakeSpeaker())

    return _judged


def clip(path, samples, level=0.5):
    soundfile.write(path, torch.full((samples,), level).numpy(), 16000)


@pytest.fixture
def wav_task(tmp_path):
    """Two items: one said right, one wrong in one word of two; originals both right; the second in another voice."""
    for name, samples, level in (("a", 3000, 0.5), ("b", 4000, -0.5), ("a0", 5000, 0.5), ("b0", 6000, 0.5), ("p", 7000, 0.5)):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        clip(tmp_path / ("wavs" if len(name) == 1 and name != "p" else "") / f"{name}.wav", samples, level)
    rows = [
        {"id": "a", "text": "One two three.", "ref": "p.wav", "ref_text": "p", "target": "a0.wav"},
        {"id": "b", "text": "Four five.", "ref": "p.wav", "ref_text": "p", "target": "b0.wav"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = {3000: "one two three", 4000: "four nine", 5000: "one two three", 6000: "four five"}
    options = EvaluateOptions(
        wavs=tmp_path / "wavs", list_file=tmp_path / "list.jsonl", out=tmp_path / "out", device="cpu"
    )
    return options, table


def test_wavs_are_scored_beside_the_originals(wav_task, judged, capsys):
    options, table = wav_task
    judged(table)
    metrics = evaluate(options)
    assert metrics["system"]["wer"] == pytest.approx(0.25)
    assert metrics["system"]["wer_corpus"] == pytest.approx(1 / 5)
    assert metrics["system"]["similarity"] == pytest.approx(0.0)  # one is the prompt's voice, one the opposite
    assert metrics["originals"]["wer"] == 0 and metrics["originals"]["similarity"] == pytest.approx(1.0)
    assert metrics["judges"]["asr"]["asr"] == "fake"
    assert "original recordings" in capsys.readouterr().out
    rows = [json.loads(line) for line in (options.out / "utterances.jsonl").read_text().splitlines()]
    assert rows[1]["system"]["hypothesis"] == "four nine" and rows[1]["system"]["substitutions"] == 1
    assert json.loads((options.out / "metrics.json").read_text()) == metrics


def test_a_missing_wav_is_an_error_that_counts(wav_task, judged):
    options, table = wav_task
    judged(table)
    (options.wavs / "b.wav").unlink()
    with pytest.raises(DataError, match=r"1 of 2 recordings are missing: b\.wav"):
        evaluate(options)


def test_model_or_wavs_but_not_both_nor_none(tmp_path):
    for options in (EvaluateOptions(), EvaluateOptions(model=tmp_path, wavs=tmp_path)):
        with pytest.raises(ConfigError, match="either --model"):
            evaluate(options)


def test_an_item_without_an_original_is_noted_not_hidden(wav_task, judged):
    options, table = wav_task
    judged(table)
    rows = [json.loads(line) for line in options.list_file.read_text().splitlines()]
    del rows[1]["target"]
    options.list_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = evaluate(options)
    assert metrics["originals"]["utterances"] == 1 and metrics["system"]["utterances"] == 2
    assert any("1 of 2 items name no original" in note for note in metrics["notes"])


class FakeTTS:
    """Says everything as a constant of a length that depends on the text."""

    sample_rate = 16000
    identity = {"path": "fake", "hash": "0" * 64}
    device = torch.device("cpu")

    class vocabulary:  # noqa: N801
        @staticmethod
        def unknown(text):
            return [c for c in text if c == "ß"]

    def __init__(self):
        self.said = []

    def generate(self, text, prompt_waveform, prompt_text, **settings):
        self.said.append(text)
        size = 8000 + 100 * len(normalize_for_wer(text))

        class Result:
            waveform = torch.full((1, 1, size), 0.5)
            sample_rate = 16000
            real_time_factors = {"total": 0.5}

        return Result()


@pytest.fixture
def tts_task(wav_task, judged, monkeypatch):
    options, table = wav_task
    judged(table | {8000 + 1300: "one two three", 8000 + 900: "four five"})
    tts = FakeTTS()
    monkeypatch.setattr(run, "load_tts", lambda path, device: tts)
    synthesis = EvaluateOptions(
        model=options.wavs, list_file=options.list_file, out=options.out.with_name("synthesis"), device="cpu"
    )
    return synthesis, tts


def test_synthesis_is_kept_and_only_redone_when_its_settings_change(tts_task):
    options, tts = tts_task
    first = evaluate(options)
    assert first["system"]["wer"] == 0 and first["system"]["real_time_factor"] == 0.5
    assert tts.said == ["One two three.", "Four five."]
    (options.out / "wavs" / "b.wav").unlink()
    evaluate(options)
    assert tts.said[2:] == ["Four five."]
    evaluate(EvaluateOptions(**{**options.__dict__, "seed": 1}))
    assert len(tts.said) == 5


def test_texts_the_model_cannot_say_stop_the_evaluation_before_it_begins(tts_task):
    options, tts = tts_task
    options.list_file.write_text(options.list_file.read_text().replace("Four five", "Stra\u00dfe"))
    with pytest.raises(DataError, match=r"(?s)1 of 2 items cannot be synthesised.*'ß'"):
        evaluate(options)
    assert tts.said == []


def test_limit_takes_the_first_items_and_says_so(tts_task):
    options, tts = tts_task
    metrics = evaluate(EvaluateOptions(**{**options.__dict__, "limit": 1}))
    assert tts.said == ["One two three."]
    assert metrics["list"]["utterances"] == 1 and metrics["list"]["limited_to_first"] == 1
