"""What came out of the claim experiment: claim.json, a figure and markdown tables, from the results that are there.

    claim_report.py draw RESULTS OUT [--docs docs]     # OUT/claim.{json,png,md}; with --docs also the picture and table of the page
    claim_report.py run RUN OUT.json                   # keep what a training's metrics say; then delete all checkpoints but its last
    claim_report.py keep FILE COPY

RESULTS holds, each written by the stage of its name: reconstruction-NAME.json, inspect-NAME.json, run-NAME-seedN.json, speech-NAME-seedN.json,
pace-KIND.json, where NAME is a representation (semantic64-v0: the first VAE of its kind). Scores over seeds are means with intervals by Student's t;
of one run alone intervals over sentences (bootstrap). Pairs of kinds are tested sentence by sentence, seeds added up, Holm-corrected.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from claim_jobs import Stages
from svae.analysis.compare_runs import T_95, read_run
from svae.evaluation.statistics import Ratio, compare_paired, holm, interval, resampling_counts
from svae.runtime.files import write_text

Json = dict[str, Any]
SCORES = {"wer": "WER %", "mos": "MOS", "sim": "similarity"}
PAIRS = (
    ("vanilla64", "semantic64"),
    ("vanilla32", "semantic32"),
    ("vanilla16", "semantic16"),
    ("vanilla64", "noise64"),
    ("vanilla64", "anchored64"),
    ("vanilla64", "vanilla64+hidden"),
    ("semantic64", "semantic64+hidden"),
    ("vanilla64+characters", "semantic64+characters"),
)
"""What differs in one thing alone: first the alignment, then the field's next questions."""
WIDTHS = PAIRS[:3]
MEL = "mel"
NAME = re.compile(r"(?P<kind>.+)-v(?P<vae>\d+)(-seed(?P<seed>\d+))?$")
ORDER = ("vanilla16", "semantic16", "vanilla32", "semantic32", "vanilla64", "semantic64", MEL)
EMPTY = ""


@dataclass(frozen=True)
class Run:
    """A text-to-speech model and what the judges said of it."""

    kind: str
    vae: int
    seed: int
    rows: dict[int, list[Json]]
    """By step: of each sentence id, words, wer, mos, sim."""
    seconds_per_step: float | None
    flow: dict[int, float]
    """Held-out loss by step."""

    def ratio(self, score: str, step: int) -> Ratio | None:
        """Return a score's numerators and denominators, by sentence; None where the judges did not give it."""
        rows = self.rows.get(step, [])
        if not rows or any(row[score] is None for row in rows):
            return None
        weights = [float(row["words"]) if score == "wer" else 1.0 for row in rows]
        scale = 100.0 if score == "wer" else 1.0
        values = [scale * row[score] * w for row, w in zip(rows, weights, strict=True)]
        return Ratio(np.array(values), np.array(weights))

    def value(self, score: str, step: int) -> float | None:
        """Return a score; of words the corpus's error rate in per cent."""
        ratio = self.ratio(score, step)
        return None if ratio is None else ratio.value


# ----------------------------------------------------------------------------------------------- reading


def read_json(path: Path) -> Json:
    """Read a file of the results."""
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def read_runs(results: Path) -> list[Run]:
    """Return every text-to-speech model that was judged."""
    runs = []
    for path in sorted(results.glob("speech-*.json")):
        name = NAME.match(path.stem.removeprefix("speech-"))
        facts = results / path.name.replace("speech-", "run-")
        if name is None or not facts.is_file():
            continue
        said, facts_of = read_json(path), read_json(facts)
        pace = results / f"pace-{name['kind']}.json"
        # Where nothing was measured alone, what the training itself saw, with all that ran beside it.
        measured = read_json(pace) if pace.is_file() else facts_of
        rows = {int(step): of for step, of in said["rows"].items()}
        flow = {int(step): value for step, value in facts_of["flow"].items()}
        runs.append(
            Run(
                name["kind"], int(name["vae"]), int(name["seed"]), rows,
                measured["seconds_per_step"], flow,
            )
        )  # fmt: skip
    return runs


def kinds_of(names: Iterable[str]) -> list[str]:
    """Return kinds in the order of the tables; those of the field's next questions come last."""
    found = set(names)
    return [kind for kind in ORDER if kind in found] + sorted(found - set(ORDER))


def keep_run(run: Path, out: Path) -> None:
    """Write what the report needs of a run's metrics; then delete its checkpoints but the last, which were judged."""
    curves = read_run(run).curves.get("loss/flow")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n") if line]
    train = [row for row in rows if row["split"] == "train"]
    paces = [
        (b["time"] - a["time"]) / (b["step"] - a["step"])
        for a, b in zip(train, train[1:], strict=False)
        if a.get("session") == b.get("session") and b["step"] > a["step"]
    ]
    facts = {
        # The median, as other work on the machine and validations come in bursts.
        "seconds_per_step": statistics.median(paces) if paces else None,
        "flow": dict(zip(curves.steps, curves.values, strict=True)) if curves else {},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(facts, indent=1) + "\n")
    for old in sorted((run / "checkpoints").glob("step-*"))[:-1]:
        shutil.rmtree(old)


# ----------------------------------------------------------------------------------------------- numbers


def over_runs(runs: Sequence[Run], score: str, step: int) -> Json | None:
    """Return mean, ends of a 95 % interval and number of runs of a score at a step.

    Of several runs by Student's t over their values, of one alone by bootstrap over its sentences.
    """
    values = [v for run in runs if (v := run.value(score, step)) is not None]
    if not values:
        return None
    mean = statistics.fmean(values)
    if len(values) == 1:
        [ratio] = [r for run in runs if (r := run.ratio(score, step)) is not None]
        ends = interval(ratio, resampling_counts(len(ratio.numerator)))
        low, high = ends if ends is not None else (math.nan, math.nan)
    else:
        low, high = by_student(values)
    return {"mean": mean, "low": low, "high": high, "runs": len(values), "values": values}


def by_student(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean of at least two values."""
    t = T_95[min(len(values) - 1, len(T_95)) - 1]
    half = t * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return mean - half, mean + half


def at_seconds(runs: Sequence[Run], score: str, seconds: float) -> float | None:
    """Return the mean score after so many seconds of training, between the steps that were judged by straight lines."""
    found = []
    for run in runs:
        steps = [step for step in sorted(run.rows) if run.value(score, step) is not None]
        if run.seconds_per_step is None or not steps or steps[0] * run.seconds_per_step > seconds:
            continue
        values = [run.value(score, step) for step in steps]
        times = [step * run.seconds_per_step for step in steps]
        found.append(float(np.interp(seconds, times, np.array(values, dtype=float))))
    return statistics.fmean(found) if found else None


def pairs_of(
    runs: Sequence[Run], a: str, b: str, score: str, step: int
) -> list[tuple[Ratio, Ratio]]:
    """Return a score of kinds a and b, by sentence, for every seed that both have."""
    first, second = ({(r.vae, r.seed): r for r in runs if r.kind == kind} for kind in (a, b))
    return [
        (one, other)
        for key in sorted(first.keys() & second.keys())
        if (one := first[key].ratio(score, step)) is not None
        and (other := second[key].ratio(score, step)) is not None
    ]


def added_up(pairs: Sequence[tuple[Ratio, Ratio]]) -> list[Ratio]:
    """Return the scores of both kinds, the seeds added up by sentence."""
    return [
        Ratio(sum(pair[i].numerator for pair in pairs), sum(pair[i].denominator for pair in pairs))
        for i in (0, 1)
    ]


def paired(runs: Sequence[Run], a: str, b: str, score: str, step: int) -> Json | None:
    """Compare kind b with kind a by the sentences of the seeds that both have, added up by sentence."""
    both = pairs_of(runs, a, b, score, step)
    if not both:
        return None
    sums = added_up(both)
    found = compare_paired(*sums)
    by_seed = [other.value - one.value for one, other in both]
    return {
        "a": a, "b": b, "score": score, "step": step, "seeds": len(both), "difference": found.difference,
        "interval": found.interval, "p": found.p, "by_seed": by_seed,
        "interval_over_seeds": by_student(by_seed) if len(by_seed) > 1 else None,
    }  # fmt: skip


def predictors(results: Path) -> dict[str, Json]:
    """Return by representation (semantic64-v0, mel-v0) what was measured of it before anything learned it."""
    found: dict[str, Json] = {}
    for path in sorted(results.glob("inspect-*.json")):
        name = path.stem.removeprefix("inspect-")
        of = read_json(path)
        probe = of.get("phone_probe")
        kl = of.get("kl")
        found[f"{MEL}-v0" if name == MEL else name] = {
            "phone probe": None if probe is None else probe["accuracy"],
            "effective rank": of["effective_rank"],
            "effective rank / width": of["effective_rank"] / max(len(of["mean"]), 1),
            "KL": None if kl is None else sum(kl),
        }
    return found


def correlations(runs: Sequence[Run], of: dict[str, Json], step: int) -> dict[str, Json]:
    """Return for each predictor its rank correlation with the WER of what was learned, over representations."""
    outcome: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        value = run.value("wer", step)
        if value is not None:
            outcome[f"{run.kind}-v{run.vae}"].append(value)
    found: dict[str, Json] = {}
    for name in ("phone probe", "effective rank", "effective rank / width", "KL"):
        pairs = [
            (of[key][name], statistics.fmean(values))
            for key, values in sorted(outcome.items())
            if key in of and of[key][name] is not None
        ]
        rho = None
        if len({x for x, _ in pairs}) > 2 and len({y for _, y in pairs}) > 2:
            rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        found[name] = {"rho": rho, "representations": len(pairs)}
    return found


def reconstructions(results: Path) -> dict[str, Json]:
    """Return by representation how it gives recordings back; `originals` are the recordings themselves."""
    found: dict[str, Json] = {}
    for path in sorted(results.glob("reconstruction-*.json")):
        name = path.stem.removeprefix("reconstruction-")
        for folder, rows in read_json(path)["rows"].items():
            key = "originals" if folder == "originals" else f"{MEL}-v0" if name == MEL else name
            run = Run(key, 0, 0, {0: rows}, None, {})
            found[key] = {score: over_runs([run], score, 0) for score in SCORES}
    return found


def gather(results: Path) -> Json:
    """Return everything that the figure and the tables show."""
    runs, known = read_runs(results), predictors(results)
    kinds = kinds_of(run.kind for run in runs)
    of = {kind: [run for run in runs if run.kind == kind] for kind in kinds}
    steps = sorted({step for run in runs for step in run.rows})
    common = [step for step in steps if all(step in run.rows for run in runs)]
    last = common[-1] if common else None
    paces = {
        kind: statistics.median(known_paces)
        for kind in kinds
        if (known_paces := [r.seconds_per_step for r in of[kind] if r.seconds_per_step is not None])
    }
    seconds = min((pace * last for pace in paces.values()), default=None) if last else None
    tests = [
        test
        for a, b in PAIRS
        for score in SCORES
        if last is not None and (test := paired(runs, a, b, score, last)) is not None
    ]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p
        test["by_step"] = {}
        for step in common:
            both = pairs_of(runs, test["a"], test["b"], test["score"], step)
            if both:
                one, other = added_up(both)
                test["by_step"][step] = other.value - one.value
    return {
        "format": 1, "steps": steps, "last": last, "seconds": seconds, "kinds": kinds,
        "curves": {
            kind: {score: {str(step): over_runs(of[kind], score, step) for step in steps} for score in SCORES}
            for kind in kinds
        },
        "seconds_per_step": paces,
        "flow": {
            kind: statistics.fmean(r.flow[last] for r in of[kind] if last in r.flow)
            for kind in kinds
            if last is not None and any(last in r.flow for r in of[kind])
        },
        "at_seconds": {
            kind: {score: None if seconds is None else at_seconds(of[kind], score, seconds) for score in SCORES}
            for kind in kinds
        },
        "tests": tests, "reconstruction": reconstructions(results), "inspect": known,
        "correlations": {} if last is None else correlations(runs, known, last),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------- tables


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
    """Return representations, those that have results and the first VAE of every kind."""
    names = {f"{kind}-v0" for kind in kinds} | {n for n in there if NAME.match(n)}
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


# ----------------------------------------------------------------------------------------------- figure


def draw(found: Json, path: Path) -> None:
    """Draw the scores against steps on the left and seconds of training on the right, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(len(SCORES), 2, squeeze=False, sharey="row")
    for row, (score, title) in zip(axes, SCORES.items(), strict=True):
        for number, kind in enumerate(found["kinds"]):
            points = {int(s): of for s, of in found["curves"][kind][score].items() if of}
            if not points:
                continue
            steps = sorted(points)
            means, lows, highs = (
                [points[s][name] for s in steps] for name in ("mean", "low", "high")
            )
            width = kind.strip("abcdefghijklmnopqrstuvwxyz+-")
            style: Json = {
                "color": f"C{number}", "marker": "o", "markersize": 3,
                "linestyle": "--" if kind.startswith("vanilla") else "-", "linewidth": 1.0 + (width == "64"),
            }  # fmt: skip
            label = f"{kind} ({max(p['runs'] for p in points.values())})"
            row[0].plot(steps, means, label=label, **style)
            row[0].fill_between(steps, lows, highs, color=f"C{number}", alpha=0.1, linewidth=0)
            pace = found["seconds_per_step"].get(kind)
            if pace is not None:
                row[1].plot([pace * s for s in steps], means, **style)
        row[0].set_ylabel(title)
        for axis in row:
            axis.grid(alpha=0.3)
    axes[-1][0].set_xlabel("optimizer steps")
    axes[-1][1].set_xlabel("seconds of training, one core")
    if found["kinds"]:
        axes[0][0].legend(fontsize=8, title="(runs)", title_fontsize=8)
    figure.savefig(path, dpi=110)


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
