"""`svae leaderboard`: several systems of one protocol in order, with tests of each against the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svae.errors import ConfigError, DataError
from svae.evaluation.compare import comparable, read_results
from svae.evaluation.report.board import markdown_board, write_board
from svae.evaluation.report.tables import (
    COLUMNS,
    LOWER_IS_BETTER,
    Metrics,
    clips_together,
    score_cell,
)
from svae.evaluation.rows import ORIGINALS, Row, ratio, speakers_of, summarize
from svae.evaluation.statistics import compare_paired, holm
from svae.runtime.files import writable_folder, write_text

FORMAT = 1
MAY_DIFFER = frozenset({"seeds", "modified", "label", "source"})
"""Fields of a protocol that two results of it may differ in; different numbers of seeds are a note."""


def leaderboard(results: Sequence[str], *, cluster: bool = False, out: Path) -> dict[str, Any]:
    """Order result folders of `svae evaluate` by the headline of their protocol; write a page, a table and a JSON.

    Args:
        results: DIR or NAME=DIR of each; the name of a folder alone is the folder's.
        cluster: whole speakers, not utterances, are independent.
        out: folder for leaderboard.html, leaderboard.md and leaderboard.json.

    Returns:
        What leaderboard.json holds.

    Raises:
        ConfigError: fewer than two results, one of them twice, or a name twice.
        DataError: no results there, or they do not compare: another protocol, list, utterances or recogniser.
    """
    folders = _named(results)
    found = {name: read_results(folder) for name, folder in folders.items()}
    columns, left_out = _common_columns(folders, found)
    if cluster and any(row.speaker is None for _, rows in found.values() for row in rows):
        raise DataError(
            "leaderboard --cluster-by-speaker: rows without a speaker; leave the option out"
        )
    first, rows = next(iter(found.values()))
    headline = first["headline"]
    systems = {
        name: _system(folders[name], metrics, own_rows, cluster)
        for name, (metrics, own_rows) in found.items()
    }
    for column in columns:
        _test_against_best(column, found, systems, cluster)
    order = list(systems)
    if headline in columns:
        order.sort(key=lambda name: _rank(systems[name]["summary"].get(headline), headline))
    board = {
        "format": FORMAT,
        "protocol": {k: v for k, v in first["protocol"].items() if k not in MAY_DIFFER},
        "headline": headline,
        "list": first["list"],
        "utterances": len(rows),
        "unit": "speaker" if cluster else "utterance",
        "columns": columns,
        "systems": {name: systems[name] for name in order},
        "originals": summarize(rows, [ORIGINALS], cluster=cluster),
        "judges": first["judges"],
        "notes": [f"left out: {words}" for words in left_out] + _notes(found, columns),
    }
    writable_folder(out, option="--out")
    text = json.dumps(board, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(out / "leaderboard.json", text + "\n")
    write_text(out / "leaderboard.md", markdown_board(board))
    write_board(out, board)
    print_board(Console(), board, out)
    return board


def _named(results: Sequence[str]) -> dict[str, Path]:
    """Return the folders by name."""
    folders: dict[str, Path] = {}
    for text in results:
        name, equals, folder = text.partition("=")
        # A folder that is there may have an equals sign in its own name.
        path = Path(folder) if equals and not Path(text).is_dir() else Path(text)
        label = name if equals and not Path(text).is_dir() else path.resolve().name
        if not label or label == ORIGINALS:
            raise ConfigError(f"leaderboard {text!r}: expected DIR or NAME=DIR, and no such name")
        if label in folders:
            raise ConfigError(
                f"leaderboard: two results are called {label!r}; name them: NAME={folders[label]} OTHER={path}"
            )
        if path.resolve() in {other.resolve() for other in folders.values()}:
            raise ConfigError(f"leaderboard: {path} is there twice")
        folders[label] = path
    if len(folders) < 2:
        raise ConfigError("leaderboard: pass at least two result folders of `svae evaluate`")
    return folders


def _common_columns(
    folders: dict[str, Path], found: dict[str, tuple[Metrics, list[Row]]]
) -> tuple[list[str], list[str]]:
    """Return the scores that all have from the same judges, in the order of tables, and what is left out, in words.

    Raises:
        DataError: two of them do not compare.
    """
    (name, (first, rows)), *others = found.items()
    columns = list(COLUMNS)
    left_out: list[str] = []
    for other, (metrics, other_rows) in others:
        where = f"leaderboard {folders[name]} {folders[other]}"
        for key in sorted((first["protocol"].keys() | metrics["protocol"].keys()) - MAY_DIFFER):
            pair = [protocol.get(key) for protocol in (first["protocol"], metrics["protocol"])]
            if pair[0] != pair[1]:
                raise DataError(
                    f"{where}: not one protocol: {key} is {pair[0]!r} and {pair[1]!r}. Evaluate all systems alike."
                )
        usable, words = comparable(first, metrics, where)
        if [row.id for row in rows] != [row.id for row in other_rows]:
            only = len({row.id for row in rows} ^ {row.id for row in other_rows})
            raise DataError(
                f"{where}: not one list: {only} utterances are in one of them only ({len(rows)} and {len(other_rows)})"
            )
        columns = [column for column in columns if column in usable]
        left_out += [f"{text} ({name}, {other})" for text in words]
    have = [
        column
        for column in columns
        if all(ratio(r, m["system_recordings"], column) is not None for m, r in found.values())
    ]
    return have, left_out


def _notes(found: dict[str, tuple[Metrics, list[Row]]], columns: Sequence[str]) -> list[str]:
    """Return in what the results differ, in words, and whether they have an order."""
    notes = []
    counts = sorted({len(metrics["system_recordings"]) for metrics, _ in found.values()})
    if len(counts) > 1:
        notes.append(
            f"the systems have {' or '.join(map(str, counts))} recordings of each utterance"
        )
    together: dict[int, list[str]] = {}
    for name, (metrics, _) in found.items():
        together.setdefault(clips_together(metrics), []).append(name)
    if len(together) > 1:
        words = " or ".join(f"{size} ({', '.join(together[size])})" for size in sorted(together))
        notes.append(f"judges heard {words} clips at a time; that alone may change a few words")
    headline = next(iter(found.values()))[0]["headline"]
    if headline not in columns:
        notes.append(
            f"not all systems have {COLUMNS[headline][0]}, the protocol's headline: they stand in the order in which they "
            "were named"
        )
    return notes


def _system(folder: Path, metrics: Metrics, rows: list[Row], cluster: bool) -> dict[str, Any]:
    names = metrics["system_recordings"]
    factor, first_audio = read_speed(folder)
    return {
        "folder": str(folder),
        "system": metrics["system_name"],
        "protocol": metrics["protocol"]["label"],
        "settings": metrics["settings"],
        "recordings": len(names),
        "summary": summarize(rows, names, cluster=cluster) or {},
        "real_time_factor": factor,
        "first_audio_seconds": first_audio,
        "against_best": {},
    }


def read_speed(folder: Path) -> tuple[float | None, float | None]:
    """Return the real-time factor and the median of seconds to first audio out of FOLDER/timings.json, None where unknown.

    Raises:
        DataError: the file is damaged. Without it a result is whole: it says nothing about scores.
    """
    path = folder / "timings.json"
    try:
        timings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, RecursionError) as error:
        timings, found = None, f"cannot be read ({error})"
    else:
        found = f"got {type(timings).__name__}"
    if isinstance(timings, dict):
        first_audio = timings.get("first_audio_seconds")
        median = first_audio.get("median") if isinstance(first_audio, dict) else first_audio
        numbers = (timings.get("real_time_factor"), median)
        if all(n is None or (isinstance(n, int | float) and n >= 0) for n in numbers):
            return numbers
        found = f"`real_time_factor` is {numbers[0]!r}, the median of `first_audio_seconds` {numbers[1]!r}"
    raise DataError(
        f"{path}: damaged: {found}; expected the object of timings that `svae evaluate` wrote. Run the evaluation again, "
        "or delete the file: then the speed of this system is unknown."
    )


def _rank(value: float | None, column: str) -> float:
    """Return what orders systems, best first."""
    if value is None:
        return float("inf")
    return value if column in LOWER_IS_BETTER else -value


def _test_against_best(
    column: str,
    found: dict[str, tuple[Metrics, list[Row]]],
    systems: dict[str, dict[str, Any]],
    cluster: bool,
) -> None:
    """Add to each system how it compares with the best one of a score; several may be best alike."""
    ratios = {name: ratio(r, m["system_recordings"], column) for name, (m, r) in found.items()}
    known = {name: each for name, each in ratios.items() if each is not None}
    best = min(known, key=lambda name: _rank(known[name].value, column))
    groups = speakers_of(found[best][1]) if cluster else None
    others = [name for name in known if name != best]
    tests = [compare_paired(known[best], known[name], groups=groups) for name in others]
    systems[best]["against_best"][column] = None
    for name, test, p in zip(others, tests, holm([test.p for test in tests]), strict=True):
        systems[name]["against_best"][column] = {
            "best": best,
            "difference": test.difference,
            "interval": None if test.interval is None else list(test.interval),
            "p": test.p,
            "p_holm": p,
            "exact": test.exact,
        }


def print_board(console: Console, board: dict[str, Any], out: Path) -> None:
    """Print the table: one line a system, best first."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("")
    columns = board["columns"]
    for column in columns:
        table.add_column(COLUMNS[column][0] + "*" * (column == board["headline"]), justify="right")
    table.add_column("p", justify="right")
    headline = board["headline"] if board["headline"] in columns else None
    for name, system in board["systems"].items():
        test = system["against_best"].get(headline)
        cells = [str(score_cell(system["summary"], c, COLUMNS[c][1])) for c in columns]
        p = "best" if test is None else f"{test['p_holm']:.4f}"
        table.add_row(escape(name), *cells, p if headline else "—")
    console.print(table)
    tests = ""
    if headline:
        tests = (
            f" p: of {COLUMNS[headline][0]}, paired permutation test against the best over {board['unit']}s, "
            "Holm-corrected"
        )
    console.print(
        f"Protocol {escape(board['protocol']['name'])}, {board['utterances']} utterances.{tests}",
        highlight=False,
        soft_wrap=True,
    )
    modified = [
        f"{name}: protocol {system['protocol']}"
        for name, system in board["systems"].items()
        if system["protocol"] != board["protocol"]["name"]
    ]
    for note in [*modified, *board["notes"]]:
        console.print(f"Note: {escape(note)}", highlight=False, soft_wrap=True)
    console.print(
        f"Results in [bold]{escape(str(out))}[/]: leaderboard.html, leaderboard.md, leaderboard.json",
        highlight=False,
        soft_wrap=True,
    )
