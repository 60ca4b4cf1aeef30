"""What a person and a program read of an evaluation."""

from __future__ import annotations

import json
import re

import pytest
from rich.console import Console

from svae.evaluation.report.tables import (
    COLUMNS,
    markdown_table,
    print_results,
    summary_table,
    write_results,
)

ORIGINALS = {
    "wer": 0.1,
    "wer_corpus": 0.08,
    "sim_ecapa": 0.9,
    "utterances": 2,
    "seconds": 5.0,
    "errors": 0,
}
SYSTEM = {
    "wer": 0.25,
    "wer_corpus": 0.2,
    "sim_ecapa": 0.5,
    "utterances": 3,
    "seconds": 7.25,
    "errors": 1,
}
METRICS = {
    "system_name": "voice [v2]",
    "headline": "wer",
    "protocol": {"label": "offline (modified: asr x|y instead of z)"},
    "judges": {
        "asr": {"asr": "fake", "model": "table"},
        "sim_ecapa": {"speaker": "ecapa", "model": "embedded"},
    },
    "list": {"list": "data/[a]/list.jsonl", "utterances": 3},
    "system": SYSTEM | {"intervals": {"wer": [0.2, 0.3]}},
    "originals": ORIGINALS,
    "intervals": {
        "confidence": 0.95,
        "method": "percentile bootstrap",
        "unit": "utterance",
        "resamples": 2000,
    },
    "notes": ["one of [three] has no target"],
}


def printed(metrics, folder) -> list[str]:
    console = Console(width=100, record=True, force_terminal=False)
    with console.capture() as capture:
        print_results(console, metrics, {"real_time_factor": 0.5}, folder)
    return capture.get().splitlines()


def cells(lines: list[str], name: str) -> list[str]:
    return re.split(r" {2,}", next(line for line in lines if line.startswith(name)).strip())


def test_the_originals_stand_before_the_system_with_intervals_in_percent(tmp_path):
    lines = printed(METRICS, tmp_path)
    assert cells(lines, "          ")[-2:] == ["originals", "voice [v2]"]
    assert cells(lines, "WER %*") == ["WER %*", "10.00", "25.00 [20.00, 30.00]"]
    assert cells(lines, "WER %, corpus") == ["WER %, corpus", "8.00", "20.00"]
    assert cells(lines, "sim_ecapa") == ["sim_ecapa", "0.900", "0.500"]
    assert cells(lines, "missing") == ["missing or bad", "0", "1"]


def test_judges_list_and_notes_are_printed_as_they_are(tmp_path):
    text = "\n".join(printed(METRICS, tmp_path))
    for part in (
        "asr: fake (table)",
        "sim_ecapa: ecapa (embedded)",
        "data/[a]/list.jsonl",
        "one of [three] has no",
    ):
        assert part in text
    assert "modified: asr x|y instead of z" in text and "Real-time factor when made: 0.500" in text


def test_a_score_without_a_value_is_left_out_and_zero_is_a_value():
    table = summary_table(METRICS | {"system": {"wer": 0.0, "stoi": None}, "originals": None})
    assert list(table.columns[0].cells) == ["WER %*", "utterances", "seconds"]
    assert list(table.columns[2].cells)[0] == "0.00" and list(table.columns[1].cells)[0] == "—"


def test_the_widest_table_of_two_systems_fits_80_columns():
    row = {"intervals": {}, "utterances": 1127, "seconds": 7236.5}
    for key in COLUMNS:
        row[key], row["intervals"][key] = 0.987, [0.123, 0.999]
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(summary_table(METRICS | {"system": row, "originals": row}))
    lines = capture.get().splitlines()
    assert "…" not in capture.get() and len(lines) == len(COLUMNS) + 3


def test_the_markdown_table_has_a_line_for_each_system_and_its_protocol_below():
    text = markdown_table(METRICS)
    lines = text.splitlines()
    assert lines[0].startswith("|  | WER %\\* | WER %, corpus |") and lines[1].count("|") == lines[
        0
    ].count("|")
    assert lines[3].startswith("| voice [v2] | 25.00 [20.00, 30.00] |")
    assert "asr x\\|y instead of z" in text


def test_results_are_written_whole(tmp_path):
    rows = [{"id": "a", "text": "schön"}, {"id": "b", "text": "x"}]
    write_results(tmp_path, METRICS, rows, {})
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == METRICS
    lines = (tmp_path / "utterances.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows and "schön" in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.json", "table.md", "timings.json", "utterances.jsonl"
    ]  # fmt: skip


def test_a_number_that_json_does_not_know_is_refused_and_the_old_file_stays(tmp_path):
    write_results(tmp_path, METRICS, [], {})
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path, {**METRICS, "system": {"wer": float("nan")}}, [], {})
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")) == METRICS
