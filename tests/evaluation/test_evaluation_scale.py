"""Judging in batches, remembered, interrupted, over ranks: always what one uninterrupted run gives."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import soundfile
import torch
from forked_ranks import in_processes

from svae.evaluation import options as options_module
from svae.evaluation.answer_cache import AnswerCache
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate

WORDS = "zero one two three four five six seven eight nine".split()


class CountingASR:
    """Hears words that depend on the clip and, as on a GPU, a little on what else is in its batch."""

    description = {"asr": "counting", "model": "none"}

    def __init__(self):
        self.batches = []
        self.dies_at = None

    def transcribe(self, waveforms, sample_rate=16000):
        if len(self.batches) == self.dies_at:
            raise KeyboardInterrupt
        self.batches.append(len(waveforms))
        neighbours = sum(clip.shape[0] for clip in waveforms)
        return [f"{WORDS[clip.shape[0] % 10]} {WORDS[neighbours % 7]}" for clip in waveforms]


class CountingSpeaker:
    """Embeds a clip as two numbers."""

    description = {"speaker": "counting", "model": "none"}

    def __init__(self):
        self.clips = 0

    def embed(self, waveforms, sample_rate=16000):
        self.clips += len(waveforms)
        return torch.stack(
            [torch.tensor([1.0, float(clip.mean()) * clip.shape[0] % 3]) for clip in waveforms]
        )


def write_task(folder, count):
    (folder / "wavs").mkdir()
    rows = []
    for i in range(count):
        for name, size in ((f"wavs/u{i}", 2000 + 37 * i % 701), (f"o{i}", 1900 + 53 * i % 811)):
            wave = 0.3 * torch.sin(torch.arange(size) * (0.05 + 0.001 * i)) + 0.01
            soundfile.write(folder / f"{name}.wav", wave.numpy(), 16000)
        rows.append(
            {"id": f"u{i}", "text": f"{WORDS[i % 10]} {WORDS[i % 7]}", "ref": f"o{(i + 1) % count}.wav",
             "ref_text": "x", "target": f"o{i}.wav", "speaker": f"s{i % 3}"}
        )  # fmt: skip
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return EvaluateOptions(
        wavs=folder / "wavs", list_file=folder / "list.jsonl", out=folder / "out", device="cpu", batch_size=8,
        report_megabytes=0,
    )  # fmt: skip


@pytest.fixture
def judges(monkeypatch):
    made = {"asr": CountingASR(), "speaker": CountingSpeaker()}
    monkeypatch.setattr(options_module, "load_asr", lambda spec, device, **settings: made["asr"])
    monkeypatch.setattr(options_module, "load_speaker_model", lambda spec, device: made["speaker"])
    return made


def files(options):
    return [
        (options.out / name).read_bytes()
        for name in ("metrics.json", "utterances.jsonl", "table.md")
    ]


def test_a_second_run_asks_nobody_and_writes_the_same_bytes(tmp_path, judges):
    options = write_task(tmp_path, 20)
    evaluate(options)
    first, heard, seen = files(options), len(judges["asr"].batches), judges["speaker"].clips
    assert sum(judges["asr"].batches) == seen == 40  # prompts are originals too: each content once
    for _ in range(2):
        evaluate(options)
        assert files(options) == first
    assert len(judges["asr"].batches) == heard and judges["speaker"].clips == seen


def test_three_runs_from_nothing_write_the_same_bytes(tmp_path, judges):
    options = write_task(tmp_path, 12)
    written = []
    for number in range(3):
        evaluate(replace(options, cache=tmp_path / f"cache{number}"))
        written.append(files(options))
    assert written[0] == written[1] == written[2] and len(judges["asr"].batches) == 12


def test_an_added_judge_costs_only_itself_and_a_changed_wav_only_its_batch(tmp_path, judges):
    options = write_task(tmp_path, 20)
    evaluate(replace(options, speaker="none"))
    assert judges["speaker"].clips == 0 and len(judges["asr"].batches) == 6
    evaluate(options)
    assert judges["speaker"].clips == 40 and len(judges["asr"].batches) == 6
    soundfile.write(options.wavs / "u3.wav", torch.full((2111,), 0.2).numpy(), 16000)
    evaluate(options)
    assert 7 <= len(judges["asr"].batches) <= 9


def test_another_system_costs_only_itself_and_leaves_the_originals_row_alone(tmp_path, judges):
    """The judge's answers depend on what is in a batch; the second system's clips must not get into the originals'."""
    options = write_task(tmp_path, 20)
    first = evaluate(replace(options, cache=tmp_path / "cache"))
    heard, seen = sum(judges["asr"].batches), judges["speaker"].clips
    (tmp_path / "second").mkdir()
    for i in range(20):
        soundfile.write(
            tmp_path / "second" / f"u{i}.wav", torch.full((1950 + 31 * i,), 0.2).numpy(), 16000
        )
    other = replace(
        options, wavs=tmp_path / "second", out=tmp_path / "out2", cache=tmp_path / "cache"
    )
    assert evaluate(other)["originals"] == first["originals"]
    assert sum(judges["asr"].batches) == heard + 20 and judges["speaker"].clips == seen + 20


def test_200_utterances_interrupted_twice_and_resumed_equal_an_uninterrupted_run(tmp_path, judges):
    options = write_task(tmp_path, 200)
    whole = replace(options, cache=tmp_path / "whole")
    evaluate(whole)
    expected, batches = files(whole), len(judges["asr"].batches)
    judges["asr"].batches.clear()
    for dies_at in (13, 30):
        judges["asr"].dies_at = dies_at
        with pytest.raises(KeyboardInterrupt):
            evaluate(options)
        for path in (options.out / "cache").glob("asr-*"):
            path.write_bytes(path.read_bytes()[:-5])  # the kill tore the last line
    judges["asr"].dies_at = None
    evaluate(options)
    assert files(options) == expected
    assert (
        batches < len(judges["asr"].batches) <= batches + 3
    )  # only the torn batches were heard twice


def test_intervals_over_speakers_are_another_thing_and_say_so(tmp_path, judges):
    options = write_task(tmp_path, 30)
    single, clustered = evaluate(options), evaluate(replace(options, cluster=True))
    assert (single["intervals"]["unit"], clustered["intervals"]["unit"]) == ("utterance", "speaker")
    assert single["system"]["wer"] == clustered["system"]["wer"]
    low, high = single["system"]["intervals"]["wer"]
    assert low < single["system"]["wer"] < high
    assert clustered["system"]["intervals"]["wer"] != [low, high]


def test_answers_of_another_judge_are_not_taken(tmp_path):
    cache = AnswerCache(tmp_path, "asr", {"model": "a"})
    cache.add({"k": {"text": "x"}})
    assert AnswerCache(tmp_path, "asr", {"model": "a"}, rank=1).get("k") == {"text": "x"}
    assert AnswerCache(tmp_path, "asr", {"model": "b"}).get("k") is None
    with next(tmp_path.glob("asr-*.0.jsonl")).open("a") as file:
        file.write('{"key": "torn')
    again = AnswerCache(tmp_path, "asr", {"model": "a"})
    again.add({"m": 1})
    assert (again.get("k"), again.get("torn")) == ({"text": "x"}, None)
    assert AnswerCache(tmp_path, "asr", {"model": "a"}).get("m") == 1


def test_answers_that_break_off_anywhere_are_left_out_and_lose_no_others(tmp_path):
    """A process may end within a character: "世" is three bytes."""
    AnswerCache(tmp_path, "asr", {}).add({"k": {"text": "好"}, "m": {"text": "世界"}})
    (path,) = tmp_path.glob("asr-*.jsonl")
    whole = path.read_bytes()
    last = whole.rindex(b'{"key"')
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size])
        again = AnswerCache(tmp_path, "asr", {})
        assert again.get("k") == {"text": "好"}
        assert again.get("m") == (None if size < len(whole) - 1 else {"text": "世界"})
        again.add({"n": {"text": "你"}})
        assert AnswerCache(tmp_path, "asr", {}).get("n") == {"text": "你"}


def test_two_ranks_write_what_one_writes(tmp_path, judges, capfd):
    options = write_task(tmp_path, 10)
    (tmp_path / "wavs" / "u7.wav").unlink()
    evaluate(replace(options, batch_size=3))
    shared = replace(options, out=tmp_path / "out2", batch_size=3)
    capfd.readouterr()
    first, second = in_processes(lambda rank: json.dumps(evaluate(shared)))
    assert first == second
    assert capfd.readouterr().out.count("Results in") == 1
    assert files(options) == files(shared)
    assert json.loads((options.out / "metrics.json").read_text())["errors"][0]["id"] == "u7"
    heard = list((tmp_path / "out2" / "cache").glob("asr-*.jsonl"))
    assert len(heard) == 2  # both ranks heard something
