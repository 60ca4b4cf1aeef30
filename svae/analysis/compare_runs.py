"""`svae compare`: how several runs learn, against steps and against hours, in one picture and one table."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from svae.errors import DataError
from svae.runtime.files import telling_names, writable_folder, write_text

CURVES = (
    ("synthesis", "wer", "WER of held-out utterances"),
    ("synthesis", "similarity", "speaker similarity"),
    ("synthesis", "mos", "naturalness (trainer.naturalness)"),
    ("validation", "loss/flow", "flow loss, held out"),
    ("validation", "loss/mel", "mel loss of a VAE, held out"),
)
"""Split, name in its rows, and title of what is drawn; other splits of a run are left alone."""
SEED = re.compile(r"[-_]seed[-_]?\d+$")
"""End of the names of runs that differ in nothing but the seed: they are one line in the picture, with an interval."""
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % points of Student's t for 1 to 9 degrees of freedom; beyond, the last is taken, which is wider."""
POINTS: dict[str, Any] = {"marker": "o", "markersize": 3}
LOWER_IS_BETTER = ("wer", "loss/flow", "loss/mel")
"""Also of each source of a mixture, whose name follows after a slash."""


@dataclass(frozen=True)
class Curve:
    """One quantity of one run."""

    steps: list[int]
    hours: list[float]
    values: list[float]

    def best(self, name: str) -> int:
        """Return the index of the best value; one that is not finite is the worst."""
        sign = 1 if name.startswith(LOWER_IS_BETTER) else -1
        values = [sign * value if math.isfinite(value) else math.inf for value in self.values]
        return values.index(min(values))


@dataclass(frozen=True)
class RunCurves:
    """What a run's metrics.jsonl says."""

    name: str
    steps: int
    hours: float
    sessions: int
    """Times it was started or resumed; 0 where the rows do not say."""
    curves: dict[str, Curve]
    """By name, those of `CURVES` that the run has, and `loss/flow/NAME` of each source of a mixture (`data.sources`)."""


def quantities(runs: Iterable[RunCurves]) -> dict[str, str]:
    """Return name → title of what can be drawn: that of `CURVES`, each with the same of the runs' sources behind it."""
    there = sorted({name for run in runs for name in run.curves})
    return {
        name: title if name == whole else f"{title}, {name.removeprefix(f'{whole}/')}"
        for _, whole, title in CURVES
        for name in (whole, *(name for name in there if name.startswith(f"{whole}/")))
    }


def running_hours(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return for each row how many hours the run had been running, pauses between sessions not counted.

    A row holds its time and when its session began (the start or a resumption of the run). A session's share is from
    its beginning to its last row; work that was lost because no checkpoint held it has no rows and does not count. Rows
    of an svae that did not write `session` are taken as one session that begins with the first of them.
    """
    hours, before = [], 0.0
    session, began, last = None, 0.0, 0.0
    for i, row in enumerate(rows):
        if i == 0 or row.get("session") != session:
            before += max(last - began, 0.0) / 3600
            session = row.get("session")
            began = row["time"] if session is None else session
        last = row["time"]
        hours.append(before + max(last - began, 0.0) / 3600)
    return hours


def read_run(run: Path) -> RunCurves:
    """Read a run's rows.

    Raises:
        DataError: there are none, or the file is damaged (a torn last line is left out).
    """
    path = run / "metrics.jsonl"
    try:
        text = path.read_bytes().decode(errors="replace")  # what is damaged is found line by line
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}. Expected a run folder of `svae train-tts`."
        ) from None
    lines = text.removesuffix("\n").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            _ = int(row["step"]), row["split"], float(row["time"])
            rows.append(row)
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise DataError(f"{path}, line {number}: not a row of metrics: {error!r}") from None
    if not rows:
        raise DataError(f"{path}: has no rows yet")
    hours = running_hours(rows)
    curves = {}
    for split, whole, _ in CURVES:
        own = {name for row in rows if row["split"] == split for name in row}
        for name in sorted(n for n in own if n == whole or n.startswith(f"{whole}/")):
            kept = [(row["step"], h, row[name]) for row, h in zip(rows, hours, strict=True)
                    if row["split"] == split and row.get(name) is not None]  # fmt: skip
            if kept:
                curves[name] = Curve(*(list(column) for column in zip(*kept, strict=True)))
    sessions = len({row["session"] for row in rows if "session" in row})
    return RunCurves(run.name, max(row["step"] for row in rows), hours[-1], sessions, curves)


@dataclass(frozen=True)
class Seeds:
    """One quantity of several runs that differ in the seed, at the steps that all of them have."""

    steps: list[int]
    mean: list[float]
    half_width: list[float]
    """Half the 95 % interval of the mean over seeds (Student's t): the seeds are taken for draws of a normal distribution."""
    number: int


def over_seeds(runs: dict[str, RunCurves]) -> dict[str, dict[str, Seeds]]:
    """Return name without its seed → quantity → mean and interval, for every two or more runs that share the rest."""
    groups: dict[str, list[RunCurves]] = {}
    for name, run in runs.items():
        if SEED.search(name):
            groups.setdefault(SEED.sub("", name), []).append(run)
    found: dict[str, dict[str, Seeds]] = {}
    for name, members in groups.items():
        for quantity in quantities(members):
            curves = [
                dict(zip(c.steps, c.values, strict=True))
                for m in members
                if (c := m.curves.get(quantity))
            ]
            steps = sorted(set.intersection(*map(set, curves))) if len(curves) > 1 else []
            if steps:
                columns = [[curve[step] for curve in curves] for step in steps]
                t = T_95[min(len(curves) - 1, len(T_95)) - 1]
                half = [t * statistics.stdev(column) / len(column) ** 0.5 for column in columns]
                means = [statistics.fmean(column) for column in columns]
                found.setdefault(name, {})[quantity] = Seeds(steps, means, half, len(curves))
    return found


def compare_runs(runs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write OUT/comparison.png, .md and .json, print the table, and return what the JSON holds.

    Raises:
        ConfigError: `out` cannot be written.
        DataError: a folder is not a run, two have the same name, or none has anything to draw.
    """
    console = Console()
    read = [read_run(run) for run in runs]
    names = _names(runs)
    if not any(run.curves for run in read):
        raise DataError("compare: none of the runs has a validation or synthesis row yet")
    folder = writable_folder(out, option="--out")
    named = dict(zip(names, read, strict=True))
    seeds = over_seeds(named)
    draw_curves(folder / "comparison.png", named, seeds)
    shown = list(quantities(read))
    entries = [
        _entry(name, run, path, shown) for name, run, path in zip(names, read, runs, strict=True)
    ]
    # What no run has, such as a judge that none asked, has no columns.
    shown = [quantity for quantity in shown if any(entry[quantity] for entry in entries)]
    found_seeds = {
        name: {quantity: asdict(found) for quantity, found in of.items()}
        for name, of in seeds.items()
    }
    result = {"format": 1, "runs": entries, "seeds": found_seeds}
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / "comparison.json", text)
    header, lines = _table(entries, shown)
    _print_table(console, "Runs", header, lines, fixed=3, of=3)
    markdown = _markdown(header, lines)
    if seeds:
        header, lines = _seed_table(seeds, shown)
        _print_table(
            console, "Over seeds, at the last step that all have", header, lines, fixed=2, of=1
        )
        markdown += (
            "\nOver seeds, at the last step that all have (mean, 95 % interval by Student's t):\n\n"
            + _markdown(header, lines)
        )
    write_text(folder / "comparison.md", markdown)
    speaking = [entry for entry in entries if entry["loss/mel"] is None]  # a VAE says nothing
    without = [entry["name"] for entry in speaking if entry["wer"] is None]
    if without:
        console.print(
            f"Without speech while training (trainer.synthesize_every): {', '.join(without)}"
        )
    if any(entry["sessions"] == 0 for entry in entries):
        console.print(
            "Some rows do not say when their session began: pauses between resumptions count as hours there."
        )
    console.print(
        f"Curves in [bold]{folder / 'comparison.png'}[/], table in comparison.md and .json"
    )
    return result


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the runs apart."""
    if len({run.resolve() for run in runs}) < len(runs):
        raise DataError("compare: a run is named twice")
    return telling_names(runs)


def _entry(name: str, run: RunCurves, path: Path, shown: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "run": str(path), "steps": run.steps, "hours": run.hours}
    entry["sessions"] = run.sessions
    for quantity in shown:
        curve = run.curves.get(quantity)
        entry[quantity] = None
        if curve is not None:
            best = curve.best(quantity)
            entry[quantity] = {
                "last": curve.values[-1],
                "best": curve.values[best],
                "best_step": curve.steps[best],
                "best_hours": curve.hours[best],
                **asdict(curve),
            }
    return entry


def _print_table(
    console: Console, title: str, header: list[str], lines: list[list[str]], fixed: int, of: int
) -> None:
    """Print a table; where it is wider than the terminal, one for every `of` columns after the `fixed` first."""
    widths = [max(map(len, column)) + 3 for column in zip(header, *lines, strict=True)]
    step = len(header) if sum(widths) <= console.width else of
    for start in range(fixed, len(header), step):
        columns = [*range(fixed), *range(start, min(start + step, len(header)))]
        table = Table(title=title, show_edge=False)
        for i in columns:
            table.add_column(header[i], justify="left" if i == 0 else "right", overflow="fold")
        for line in lines:
            table.add_row(*(line[i] for i in columns))
        console.print(table)


def _table(
    entries: Sequence[dict[str, Any]], shown: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    header = ["run", "steps", "hours"]
    for quantity in shown:
        header += [f"{quantity} last", "best", "at step"]
    lines = []
    for entry in entries:
        line = [entry["name"], str(entry["steps"]), f"{entry['hours']:.2f}"]
        for quantity in shown:
            found = entry[quantity]
            line += (
                ["–"] * 3
                if found is None
                else [f"{found['last']:.3f}", f"{found['best']:.3f}", str(found["best_step"])]
            )
        lines.append(line)
    return header, lines


def _markdown(header: list[str], lines: list[list[str]]) -> str:
    rows = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _seed_table(
    seeds: dict[str, dict[str, Seeds]], shown: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    header = ["runs", "seeds", *shown]
    lines = []
    for name, found in seeds.items():
        cells = [
            f"{of.mean[-1]:.3f} ± {of.half_width[-1]:.3f} (step {of.steps[-1]})"
            if (of := found.get(q))
            else "–"
            for q in shown
        ]
        lines.append([name, str(max(of.number for of in found.values())), *cells])
    return header, lines


def draw_curves(path: Path, runs: dict[str, RunCurves], seeds: dict[str, dict[str, Seeds]]) -> None:
    """Draw every quantity that a run has, against steps on the left and hours on the right.

    Runs that differ in the seed share a colour: a line with an interval against steps, thin lines against hours.
    """
    from matplotlib.figure import Figure

    there = {name for run in runs.values() for name in run.curves}
    drawn = [(name, title) for name, title in quantities(runs.values()).items() if name in there]
    figure = Figure(figsize=(11, 3.1 * len(drawn)), layout="constrained")
    axes = figure.subplots(len(drawn), 2, squeeze=False, sharey="row")
    for row, (name, title) in zip(axes, drawn, strict=True):
        labels = list(dict.fromkeys(_label(run, seeds, name) for run in runs))
        for run_name, run in runs.items():
            if name in run.curves:
                curve, label = run.curves[name], _label(run_name, seeds, name)
                style = POINTS | {"color": f"C{labels.index(label)}", "linewidth": 1.2}
                if label != run_name:
                    style |= {"alpha": 0.4, "linewidth": 0.6, "markersize": 1}
                else:
                    row[0].plot(curve.steps, curve.values, label=label, **style)
                row[1].plot(curve.hours, curve.values, **style)
        for number, label in enumerate(labels):
            of = seeds.get(label, {}).get(name)
            if of is None:
                continue
            color = f"C{number}"
            low, high = (
                [m + sign * h for m, h in zip(of.mean, of.half_width, strict=True)]
                for sign in (-1, 1)
            )
            named = f"{label} ({of.number} seeds)"
            row[0].plot(of.steps, of.mean, label=named, color=color, **POINTS)
            row[0].fill_between(of.steps, low, high, color=color, alpha=0.15, linewidth=0)
        row[0].set_ylabel(title)
        if name.startswith("loss"):
            row[0].set_yscale("log")
        for axis in row:
            axis.grid(alpha=0.3)
    axes[-1][0].set_xlabel("optimizer steps")
    axes[-1][1].set_xlabel("hours of running, pauses not counted")
    axes[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _label(name: str, seeds: dict[str, dict[str, Seeds]], quantity: str) -> str:
    """Return the name under which a run is drawn: without its seed where others differ in that alone."""
    short = SEED.sub("", name)
    return short if quantity in seeds.get(short, {}) else name
