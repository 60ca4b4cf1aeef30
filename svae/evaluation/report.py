"""The table a person reads and the files a program reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

COLUMNS: dict[str, tuple[str, str]] = {
    "wer": ("WER %", "percent"),
    "wer_corpus": ("WER %\ncorpus", "percent"),
    "similarity": ("sim.\nprompt", "number"),
    "similarity_to_original": ("sim.\norig.", "number"),
    "mel_distance": ("mel\ndist.", "number"),
    "stoi": ("STOI", "number"),
    "pesq": ("PESQ\nWB", "number"),
    "real_time_factor": ("RTF", "number"),
}
"""Key of a summary → heading and form. WER without a word is the mean of the utterances' rates. Short: 80 columns."""


def summary_table(rows: dict[str, dict[str, Any]]) -> Table:
    """Return a table with one line for each system; what a row does not have is shown as a dash.

    Similarities are to the prompt and to the original recording; `n` utterances last `s` seconds together.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", min_width=14, overflow="fold")
    shown = [key for key in COLUMNS if any(row.get(key) is not None for row in rows.values())]
    for key in shown:
        table.add_column(COLUMNS[key][0], justify="right")
    table.add_column("n", justify="right")
    table.add_column("s", justify="right")
    for name, row in rows.items():
        cells = [_cell(row.get(key), COLUMNS[key][1]) for key in shown]
        table.add_row(escape(name), *cells, str(row.get("utterances", "—")), _cell(row.get("seconds"), "seconds"))
    return table


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return "—"
    return {"percent": f"{100 * value:.1f}", "number": f"{value:.3f}", "seconds": f"{value:.1f}"}[form]


def describe_judges(judges: dict[str, dict[str, Any]]) -> str:
    """Return the judges, one a line."""
    parts = []
    for kind, description in judges.items():
        notes = [str(v) for k, v in description.items() if k in ("model", "revision", "note") and v]
        rate = description.get("held_out_equal_error_rate")
        notes += [f"equal error rate on held-out voices {100 * rate:.1f} %"] if rate is not None else []
        parts.append(f"{kind}: {description.get('asr', description.get('speaker'))} ({'; '.join(notes)})")
    return "\n".join(parts)


def write_results(folder: Path, metrics: dict[str, Any], utterances: Sequence[dict[str, Any]]) -> None:
    """Write utterances.jsonl, then metrics.json, each whole or not at all."""
    lines = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in utterances)
    for name, text in (
        ("utterances.jsonl", lines),
        ("metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
    ):
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)


def print_results(console: Console, metrics: dict[str, Any], folder: Path) -> None:
    """Print judges, table and what the numbers rest on."""
    console.print(escape(describe_judges(metrics["judges"])), highlight=False)
    rows = {"originals": metrics["originals"] or {}, metrics["system_name"]: metrics["system"]}
    items = metrics["list"]
    console.print(f"{items['utterances']} utterances, {escape(items['list'])}", highlight=False, soft_wrap=True)
    console.print()
    console.print(summary_table(rows))
    console.print()
    for note in metrics["notes"]:
        console.print(f"Note: {escape(note)}", highlight=False)
    files = "metrics.json, utterances.jsonl" + (", and wavs/ to listen to" if (folder / "wavs").is_dir() else "")
    console.print(f"Results in [bold]{escape(str(folder))}[/]: {files}", highlight=False, soft_wrap=True)
