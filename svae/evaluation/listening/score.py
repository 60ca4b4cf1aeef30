"""`svae listen --score`: from listeners' answers to opinion scores, comparisons, intervals and agreement."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from svae.errors import DataError
from svae.evaluation.listening.design import KINDS, PREFERENCE, attentive
from svae.evaluation.listening.key import read_key, read_object
from svae.evaluation.report.listening import join_report
from svae.evaluation.statistics import (
    Array,
    Ratio,
    compare_paired,
    holm,
    resampling_counts,
)
from svae.runtime.files import write_text

FORMAT = 1
ATTENTIVE = 2 / 3
"""Share of attention checks that a listener has to pass, or the answers do not count."""
RANGES = {"preference": (-3, 3), "mos": (1, 5), "similarity": (1, 5)}
NAMES = {"preference": "CMOS", "mos": "MOS", "similarity": "similarity MOS"}


@dataclass(frozen=True)
class Answer:
    """What one listener said about one question; for a preference, how much better the first of the systems is."""

    listener: str
    kind: str
    item: str
    systems: tuple[str, ...]
    value: float


def score_test(folder: Path, files: Sequence[Path] = ()) -> dict[str, Any]:
    """Score the answers in FOLDER/answers and in `files` with FOLDER/key.json; write listening.json and listening.md there.

    What a result folder of `svae evaluate` was heard as is also written there (listening.json), and into its report.html.

    Returns:
        What listening.json holds.

    Raises:
        DataError: no key, no answers, answers to another test, damaged, or two by one listener to one question.
    """
    key = read_key(folder)
    trials = {trial["trial"]: trial for trial in key["trials"]}
    paths = [*sorted((folder / "answers").glob("*.json")), *files]
    sheets = list({_identity(sheet): sheet for sheet in (_sheet(p, key, trials) for p in paths)}.values())  # fmt: skip
    if not sheets:
        raise DataError(
            f"listen --score {folder}: no answers in {folder / 'answers'}, and none were named"
        )
    _refuse_doubles(sheets)
    passed = _checks(sheets, trials)
    attentive_ones = {name for name, (right, of) in passed.items() if right >= ATTENTIVE * of}
    answers = list(_answers(sheets, trials, attentive_ones))
    if not answers:
        raise DataError(
            f"listen --score {folder}: none of the {len(passed)} listeners passed the attention checks"
        )
    names = list(key["systems"])
    result: dict[str, Any] = {
        "format": FORMAT,
        "test": key["test"],
        "systems": key["systems"],
        "listeners": {
            name: {"checks_passed": right, "checks": of, "counted": name in attentive_ones}
            for name, (right, of) in sorted(passed.items())
        },
        "unfinished": sorted(str(s["file"]) for s in sheets if not s["finished"]),
        "scores": {},
    }
    for kind in KINDS:
        own = [answer for answer in answers if answer.kind == kind]
        if own:
            scored = _preferences(own, names) if kind == PREFERENCE else _opinions(own, names)
            result["scores"][kind] = scored | {"answers": len(own), "agreement": _agreement(own)}
    write_text(folder / "listening.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")  # fmt: skip
    write_text(folder / "listening.md", markdown(result))
    joined = [name for name, where in key["systems"].items() if join_report(Path(where), name, result)]  # fmt: skip
    print_scores(Console(), result, folder, joined)
    return result


# ------------------------------------------------------------------------------------------ reading


def _sheet(path: Path, key: dict[str, Any], trials: dict[str, Any]) -> dict[str, Any]:
    """Return what a listener sent, checked against the key."""
    found = read_object(path, "answers of a listening test")
    if found.get("test") != key["test"]:
        raise DataError(
            f"{path}: answers to test {found.get('test')!r}, but the key is of {key['test']!r}"
        )
    listener, answers = found.get("listener"), found.get("answers")
    if not isinstance(listener, str) or not listener or not isinstance(answers, list):
        raise DataError(f"{path}: damaged: no listener or no answers")
    values: dict[str, float] = {}
    for answer in answers:
        given: dict[str, Any] = answer if isinstance(answer, dict) else {}
        trial: Any = given.get("trial")
        value: Any = given.get("value")
        is_known = isinstance(trial, str) and trial in trials
        if not is_known or isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{path}: damaged: {answer!r} answers no question of this test")
        low, high = RANGES[trials[trial]["kind"]]
        if not low <= value <= high:
            raise DataError(f"{path}: {trial}: {value} is not from {low} to {high}")
        if trial in values:
            raise DataError(
                f"{path}: question {trial} is answered twice, {values[trial]:g} and {value:g}. Expected one answer to each; "
                "leave in the one that was meant."
            )
        values[trial] = float(value)
    return {
        "file": path,
        "listener": listener,
        "finished": bool(found.get("finished")),
        "answers": values,
    }


def _identity(sheet: dict[str, Any]) -> str:
    """The same answers, sent and downloaded, count once."""
    return json.dumps([sheet["listener"], sheet["answers"]], sort_keys=True)


def _refuse_doubles(sheets: Sequence[dict[str, Any]]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for sheet in sheets:
        for trial in sheet["answers"]:
            place = (sheet["listener"], trial)
            if place in seen:
                raise DataError(
                    f"{sheet['file']}: {sheet['listener']!r} answered question {trial} in {seen[place]} too. Remove one file, "
                    "or rename one of two listeners."
                )
            seen[place] = sheet["file"]


def _checks(sheets: Iterable[dict[str, Any]], trials: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return how many attention checks each listener passed, of how many."""
    passed: dict[str, tuple[int, int]] = {}
    for sheet in sheets:
        right, of = passed.get(sheet["listener"], (0, 0))
        for trial, value in sheet["answers"].items():
            check = trials[trial]["check"]
            if check is not None:
                right, of = right + attentive(check, value), of + 1
        passed[sheet["listener"]] = (right, of)
    return passed


def _answers(
    sheets: Iterable[dict[str, Any]], trials: dict[str, Any], listeners: set[str]
) -> Iterable[Answer]:
    """Yield the answers that count, preferences turned so that the names of the systems are in order."""
    for sheet in sheets:
        for name, value in sheet["answers"].items():
            trial = trials[name]
            if trial["check"] is not None or sheet["listener"] not in listeners:
                continue
            systems = tuple(trial["systems"])
            if systems != tuple(sorted(systems)):
                systems, value = systems[::-1], -value
            yield Answer(sheet["listener"], trial["kind"], trial["item"], systems, value)


# ------------------------------------------------------------------------------------------ scores


def _mean(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the mean of answers and its interval, over listeners and items both where there are several of each.

    Both are drawn: other listeners and other sentences would have given other answers (Owen 2007, pigeonhole bootstrap).
    """
    listeners = {name: i for i, name in enumerate(dict.fromkeys(a.listener for a in answers))}
    items = {name: i for i, name in enumerate(dict.fromkeys(a.item for a in answers))}
    values = np.array([answer.value for answer in answers])
    weights = np.ones((1, 1))
    for seed, (numbers, of) in enumerate(
        ((listeners, [a.listener for a in answers]), (items, [a.item for a in answers]))
    ):
        if len(numbers) > 1:
            counts = resampling_counts(len(numbers), seed=seed)
            weights = weights * counts[:, [numbers[name] for name in of]]
    ends = None
    if len(values) > 1 and weights.shape[0] > 1:
        total = weights.sum(axis=1)
        drawn = (weights * values).sum(axis=1)[total > 0] / total[total > 0]
        low, high = np.quantile(drawn, [0.025, 0.975])
        ends = [round(float(low), 6), round(float(high), 6)]
    return {"mean": float(values.mean()), "interval": ends, "answers": len(values)}


def _opinions(answers: Sequence[Answer], names: Sequence[str]) -> dict[str, Any]:
    by_system = defaultdict(list)
    for answer in answers:
        by_system[answer.systems[0]].append(answer)
    return {"systems": {name: _mean(by_system[name]) for name in names if by_system[name]}}


def _preferences(answers: Sequence[Answer], names: Sequence[str]) -> dict[str, Any]:
    """Return for every pair how much better the first is, how often it was preferred, and whether that is chance."""
    pairs = []
    for first, second in combinations(names, 2):
        systems = tuple(sorted((first, second)))
        sign = 1.0 if systems == (first, second) else -1.0
        own = [
            Answer(a.listener, a.kind, a.item, (first, second), sign * a.value)
            for a in answers
            if a.systems == systems
        ]
        if not own:
            continue
        values = np.array([answer.value for answer in own])
        pairs.append(
            {
                "first": first,
                "second": second,
                **_mean(own),
                "first_preferred": float((values > 0).mean()),
                "same": float((values == 0).mean()),
                "second_preferred": float((values < 0).mean()),
                "p": _sign_flips(own),
            }
        )
    corrected = holm([pair["p"] for pair in pairs])
    return {"pairs": [pair | {"p_holm": p} for pair, p in zip(pairs, corrected, strict=True)]}


def _sign_flips(answers: Sequence[Answer]) -> float:
    """Return the p-value of a mean preference: every item's answers might as well have been for the other system."""
    items = [answer.item for answer in answers]
    values: Array = np.array([answer.value for answer in answers], dtype=np.float64)
    ones = np.ones_like(values)
    nothing = Ratio(np.zeros_like(values), ones)
    # Exchanging 0 and v turns the difference v into -v.
    return compare_paired(nothing, Ratio(values, ones), groups=items).p


def _agreement(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return Krippendorff's alpha of the listeners, who all heard the same recordings where they did."""
    units = defaultdict(list)
    for answer in answers:
        units[answer.item, answer.systems].append(answer.value)
    several = [values for values in units.values() if len(values) > 1]
    return {"krippendorff_alpha": krippendorff_alpha(several), "heard_by_several": len(several)}


def krippendorff_alpha(units: Iterable[Sequence[float]]) -> float | None:
    """Return Krippendorff's alpha for interval data: 1 agreement, 0 chance; None where nothing can be compared.

    `units` holds what the raters said about each thing. Source: Krippendorff, Computing Krippendorff's alpha-reliability
    (2011), with squared differences.
    """
    rated = [np.asarray(values, dtype=np.float64) for values in units if len(values) > 1]
    if not rated:
        return None
    everything = np.concatenate(rated)
    count = len(everything)
    observed = sum(_squared_differences(values) / (len(values) - 1) for values in rated) / count
    expected = _squared_differences(everything) / (count * (count - 1))
    return None if expected == 0 else float(1 - observed / expected)


def _squared_differences(values: Array) -> float:
    """Return the sum of squared differences over all ordered pairs."""
    return float(2 * len(values) * (values**2).sum() - 2 * values.sum() ** 2)


# ------------------------------------------------------------------------------------------ showing


def _with_interval(found: dict[str, Any], digits: int = 2) -> str:
    ends = found["interval"]
    text = f"{found['mean']:.{digits}f}"
    return text if ends is None else f"{text} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def score_lines(result: dict[str, Any]) -> list[list[str]]:
    """Return score, system or pair, value with interval, remarks, as a table shows them."""
    lines = []
    for kind, scored in result["scores"].items():
        for name, found in scored.get("systems", {}).items():
            lines.append([NAMES[kind], name, _with_interval(found), f"{found['answers']} answers"])
        for pair in scored.get("pairs", ()):
            shares = (
                f"{100 * pair['first_preferred']:.0f} % : {100 * pair['same']:.0f} % same : "
                f"{100 * pair['second_preferred']:.0f} %; {pair['answers']} answers; p = {pair['p_holm']:.4f}"
            )
            name = f"{pair['first']} over {pair['second']}"
            lines.append([NAMES[kind], name, _with_interval(pair), shares])
    return lines


def score_notes(result: dict[str, Any]) -> list[str]:
    """Return what a reader of the scores has to know."""
    listeners = result["listeners"]
    out = [name for name, found in listeners.items() if not found["counted"]]
    notes = [
        f"{len(listeners) - len(out)} listeners. In brackets: 95 % bootstrap over listeners and items both; p: sign flips over "
        "items, corrected for the number of pairs (Holm)"
    ]
    if out:
        notes.append(
            f"{len(out)} listeners are left out, who failed more than a third of their attention checks: {', '.join(out)}"
        )
    if result["unfinished"]:
        notes.append(f"unfinished, but counted: {', '.join(result['unfinished'])}")
    for kind, scored in result["scores"].items():
        alpha = scored["agreement"]["krippendorff_alpha"]
        said = "not known: nothing was heard by two" if alpha is None else f"{alpha:.3f}"
        notes.append(
            f"Agreement of the listeners, {NAMES[kind]}: Krippendorff's alpha {said} "
            f"({scored['agreement']['heard_by_several']} questions heard by several)"
        )
    return notes


def markdown(result: dict[str, Any]) -> str:
    """Return the scores for a paper."""

    def plain(text: str) -> str:
        return (
            text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
        )

    rows = [["score", "system", "mean", ""], *score_lines(result)]
    text = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    text.insert(1, "|---|---|---:|---|")
    return "\n".join(text) + "\n\n" + "".join(f"- {plain(n)}\n" for n in score_notes(result))


def print_scores(
    console: Console, result: dict[str, Any], folder: Path, joined: Sequence[str]
) -> None:
    """Print the scores and what they rest on."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for line in score_lines(result):
        table.add_row(*map(escape, line))
    console.print(table)
    for note in score_notes(result):
        console.print(escape(note), highlight=False, soft_wrap=True)
    console.print(
        f"Results in [bold]{escape(str(folder))}[/]: listening.json, listening.md"
        + (f"; and in the reports of {escape(', '.join(joined))}" if joined else ""),
        highlight=False,
        soft_wrap=True,
    )
