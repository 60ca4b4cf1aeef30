"""The numbers of the claim experiment, from the results that are there: claim_report.py shows them.

RESULTS holds, each written by the stage of its name: reconstruction-NAME.json, inspect-NAME.json, run-NAME-seedN.json, speech-NAME-seedN.json,
pace-KIND.json, where NAME is a representation (semantic64-v0: the first VAE of its kind). Scores over seeds are means with intervals by Student's t;
of one run alone intervals over sentences (bootstrap). Pairs of kinds are tested sentence by sentence, seeds added up, Holm-corrected.
"""

from __future__ import annotations

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

from svae.analysis.compare_runs import T_95, read_run
from svae.evaluation.statistics import Ratio, compare_paired, holm, interval, resampling_counts
from svae.runtime.files import write_text

Json = dict[str, Any]
SCORES = {"wer": "WER %", "mos": "MOS", "sim": "similarity"}
PAIRS = (
    ("vanilla64", "semantic64"),
    ("vanilla32", "semantic32"),
    ("vanilla16", "semantic16"),
    ("vanilla64", "strong64"),
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
        # What a training itself sees of its pace has all in it that ran beside it.
        seconds = read_json(pace)["seconds_per_step"] if pace.is_file() else None
        rows = {int(step): of for step, of in said["rows"].items()}
        flow = {int(step): value for step, value in facts_of["flow"].items()}
        runs.append(Run(name["kind"], int(name["vae"]), int(name["seed"]), rows, seconds, flow))
    return runs


def kinds_of(names: Iterable[str]) -> list[str]:
    """Return kinds in the order of the tables; those of the field's next questions come last."""
    found = set(names)
    return [kind for kind in ORDER if kind in found] + sorted(found - set(ORDER))


def keep_run(run: Path, out: Path) -> None:
    """Write what the report needs of a run's metrics; then delete its checkpoints but the last, which were judged."""
    curves = read_run(run).curves.get("loss/flow")
    facts = {"flow": dict(zip(curves.steps, curves.values, strict=True)) if curves else {}}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(facts, indent=1) + "\n")
    for old in sorted((run / "checkpoints").glob("step-*"))[:-1]:
        shutil.rmtree(old)


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
    paces = {run.kind: run.seconds_per_step for run in runs if run.seconds_per_step is not None}
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
