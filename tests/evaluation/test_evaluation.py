"""`evaluate` with judges whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import soundfile
import torch

from svae.errors import ConfigError, DataError
from svae.evaluation import makers
from svae.evaluation import options as options_module
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate
from svae.judges.wer import normalize_for_wer
from svae.synthesis.types import Prompt, Synthesis, Utterance
from svae.text.vocabulary import Vocabulary


def clip(path, samples, level=0.5):
    soundfile.write(path, torch.full((samples,), level).numpy(), 16000)


@pytest.fixture
def wav_task(tmp_path):
    """Two items: one said right, one wrong in one word of two; originals both right; the second in another voice."""
    for name, samples, level in (
        ("a", 3000, 0.5),
        ("b", 4000, -0.5),
        ("a0", 5000, 0.5),
        ("b0", 6000, 0.5),
        ("p", 7000, 0.5),
    ):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        clip(
            tmp_path / ("wavs" if len(name) == 1 and name != "p" else "") / f"{name}.wav",
            samples,
            level,
        )
    rows = [
        {"id": "a", "text": "One two three.", "ref": "p.wav", "ref_text": "p", "target": "a0.wav"},
        {"id": "b", "text": "Four five.", "ref": "p.wav", "ref_text": "p", "target": "b0.wav"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = {3000: "one two three", 4000: "four nine", 5000: "one two three", 6000: "four five"}
    options = EvaluateOptions(
        wavs=tmp_path / "wavs",
        list_file=tmp_path / "list.jsonl",
        out=tmp_path / "out",
        device="cpu",
    )
    return options, table


def test_wavs_are_scored_beside_the_originals(wav_task, judged, capsys):
    options, table = wav_task
    judged(table)
    metrics = evaluate(options)
    assert metrics["system"]["wer"] == pytest.approx(0.25)
    assert metrics["system"]["wer_corpus"] == pytest.approx(1 / 5)
    assert metrics["system"]["sim_ecapa"] == pytest.approx(
        0.0
    )  # one is the prompt's voice, one the opposite
    assert metrics["originals"]["wer"] == 0 and metrics["originals"]["sim_ecapa"] == pytest.approx(
        1.0
    )
    assert metrics["judges"]["asr"]["asr"] == "fake"
    assert "originals" in capsys.readouterr().out
    rows = [
        json.loads(line) for line in (options.out / "utterances.jsonl").read_text().splitlines()
    ]
    assert rows[1]["recordings"]["wavs"]["hypothesis"] == "four nine"
    assert rows[1]["recordings"]["wavs"]["substitutions"] == 1
    assert json.loads((options.out / "metrics.json").read_text()) == metrics


@pytest.mark.parametrize("damage", ["missing", "not audio", "empty"])
def test_a_missing_or_unreadable_wav_is_an_error_that_counts(wav_task, judged, capsys, damage):
    options, table = wav_task
    judged(table)
    (options.wavs / "b.wav").unlink()
    if damage != "missing":
        (options.wavs / "b.wav").write_bytes(b"" if damage == "empty" else b"RIFF nothing")
    metrics = evaluate(options)
    assert metrics["system"]["wer"] == pytest.approx((0 + 1) / 2)  # all words of b are deleted
    assert metrics["system"]["wer_corpus"] == pytest.approx(2 / 5)
    assert metrics["system"]["sim_ecapa"] == pytest.approx((1 + 0) / 2)
    assert metrics["system"]["utterances"] == 2 and metrics["system"]["errors"] == 1
    assert [(e["id"], e["recording"]) for e in metrics["errors"]] == [("b", "wavs")]
    rows = [
        json.loads(line) for line in (options.out / "utterances.jsonl").read_text().splitlines()
    ]
    entry = rows[1]["recordings"]["wavs"]
    assert entry["wer"] == 1 and entry["deletions"] == 2 and "b.wav" in entry["error"]
    printed = capsys.readouterr().out
    assert "missing or bad" in printed and "wavs/b" in printed
    clip(options.wavs / "b.wav", 4000, -0.5)
    assert evaluate(options)["errors"] == []  # what failed is not remembered


def test_a_folder_without_any_of_the_wavs_is_refused(wav_task, judged):
    options, table = wav_task
    judged(table)
    with pytest.raises(DataError, match=r"none of the 2 recordings is here, e\.g\. a\.wav"):
        evaluate(replace(options, wavs=options.list_file.parent))


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


def test_without_any_original_the_table_has_a_dash_and_says_why(wav_task, judged, capsys):
    options, table = wav_task
    judged(table)
    rows = [json.loads(line) for line in options.list_file.read_text().splitlines()]
    options.list_file.write_text(
        "".join(json.dumps({**row, "target": None}) + "\n" for row in rows)
    )
    metrics = evaluate(options)
    assert metrics["originals"] is None
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("WER %*"))
    assert line.split()[2] == "—"
    assert "no item names an original recording" in printed


def test_missing_recordings_of_the_list_stop_the_evaluation_before_the_judges_load(
    wav_task, judged, monkeypatch
):
    options, table = wav_task
    judged(table)
    monkeypatch.setattr(
        options_module, "load_asr", lambda spec, device, **settings: pytest.fail("loaded a judge")
    )
    (options.list_file.parent / "b0.wav").unlink()
    with pytest.raises(DataError, match=r"(?s)1 of 3 recordings.*b0\.wav"):
        evaluate(options)


@pytest.mark.parametrize(
    "change",
    [{"limit": 0}, {"reconstruction": True}, {"prompt_guidance": 0.5}, {"temperature": 0.5}],
)
def test_options_that_make_no_sense_are_refused(wav_task, judged, change):
    options, table = wav_task
    judged(table)
    with pytest.raises(ConfigError):
        evaluate(replace(options, **change))


class FakeTTS:
    """Says everything as a constant of a length that depends on the text."""

    sample_rate = 16000
    identity = {"path": "fake", "hash": "0" * 64}
    short_description = "fake"
    device = torch.device("cpu")
    batch_frames = 1

    vocabulary = Vocabulary.from_characters("abcdefghijklmnopqrstuvwxyzFOS.")

    def __init__(self):
        self.said = []
        self.settings = []
        self.fails_at = None

    def duration_rule(self, sampling):
        return "bytes"

    def resolve(self, sampling):
        h = (
            sampling.guidance_scale
            if sampling.prompt_guidance is None
            else sampling.prompt_guidance
        )
        return replace(sampling, num_steps=sampling.num_steps or 32, prompt_guidance=h)

    def in_language(self, language):
        return self

    def encode_prompt(self, waveform, text):
        return Prompt(waveform, text, 1.0, waveform.shape[-1] / self.sample_rate)

    def prepare(self, text, prompt, sampling):
        if text == self.fails_at:
            raise DataError("text: too long")
        return Utterance(text, prompt, sampling, 10, [])

    def speak_prepared(self, utterances):
        return [self.say(utterance) for utterance in utterances]

    def say(self, utterance):
        text, prompt, sampling, *_ = utterance
        self.said.append(text)
        self.settings.append(vars(sampling))
        waveform = torch.full((1, 1, 8000 + 100 * len(normalize_for_wer(text))), 0.5)
        timings = {"sample": float(len(self.said))}
        return Synthesis(waveform, 16000, text, prompt.text, sampling, prompt.seconds, 1.0, timings)


@pytest.fixture
def tts_task(wav_task, judged, monkeypatch):
    options, table = wav_task
    judged(table | {8000 + 1300: "one two three", 8000 + 900: "four five"})
    tts = FakeTTS()
    monkeypatch.setattr(makers, "load_tts", lambda path, device: tts)
    synthesis = EvaluateOptions(
        model=options.wavs,
        list_file=options.list_file,
        out=options.out.with_name("synthesis"),
        device="cpu",
        seeds=(0,),
    )
    return synthesis, tts


def test_synthesis_is_kept_and_only_redone_when_its_settings_change(tts_task):
    options, tts = tts_task
    first = evaluate(options)
    assert first["system"]["wer"] == 0
    assert json.loads((options.out / "timings.json").read_text())[
        "real_time_factor"
    ] == pytest.approx(1.5, abs=0.01)
    assert tts.said == ["One two three.", "Four five."]
    assert first["settings"]["seeds"] == [0] and first["settings"]["model"]["hash"] == "0" * 64
    assert evaluate(options)["system"] == first["system"] and len(tts.said) == 2
    (options.out / "wavs" / "seed-0" / "b.wav").unlink()
    evaluate(options)
    assert tts.said[2:] == ["Four five."]
    evaluate(replace(options, seeds=(1,)))
    assert len(tts.said) == 5


def test_ids_longer_than_a_file_s_name_are_spoken_scored_and_kept(tts_task):
    options, tts = tts_task
    rows = [json.loads(line) for line in options.list_file.read_text().splitlines()]
    for row, char in zip(rows, "ab", strict=True):
        row["id"] = "é" * 150 + char
    options.list_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert evaluate(options)["system"]["wer"] == 0
    made = list((options.out / "wavs" / "seed-0").iterdir())
    assert len(made) == 4 and all(len(path.name.encode()) < 255 for path in made)
    evaluate(options)
    assert len(tts.said) == 2
    found = evaluate(
        replace(
            options,
            model=None,
            wavs=options.out / "wavs",
            out=options.out.with_name("again"),
            seeds=None,
        )
    )
    assert found["system"]["wer"] == 0


def test_what_is_asked_of_the_synthesis_reaches_it_and_is_stored(tts_task, monkeypatch):
    options, tts = tts_task
    asked = {"steps": 8, "guidance": 1.5, "prompt_guidance": 0.5, "temperature": 0.7}
    stored = evaluate(replace(options, **asked))["settings"]
    assert asked.items() <= stored.items() and stored["duration_rule"] == "bytes"
    for settings in tts.settings:
        got = [
            settings[name]
            for name in (
                "num_steps",
                "guidance_scale",
                "prompt_guidance",
                "temperature",
                "duration_rule",
            )
        ]
        assert got == [8, 1.5, 0.5, 0.7, "bytes"]
    for change in (
        {"prompt_guidance": 0.4},
        {"guidance": 1.0},
        {"temperature": 0.8},
        {"steps": 9},
    ):
        made = len(tts.said)
        evaluate(replace(options, **asked | change))
        assert len(tts.said) == made + 2
    monkeypatch.setattr(
        tts, "identity", tts.identity | {"duration_hash": "1" * 64}
    )  # another predictor of durations
    evaluate(replace(options, **asked | {"steps": 9}))
    assert len(tts.said) == made + 4


@pytest.mark.parametrize("damage", ["other wav", "torn sidecar", "other prompt"])
def test_a_wav_that_is_not_the_one_that_was_made_is_made_again(tts_task, damage):
    options, tts = tts_task
    evaluate(options)
    if damage == "other wav":
        clip(options.out / "wavs" / "seed-0" / "a.wav", 5000)
    elif damage == "torn sidecar":
        (options.out / "wavs" / "seed-0" / "a.json").write_text('{"made_wi')
    else:
        clip(options.list_file.parent / "p.wav", 7000, level=0.4)
    metrics = evaluate(options)
    assert tts.said[2:] == (
        ["One two three.", "Four five."] if damage == "other prompt" else ["One two three."]
    )
    assert metrics["system"]["wer"] == 0


def test_several_seeds_are_averaged_with_their_spread(tts_task, monkeypatch):
    """Seed 0 says both right; seed 1 says the second as if it were the first, two errors in two words."""
    options, tts = tts_task
    say = tts.say

    def say_otherwise(utterance):
        result = say(utterance)
        if utterance.sampling.seed == 1 and utterance.text.startswith("Four"):
            return replace(result, waveform=torch.full((1, 1, 8000 + 1300), 0.5))
        return result

    monkeypatch.setattr(tts, "say", say_otherwise)
    metrics = evaluate(replace(options, seeds=(0, 1)))
    assert metrics["system_recordings"] == ["seed 0", "seed 1"] and len(tts.said) == 4
    assert metrics["seeds"]["seed 0"]["wer"] == 0 and metrics["seeds"]["seed 1"][
        "wer"
    ] == pytest.approx(1.5 / 2)
    assert metrics["system"]["wer"] == pytest.approx(0.375)
    assert metrics["system"]["wer_corpus"] == pytest.approx(3 / 10)
    assert metrics["spread"]["wer"] == {
        "mean": pytest.approx(0.375), "sd": pytest.approx(0.75 / 2**0.5), "min": 0, "max": pytest.approx(0.75)
    }  # fmt: skip
    assert metrics["system"]["utterances"] == 2 and metrics["settings"]["seeds"] == [0, 1]
    again = evaluate(
        replace(
            options,
            seeds=None,
            model=None,
            wavs=options.out / "wavs",
            out=options.out.with_name("again"),
        )
    )
    assert again["system"] == metrics["system"] and again["spread"] == metrics["spread"]


def test_speakers_that_nobody_named_are_not_clustered(wav_task, judged):
    options, table = wav_task
    judged(table)
    text = options.list_file.read_text()
    options.list_file.write_text(
        "".join(
            json.dumps({k: v for k, v in json.loads(line).items() if k != "speaker"}) + "\n"
            for line in text.splitlines()
        )
    )
    with pytest.raises(ConfigError, match="2 of 2 items name no speaker"):
        evaluate(replace(options, cluster=True))


def test_a_page_of_an_earlier_run_does_not_stay(wav_task, judged):
    options, table = wav_task
    judged(table)
    evaluate(options)
    assert (options.out / "report.html").is_file()
    evaluate(replace(options, report_megabytes=0))
    assert not (options.out / "report.html").exists()


def test_seeds_of_wavs_that_are_there_cannot_be_chosen(wav_task, judged):
    with pytest.raises(ConfigError, match="--seeds"):
        evaluate(replace(wav_task[0], seeds=(7,)))


def test_an_interrupted_run_continues_and_equals_an_uninterrupted_one(tts_task):
    options, tts = tts_task
    tts.fails_at = "Four five."
    with pytest.raises(DataError, match="item 'b': text: too long"):
        evaluate(options)
    tts.fails_at = None
    continued = evaluate(options)
    assert tts.said == ["One two three.", "Four five."]
    tts.said.clear()
    whole = evaluate(replace(options, out=options.out.with_name("whole")))
    assert continued["system"] == whole["system"] and continued["originals"] == whole["originals"]


def test_texts_the_model_cannot_say_stop_the_evaluation_before_it_begins(tts_task):
    options, tts = tts_task
    options.list_file.write_text(options.list_file.read_text().replace("Four five", "Stra\u00dfe"))
    with pytest.raises(DataError, match=r"(?s)1 of 2 items cannot be synthesised.*'ß'"):
        evaluate(options)
    assert tts.said == []


def test_limit_takes_the_first_items_and_says_so(tts_task):
    options, tts = tts_task
    metrics = evaluate(replace(options, limit=1))
    assert tts.said == ["One two three."]
    assert metrics["list"]["utterances"] == 1 and metrics["list"]["limited_to_first"] == 1
