"""`svae evaluate --compare A B`: whether two systems differ on the list that both said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svae.errors import DataError
from svae.evaluation.report.tables import COLUMNS, FORMAT, Metrics, clips_together
from svae.evaluation.rows import SCORES, Row, ratio, speakers_of
from svae.evaluation.statistics import compare_paired
from svae.runtime.files import writable_folder, write_text

SAME = (("list", "sha256"), ("protocol", "normalizer"))
"""What has to be equal in metrics.json, besides the judges."""


def compare(a: Path, b: Path, *, cluster: bool = False, out: Path | None = None) -> dict[str, Any]:
    """Compare two result folders of `svae evaluate`; print a table; write OUT/comparison.json where `out` is given.

    `cluster` takes whole speakers, not utterances, as independent.

    Returns:
        For each score that both have: both values, the difference B - A, its interval, the p-value.

    Raises:
        DataError: no results there, or they do not compare: other list, utterances, normaliser or judges.
        ConfigError: `out` cannot be written to.
    """
    (metrics_a, rows_a), (metrics_b, rows_b) = read_results(a), read_results(b)
    columns, left_out = comparable(metrics_a, metrics_b, f"--compare {a} {b}")
    ids_a, ids_b = [row.id for row in rows_a], [row.id for row in rows_b]
    if ids_a != ids_b:
        only = len(set(ids_a) ^ set(ids_b))
        raise DataError(
            f"--compare {a} {b}: {only} utterances are in one of them only; evaluate both on the same list"
        )
    if cluster and any(row.speaker is None for row in rows_a):
        raise DataError(
            f"--compare {a} {b} --cluster-by-speaker: rows without a speaker; leave the option out"
        )
    if out is not None:
        writable_folder(out, option="--out")
    groups = speakers_of(rows_a) if cluster else None
    scores: dict[str, Any] = {}
    for column in columns:
        first = ratio(rows_a, metrics_a["system_recordings"], column)
        second = ratio(rows_b, metrics_b["system_recordings"], column)
        if first is not None and second is not None:
            scores[column] = dataclasses.asdict(compare_paired(first, second, groups=groups))
    result = {
        "format": 1,
        "a": _side(a, metrics_a),
        "b": _side(b, metrics_b),
        "left_out": left_out,
        "utterances": len(rows_a),
        "unit": "speaker" if cluster else "utterance",
        "scores": scores,
    }
    if out is not None:
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(out / "comparison.json", text + "\n")
    print_comparison(Console(), result)
    return result


def _side(folder: Path, metrics: Metrics) -> dict[str, Any]:
    """Return what is stored and printed about one of the two."""
    names, originals = metrics["system_recordings"], metrics.get("originals") or {}
    return {
        "folder": str(folder),
        "system": metrics["system_name"],
        "protocol": metrics["protocol"]["label"],
        "errors": sum(error["recording"] in names for error in metrics["errors"]),
        "originals_wer": originals.get("wer"),
        "batch_size": clips_together(metrics),
    }


def read_results(folder: Path) -> tuple[Metrics, list[Row]]:
    """Return metrics.json and the rows of utterances.jsonl.

    Raises:
        DataError: they are not there, damaged, or of an older format.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        lines = (folder / "utterances.jsonl").read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no results of `svae evaluate` ({error})") from None
    if not isinstance(metrics, dict):
        raise DataError(f"{folder}/metrics.json: damaged; run the evaluation again")
    if metrics.get("format") != FORMAT:
        raise DataError(
            f"{folder}: results of format {metrics.get('format')}, expected {FORMAT}; run the evaluation again"
        )
    needed = {"list", "protocol", "judges", "system_recordings", "system_name", "system", "errors"}
    damaged = DataError(f"{folder}: damaged results; run the evaluation again")
    if not needed <= metrics.keys():
        raise damaged
    try:
        return metrics, [Row.from_json(row) for row in rows]
    except (KeyError, TypeError, AttributeError):
        raise damaged from None


def _judge(metrics: Metrics, name: str) -> dict[str, Any] | None:
    """Return what makes a judge the same judge: not where its files lie, where their content is known."""
    described = metrics["judges"].get(name)
    if described is None or not described.get("sha256"):
        return described
    return {key: value for key, value in described.items() if key not in ("spec", "model", "path")}


def comparable(a: Metrics, b: Metrics, where: str) -> tuple[list[str], list[str]]:
    """Return the columns that the same judges filled, and what was left out, in words.

    Raises:
        DataError: the lists, normalisers or recognisers differ; a number would mean nothing.
    """
    for section, key in SAME:
        if a[section][key] != b[section][key]:
            raise DataError(
                f"{where}: {section} {key} differ: {a[section][key]!r} and {b[section][key]!r}"
            )
    if _judge(a, "asr") != _judge(b, "asr"):
        names = " and ".join(m["judges"]["asr"].get("spec", "?") for m in (a, b))
        raise DataError(
            f"{where}: the recognisers differ ({names}); their word error rates do not compare"
        )
    judges = ("sim_ecapa", "sim_o", "distillmos", "utmos", "dnsmos")
    other = [k for k in judges if _judge(a, k) != _judge(b, k)]
    only = [k for k in other if a["judges"].get(k) is None or b["judges"].get(k) is None]
    words = [f"{k}: {'only one of them has it' if k in only else 'other judges'}" for k in other]
    return [column for column in SCORES if not column.startswith(tuple(other))], words


def print_comparison(console: Console, result: dict[str, Any]) -> None:
    """Print one line for each score."""
    for name in ("a", "b"):
        side = result[name]
        text = f"{name.upper()}: {escape(side['folder'])} ({escape(side['system'])}), protocol {escape(side['protocol'])}"
        if side["originals_wer"] is not None:
            text += f"; the originals' WER there: {100 * side['originals_wer']:.2f} %"
        if side["errors"]:
            text += f"; [yellow]{side['errors']} recordings missing or unreadable[/]"
        console.print(text, highlight=False, soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("", "A", "B", "B - A", "95 % interval", "p"):
        table.add_column(heading, justify="left" if not heading else "right")
    for column, found in result["scores"].items():
        heading, form = COLUMNS[column]
        scale, digits = (100, 2) if form == "percent" else (1, 4)
        numbers = [f"{scale * found[key]:.{digits}f}" for key in ("a", "b", "difference")]
        ends = found["interval"]
        shown = "—"
        if ends is not None:
            shown = f"[{scale * ends[0]:.{digits}f}, {scale * ends[1]:.{digits}f}]"
        p = f"{found['p']:.4f}" + ("" if found["exact"] else "~")
        table.add_row(heading, *numbers, shown, p)
    console.print(table)
    heard = [result[name]["batch_size"] for name in ("a", "b")]
    if heard[0] != heard[1]:
        console.print(
            f"Judges heard {heard[0]} clips of A and {heard[1]} of B at a time; that alone may change a few words",
            highlight=False,
        )
    for text in result["left_out"]:
        console.print(f"Left out: {text}", highlight=False)
    exact = all(found["exact"] for found in result["scores"].values())
    drawn = "" if exact else "; ~ 10,000 drawn permutations"
    console.print(
        f"{result['utterances']} utterances. Paired bootstrap and permutation test over {result['unit']}s{drawn}",
        highlight=False,
    )
