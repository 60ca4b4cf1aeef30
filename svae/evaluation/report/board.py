"""leaderboard.html and leaderboard.md: what `svae leaderboard` found, for a reader and for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from svae.evaluation.report.page import FILES
from svae.evaluation.report.tables import COLUMNS, describe_judges, plain, score_cell, shown
from svae.evaluation.rows import ORIGINALS
from svae.evaluation.statistics import CONFIDENCE, RESAMPLES
from svae.runtime.files import write_text

LEVEL = 0.05
"""Below this corrected p-value a system is called worse than the best."""
WIDTH, ROW, LEFT, RIGHT = 760, 26, 190, 90


def board_rows(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each system, best first, and last the originals where there are any: name, cells, speed."""
    rows = []
    for name, system in board["systems"].items():
        cells = []
        for column in board["columns"]:
            cell = score_cell(system["summary"], column, COLUMNS[column][1])
            test = system["against_best"].get(column)
            said = "best" if test is None else _p(test["p_holm"])
            level = "best" if test is None else "worse" if test["p_holm"] < LEVEL else "alike"
            cells.append(
                {"value": cell.value, "interval": cell.interval, "p": said, "level": level}
            )
        rows.append(
            {
                "name": name,
                "about": system["system"],
                "cells": cells,
                "errors": str(system["summary"].get("errors", "—")),
                "real_time_factor": shown(system["real_time_factor"], "number"),
                "first_audio": shown(system["first_audio_seconds"], "number"),
            }
        )
    if board["originals"]:
        cells = []
        for column in board["columns"]:
            cell = score_cell(board["originals"], column, COLUMNS[column][1])
            cells.append({"value": cell.value, "interval": cell.interval, "p": "", "level": ""})
        errors = str(board["originals"].get("errors", "—"))
        speed = {"real_time_factor": "—", "first_audio": "—"}
        rows.append({"name": ORIGINALS, "about": "", "cells": cells, "errors": errors, **speed})
    return rows


def board_notes(board: dict[str, Any]) -> list[str]:
    """Return what a reader of the table has to know."""
    items = board["list"]
    tests = max(len(board["systems"]) - 1, 1)
    return [
        f"Protocol: {board['protocol']['name']}. List: {items['list']} ({board['utterances']} utterances, sha256 "
        f"{items['sha256'][:12]}…)",
        *(f"Judge {line}" for line in describe_judges(board["judges"])),
        f"In brackets: {100 * CONFIDENCE:.0f} % percentile bootstrap over {board['unit']}s, {RESAMPLES} resamples",
        f"p: two-sided paired permutation test over {board['unit']}s against the best system of the column, corrected for "
        f"{tests} such tests (Holm). From {LEVEL} up the difference may be chance. The best was chosen by the same "
        "recordings, which favours it a little",
        *(
            f"{name}: {system['protocol']}"
            for name, system in board["systems"].items()
            if system["protocol"] != board["protocol"]["name"]
        ),
        *(f"Note: {note}" for note in board["notes"]),
    ]


def markdown_board(board: dict[str, Any]) -> str:
    """Return the table for a paper."""
    heads = [COLUMNS[c][0] + "*" * (c == board["headline"]) for c in board["columns"]]
    lines = [["", *heads, "missing", "real-time factor", "first audio, s"]]
    for row in board_rows(board):
        cells = [
            " ".join(part for part in (cell["value"], cell["interval"], cell["p"]) if part)
            for cell in row["cells"]
        ]
        lines.append(
            [row["name"], *cells, row["errors"], row["real_time_factor"], row["first_audio"]]
        )
    text = ["| " + " | ".join(map(plain, line)) + " |" for line in lines]
    text.insert(1, "|---" + "|---:" * (len(lines[0]) - 1) + "|")
    return "\n".join(text) + "\n\n" + "".join(f"- {plain(n)}\n" for n in board_notes(board))


def write_board(folder: Path, board: dict[str, Any]) -> None:
    """Write FOLDER/leaderboard.html, which asks no network."""
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("board.html").render(
        title=f"Leaderboard: {board['protocol']['name']}",
        css=Markup((FILES / "page.css").read_text(encoding="utf-8")),
        heads=[(COLUMNS[c][0], c == board["headline"]) for c in board["columns"]],
        rows=board_rows(board),
        chart=_chart(board),
        notes=board_notes(board),
    )
    write_text(folder / "leaderboard.html", page)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _chart(board: dict[str, Any]) -> Markup:
    """Draw the headline of every system as a dot on its interval, best first."""
    heading, form = COLUMNS[board["headline"]]
    rows = [(name, system["summary"]) for name, system in board["systems"].items()]
    if board["originals"]:
        rows.append((ORIGINALS, board["originals"]))
    points = []
    for name, summary in rows:
        value = summary.get(board["headline"])
        if value is not None:
            low, high = summary["intervals"].get(board["headline"], (value, value))
            points.append((name, value, low, high))
    if not points:
        return Markup()
    lowest = min(0.0, *(low for _, _, low, _ in points))
    highest = max(high for *_, high in points) or 1.0

    def across(value: float) -> float:
        return LEFT + (value - lowest) / max(highest - lowest, 1e-9) * (WIDTH - LEFT - RIGHT)

    parts = []
    for number, (name, value, low, high) in enumerate(points):
        y = 14 + ROW * number
        kind = "original" if name == ORIGINALS else "system"
        label = name if len(name) <= 26 else name[:25] + "…"
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(label)}</text>'
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
            f'<rect class="{kind}" x="{across(low):.1f}" y="{y - 2}" width="{max(across(high) - across(low), 1):.1f}" '
            f'height="4" rx="2" opacity="0.45"/>'
            f'<circle class="{kind}" cx="{across(value):.1f}" cy="{y}" r="5"/>'
            f'<text x="{WIDTH - RIGHT + 12}" y="{y + 4}">{shown(value, form)}</text>'
        )
    height = 14 + ROW * len(points)
    body = "".join(parts)
    return Markup(
        f"<h2>{escape(heading)}</h2>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(heading)}">{body}</svg>'
    )
