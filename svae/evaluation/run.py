"""`svae evaluate`: make or find recordings, judge them and the originals beside them, say how sure the means are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from svae.checkpoint import Checkpoint
from svae.errors import DataError
from svae.evaluation.ask import Bench, Judges
from svae.evaluation.codec import codec_notes, with_codec_scores
from svae.evaluation.external.command import Command
from svae.evaluation.external.endpoint import Endpoint
from svae.evaluation.external.speak import speak_items
from svae.evaluation.external.system import System
from svae.evaluation.make import (
    described,
    existing_seeds,
    existing_wavs,
    find_vae,
    reconstruct_items,
    synthesize_items,
)
from svae.evaluation.options import (
    EvaluateOptions,
    Plan,
    batch_size,
    check_together,
    load_judges,
    make_plan,
    sampling_of,
)
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
    Systems,
    failures_of,
    notes_on,
    score,
    spread_over_seeds,
    summarize,
)
from svae.evaluation.statistics import CONFIDENCE, RESAMPLES
from svae.models.vae.vae import load_vae
from svae.runtime.distributed import PATIENT_MINUTES, World, describe_device, open_world
from svae.runtime.environment import environment
from svae.runtime.files import writable_folder
from svae.synthesis.load import load_tts


@dataclass
class Made:
    """The system's recordings and where they come from."""

    task: str
    title: str
    """What its row is called."""
    systems: Systems
    settings: dict[str, Any]
    real_time_factors: list[float] = field(default_factory=list)
    first_audio: list[float] = field(default_factory=list)
    """Seconds until the first audio of each recording, where that was measured."""
    notes: list[str] = field(default_factory=list)


def evaluate(options: EvaluateOptions) -> Metrics:
    """Run an evaluation, alone or as one rank of torchrun; write its files; print a table.

    Returns:
        What metrics.json holds.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is computed, wherever possible.
    """
    check_together(options)
    checkpoint = find_vae(options.model) if options.reconstruction and options.model else None
    plan = make_plan(options)
    with open_world(options.device, timeout_minutes=PATIENT_MINUTES) as world:
        console = Console(quiet=not world.is_main)
        return _evaluate(options, plan, checkpoint, world, console)


def _evaluate(
    options: EvaluateOptions,
    plan: Plan,
    checkpoint: Checkpoint | None,
    world: World,
    console: Console,
) -> Metrics:
    items = plan.items.items
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
    system = open_system(options)
    judges = load_judges(options, plan.protocol, world)
    together = batch_size(options, world)
    asr = judges.description["asr"]
    console.print(
        f"Judges on {describe_device(world.device)}, {together} clip{'s' * (together > 1)} at a time; words by "
        f"{escape(asr.get('spec', asr.get('asr', '?')))}{computed_in(asr)}",
        highlight=False,
        soft_wrap=True,
    )
    bench = Bench(world, options.cache or out / "cache", together, console)
    with bench.stages.measure("making"):
        if checkpoint is not None:
            made = _reconstruct(checkpoint, plan, options, world, console)
        elif system is not None:
            made = _ask_system(system, plan, options, world, console)
        else:
            made = _find_or_synthesize(plan, options, world, console)
    originals = {item.id: item.target for item in items if item.target is not None}
    systems = {ORIGINALS: originals} | made.systems | others
    with bench.stages.measure("judging"):
        rows = score(items, systems, judges, bench, plan.protocol.normalize)
        if options.reconstruction:
            rows = with_codec_scores(rows, items, systems, judges, bench)
    metrics = _metrics(options, plan, made, list(others), judges, rows)
    metrics["judging"] = {"batch_size": together}
    machine = environment(world.device)
    metrics["environment"] = {key: value for key, value in machine.items() if key != "date"}
    if world.is_main:
        timings = {
            "date": machine["date"],
            "world_size": world.world_size,
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


def open_system(options: EvaluateOptions) -> System | None:
    """Return the program or server that is to speak, None where there is none of them. Raises ConfigError."""
    if options.command is not None:
        return Command(options.command, timeout=options.timeout)
    if options.endpoint is not None:
        return Endpoint(options.endpoint, options.fields, timeout=options.timeout)
    return None


def _ask_system(
    system: System, plan: Plan, options: EvaluateOptions, world: World, console: Console
) -> Made:
    seeds = plan.protocol.seeds
    at_once = f", {options.jobs} at a time" if options.jobs > 1 else ""
    console.print(
        f"System [bold]{escape(system.title)}[/]{at_once}: {escape(json.dumps(system.description))}",
        soft_wrap=True,
    )
    spoken = speak_items(
        system,
        plan.items.items,
        seeds,
        language=plan.protocol.language,
        jobs=options.jobs,
        folder=options.out,
        world=world,
        console=console,
    )
    notes = []
    if "seed" not in system.names and len(seeds) > 1:
        notes.append(
            f"{system.title} is given no {{seed}}: its {len(seeds)} recordings of an utterance differ only where it draws "
            "something itself"
        )
    title = f"{system.title}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    settings = system.description | {"seeds": list(seeds)}
    return Made(
        "external",
        title,
        spoken.recordings,
        settings,
        spoken.real_time_factors,
        spoken.first_audio,
        notes,
    )


def _find_or_synthesize(
    plan: Plan, options: EvaluateOptions, world: World, console: Console
) -> Made:
    items = plan.items.items
    if options.wavs is not None:
        found = existing_seeds(items, options.wavs)
        return Made("wavs", f"{options.wavs.resolve().name}/", found, {"wavs": str(options.wavs)})
    assert options.model is not None
    tts = load_tts(options.model, world.device).in_language(plan.protocol.language)
    seeds = plan.protocol.seeds
    sampling = tts.resolve(replace(sampling_of(options), duration_rule=plan.protocol.duration_rule))
    console.print(
        f"Model [bold]{tts.identity['path']}[/] ({tts.short_description}): {sampling.words(tts.identity)}",
        soft_wrap=True,
    )
    sampling = replace(sampling, duration_rule=tts.duration_rule(sampling))
    made, factors = synthesize_items(
        tts,
        items,
        seeds,
        sampling=sampling,
        folder=options.out / "wavs",
        world=world,
        console=console,
    )
    settings = {"model": tts.identity, "seeds": list(seeds), **described(sampling)}
    noun = "seed" if len(seeds) == 1 else "seeds"
    title = f"synthesised, {noun} {', '.join(map(str, seeds))}"
    return Made("synthesis", title, made, settings, factors)


def _reconstruct(
    checkpoint: Checkpoint, plan: Plan, options: EvaluateOptions, world: World, console: Console
) -> Made:
    console.print(f"VAE {checkpoint.folder} ({checkpoint.hash[:12]}…)", soft_wrap=True)
    vae = load_vae(checkpoint.folder, world.device)
    made = reconstruct_items(
        vae,
        checkpoint.hash,
        plan.items.items,
        folder=options.out / "wavs",
        world=world,
        console=console,
    )
    settings = {
        "model": {"path": str(checkpoint.folder), "hash": checkpoint.hash, "step": checkpoint.step}
    }
    return Made("reconstruction", "reconstruction", {"reconstruction": made}, settings)


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
