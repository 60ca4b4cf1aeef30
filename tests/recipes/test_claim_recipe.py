"""The claim experiment (recipes/claim): its plan, its runner, what it reports of known results; slow: all of it on a few clips."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from fake_shards import make_shards

from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.data.timings import DESCRIPTION, Timings, timings_name
from svae.errors import DataError

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "recipes" / "claim"
sys.path.insert(0, str(SCRIPTS))
import claim  # noqa: E402
import claim_carry  # noqa: E402
import claim_jobs  # noqa: E402
import claim_list  # noqa: E402
import claim_numbers  # noqa: E402
import claim_pace  # noqa: E402
import claim_report  # noqa: E402
import claim_speech  # noqa: E402
from claim_jobs import Stage, Stages, run_stages  # noqa: E402

# ----------------------------------------------------------------------------------------------- the plan


def plan(**changes) -> list[Stage]:
    return list(claim.stages_of(replace(claim.Settings(), **changes)))


def test_every_stage_needs_stages_that_come_before_it():
    seen: set[str] = set()
    for stage in plan():
        assert stage.name not in seen
        assert set(stage.needs) <= seen, stage.name
        seen.add(stage.name)


def test_a_complete_answer_comes_before_further_seeds():
    names = [stage.name for stage in plan()]
    first = [f"judge-{kind}-v0-seed0" for kind in claim.KINDS]
    further = [name for name in names if name.endswith(("seed1", "seed2")) or "-v1" in name]
    assert max(map(names.index, first)) < min(map(names.index, further))
    judged = [name for name in names if name.startswith("judge-")]
    assert len(judged) == 6 * 2 * 3 + 3  # mel frames come from no VAE


def test_further_vaes_can_be_made_where_the_first_ones_are_not():
    first, both, second = plan(vae_seeds=1), plan(), plan(first_vae=1, vae_seeds=1)
    names = {stage.name for stage in second}
    assert names <= {stage.name for stage in both}
    assert all(f"-{claim.MEL}-" in name for name in names if "-v0" in name)
    assert names | {stage.name for stage in first} == {stage.name for stage in both}


@pytest.mark.parametrize("tiny", [False, True])
def test_every_training_is_a_recipe_that_holds(tiny):
    settings = claim.Settings()
    if tiny:
        kinds = {"int": int, "Path": Path, "Path | None": Path, "float": float, "str": str}
        types = {f.name: kinds[str(f.type)] for f in claim.fields(claim.Settings)}
        given = {name: types[name](value) for name, value in claim.TINY.items()}
        settings = replace(settings, **given)
    others = " ".join(f"semantic64+{name}" for name in claim.OTHER_MODELS)
    kinds = f"{settings.kinds} {' '.join(claim.EXTRA)} {others}"
    seen = set()
    settings = replace(settings, kinds=kinds, vae_seeds=1, tts_seeds=1)
    for stage in claim.stages_of(settings):
        for command in stage.commands:
            for verb, cls in (("train-vae", VAETrainConfig), ("train-tts", TTSTrainConfig)):
                if verb in command:
                    sets = [v for o, v in zip(command, command[1:], strict=False) if o == "--set"]
                    config = recipe.load(cls, str(SCRIPTS / f"{verb[6:]}.yaml"), sets)
                    seen.add(stage.name.split("-")[1])
                    if stage.name.startswith("vae-vanilla"):
                        assert config.loss.alignment is None and config.teacher.cache is None
                    if stage.name.startswith("vae-semantic"):
                        assert config.loss.alignment == 1.0 and config.teacher.cache is not None
    assert set(kinds.split()) <= seen | {"mel"}


def test_vaes_of_a_width_differ_in_their_alignment_alone():
    commands = {stage.name: stage.commands[0] for stage in plan() if stage.name.startswith("vae-")}
    for width in (16, 32, 64):
        one, other = (commands[f"vae-{kind}{width}-v0"] for kind in ("vanilla", "semantic"))
        sets = [{v for o, v in zip(c, c[1:], strict=False) if o == "--set"} for c in (one, other)]
        differing = {each.split("=")[0] for each in sets[0] ^ sets[1]}
        assert differing == {"loss.alignment", "teacher.cache", "teacher.model", "teacher.layer"}


# ----------------------------------------------------------------------------------------------- the runner


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claim_jobs, "POLL_SECONDS", 0.01)


def shell(name: str, script: str, *needs: str, **more) -> Stage:
    return Stage(name, (("sh", "-c", script),), needs, **more)


def run(stages: list[Stage], out: Path, **more) -> int:
    return run_stages(Stages(stages, out), root=out, jobs=2, environment=dict(os.environ), **more)


def test_stages_run_once_in_order_and_again_with_another_budget(tmp_path, quick):
    log = tmp_path / "ran"

    def stages(budget: str) -> list[Stage]:
        return [
            shell("data", f"echo data >> {log}"),
            shell("train", f"echo train >> {log}", "data", budget=budget),
            shell("judge", f"echo judge >> {log}", "train"),
        ]

    assert run(stages("10 steps"), tmp_path) == 0
    assert run(stages("10 steps"), tmp_path) == 0
    assert log.read_text().split() == ["data", "train", "judge"]
    assert run(stages("20 steps"), tmp_path) == 0
    assert log.read_text().split() == ["data", "train", "judge", "train", "judge"]
    spent = [json.loads(line) for line in (tmp_path / "hours.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in spent] == ["data", "train", "judge", "train", "judge"]


def test_what_fails_is_said_and_stops_only_what_needs_it(tmp_path, quick, capsys):
    stages = [
        shell("bad", "echo out of memory; exit 3"),
        shell("after", "touch after", "bad"),
        shell("other", "touch other"),
        shell("cut", "true", complete=lambda: "no checkpoint"),
    ]
    assert run(stages, tmp_path) == 1
    said = capsys.readouterr().out
    assert "bad: FAILED" in said and "ended with 3" in said and "out of memory" in said
    assert "cut: FAILED" in said and "no checkpoint" in said
    assert (tmp_path / "other").exists() and not (tmp_path / "after").exists()
    assert [stage.name for stage in Stages(stages, tmp_path).left()] == ["bad", "after", "cut"]


TRAINING = (
    "trap 'echo saved > state; exit 0' INT; test -e state && exit 0; touch begun; sleep 60 & wait"
)


def test_a_deadline_stops_trainings_which_then_go_on(tmp_path, quick, monkeypatch):
    def clock() -> float:
        """It is an hour later as soon as the training can be stopped."""
        return time.monotonic() + 3600 * (tmp_path / "begun").exists()

    monkeypatch.setattr(claim_jobs, "time", SimpleNamespace(**vars(time) | {"monotonic": clock}))
    stages = [shell("train", TRAINING, complete=lambda: None)]
    assert run(stages, tmp_path, deadline=time.monotonic() + 3600) == 0
    assert (tmp_path / "state").read_text() == "saved\n" and not (tmp_path / "done/train").exists()
    assert run(stages, tmp_path) == 0 and (tmp_path / "done" / "train").exists()


def test_a_signal_stops_the_experiment_and_a_second_process_is_refused(tmp_path):
    script = f"""
import sys; sys.path.insert(0, {str(SCRIPTS)!r})
from pathlib import Path; import os
from claim_jobs import *
out = Path({str(tmp_path)!r})
stage = Stage("train", (("sh", "-c", {TRAINING!r}),))
sys.exit(run_stages(Stages([stage], out), root=out, jobs=1, environment=dict(os.environ)))
"""
    first = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    while not (tmp_path / "begun").exists():
        assert first.poll() is None
        time.sleep(0.02)
    second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert second.returncode == 1 and "running in another process" in second.stderr
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=300) == 130
    assert (tmp_path / "state").read_text() == "saved\n"


def test_what_a_finished_stage_needed_is_not_made_again(tmp_path, quick):
    stages = [
        shell("data-all", "touch data"),
        shell("train-a", "touch a", "data-all"),
        shell("judge-a", "touch judged-a", "train-a"),
        shell("train-b", "touch b", "data-all"),
    ]
    plan = Stages(stages, tmp_path)
    plan.mark("train-a")  # it came from another machine
    assert plan.wanted(["judge"]) == {"judge-a"}
    assert run(stages, tmp_path, only=["judge"]) == 0
    assert (tmp_path / "judged-a").exists() and not (tmp_path / "data").exists()
    assert Stages(stages, tmp_path).wanted() == {"data-all", "train-b"}


# ----------------------------------------------------------------------------------------------- lists, parcels


def test_what_is_learned_and_said_is_chosen_alike_every_time(tmp_path):
    rows = []
    for number in range(20):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.zeros(16000), 16000)
        rows.append({"audio": path.name, "text": f"sentence {number}", "speaker": "a"})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = claim_list.read_rows(tmp_path / "train.jsonl")
    few, more = claim_list.chosen(read, 5 / 3600), claim_list.chosen(read, 10 / 3600)
    assert len(few) == 5 and len(more) == 10 and all(row in more for row in few)
    voices = [{"ref": f"{i}.wav", "ref_text": f"own {i}", "text": f"of the next {i}"} for i in "ab"]
    said = claim_list.what_is_said(voices, 6)
    assert [row["id"] for row in said] == [f"{i:03d}" for i in range(6)]
    assert said[0]["text"] == "of the next a" and said[2]["text"] == "of the next b"
    assert len({row["text"] for row in said}) == 6
    assert {row["ref"] for row in said} == {"a.wav", "b.wav"}
    copied = claim_list.with_copy({"ref": str(tmp_path / "3.wav"), "text": "x"}, tmp_path / "out")
    claim_list.write_rows(tmp_path / "out" / "say.jsonl", [copied])
    [row] = claim_list.read_rows(tmp_path / "out" / "say.jsonl")
    assert Path(row["ref"]).read_bytes() == (tmp_path / "3.wav").read_bytes()
    assert row["ref"] == str(tmp_path / "out" / "voices" / "3.wav")


def test_times_of_phones_hold_for_the_same_recordings_at_another_rate(tmp_path):
    of = make_shards(tmp_path / "16k", shards=2)
    other = make_shards(tmp_path / "24k", shards=2, texts={0: "other bytes"})
    make_shards(tmp_path / "fewer", shards=1)
    times = tmp_path / "times"
    times.mkdir()
    row = {"key": "u3", "words": [[0.0, 0.25, 0.5]]}
    (times / timings_name(0)).write_text(json.dumps(row) + "\n")
    (times / timings_name(1)).write_text("")
    (times / DESCRIPTION).write_text(json.dumps({"aligner": "by hand", "source": of.source_hashes}))
    with pytest.raises(DataError, match="other shards"):
        Timings(times).select(other)

    claim_speech.retime(other.root, times, of.root, tmp_path / "times-24k")
    found = Timings(tmp_path / "times-24k")
    assert [sample.key for sample in found.select(other).samples] == ["u3"]
    assert json.loads((tmp_path / "times-24k" / DESCRIPTION).read_text())["aligner"] == "by hand"
    with pytest.raises(DataError, match="other shards"):
        claim_speech.retime(of.root, times, other.root, tmp_path / "no")
    with pytest.raises(SystemExit, match="do not hold the same recordings"):
        claim_speech.retime(tmp_path / "fewer", times, of.root, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_parcel_brings_back_results_first_and_names_what_stays(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    sizes = {
        "results/speech-mel-v0-seed0.json": 2000,
        "done/tts-mel-v0-seed0": 10,
        "done/shards": 10,
        "said/mel-v0-seed0/8/000.wav": 9000,  # judged
        "said/vanilla16-v0-seed0/8/000.wav": 6000,
        "vae/a-v0/checkpoints/step-00000008/model.safetensors": 5000,
        "vae/a-v0/checkpoints/step-00000008/training/state.pt": 5000,
    }
    for name, size in sizes.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(bytes(size))
    monkeypatch.setattr(claim_carry, "PART_BYTES", 12000)
    monkeypatch.setattr(claim_carry, "PARTS", 2)
    left = claim_carry.pack(out, tmp_path / "parcel")
    assert [path.name for path in left] == [
        "state.pt"
    ] and "no room for 1" in capsys.readouterr().out
    claim_carry.take(tmp_path / "parcel", tmp_path / "home")
    came = {
        str(p.relative_to(tmp_path / "home")) for p in (tmp_path / "home").rglob("*") if p.is_file()
    }
    judged, stayed = list(sizes)[3], list(sizes)[-1]
    assert came == set(sizes) - {judged, stayed, "done/shards"}  # shards are made again


# ----------------------------------------------------------------------------------------------- the report


def write_results(folder: Path, wer: dict[str, list[list[float]]]) -> None:
    """Write results of some kinds: WER by seed and step (8 and 16), the same for all of 10 sentences of 10 words but the last."""
    folder.mkdir(parents=True)
    for kind, seeds in wer.items():
        for seed, by_step in enumerate(seeds):
            name = f"{kind}-v0-seed{seed}"
            rows = {
                str(step): [
                    {"id": f"{i:03d}", "words": 10, "wer": value, "mos": 3.0 + i / 10, "sim": None}
                    for i in range(10)
                ]
                for step, value in zip((8, 16), by_step, strict=True)
            }
            (folder / f"speech-{name}.json").write_text(json.dumps({"judges": "x", "rows": rows}))
            facts = {"flow": {"8": 1.0, "16": 0.5}}
            (folder / f"run-{name}.json").write_text(json.dumps(facts))
        pace = {"seconds_per_step": 2.0 if kind == "mel" else 1.0}
        (folder / f"pace-{kind}.json").write_text(json.dumps(pace))
    for kind, mos, rank in (
        ("vanilla64", 3.6, 20.0),
        ("semantic64", 3.65, 10.0),
        ("vanilla16", 3.4, 5.0),
    ):
        row = {"id": "000", "words": 4, "wer": 0.25, "mos": mos, "sim": 0.9}
        (folder / f"reconstruction-{kind}-v0.json").write_text(
            json.dumps({"rows": {f"reconstruction-{kind}-v0": [row, row]}})
        )
        (folder / f"inspect-{kind}-v0.json").write_text(
            json.dumps(
                {
                    "effective_rank": rank,
                    "mean": [0.0] * 64,
                    "kl": [1.0] * 64,
                    "phone_probe": {"accuracy": 0.01 * rank},
                }
            )
        )


@pytest.fixture
def results(tmp_path):
    write_results(
        tmp_path / "results",
        {
            "vanilla64": [[0.9, 0.8], [0.7, 0.6]],
            "semantic64": [[0.8, 0.5], [0.6, 0.3]],
            "vanilla16": [[0.5, 0.2]],
            "mel": [[0.4, 0.1]],
        },
    )
    return tmp_path / "results"


def test_the_report_says_what_the_results_say(results, tmp_path):
    found = claim_report.report(results, tmp_path / "report")
    assert found["last"] == 16 and found["kinds"] == ["vanilla16", "vanilla64", "semantic64", "mel"]
    of = found["curves"]["semantic64"]["wer"]["16"]
    assert of["mean"] == pytest.approx(40.0) and of["runs"] == 2
    assert of["high"] - of["mean"] == pytest.approx(
        12.706 * 10.0, rel=1e-3
    )  # t of one degree of freedom
    alone = found["curves"]["vanilla16"]["wer"]["16"]
    assert alone["runs"] == 1 and alone["low"] == pytest.approx(20.0)  # all sentences alike
    # mel frames take twice as long a step: after the 16 seconds of the others they are at step 8.
    assert found["seconds"] == 16.0 and found["at_seconds"]["mel"]["wer"] == pytest.approx(40.0)
    assert found["at_seconds"]["vanilla64"]["wer"] == pytest.approx(70.0)
    [test] = [each for each in found["tests"] if each["score"] == "wer"]
    assert (test["a"], test["b"], test["seeds"]) == ("vanilla64", "semantic64", 2)
    assert test["difference"] == pytest.approx(-30.0) and test["by_seed"] == pytest.approx(
        [-30, -30]
    )
    assert test["interval_over_seeds"] == pytest.approx((-30, -30))
    assert test["by_step"] == pytest.approx({8: -10.0, 16: -30.0})
    assert test["p"] == pytest.approx(2 / 2**10) and test["p_holm"] >= test["p"]
    assert not [each for each in found["tests"] if each["score"] == "sim"]  # nobody judged it
    (results / "pace-mel.json").write_text(json.dumps({"seconds_per_step": 0.5}))
    (results / "pace-vanilla16.json").unlink()
    again = claim_numbers.gather(results)
    assert again["seconds_per_step"]["mel"] == 0.5 and again["seconds"] == 8.0
    assert again["at_seconds"]["mel"]["wer"] == pytest.approx(10.0)
    assert "vanilla16" not in again["seconds_per_step"]  # what was not measured is not guessed
    assert again["at_seconds"]["vanilla16"]["wer"] is None
    # WER 70, 40, 20 at ranks 20, 10, 5.
    assert found["correlations"]["effective rank"] == {
        "rho": pytest.approx(1.0),
        "representations": 3,
    }
    assert found["correlations"]["KL"]["rho"] is None  # all the same
    assert (tmp_path / "report" / "claim.png").read_bytes().startswith(b"\x89PNG")


def test_the_tables_leave_empty_what_is_not_known_and_say_what_is_unequal(results, tmp_path):
    text = claim_report.tables(claim_numbers.gather(results))
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.split("\n")}
    assert "40.0 [" in lines["semantic64"] and lines["semantic64"].count("|") == lines["mel"].count(
        "|"
    )
    assert set(lines["semantic32"].replace("semantic32", "").replace("|", "").strip()) == set()
    assert "Student's t): WER % -30.0 [-30.0, -30.0] (2 pairs); MOS +0.00" in text
    assert "All: 0.25 (vanilla16 to semantic64), NOT alike." in text
    assert "Of the pairs below: 0.05 (vanilla64 to semantic64), alike." in text
    second = json.loads((results / "reconstruction-vanilla64-v0.json").read_text())
    second["rows"]["reconstruction-vanilla64-v0"][0]["mos"] = 4.0  # 3.8 with the other clip
    (results / "reconstruction-vanilla64-v1.json").write_text(
        json.dumps({"rows": {"v1": second["rows"]["reconstruction-vanilla64-v0"]}})
    )
    (results / "reconstruction-vanilla16-v0.json").unlink()
    text = claim_report.tables(claim_numbers.gather(results))
    assert "All: 0.05 (semantic64 to vanilla64), alike." in text  # 3.65 and the mean of 3.6 and 3.8
    assert "Of the pairs below: -0.05 (vanilla64 to semantic64), alike." in text


def test_without_any_result_there_are_tables_with_empty_cells(tmp_path):
    (tmp_path / "results").mkdir()
    found = claim_report.report(tmp_path / "results", tmp_path / "report")
    assert found["last"] is None and found["tests"] == []
    assert "semantic64 − vanilla64 |  |" in (tmp_path / "report" / "claim.md").read_text()
    assert not (tmp_path / "report" / "claim.png").exists()


TRAINS = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
folder.mkdir()
steps = int(next(a for a in sys.argv if a.startswith("trainer.steps=")).partition("=")[2])
while time.process_time() < 0.3:  # starting
    pass
with open(folder / "metrics.jsonl", "w") as metrics:
    for step in range(1, min(steps, {end}) + 1):
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
        metrics.write(json.dumps({{"step": step, "split": "train"}}) + "\\n")
        metrics.flush()
"""


def test_the_pace_is_processor_seconds_between_two_steps():
    found = claim_pace.pace([sys.executable, "-c", TRAINS.format(end=1000)], 5, 55)
    assert found == pytest.approx(0.02, rel=0.2)  # with the start it would be 0.026


def test_a_training_that_ends_before_has_no_pace():
    with pytest.raises(SystemExit, match="ended with code 0 before step 9"):
        claim_pace.pace([sys.executable, "-c", TRAINS.format(end=4)], 2, 9)


def test_only_what_stands_between_the_marks_is_replaced(results, tmp_path):
    page = f"before\n{claim_report.BEGIN}\nold\n{claim_report.END}\nafter\n"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "claim.md").write_text(page)
    claim_report.report(results, tmp_path / "report", tmp_path / "docs")
    text = (tmp_path / "docs" / "claim.md").read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "semantic64" in text and (tmp_path / "docs" / "claim.png").is_file()
    with pytest.raises(SystemExit, match="has no lines"):
        claim_report.replaced("a page", "text")


def test_the_page_has_the_marks():
    text = (ROOT / "docs" / "claim.md").read_text()
    assert claim_report.replaced(text, "new").count("new") >= 1


def test_a_run_is_kept_in_few_numbers_and_its_old_checkpoints_go(tmp_path):
    row = {"step": 8, "split": "validation", "time": 300.0, "session": 100.0, "loss/flow": 0.7}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    for step in (4, 8):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    claim_numbers.keep_run(tmp_path, tmp_path / "kept.json")
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept == {"flow": {"8": 0.7}}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000008"]


# ----------------------------------------------------------------------------------------------- all of it


@pytest.mark.slow
def test_the_whole_experiment_on_a_few_clips_stops_and_goes_on(tmp_path):
    command = [
        sys.executable,
        str(SCRIPTS / "claim.py"),
        "--tiny",
        "--out",
        str(tmp_path / "claim"),
    ]
    first = subprocess.run([*command, "--minutes", "0.3"], capture_output=True, text=True)
    assert first.returncode == 0 and "stages are left" in first.stdout, first.stdout + first.stderr
    rest = subprocess.run(command, capture_output=True, text=True)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    found = json.loads((tmp_path / "claim" / "report" / "claim.json").read_text())
    assert set(found["kinds"]) == {"semantic16", "vanilla16", "mel"} and found["last"] == 4
    assert found["tests"] and found["inspect"]["semantic16-v0"]["phone probe"] is not None
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "done after" not in again.stdout
