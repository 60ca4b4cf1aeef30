"""Comparing runs: hours without pauses, best values, pictures and tables, refusals."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from matplotlib.image import imread
from tiny_runs import TTS, tts_config, vae_of

from svae.analysis.compare_runs import compare_runs, read_run, running_hours
from svae.errors import DataError
from svae.training.loop import TrainOptions
from svae.training.tts.train import train_tts


def write_run(folder: Path, rows: list[dict], tail: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return folder


def row(step: int, split: str, time: float, session: float | None = 0.0, **values: float) -> dict:
    return {
        "step": step,
        "split": split,
        "time": time,
        **({} if session is None else {"session": session}),
        **values,
    }


def test_hours_are_those_of_running_without_the_pauses_between_sessions() -> None:
    rows = [
        row(0, "validation", 1000 + 360, 1000),
        row(10, "train", 1000 + 3600, 1000),
        row(20, "train", 90000 + 1800, 90000),  # resumed a day later
        row(30, "train", 90000 + 3600, 90000),
        row(40, "train", 500000 + 360, 500000),
    ]
    assert running_hours(rows) == pytest.approx([0.1, 1.0, 1.5, 2.0, 2.1])


def test_rows_without_a_session_count_from_the_first_of_them() -> None:
    rows = [
        row(0, "train", 5000, None),
        row(1, "train", 8600, None),
        row(2, "train", 100000, 98200),
    ]
    assert running_hours(rows) == pytest.approx([0.0, 1.0, 1.5])


def test_clocks_that_go_backwards_take_no_hours_away() -> None:
    rows = [row(0, "train", 4600, 1000), row(1, "train", 4000, 5000), row(2, "train", 8600, 5000)]
    assert running_hours(rows) == pytest.approx([1.0, 1.0, 2.0])


def test_last_and_best_values_are_in_the_table_the_json_and_the_picture(
    tmp_path: Path, capsys
) -> None:  # noqa: ANN001
    a = write_run(
        tmp_path / "a",
        [
            row(100, "validation", 3600, **{"loss/flow": 0.8}),
            row(100, "synthesis", 3600, wer=0.9, similarity=0.2),
            row(200, "synthesis", 7200, wer=0.3, similarity=0.5),
            row(300, "synthesis", 10800, wer=0.4, similarity=0.6, failed=1),
            row(300, "train", 10800, **{"loss/flow": 9.0}),
        ],
        tail='{"step": 301, "spl',
    )
    b = write_run(
        tmp_path / "b", [row(50, "validation", 1800, **{"loss/flow": 0.7, "loss/t=0.2": 1.0})]
    )
    result = compare_runs([a, b], tmp_path / "out")
    first, second = result["runs"]
    assert (first["name"], first["steps"], first["hours"], first["sessions"]) == ("a", 300, 3.0, 1)
    assert {k: first["wer"][k] for k in ("last", "best", "best_step", "best_hours")} == {
        "last": 0.4, "best": 0.3, "best_step": 200, "best_hours": 2.0,
    }  # fmt: skip
    assert first["similarity"]["best_step"] == 300 and first["loss/flow"]["values"] == [0.8]
    assert second["wer"] is None and second["loss/flow"]["last"] == 0.7
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == result
    lines = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    assert (
        lines[2].startswith("| a | 300 | 3.00 | 0.400 | 0.300 | 200 | 0.600 |")
        and "| b | 50 | 0.50 | – |" in lines[3]
    )
    assert {line.count("|") for line in lines} == {13}
    picture = imread(tmp_path / "out" / "comparison.png")
    assert picture.shape[0] > 600 and picture[..., :3].std() > 0.02
    said = capsys.readouterr().out
    assert "Without speech while training (trainer.synthesize_every): b" in " ".join(said.split())
    assert "…" not in said and "at step" in said  # readable in 80 columns


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    rows = [row(1, "validation", 10, **{"loss/flow": 1.0})]
    runs = [write_run(tmp_path / part / "run", rows) for part in ("x", "y")]
    assert [entry["name"] for entry in compare_runs(runs, tmp_path / "out")["runs"]] == [
        "x/run",
        "y/run",
    ]
    with pytest.raises(DataError, match="named twice"):
        compare_runs([runs[0], runs[0]], tmp_path / "out")


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent/metrics.jsonl.*run folder"):
        read_run(tmp_path / "absent")
    with pytest.raises(DataError, match="has no rows"):
        read_run(write_run(tmp_path / "empty", []))
    with pytest.raises(DataError, match="line 1: not a row"):
        read_run(write_run(tmp_path / "damaged", [{"step": 1}, row(1, "train", 1.0)]))
    with pytest.raises(DataError, match="none of the runs"):
        compare_runs([write_run(tmp_path / "young", [row(1, "train", 1.0)])], tmp_path / "out")


def test_a_real_run_can_be_compared(toy_tts: Path, tmp_path: Path) -> None:
    entry = compare_runs([toy_tts], tmp_path / "out")["runs"][0]
    assert entry["sessions"] == 1 and 0 < entry["hours"] < 1 and entry["loss/flow"]["steps"][0] == 0


def test_vaes_are_compared_by_what_they_are_validated_with(tmp_path: Path, capsys) -> None:  # noqa: ANN001
    losses = ((1.5, 1.2), (1.4, 1.3))
    runs = [
        write_run(
            tmp_path / f"vae{number}",
            [
                row(step, "validation", 10.0 * step, **{"loss/mel": mel})
                for step, mel in enumerate(of)
            ],
        )
        for number, of in enumerate(losses)
    ]
    entries = compare_runs(runs, tmp_path / "out")["runs"]
    assert [entry["loss/mel"]["best"] for entry in entries] == [1.2, 1.3]
    assert {
        line.count("|") for line in (tmp_path / "out" / "comparison.md").read_text().splitlines()
    } == {7}
    assert "Without speech" not in capsys.readouterr().out


def test_a_run_without_validation_data_is_compared_and_is_not_the_best(
    toy_tts: Path, tone_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = shutil.copytree(tone_shards, tmp_path / "shards")
    index = json.loads((shards / "index.json").read_text()) | {"validation": []}
    (shards / "index.json").write_text(json.dumps(index))
    config = tts_config(shards, vae_of(toy_tts), trainer=TTS["trainer"] | {"steps": 1})
    run = train_tts(TrainOptions(config, tmp_path / "alone", device="cpu"))
    result = compare_runs([run, toy_tts], tmp_path / "out")
    entries = {entry["name"]: entry["loss/flow"] for entry in result["runs"]}
    assert entries["alone"] is None and entries["tts"]["best"] > 0.1
    assert "| alone | 1 | 0.00 | – |" in (tmp_path / "out" / "comparison.md").read_text()
    assert "0.000" not in capsys.readouterr().out.split("Curves in")[0].split("alone", 1)[1]


def test_what_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    rows = [
        row(step, "synthesis", step, wer=wer, similarity=similarity)
        for step, (wer, similarity) in enumerate(
            [(float("nan"), float("nan")), (0.5, 0.3), (0.4, float("inf")), (float("nan"), 0.2)]
        )
    ]
    lost = [row(1, "synthesis", 1, wer=float("nan"), similarity=0.1)]
    runs = [write_run(tmp_path / "a", rows), write_run(tmp_path / "lost", lost)]
    a, b = compare_runs(runs, tmp_path / "out")["runs"]
    assert (a["wer"]["best_step"], a["similarity"]["best_step"]) == (2, 1)
    assert math.isnan(a["wer"]["last"]) and math.isnan(b["wer"]["best"])


def test_rows_that_are_no_text_are_damage(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", [row(1, "validation", 1, **{"loss/flow": 1.0})])
    good = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(b"\xff\xfe\n" + good)
    with pytest.raises(DataError, match="line 1: not a row of metrics"):
        read_run(run)
    (run / "metrics.jsonl").write_bytes(good + b'{"step": \xff')  # torn by a kill
    assert read_run(run).curves["loss/flow"].values == [1.0]


def test_runs_that_differ_in_the_seed_are_one_line_with_an_interval(tmp_path: Path, capsys) -> None:  # noqa: ANN001
    runs = [
        write_run(
            tmp_path / f"{name}-seed{seed}",
            [
                row(step, "synthesis", step, wer=wer + 0.1 * seed, similarity=0.5)
                for step in (10, 20, 30 + seed)
            ],
        )
        for name, wer in (("a", 0.2), ("b", 0.6))
        for seed in range(3)
    ]
    alone = write_run(tmp_path / "c-seed0", [row(10, "synthesis", 10, wer=0.9, similarity=0.1)])
    result = compare_runs([*runs, alone], tmp_path / "out")
    assert set(result["seeds"]) == {"a", "b"}
    wer = result["seeds"]["a"]["wer"]
    assert wer["steps"] == [10, 20] and wer["number"] == 3  # those that all have
    assert wer["mean"] == pytest.approx([0.3, 0.3])
    assert wer["half_width"] == pytest.approx(
        [4.303 * 0.1 / 3**0.5] * 2
    )  # t with two degrees of freedom
    assert result["seeds"]["b"]["similarity"]["half_width"] == pytest.approx([0, 0])
    assert "0.300 \u00b1 0.248 (step 20)" in (tmp_path / "out" / "comparison.md").read_text(
        encoding="utf-8"
    )
    assert imread(tmp_path / "out" / "comparison.png").ndim == 3
    assert "Over seeds" in capsys.readouterr().out


def test_many_runs_are_readable_in_a_narrow_terminal(tmp_path: Path, capsys) -> None:  # noqa: ANN001
    runs = [
        write_run(
            tmp_path / f"semantic64-other-seed{i}",
            [
                row(900, "validation", 3600, **{"loss/flow": 0.2 + i / 1000}),
                row(900, "synthesis", 3600, wer=0.3 + i / 1000, similarity=0.8 + i / 1000),
            ],
        )
        for i in range(10)
    ]
    compare_runs(runs, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for i in range(10):
        mine = [line for line in lines if f"semantic64-other-seed{i} " in line]
        assert [
            f"{start}0{i}" in line for start, line in zip(("0.3", "0.8", "0.2"), mine, strict=True)
        ] == [True] * 3
