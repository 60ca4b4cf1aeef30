"""What a person and a program read of an evaluation."""

from __future__ import annotations

import json
import re

import pytest
from rich.console import Console

from svae.evaluation.report import COLUMNS, print_results, summary_table, write_results

ORIGINALS = {"wer": 0.1, "wer_corpus": 0.08, "similarity": 0.9, "utterances": 2, "seconds": 5.0}
SYSTEM = {"wer": 0.25, "wer_corpus": 0.2, "similarity": 0.5, "utterances": 3, "seconds": 7.25, "real_time_factor": 0.5}
METRICS = {
    "system_name": "voice [v2]",
    "judges": {"asr": {"asr": "fake", "model": "table"}, "speaker": {"speaker": "ecapa", "model": "embedded"}},
    "list": {"list": "data/[a]/list.jsonl", "utterances": 3},
    "system": SYSTEM,
    "originals": ORIGINALS,
    "notes": ["one of [three] has no target"],
}


def printed(metrics, folder) -> list[str]:
    console = Console(width=140, record=True, force_terminal=False)
    with console.capture() as capture:
        print_results(console, metrics, folder)
    return capture.get().splitlines()


def cells(lines: list[str], name: str) -> list[str]:
    return re.split(r" {2,}", next(line for line in lines if line.startswith(name)).strip())


def test_the_originals_stand_above_the_system_in_percent(tmp_path):
    lines = printed(METRICS, tmp_path)
    assert cells(lines, "originals") == ["originals", "10.0", "8.0", "0.900", "—", "2", "5.0"]
    assert cells(lines, "voice [v2]") == ["voice [v2]", "25.0", "20.0", "0.500", "0.500", "3", "7.2"]
    assert [line.split()[0] for line in lines if line.startswith(("originals", "voice"))] == ["originals", "voice"]


def test_judges_list_and_notes_are_printed_as_they_are(tmp_path):
    text = "\n".join(printed(METRICS, tmp_path))
    for part in ("asr: fake (table)", "speaker: ecapa (embedded)", "data/[a]/list.jsonl", "one of [three] has no"):
        assert part in text
    assert "metrics.json" in text


def test_a_column_without_a_value_is_left_out_and_zero_is_a_value():
    table = summary_table({"a": {"wer": 0.0, "stoi": None}})
    assert [str(column.header) for column in table.columns] == ["", "WER %", "n", "s"]
    assert list(table.columns[1].cells) == ["0.0"]


def test_the_widest_table_fits_80_columns():
    row = {key: 0.123 for key in COLUMNS if key != "real_time_factor"} | {"utterances": 1127, "seconds": 7236.5}
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_table({"originals": row, "reconstruction": row}))
    lines = capture.get().splitlines()
    assert "…" not in capture.get() and sum("7236.5" in line for line in lines) == 2


def test_results_are_written_whole(tmp_path):
    rows = [{"id": "a", "text": "schön"}, {"id": "b", "text": "x"}]
    write_results(tmp_path, METRICS, rows)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == METRICS
    lines = (tmp_path / "utterances.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows and "schön" in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "utterances.jsonl"]


def test_a_number_that_json_does_not_know_is_refused_and_the_old_file_stays(tmp_path):
    write_results(tmp_path, METRICS, [])
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path, {**METRICS, "system": {"wer": float("nan")}}, [])
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == METRICS
