"""The tables a person reads and the files a program reads. The page to listen on is made in `page`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
    "distillmos": ("DistillMOS", "number"),
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


LOWER_IS_BETTER = frozenset(
    {"wer", "wer_corpus", "mel_distance", "stft_distance", "mcd", "f0_rmse", "voicing_error"}
)

FORMAT = 2
"""The version of metrics.json and utterances.jsonl."""
Metrics = dict[str, Any]
"""What metrics.json holds, as `svae.evaluation.run` makes it or a file gives it back; docs/evaluation.md names the keys."""


@dataclass(frozen=True)
class Cell:
    """A score as it is shown."""

    value: str
    interval: str = ""
    """E.g. `[1.95, 2.26]`."""

    def __str__(self) -> str:
        return f"{self.value} {self.interval}" if self.interval else self.value


@dataclass(frozen=True)
class Line:
    """One score of all systems."""

    heading: str
    cells: list[Cell]
    headline: bool = False
    """Whether it is the headline of the protocol."""

    @property
    def starred(self) -> str:
        """The heading; a star marks the headline."""
        return self.heading + "*" * self.headline


def systems_of(metrics: Metrics) -> dict[str, dict[str, Any]]:
    """Return the summaries by the names of their columns: originals, system, its seeds, other systems."""
    systems = {
        "originals": metrics["originals"] or {},
        metrics["system_name"]: metrics["system"] or {},
    }
    seeds = metrics.get("seeds", {})
    if len(seeds) > 1:
        systems |= {f"  {name}": summary for name, summary in seeds.items()}
    return systems | metrics.get("others", {})


def table_lines(metrics: Metrics) -> list[Line]:
    """Return the lines of the table, with a cell for each system and a dash where there is no value.

    A score without a value in any system is left out.
    """
    systems = list(systems_of(metrics).values())
    lines = [
        Line(heading, [score_cell(s, key, form) for s in systems], key == metrics.get("headline"))
        for key, (heading, form) in COLUMNS.items()
        if any(summary.get(key) is not None for summary in systems)
    ]
    lines.append(Line("utterances", [Cell(str(s.get("utterances", "—"))) for s in systems]))
    lines.append(Line("seconds", [Cell(shown(s.get("seconds"), "seconds")) for s in systems]))
    if any(summary.get("errors") for summary in systems):
        lines.append(Line("missing or bad", [Cell(str(s.get("errors", "—"))) for s in systems]))
    return lines


def score_cell(summary: dict[str, Any], key: str, form: str) -> Cell:
    """Return a score of a summary with its interval; a dash where there is none."""
    ends = summary.get("intervals", {}).get(key) if summary.get(key) is not None else None
    interval = f"[{shown(ends[0], form)}, {shown(ends[1], form)}]" if ends else ""
    return Cell(shown(summary.get(key), form), interval)


def shown(value: float | None, form: str) -> str:
    """Return a number as tables show it; its form is one of `COLUMNS`, or `seconds`."""
    if value is None:
        return "—"
    forms = {"percent": f"{100 * value:.2f}", "number": f"{value:.3f}", "seconds": f"{value:.1f}"}
    return forms[form]


def describe_judges(judges: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line about each judge."""
    lines = []
    for kind, description in judges.items():
        notes = [str(v) for k, v in description.items() if k in ("model", "revision", "note") and v]
        rate = description.get("held_out_equal_error_rate")
        if rate is not None:
            notes.append(f"equal error rate on held-out voices {100 * rate:.1f} %")
        name = description.get("asr", description.get("speaker"))
        said = "; ".join(notes)
        line = f"{kind}: {said}" if name is None else f"{kind}: {name} ({said})"
        lines.append(line + computed_in(description))
    return lines


def computed_in(description: dict[str, Any]) -> str:
    """Return the type of numbers that a judge computes in, to stand behind its name; nothing where it has no choice."""
    return f" in {description['dtype']}" if description.get("dtype") else ""


def intervals_in_words(metrics: Metrics) -> str | None:
    """Return what the star and the brackets of a table mean."""
    how = metrics.get("intervals")
    if not how:
        return None
    kind = f"{100 * how['confidence']:.0f} % {how['method']} over {how['unit']}s, {how['resamples']} resamples"
    return f"headline of the protocol. In brackets: {kind}"


def clips_together(metrics: Metrics) -> int:
    """Return how many clips judges heard at a time."""
    size: int = metrics.get("judging", {}).get("batch_size", 1)
    return size


def footnotes(metrics: Metrics) -> list[str]:
    """Return what every table has to carry: protocol, list, judges, how intervals were made, notes."""
    items = metrics["list"]
    name = metrics.get("protocol", {}).get("label", "—")
    lines = [f"Protocol: {name}. List: {items['list']} ({items['utterances']} utterances)"]
    lines += [f"Judge {line}" for line in describe_judges(metrics["judges"])]
    together = clips_together(metrics)
    if together > 1:
        lines.append(f"Judges heard {together} clips at a time")
    intervals = intervals_in_words(metrics)
    if intervals is not None:
        lines.append(f"* {intervals}")
    for key, found in metrics.get("spread", {}).items():
        if key == metrics.get("headline") and found["sd"] is not None:
            low, high, sd = (shown(found[k], "percent") for k in ("min", "max", "sd"))
            lines.append(
                f"Over seeds: {COLUMNS[key][0]} from {low} to {high}, standard deviation {sd}"
            )
    return lines + [f"Note: {note}" for note in metrics["notes"]]


def summary_table(metrics: Metrics) -> Table:
    """Return a table with one line for each score and one column for each system."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    for name in systems_of(metrics):
        table.add_column(escape(name.strip()), justify="right", overflow="fold")
    for line in table_lines(metrics):
        table.add_row(line.starred, *map(str, line.cells))
    return table


def markdown_table(metrics: Metrics) -> str:
    """Return the table for a paper: one line for each system, one column for each score, footnotes below."""
    scores = table_lines(metrics)
    rows = [["", *(line.starred for line in scores)]]
    for number, name in enumerate(systems_of(metrics)):
        rows.append([name.strip(), *(str(line.cells[number]) for line in scores)])
    text = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    text.insert(1, "|---" + "|---:" * len(scores) + "|")
    return "\n".join(text) + "\n\n" + "".join(f"- {plain(line)}\n" for line in footnotes(metrics))


def plain(text: str) -> str:
    """Return text as Markdown shows it in a table."""
    return (
        text.replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("\n", " ")
        .replace("<", "&lt;")
        .replace("*", "\\*")
    )


def write_results(
    folder: Path,
    metrics: Metrics,
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
    console: Console, metrics: Metrics, timings: dict[str, Any], folder: Path
) -> None:
    """Print the table and what the numbers rest on."""
    console.print()
    console.print(summary_table(metrics))
    console.print()
    for line in footnotes(metrics):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if "real_time_factor" in timings:
        text = f"Real-time factor when made: {timings['real_time_factor']:.3f}"
        first = timings.get("first_audio_seconds")
        if first is not None:
            text += f"; first audio after {first['median']:.2f} s (median; 90 % within {first['90 %']:.2f} s)"
        if timings.get("jobs", 1) > 1:
            text += f", {timings['jobs']} calls at a time"
        console.print(text, highlight=False)
    names = ["report.html", "table.md", "metrics.json", "utterances.jsonl"]
    files = ", ".join(name for name in names if (folder / name).is_file())
    if (folder / "wavs").is_dir():
        files += ", and wavs/ to listen to"
    console.print(
        f"Results in [bold]{escape(str(folder))}[/]: {files}", highlight=False, soft_wrap=True
    )
