"""`svae adapt` from recordings to a model that speaks by itself, on networks of milliseconds."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_speech import WORDS as TONES
from fake_speech import FakeAligner, FakeDetector, FakeRecognizer, speak
from safetensors.torch import save_file
from tiny_adapt import QUICK, WORDS, Ear, Voices, options_of, put_judges, record, scripted
from tiny_runs import flatten, rows_of
from tiny_tts import TEXT, changed, speech, write_tts

from svae.audio import load_audio, save_audio
from svae.checkpoint import best_checkpoint, latest_checkpoint, open_checkpoint
from svae.config import JudgesConfig
from svae.data.index import read_index
from svae.errors import CheckpointError, ConfigError, DataError
from svae.models.tts.durations import PhoneDurations
from svae.precompute import phone_times
from svae.recordings import command as prepare_module
from svae.runtime.files import file_sha256
from svae.synthesis import model as synthesis_model
from svae.synthesis.adapter import STUDENT_FILE
from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import synthesize_file
from svae.synthesis.load import load_tts
from svae.synthesis.open_durations import DURATION_FILE
from svae.synthesis.types import Sampling
from svae.text.phone_aligner import AlignmentError
from svae.text.phonemes import FramePhonemes, Word, pieces
from svae.training.adapt import held_out as held_out_module
from svae.training.adapt import run as run_module
from svae.training.adapt.run import adapt, dry_run
from svae.training.adapt.speaker import best_step


@pytest.fixture
def fake_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    put_judges(monkeypatch)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("adapt") / "recordings")


@pytest.fixture(scope="module")
def adapted(
    recordings: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        put_judges(monkeypatch)
        out = tmp_path_factory.mktemp("adapted") / "voice"
        yield adapt(options_of(recordings, folder, out, merge=True))


# ----------------------------------------------------------------------------------------------- what comes out


def test_an_adapted_model_speaks_without_a_reference(adapted, folder, options, tmp_path):
    out = synthesize_file(changed(options, model=adapted, ref=None, ref_text=None))
    report = json.loads(out.with_suffix(".json").read_text())
    assert load_audio(out)[0].abs().max() > 0
    base = open_checkpoint(folder, kind="tts")
    assert report["model"]["adapter"]["base"] == {"model": str(folder), "hash": base.hash}
    assert report["model"]["hash"] != base.hash
    assert report["voice"] == "the model's own" and report["prompt_text"].startswith("tone ")
    line = tmp_path / "list.jsonl"
    line.write_text(json.dumps({"text": TEXT, "out": "a.wav"}))
    listed = changed(options, model=adapted, text=None, ref=None, ref_text=None)
    assert synthesize_batch(line, listed, tmp_path / "many") == 1
    assert synthesize_batch(line, listed, tmp_path / "many") == 0  # kept


def test_a_model_without_a_voice_of_its_own_asks_for_one(options, folder):
    with pytest.raises(ConfigError, match="--ref RECORDING or --voice NAME"):
        synthesize_file(changed(options, model=folder, ref=None, ref_text=None))
    with pytest.raises(ConfigError, match="not both"):
        synthesize_file(changed(options, voice="anna"))


def test_what_a_run_leaves(adapted, recordings):
    assert [row["step"] for row in rows_of(adapted, "synthesis")] == [0, 2, 4]
    assert {"wer", "similarity", "utterances"} <= rows_of(adapted, "recordings")[0].keys()
    report = json.loads((adapted / "adapt.json").read_text())
    assert report["best_step"] == best_step({r["step"]: r for r in rows_of(adapted, "synthesis")})
    assert report["before"]["step"] == 0 and report["judges"]["asr"] == "pocketsphinx"
    assert load_audio(adapted / "hello.wav")[0].abs().max() > 0
    index = read_index(adapted / "data" / "shards")
    assert len(index.samples) == len(WORDS) and len(index.validation) == 2
    prompt = set(report["prompt"].removesuffix(".").split(" "))
    held_out = {sample.text.split()[-1] for sample in index.validation}
    assert not prompt & held_out  # the voice is not judged on its own prompt


def test_an_adapter_is_small_and_says_what_it_is_made_for(adapted, folder):
    checkpoint = open_checkpoint(adapted, kind="adapter")
    assert not (checkpoint.folder / "vae").exists()
    weights = checkpoint.model_state()
    assert {name.rsplit(".", 2)[1] for name in weights} == {"lora_A", "lora_B"}
    assert not any(name.startswith(("text_tower", "time")) for name in weights)
    with pytest.raises(CheckpointError, match="--merge"):
        open_checkpoint(adapted, kind="tts")


def test_training_changes_what_is_said(adapted, folder):
    latest = load_tts(latest_checkpoint(adapted))
    base = load_tts(folder)
    own, theirs = latest.model.state_dict(), base.model.state_dict()
    moved = {name for name in own if not torch.equal(own[name], theirs[name])}
    assert "blocks.1.expand.weight" in moved and "output.weight" in moved
    assert not any(name.startswith(("text_tower", "time")) for name in moved)
    assert all(name.endswith(".weight") for name in moved)


def test_a_merged_model_says_the_same_without_its_base(adapted, folder, options, tmp_path):
    whole = shutil.copytree(adapted / "merged", tmp_path / "whole")
    assert open_checkpoint(whole, kind="tts").hash
    said = {}
    for name, model in {"adapter": adapted, "whole": whole}.items():
        out = tmp_path / f"{name}.wav"
        synthesize_file(changed(options, model=model, ref=None, ref_text=None, out=out))
        said[name] = load_audio(out)[0]
    assert torch.equal(said["adapter"], said["whole"])


# ----------------------------------------------------------------------------------------------- the best point


def test_the_best_point_speaks_though_training_went_on(
    recordings, folder, tmp_path, monkeypatch, fake_judges
):
    scripted(monkeypatch, {0: 0.1, 1: 0.5, 2: 0.4, 3: 0.47, 4: 0.3})
    overrides = (*QUICK, "trainer.synthesize_every=1", "trainer.keep_checkpoints=1", "patience=3")
    run = adapt(options_of(recordings, folder, tmp_path / "run", overrides=overrides))
    assert best_checkpoint(run).name == "step-00000001"
    assert open_checkpoint(run, kind="adapter").step == 1
    assert load_tts(run).identity["step"] == 1
    assert json.loads((run / "adapt.json").read_text())["after"]["similarity"] == 0.5


@pytest.mark.parametrize(
    ("similarity", "best"),
    [
        ({0: 0.1, 1: 0.5, 2: 0.49}, 2),  # as good, as far as the judges can tell
        ({0: 0.1, 1: 0.5, 2: 0.47}, 1),
        ({0: 0.1, 1: 0.5, 2: 0.49, 3: 0.52}, 3),
        ({0: 0.1, 1: 0.49, 2: 0.51, 3: 0.3}, 2),
        ({0: 0.5, 1: 0.49}, 0),  # the start is left only for what is better
        ({0: 0.5, 1: 0.5}, 0),
        ({0: 0.5, 1: 0.51}, 1),
        ({0: 0.5}, 0),
    ],
)
def test_the_last_point_as_good_as_the_best_is_taken(similarity, best):
    rows = {step: {"wer": 0.1, "similarity": value} for step, value in similarity.items()}
    assert best_step(rows) == best
    assert best_step({step: {"utterances": 0.0} for step in similarity}) == 0  # nothing was said


def test_training_ends_where_nothing_gets_better(
    recordings, folder, tmp_path, monkeypatch, fake_judges, capsys
):
    scripted(monkeypatch, {step: -step for step in range(9)})
    overrides = (*QUICK, "trainer.steps=9", "trainer.synthesize_every=1", "patience=2")
    run = adapt(options_of(recordings, folder, tmp_path / "run", overrides=overrides))
    assert latest_checkpoint(run).name == "step-00000002"
    assert open_checkpoint(run, kind="adapter").step == 0
    assert "No point was better than the start" in " ".join(capsys.readouterr().out.split())
    base = load_tts(folder).model.state_dict()
    assert all(torch.equal(base[k], v) for k, v in load_tts(run).model.state_dict().items())


def test_naturalness_counts_where_a_judge_listens():
    better = {"wer": 0.1, "similarity": 0.5, "mos": 3.0}
    assert held_out_module.score(better) > held_out_module.score(better | {"mos": 2.0})
    assert held_out_module.score(better) < held_out_module.score(better | {"wer": 0.0})
    assert held_out_module.score({"utterances": 0}) < held_out_module.score(
        {"wer": 9.0, "similarity": -1.0}
    )


def test_the_time_is_kept(recordings, folder, tmp_path, fake_judges):
    run = adapt(options_of(recordings, folder, tmp_path / "run", minutes=0.0))
    assert latest_checkpoint(run).name == "step-00000000"
    assert (run / "hello.wav").is_file()  # a voice all the same
    run = adapt(options_of(recordings, folder, tmp_path / "run", minutes=5.0))
    assert latest_checkpoint(run).name == "step-00000004"


# ----------------------------------------------------------------------------------------------- interrupted


def test_ctrl_c_stops_and_the_same_command_gives_what_an_uninterrupted_one_gives(
    adapted, recordings, folder, tmp_path, monkeypatch, fake_judges, capsys
):
    step = run_module.train_step
    pressed = []

    def interrupted(state, *rest):
        result = step(state, *rest)
        if state.step == 3 and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(run_module, "train_step", interrupted)
    options = options_of(recordings, folder, tmp_path / "run")
    run = adapt(options)
    assert latest_checkpoint(run).name == "step-00000003"
    assert not (run / "hello.wav").exists()
    assert "the same command continues" in capsys.readouterr().out
    made = (run / "data" / "audio" / "one.flac").stat().st_mtime_ns
    adapt(options)
    assert (run / "data" / "audio" / "one.flac").stat().st_mtime_ns == made
    one, other = (open_checkpoint(latest_checkpoint(r), kind="adapter") for r in (adapted, run))
    assert one.step == other.step == 4
    assert one.hash == other.hash
    a, b = flatten(one.training_state()), flatten(other.training_state())
    assert a.keys() == b.keys()
    for name, value in a.items():
        equal = torch.equal(value, b[name]) if torch.is_tensor(value) else value == b[name]
        assert equal, name
    assert [row["step"] for row in rows_of(run, "synthesis")] == [0, 2, 4]


def test_a_run_is_continued_only_by_what_began_it(
    adapted, recordings, folder, tmp_path, fake_judges
):
    run = shutil.copytree(adapted, tmp_path / "run")
    same = options_of(recordings, folder, run)
    with pytest.raises(ConfigError, match=r"judges\.asr.*do not compare"):
        adapt(replace(same, judges=JudgesConfig(asr="ctc:embedded")))
    with pytest.raises(ConfigError, match=r"lora\.rank"):
        adapt(replace(same, overrides=(*QUICK, "lora.rank=3")))
    with pytest.raises(ConfigError, match="--consent 'Anna agreed': .* with no note"):
        adapt(replace(same, consent=" Anna  agreed"))
    other = record(tmp_path / "other", count=11)
    with pytest.raises(ConfigError, match="other recordings or texts"):
        adapt(replace(same, recordings=other))
    config = load_tts(folder).representation.vae.cfg
    another = write_tts(tmp_path / "another", config, seed=1)
    with pytest.raises(CheckpointError, match="was begun on the weights"):
        adapt(replace(same, model=another))
    assert (run / "metrics.jsonl").read_bytes() == (adapted / "metrics.jsonl").read_bytes()


def test_an_adapter_is_refused_without_its_base(adapted, folder, tmp_path):
    run = shutil.copytree(adapted, tmp_path / "run")
    path = best_checkpoint(run) / "config.json"
    config = json.loads(path.read_text())

    def named(**changes: str) -> None:
        path.write_text(json.dumps(config | {"base": config["base"] | changes}))

    named(model=str(tmp_path / "gone"))
    with pytest.raises(CheckpointError, match="whose base model is not to be had"):
        load_tts(run)
    named(model="embedded")
    with pytest.raises(CheckpointError, match="(?s)was made for the weights.*svae adapt"):
        load_tts(run)
    path.write_text(json.dumps(config | {"base": "x"}))
    with pytest.raises(CheckpointError, match="damaged"):
        load_tts(run)


# ----------------------------------------------------------------------------------------------- what is given


def test_recordings_without_texts_are_transcribed(folder, tmp_path, fake_judges, capsys):
    source = record(tmp_path / "silent", texts=False)
    run = adapt(options_of(source, folder, tmp_path / "run", overrides=(*QUICK, "trainer.steps=1")))
    rows = [json.loads(line) for line in (run / "data" / "recordings.jsonl").open()]
    assert {row["text"] for row in rows} == {"one two"} and len(rows) == len(WORDS)
    told = " ".join(capsys.readouterr().out.split())
    assert "every third word" in told and "recordings.jsonl" in told
    # Corrected, the list is what the next run is given.
    again = adapt(
        options_of(
            run / "data" / "recordings.jsonl",
            folder,
            tmp_path / "again",
            overrides=(*QUICK, "trainer.steps=1"),
        )
    )
    assert (again / "hello.wav").is_file()


def test_what_cannot_be_used_is_named_and_the_rest_is_used(folder, tmp_path, fake_judges, capsys):
    source = record(tmp_path / "mixed")
    save_audio(source / "short.wav", speech(0.3), 16000)
    save_audio(source / "silent.wav", torch.zeros(1, 16000), 16000)
    (source / "broken.mp3").write_bytes(b"no audio")
    for name in ("short", "silent", "broken"):
        (source / f"{name}.txt").write_text("tone one")
    (source / "two.txt").write_text("tone два")
    save_audio(source / "five.wav", speech(2.0, 0.05) + 0.2, 16000)
    run = adapt(options_of(source, folder, tmp_path / "run", overrides=(*QUICK, "trainer.steps=1")))
    told = " ".join(capsys.readouterr().out.split())
    assert "Left out: 4 recordings" in told
    for expected in ("short.wav: 0.30 s", "silent.wav: silent",
                     "broken.mp3: unreadable", "two.wav: "):  # fmt: skip
        assert expected in told
    assert len(read_index(run / "data" / "shards").samples) == len(WORDS) - 1
    assert "Cleaned:" in told and "an offset of" in told
    assert load_audio(run / "data" / "audio" / "five.flac")[0].mean().abs() < 0.01


@pytest.fixture
def fake_cutting(monkeypatch: pytest.MonkeyPatch, fake_judges: None) -> None:
    """Let tones be found, heard and aligned as words."""
    monkeypatch.setattr(run_module, "SileroVAD", FakeDetector)
    monkeypatch.setattr(prepare_module, "SileroVAD", FakeDetector)
    monkeypatch.setattr(prepare_module, "PhoneAligner", FakeAligner)
    monkeypatch.setattr(prepare_module, "load_asr", lambda *_, **__: FakeRecognizer())


def memo(path: Path) -> Path:
    """Write two minutes in which a man speaks, with pauses."""
    dice = random.Random(1)
    words = [word for word in TONES if word not in ("gold", "silver")]  # which do not align
    sentences = [" ".join(dice.sample(words, 10)) for _ in range(24)]
    return speak(path, *(part for sentence in sentences for part in (sentence, 0.8)))


@pytest.mark.parametrize("given", ["a file", "a folder"])
def test_recordings_of_any_length_are_cut_and_transcribed_first(
    given, folder, tmp_path, fake_cutting, capsys
):
    recorded = memo(tmp_path / "source" / "memo.wav")
    save_audio(tmp_path / "source" / "other.wav", speech(1.0), 16000)
    source = recorded if given == "a file" else recorded.parent
    options = options_of(source, folder, tmp_path / "run", overrides=(*QUICK, "trainer.steps=1"))
    dry_run(options)
    assert "to be cut to utterances first" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "run").exists()
    run = adapt(options)
    samples = read_index(run / "data" / "shards").samples
    assert len(samples) >= 12 and all(sample.duration_seconds <= 8 for sample in samples)
    words = {word for sample in samples for word in sample.text.strip(" .").split()}
    assert words == set(TONES) - {"gold", "silver"}
    assert (run / "data" / "cut" / "review.html").is_file()
    adapt(
        replace(options, overrides=(*QUICK, "trainer.steps=2"))
    )  # continues, and cuts nothing anew


def test_a_list_says_itself_what_one_utterance_is(folder, tmp_path, fake_judges):
    source = record(tmp_path / "source")
    for path in source.glob("*.wav"):
        save_audio(path, speech(20.2), 16000)
    rows = [{"audio": f"{word}.wav", "text": f"tone {word}", "speaker": "a"} for word in WORDS]
    (source / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        DataError, match=r"(?s)no usable recording.*20\.2 s long; at most 20 s a row"
    ):
        adapt(options_of(source, folder, tmp_path / "run"))


def without_a_text(source: Path) -> None:
    (source / "three.txt").unlink()
    (source / "four.txt").write_text(" ")


def two_people(source: Path) -> None:
    rows = [
        {"audio": f"{word}.wav", "text": word, "speaker": "ab"[number % 2]}
        for number, word in enumerate(WORDS)
    ]
    (source / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def too_few(source: Path) -> None:
    for word in WORDS[5:]:
        (source / f"{word}.wav").unlink()


def too_short(source: Path) -> None:
    for path in source.glob("*.wav"):
        save_audio(path, speech(0.7), 16000)


def no_audio(source: Path) -> None:
    for path in source.glob("*.wav"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_audio, r"no recording in it"),
        (shutil.rmtree, r"no such file or folder"),
        (without_a_text, r"2 of 12 recordings have no text.*four\.wav, three\.wav"),
        (two_people, r"names 2 speakers \(a, b\)"),
        (too_few, r"too little: 5 usable recordings"),
        (too_short, r"too little: 12 usable recordings, 8 s"),
    ],
)
def test_recordings_that_no_voice_can_be_learned_from(
    damage, message, folder, tmp_path, fake_judges
):
    source = record(tmp_path / "source")
    damage(source)
    with pytest.raises(DataError, match=message):
        adapt(options_of(source, folder, tmp_path / "run"))


def test_other_wrong_inputs(recordings, folder, tmp_path, fake_judges, monkeypatch):
    good = options_of(recordings, folder, tmp_path / "run")
    with pytest.raises(CheckpointError, match="no tts checkpoint here"):
        adapt(replace(good, model=tmp_path))
    with pytest.raises(CheckpointError, match="this is a vae checkpoint"):
        adapt(replace(good, model=folder / "vae"))
    with pytest.raises(ConfigError, match="must be a multiple"):
        adapt(replace(good, overrides=("trainer.checkpoint_every=3",)))
    with pytest.raises(ConfigError, match="unknown key"):
        adapt(replace(good, overrides=("lora.rnk=3",)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        adapt(good)
    assert not (tmp_path / "run").exists()


def test_few_recordings_are_counted_before_their_length_is_known(folder, tmp_path, fake_judges):
    source = record(tmp_path / "source", count=3)
    with pytest.raises(DataError, match=r"too little: 3 usable recordings; at least 6 and 20 s"):
        dry_run(options_of(source, folder, tmp_path / "run"))


def test_a_language_that_nobody_reads_is_refused_before_a_run_begins(
    recordings, folder, tmp_path, fake_judges
):
    for command in (dry_run, adapt):
        with pytest.raises(ConfigError, match="--language 'xx': no rules"):
            command(options_of(recordings, folder, tmp_path / "run", language="xx"))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_writes_nothing(recordings, folder, tmp_path, fake_judges, capsys):
    dry_run(options_of(recordings, folder, tmp_path / "run"))
    told = " ".join(capsys.readouterr().out.split())
    assert "Recordings: 12 with texts; 2 of them would be held out" in told
    assert "Would start in" in told and "rank: 2" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "training/state.pt"])
def test_a_dry_run_refuses_a_damaged_base_and_a_damaged_run_as_the_command_does(
    file, adapted, recordings, folder, tmp_path, fake_judges
):
    base = shutil.copytree(folder, tmp_path / "base")
    run = shutil.copytree(adapted, tmp_path / "run")
    options = options_of(recordings, folder, run)
    dry_run(options)
    if file == "model.safetensors":
        options = replace(options, model=base, out=tmp_path / "new")
        damaged = base / file
    else:
        latest = (run / "checkpoints" / "latest").read_text().strip()
        damaged = run / "checkpoints" / latest / file
    damaged.write_bytes(damaged.read_bytes()[:-10])
    for command in (dry_run, adapt):
        with pytest.raises(CheckpointError, match=f"{damaged}: damaged"):
            command(options)


def test_the_run_folder_may_lie_among_the_recordings(folder, tmp_path, fake_judges):
    source = record(tmp_path / "here")
    options = options_of(source, folder, source / "runs" / "voice")
    options = replace(options, overrides=(*QUICK, "trainer.steps=1"))
    adapt(options)
    adapt(options)  # what the first made is not taken for recordings
    assert len(read_index(options.out / "data" / "shards").samples) == len(WORDS)


def test_texts_that_fit_no_recording_are_an_error(adapted):
    index = read_index(adapted / "data" / "shards")
    with pytest.raises(DataError, match="check the texts"):
        held_out_module.open_held_out(index, [], held_out_module.Judges(Ear(), Voices(), None))


def test_a_student_is_adapted_and_still_speaks_in_one_pass(
    recordings, folder, tmp_path, fake_judges, monkeypatch
):
    """What the voice adds and what the student adds are added up, while training and afterwards."""
    student = shutil.copytree(folder, tmp_path / "student")
    teacher = open_checkpoint(folder, kind="tts").model_state()
    out, width = teacher["output.weight"].shape
    torch.manual_seed(0)
    added = {
        "output.lora_A.weight": torch.randn(2, width),
        "output.lora_B.weight": torch.randn(out, 2),
    }
    save_file(added, student / STUDENT_FILE)
    config = json.loads((student / "config.json").read_text())
    facts = {"steps": 2, "guidance": 1.0, "prompt_guidance": 1.0, "teacher_steps": 4, "scale": 0.1}
    config |= {"student": facts, "num_steps": 2}
    config["files"][STUDENT_FILE] = file_sha256(student / STUDENT_FILE)
    (student / "config.json").write_text(json.dumps(config))
    spoken = {}

    def said(self, tts, prompt, sampling, session, step):
        spoken[step] = tts.model.state_dict()["output.weight"].clone()
        settings = tts.resolve(sampling)
        assert settings.num_steps == 2 and settings.guidance_scale == 0
        return {"wer": 0.5, "similarity": 0.1 * step}

    monkeypatch.setattr(held_out_module.HeldOut, "said", said)
    run = tmp_path / "run"
    overrides = (*QUICK, "trainer.synthesize_steps=2")
    adapt(options_of(recordings, student, run, merge=True, overrides=overrides))
    product = 0.1 * (added["output.lora_B.weight"] @ added["output.lora_A.weight"])
    torch.testing.assert_close(spoken[0], teacher["output.weight"] + product)
    last = max(spoken)
    assert (spoken[last] - spoken[0]).abs().max() > 1e-6
    for model in (run, run / "merged"):
        tts = load_tts(model)
        torch.testing.assert_close(tts.model.state_dict()["output.weight"], spoken[last])
        assert tts.resolve(Sampling()).num_steps == 2


class EvenAligner:
    """Spreads phones evenly; one text does not fit its recording."""

    def align(self, waveform, text):
        if "three" in text:
            raise AlignmentError("does not fit")
        words = [piece for piece in pieces(text) if isinstance(piece, Word)]
        length = waveform.numel() / 16000 / len(words)
        rows = []
        for number, word in enumerate(words):
            count = len(word.phones or "x")
            rows.append([length * (number + part / count) for part in range(count + 1)])
        return rows


def test_a_model_of_one_phone_a_frame_is_adapted_with_times_of_phones(
    folder, tmp_path, monkeypatch, fake_judges, capsys
):
    monkeypatch.setattr(phone_times, "PhoneAligner", EvenAligner)  # reaches forked processes
    monkeypatch.setattr(synthesis_model, "aligner", EvenAligner)
    vocabulary = FramePhonemes()
    durations = {DURATION_FILE: PhoneDurations(len(vocabulary)).state_dict()}
    config = load_tts(folder).representation.vae.cfg
    base = write_tts(tmp_path / "base", config, vocabulary=vocabulary, more=durations)
    overrides = (*QUICK, "trainer.steps=2")
    source = record(tmp_path / "source")
    run = adapt(options_of(source, base, tmp_path / "run", overrides=overrides, merge=True))
    told = " ".join(capsys.readouterr().out.split())
    assert "audio_three: its words do not fit" in told
    assert latest_checkpoint(run).name == "step-00000002"
    tts = load_tts(run)
    assert tts.planner.own.name == "predictor" and tts.identity["duration_hash"]
    whole = open_checkpoint(run / "merged", kind="tts")
    assert whole.state(DURATION_FILE).keys() == durations[DURATION_FILE].keys()
    moved = load_tts(latest_checkpoint(run)).model.state_dict()
    theirs = load_tts(base).model.state_dict()
    assert not torch.equal(moved["output.weight"], theirs["output.weight"])
