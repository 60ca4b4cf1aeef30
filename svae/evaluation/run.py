"""`svae evaluate`: make or find recordings, judge them and the originals beside them, say how sure the means are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.markup import escape

from svae.errors import DataError
from svae.evaluation.ask import Bench, Judges
from svae.evaluation.codec import codec_notes, with_codec_scores
from svae.evaluation.make import existing_seeds, existing_wavs, find_vae
from svae.evaluation.makers import Made, open_system
from svae.evaluation.options import EvaluateOptions, Plan, batch_size, check_together, make_plan
from svae.evaluation.place import Here, OnCluster, Place
from svae.evaluation.report.page import write_page
from svae.evaluation.report.tables import (
    FORMAT,
    Metrics,
    computed_in,
    print_results,
    write_results,
)
from svae.evaluation.rows import (
    ORIGINALS,
    Row,
    failures_of,
    notes_on,
    score,
    spread_over_seeds,
    summarize,
)
from svae.evaluation.statistics import CONFIDENCE, RESAMPLES
from svae.runtime.distributed import PATIENT_MINUTES, open_world
from svae.runtime.files import writable_folder
from svae.runtime.ray_jobs import open_runner


def evaluate(options: EvaluateOptions) -> Metrics:
    """Run an evaluation, alone, as one rank of torchrun or on a cluster; write its files; print a table.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is computed, wherever possible.
    """
    check_together(options)
    if options.reconstruction and options.model is not None:
        find_vae(options.model)  # what is no VAE is said before the list is read
    plan = make_plan(options)
    with open_place(options, plan) as (place, console):
        return _evaluate(options, plan, place, console)


@contextmanager
def open_place(options: EvaluateOptions, plan: Plan) -> Iterator[tuple[Place, Console]]:
    """Give where an evaluation is done, and where it prints: quiet on all ranks but the first."""
    if options.ray is not None:
        out, console = writable_folder(options.out, option="--out"), Console()
        with open_runner(folder=out, device=options.device, ray=options.ray) as runner:
            theirs = replace(options, ray=None, device=runner.device)
            yield OnCluster(theirs, plan, runner, console), console
        return
    with open_world(options.device, timeout_minutes=PATIENT_MINUTES) as world:
        yield Here(options, plan, world), Console(quiet=not world.is_main)


def _evaluate(options: EvaluateOptions, plan: Plan, place: Place, console: Console) -> Metrics:
    items, world = plan.items.items, place.world
    out = writable_folder(options.out, option="--out")
    if options.reconstruction and any(item.target is None for item in items):
        raise DataError(
            "evaluate --reconstruction: every row of the list needs a `target` recording"
        )
    others = {
        name: existing_wavs(items, folder, option=f"--other {name}")
        for name, folder in options.others
    }
    if options.wavs is not None:
        # A folder that is not there is found before the judges load.
        existing_seeds(items, options.wavs)
    open_system(options)  # and what is wrong with a program or a server
    judges = place.judges()
    together = batch_size(options, world)
    asr = judges.description["asr"]
    console.print(
        f"Judges on {place.where}, {together} clip{'s' * (together > 1)} at a time; words by "
        f"{escape(asr.get('spec', asr.get('asr', '?')))}{computed_in(asr)}",
        highlight=False,
        soft_wrap=True,
    )
    cache = options.cache or out / "cache"
    bench = Bench(world, cache, together, console, elsewhere=place.elsewhere)
    with bench.stages.measure("making"):
        made = place.make(console)
    originals = {item.id: item.target for item in items if item.target is not None}
    systems = {ORIGINALS: originals} | made.systems | others
    with bench.stages.measure("judging"):
        rows = score(items, systems, judges, bench, plan.protocol.normalize)
        if options.reconstruction:
            rows = with_codec_scores(rows, items, systems, judges, bench)
    metrics = _metrics(options, plan, made, list(others), judges, rows)
    metrics["judging"] = {"batch_size": together}
    machine = place.environment()
    metrics["environment"] = {key: value for key, value in machine.items() if key != "date"}
    if world.is_main:
        timings = {
            "date": machine["date"],
            "world_size": world.world_size,
            "where": place.where,
            "stages": bench.stages.description,
        }
        if made.real_time_factors:
            timings["real_time_factor"] = sum(made.real_time_factors) / len(made.real_time_factors)
        if made.first_audio:
            middle, late = np.quantile(made.first_audio, [0.5, 0.9])
            timings["first_audio_seconds"] = {"median": float(middle), "90 %": float(late)}
            timings["jobs"] = options.jobs
        write_results(out, metrics, [row.to_json() for row in rows], timings)
        if options.report_megabytes:
            normalize = plan.protocol.normalize
            write_page(
                out, metrics, rows, items, systems, normalize, megabytes=options.report_megabytes
            )
        else:
            (out / "report.html").unlink(missing_ok=True)  # it would be that of an earlier run
        print_results(console, metrics, timings, out)
    return metrics


def _metrics(
    options: EvaluateOptions,
    plan: Plan,
    made: Made,
    others: list[str],
    judges: Judges,
    rows: list[Row],
) -> Metrics:
    """Return what metrics.json holds, less the environment. Nothing here depends on time, ranks or the cache."""
    names = list(made.systems)
    several = {}
    if len(names) > 1:
        several = {
            "seeds": {name: summarize(rows, [name], cluster=options.cluster) for name in names},
            "spread": spread_over_seeds(rows, names),
        }
    notes = notes_on(plan.items.items, rows, cluster=options.cluster) + codec_notes(
        rows, [*names, *others]
    )
    notes += made.notes
    left_out = plan.items.description.get("left_out_without_prompt")
    if left_out:
        notes.append(
            f"{left_out} held-out utterances are left out: no words, or no other one by the speaker"
        )
    if plan.protocol.published_similarity == "sim_o" and "sim_o" not in judges.speakers:
        notes.append(
            "no sim_o, the similarity that papers report: pass --sim-o wavlm_large_finetune.pth"
        )
    return {
        "format": FORMAT,
        "task": made.task,
        "protocol": plan.description,
        "headline": plan.protocol.headline,
        "system_name": made.title,
        "system_recordings": names,
        "settings": made.settings,
        "judges": judges.description,
        "list": plan.items.description,
        "system": summarize(rows, names, cluster=options.cluster),
        "originals": summarize(rows, [ORIGINALS], cluster=options.cluster),
        "others": {name: summarize(rows, [name], cluster=options.cluster) for name in others},
        **several,
        "intervals": {
            "method": "percentile bootstrap",
            "unit": "speaker" if options.cluster else "utterance",
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
        },
        "errors": failures_of(rows),
        "notes": notes,
    }
