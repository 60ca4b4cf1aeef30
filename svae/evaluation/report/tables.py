"""The tables a person reads and the files a program reads. The page to listen on is made in `page`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svae.runtime.files import write_text

COLUMNS: dict[str, tuple[str, str]] = {
    "wer": ("WER %", "percent"),
    "wer_corpus": ("WER %, corpus", "percent"),
    "sim_ecapa": ("sim_ecapa", "number"),
    "sim_o": ("sim_o", "number"),
    "utmos": ("UTMOS", "number"),
    "dnsmos_sig": ("DNSMOS SIG", "number"),
    "dnsmos_bak": ("DNSMOS BAK", "number"),
    "dnsmos_ovrl": ("DNSMOS OVRL", "number"),
    "sim_ecapa_to_original": ("sim_ecapa to orig.", "number"),
    "sim_o_to_original": ("sim_o to orig.", "number"),
    "pesq_wb": ("PESQ WB", "number"),
    "pesq_nb": ("PESQ NB", "number"),
    "stoi": ("STOI", "number"),
    "mel_distance": ("mel distance", "number"),
    "stft_distance": ("STFT distance", "number"),
    "mcd": ("MCD, dB", "number"),
    "f0_rmse": ("F0 RMSE, Hz", "number"),
    "voicing_error": ("voicing error %", "percent"),
}
"""Key of a summary → heading and form. WER without a word is the mean of the utterances' rates."""


def systems_of(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the summaries by the names of their columns: originals, system, its seeds, other systems."""
    seeds = metrics.get("seeds", {}) if len(metrics.get("seeds", {})) > 1 else {}
    return (
        {"originals": metrics["originals"] or {}, metrics["system_name"]: metrics["system"] or {}}
        | {f"  {name}": summary for name, summary in seeds.items()}
        | metrics.get("others", {})
    )


def table_rows(metrics: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each line of the table: heading, and a cell with interval for each system; a dash where there is none.

    A score without a value in any system is left out; the protocol's headline is marked with a star.
    """
    systems = list(systems_of(metrics).values())
    for key, (heading, form) in COLUMNS.items():
        if any(summary.get(key) is not None for summary in systems):
            mark = "*" if key == metrics.get("headline") else ""
            yield heading + mark, [cell(summary, key, form) for summary in systems]
    yield "utterances", [str(summary.get("utterances", "—")) for summary in systems]
    yield "seconds", [_number(summary.get("seconds"), "seconds") for summary in systems]
    if any(summary.get("errors") for summary in systems):
        yield "missing or bad", [str(summary.get("errors", "—")) for summary in systems]


def cell(summary: dict[str, Any], key: str, form: str) -> str:
    """Return a value with its interval, e.g. `2.10 [1.95, 2.26]`."""
    value = summary.get(key)
    if value is None:
        return "—"
    ends = summary.get("intervals", {}).get(key)
    return _number(value, form) + (
        f" [{_number(ends[0], form)}, {_number(ends[1], form)}]" if ends else ""
    )


def _number(value: float | None, form: str) -> str:
    if value is None:
        return "—"
    return {"percent": f"{100 * value:.2f}", "number": f"{value:.3f}", "seconds": f"{value:.1f}"}[
        form
    ]


def describe_judges(judges: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line about each judge."""
    lines = []
    for kind, description in judges.items():
        notes = [str(v) for k, v in description.items() if k in ("model", "revision", "note") and v]
        rate = description.get("held_out_equal_error_rate")
        notes += (
            [f"equal error rate on held-out voices {100 * rate:.1f} %"] if rate is not None else []
        )
        lines.append(
            f"{kind}: {description.get('asr', description.get('speaker'))} ({'; '.join(notes)})"
        )
    return lines


def footnotes(metrics: dict[str, Any]) -> list[str]:
    """Return what every table has to carry: protocol, list, judges, how intervals were made, notes."""
    items, how = metrics["list"], metrics.get("intervals", {})
    name = metrics.get("protocol", {}).get("label", "—")
    lines = [f"Protocol: {name}. List: {items['list']} ({items['utterances']} utterances)"]
    lines += [f"Judge {line}" for line in describe_judges(metrics["judges"])]
    if how:
        kind = f"{100 * how['confidence']:.0f} % {how['method']} over {how['unit']}s, {how['resamples']} resamples"
        lines.append(f"* headline of the protocol. In brackets: {kind}")
    for key, found in metrics.get("spread", {}).items():
        if key == metrics.get("headline") and found["sd"] is not None:
            low, high, sd = (_number(found[k], "percent") for k in ("min", "max", "sd"))
            lines.append(
                f"Over seeds: {COLUMNS[key][0]} from {low} to {high}, standard deviation {sd}"
            )
    return lines + [f"Note: {note}" for note in metrics["notes"]]


def summary_table(metrics: dict[str, Any]) -> Table:
    """Return a table with one line for each score and one column for each system."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for name in systems_of(metrics):
        table.add_column(escape(name.strip()), justify="right", overflow="fold")
    for heading, cells in table_rows(metrics):
        table.add_row(heading, *cells)
    return table


def markdown_table(metrics: dict[str, Any]) -> str:
    """Return the table for a paper: one line for each system, one column for each score, footnotes below."""
    rows = list(table_rows(metrics))
    lines = [[""] + [heading for heading, _ in rows]]
    for number, name in enumerate(systems_of(metrics)):
        lines.append([name.strip()] + [cells[number] for _, cells in rows])
    text = ["| " + " | ".join(_plain(part) for part in line) + " |" for line in lines]
    text.insert(1, "|---" + "|---:" * len(rows) + "|")
    return "\n".join(text) + "\n\n" + "".join(f"- {_plain(line)}\n" for line in footnotes(metrics))


def _plain(text: str) -> str:
    return (
        text.replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("\n", " ")
        .replace("<", "&lt;")
        .replace("*", "\\*")
    )


def write_results(
    folder: Path,
    metrics: dict[str, Any],
    utterances: Sequence[dict[str, Any]],
    timings: dict[str, Any],
) -> None:
    """Write utterances.jsonl, table.md, timings.json, then metrics.json, each whole or not at all."""
    lines = "".join(
        json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in utterances
    )
    for name, text in (
        ("utterances.jsonl", lines),
        ("table.md", markdown_table(metrics)),
        ("timings.json", json.dumps(timings, indent=2) + "\n"),
        ("metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"),
    ):
        write_text(folder / name, text)


def print_results(
    console: Console, metrics: dict[str, Any], timings: dict[str, Any], folder: Path
) -> None:
    """Print the table and what the numbers rest on."""
    console.print()
    console.print(summary_table(metrics))
    console.print()
    for line in footnotes(metrics):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if "real_time_factor" in timings:
        console.print(
            f"Real-time factor when made: {timings['real_time_factor']:.3f}", highlight=False
        )
    names = ["report.html", "table.md", "metrics.json", "utterances.jsonl"]
    files = ", ".join(name for name in names if (folder / name).is_file())
    if (folder / "wavs").is_dir():
        files += ", and wavs/ to listen to"
    console.print(
        f"Results in [bold]{escape(str(folder))}[/]: {files}", highlight=False, soft_wrap=True
    )
