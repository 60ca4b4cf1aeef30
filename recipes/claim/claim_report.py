"""What came out of the claim experiment: claim.json, a figure and markdown tables, from the results that are there.

    claim_report.py draw RESULTS OUT [--docs docs]     # OUT/claim.{json,png,md}; with --docs also the picture and table of the page
    claim_report.py run RUN OUT.json                   # keep what a training's metrics say; then delete all checkpoints but its last
    claim_report.py keep FILE COPY

claim_numbers.py says what RESULTS holds and how the numbers are had.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from claim_jobs import Stages
from claim_numbers import (
    MEL,
    NAME,
    ORDER,
    PAIRS,
    SCORES,
    WIDTHS,
    Json,
    by_student,
    gather,
    keep_run,
    kinds_of,
)
from svae.runtime.files import write_text

EMPTY = ""


def _digits(score: str) -> int:
    return {"wer": 1, "mos": 2, "sim": 3}[score]


def _cell(of: Json | None, score: str) -> str:
    if of is None:
        return EMPTY
    n = _digits(score)
    if math.isnan(of["low"]):  # of a single sentence
        return f"{of['mean']:.{n}f}"
    return f"{of['mean']:.{n}f} [{of['low']:.{n}f}, {of['high']:.{n}f}]"


def _number(value: float | None, digits: int) -> str:
    return EMPTY if value is None else f"{value:.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def tables(found: Json) -> str:
    """Return all tables as markdown, headings included; a cell without a result is empty."""
    kinds = kinds_of([*ORDER, *found["kinds"]])
    return "\n".join(
        [
            "Reconstruction and what is measured of the latents alone, by VAE:\n",
            _alone_table(kinds, found),
            _equality(found),
            f"Text-to-speech after equal steps ({found['last'] or 'none judged yet'}) and after equal seconds, as many as the "
            f"fastest takes for them ({_number(found['seconds'], 0) or 'not known yet'}):\n",
            _speech_table(kinds, found),
            "Pairs that differ in one thing, the same seeds, paired by sentence; positive: the first named has more:\n",
            _test_table(found),
            _all_widths(found),
            "What predicts the WER, by rank correlation over representations:\n",
            _predictor_table(found),
        ]
    )


def _alone_table(kinds: Sequence[str], found: Json) -> str:
    back, known = found["reconstruction"], found["inspect"]
    header = [
        "",
        *(SCORES[score] for score in SCORES),
        "phone of a frame, linear, %",
        "effective rank",
        "KL, nats a frame",
    ]
    rows = []
    for name in ["originals", *_names(kinds, back | known), "teacher"]:
        scores, of = back.get(name, {}), known.get(name, {})
        probe = of.get("phone probe")
        line = [name, *(_cell(scores.get(score), score) for score in SCORES)]
        line += [_number(None if probe is None else 100 * probe, 1)]
        line += [_number(of.get("effective rank"), 1), _number(of.get("KL"), 0)]
        rows.append(line)
    return markdown(header, rows)


def _names(kinds: Sequence[str], there: Json) -> list[str]:
    """Return representations, those that have results and the first VAE of every kind; vanilla64+hidden learns vanilla64's."""
    names = {f"{kind}-v0" for kind in kinds if "+" not in kind} | {
        n for n in there if NAME.match(n)
    }
    order = {kind: i for i, kind in enumerate(kinds)}

    def place(name: str) -> tuple[int, str]:
        kind = name.rsplit("-v", 1)[0]
        return order.get(kind, len(order)), name

    return sorted(names, key=place)


def _equality(found: Json) -> str:
    """Say whether the VAEs reconstruct alike, which the comparison presupposes; of a kind's VAEs the mean counts."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for name, of in found["reconstruction"].items():
        if of["mos"] is not None and name not in ("originals", f"{MEL}-v0"):
            by_kind[name.rsplit("-v", 1)[0]].append(of["mos"]["mean"])
    means = {kind: statistics.fmean(values) for kind, values in by_kind.items()}
    if len(means) < 2:
        return "Whether the VAEs reconstruct alike is not known yet.\n"

    def said(low: str, high: str) -> str:
        spread = means[high] - means[low]
        return f"{spread:.2f} ({low} to {high}), {'alike' if abs(spread) <= 0.1 else 'NOT alike'}"

    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    pairs = [said(a, b) for a, b in PAIRS if a in means and b in means]
    ends = f" Of the pairs below: {'; '.join(pairs)}." if pairs else ""
    return f"MOS of the VAEs, means of each kind's; 0.1 apart is called alike. All: {said(low, high)}.{ends}\n"


def _speech_table(kinds: Sequence[str], found: Json) -> str:
    header = [
        "",
        "runs",
        *SCORES.values(),
        "seconds a step",
        *(f"{t}, equal seconds" for t in SCORES.values()),
        "flow loss",
    ]
    rows = []
    for kind in kinds:
        of = {s: found["curves"].get(kind, {}).get(s, {}).get(str(found["last"])) for s in SCORES}
        runs = max((each["runs"] for each in of.values() if each), default=0)
        line = [kind, str(runs) if runs else EMPTY, *(_cell(of[s], s) for s in SCORES)]
        line.append(_number(found["seconds_per_step"].get(kind), 2))
        line += [_number(found["at_seconds"].get(kind, {}).get(s), _digits(s)) for s in SCORES]
        line.append(_number(found["flow"].get(kind), 3))
        rows.append(line)
    return markdown(header, rows)


def _test_table(found: Json) -> str:
    header = [
        "",
        *(f"{title}: difference, p (Holm)" for title in SCORES.values()),
        "WER %: of each pair of runs [95 % over pairs]",
        "WER %: difference by step",
    ]
    rows = []
    for a, b in PAIRS:
        of = {test["score"]: test for test in found["tests"] if (test["a"], test["b"]) == (a, b)}
        line = [f"{b} − {a}"]
        for score in SCORES:
            test = of.get(score)
            if test is None:
                line.append(EMPTY)
                continue
            n = _digits(score)
            low, high = test["interval"] or (math.nan, math.nan)
            line.append(
                f"{test['difference']:+.{n}f} [{low:+.{n}f}, {high:+.{n}f}], {test['p']:.3f} ({test['p_holm']:.3f})"
            )
        by_step = of["wer"]["by_step"].items() if "wer" in of else ()
        curve = ", ".join(f"{difference:+.1f} ({step})" for step, difference in by_step)
        rows.append([*line, _by_pair(of.get("wer")), curve])
    return markdown(header, rows)


def _all_widths(found: Json) -> str:
    """Say what alignment does over all widths, where every pair of runs is one observation."""
    parts = []
    for score, title in SCORES.items():
        of = [t for t in found["tests"] if t["score"] == score and (t["a"], t["b"]) in WIDTHS]
        values = [value for test in of for value in test["by_seed"]]
        if len(values) < 2:
            continue
        n = _digits(score)
        low, high = by_student(values)
        parts.append(
            f"{title} {statistics.fmean(values):+.{n}f} [{low:+.{n}f}, {high:+.{n}f}] ({len(values)} pairs)"
        )
    if not parts:
        return "What alignment does over all widths is not known yet.\n"
    return f"Alignment over all widths, a pair of runs being one observation (Student's t): {'; '.join(parts)}.\n"


def _by_pair(test: Json | None) -> str:
    """Return the differences of single pairs of runs; how far they lie apart is what the test over sentences does not know."""
    if test is None:
        return EMPTY
    cell = ", ".join(f"{value:+.1f}" for value in test["by_seed"])
    if test["interval_over_seeds"] is not None:
        low, high = test["interval_over_seeds"]
        cell += f" [{low:+.1f}, {high:+.1f}]"
    return cell


def _predictor_table(found: Json) -> str:
    header = ["measured of the latents", "rank correlation with WER", "representations"]
    of = found["correlations"]
    return markdown(
        header,
        [
            [
                name,
                _number(of.get(name, {}).get("rho"), 2),
                str(of.get(name, {}).get("representations", EMPTY)),
            ]
            for name in ("phone probe", "effective rank", "effective rank / width", "KL")
        ],
    )


def draw(found: Json, path: Path) -> None:
    """Draw the scores against steps on the left and seconds of training on the right, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(len(SCORES), 2, squeeze=False, sharey="row")
    colors = _colors(found["kinds"])
    for row, (score, title) in zip(axes, SCORES.items(), strict=True):
        for kind in found["kinds"]:
            points = {int(s): of for s, of in found["curves"][kind][score].items() if of}
            if not points:
                continue
            steps = sorted(points)
            means, lows, highs = (
                [points[s][name] for s in steps] for name in ("mean", "low", "high")
            )
            style: Json = {
                "color": colors[kind], "marker": "o", "markersize": 3,
                "linestyle": "--" if kind.startswith("vanilla") else "-",
            }  # fmt: skip
            label = f"{kind} ({max(p['runs'] for p in points.values())})"
            row[0].plot(steps, means, label=label, **style)
            row[0].fill_between(steps, lows, highs, color=colors[kind], alpha=0.1, linewidth=0)
            pace = found["seconds_per_step"].get(kind)
            if pace is not None:
                row[1].plot([pace * s for s in steps], means, **style)
        row[0].set_ylabel(title)
        for axis in row:
            axis.grid(alpha=0.3)
    axes[-1][0].set_xlabel("optimizer steps")
    axes[-1][1].set_xlabel("seconds of training, one core")
    if found["kinds"]:
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8, title="(runs)")
    figure.savefig(path, dpi=110)


def _colors(kinds: Sequence[str]) -> dict[str, str]:
    """Return a colour for each kind; aligned and vanilla latents of one width share it, as they are what is compared."""
    shared = {kind: kind.removeprefix("vanilla").removeprefix("semantic") for kind in kinds}
    number = {name: i for i, name in enumerate(dict.fromkeys(shared.values()))}
    return {kind: f"C{number[shared[kind]]}" for kind in kinds}


def report(results: Path, out: Path, docs: Path | None = None) -> Json:
    """Write OUT/claim.json, .md and .png; with `docs` also DOCS/claim.png and the tables between the marks of DOCS/claim.md."""
    found = gather(results)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "claim.json", json.dumps(found, indent=1) + "\n")
    write_text(out / "claim.md", tables(found))
    if found["kinds"]:
        draw(found, out / "claim.png")
    if docs is not None:
        page = docs / "claim.md"
        picture = "\n![WER, MOS and similarity against steps and seconds](claim.png)\n"
        text = tables(found) + picture * bool(found["kinds"])
        write_text(page, replaced(page.read_text(encoding="utf-8"), text))
        if found["kinds"]:
            shutil.copyfile(out / "claim.png", docs / "claim.png")
    print(
        f"Tables in {out / 'claim.md'}, numbers in claim.json"
        + ", figure in claim.png" * bool(found["kinds"])
    )
    return found


BEGIN, END = "<!-- claim_report.py: begin -->", "<!-- claim_report.py: end -->"


def replaced(page: str, text: str) -> str:
    """Return a page with other text between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise SystemExit(f"claim.md: has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{text}\n{END}{after}"


def print_plan(plan: Stages) -> None:
    """Print what is left, and the hours spent by kind of stage."""
    spent: dict[str, list[float]] = defaultdict(list)
    path = plan.out / "hours.jsonl"
    for line in path.read_text().split("\n") if path.is_file() else []:
        if line:
            row = json.loads(line)
            spent[row["stage"].split("-")[0]].append(row["seconds"])
    left = {stage.name for stage in plan.left()}
    count: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name in plan.stages:
        count[name.split("-")[0]][name in left] += 1
    print(f"{'stage':16} {'done':>5} {'left':>5} {'hours of one core so far':>25}")
    for kind, (done, todo) in count.items():
        print(f"{kind:16} {done:5} {todo:5} {sum(spent.get(kind, [])) / 3600:25.2f}")
    print("next: " + ", ".join(stage.name for stage in plan.left()[:6]))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, first, second in (
        ("draw", "results", "out"),
        ("run", "run", "out"),
        ("keep", "file", "copy"),
    ):
        action = actions.add_parser(name)
        action.add_argument(first, type=Path)
        action.add_argument(second, type=Path)
        if name == "draw":
            action.add_argument("--docs", type=Path)
    args = parser.parse_args()
    if args.action == "draw":
        report(args.results, args.out, args.docs)
    elif args.action == "run":
        keep_run(args.run, args.out)
    else:
        args.copy.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.copy, args.file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
