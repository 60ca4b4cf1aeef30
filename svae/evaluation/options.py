"""What `svae evaluate` was asked for, and what that means: the protocol, what departs from it, the list."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svae.errors import ConfigError
from svae.evaluation.ask import Judges
from svae.evaluation.items import ItemList, check_recordings, held_out_list, read_list
from svae.evaluation.make import existing_seeds
from svae.evaluation.protocols import Protocol, load_protocol, modifications
from svae.judges.asr import load_asr
from svae.judges.distillmos import DistillMOS
from svae.judges.naturalness import (
    DNSMOS,
    UTMOS,
    OnnxPredictor,
    QualityPredictor,
    dnsmos_file,
)
from svae.judges.speaker import load_speaker_model
from svae.runtime.distributed import World
from svae.runtime.ray_jobs import RayOptions
from svae.synthesis.types import Sampling

GPU_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options of `svae evaluate`."""

    model: Path | None = None
    """TTS run or checkpoint to synthesise with; with `reconstruction` also a VAE."""
    wavs: Path | None = None
    """Score DIR/ID.wav, or DIR/seed-N/ID.wav, instead of synthesising."""
    command: str | None = None
    """A program to synthesise with, with placeholders such as {text} (`external.command`)."""
    endpoint: str | None = None
    """A server to synthesise with (`external.endpoint`)."""
    fields: tuple[str, ...] = ()
    """NAME=VALUE of the requests to `endpoint`."""
    jobs: int = 1
    """Calls of `command` or `endpoint` under way at a time, on each rank."""
    timeout: float = 300.0
    """Seconds that one of them may take."""
    others: tuple[tuple[str, Path], ...] = ()
    """Name and folder of wavs that get a row of their own."""
    protocol: str = "offline"
    """Name, or a YAML file."""
    list_file: Path | None = None
    """None: the utterances held out in `data`."""
    audio_root: Path | None = None
    """Where the recordings named by a list lie."""
    data: Path = Path("data/shards/sample")
    asr: str | None = None
    """None: the protocol's."""
    speaker: str | None = None
    """None: the protocol's; `none`: no `sim_ecapa`."""
    sim_o: Path | None = None
    """Checkpoint of WavLM-large + ECAPA-TDNN, for the column `sim_o`."""
    distillmos: bool = False
    """Predict naturalness by the package distillmos, for the column `distillmos`."""
    utmos: Path | None = None
    """ONNX file from a waveform at 16 kHz to a mean opinion score, for the column `utmos`."""
    dnsmos: Path | None = None
    """sig_bak_ovr.onnx of the DNS Challenge, or `speechmos` for the package's, for the columns `dnsmos_…`."""
    reconstruction: bool = False
    """Score the VAE alone."""
    out: Path = Path("out/evaluation")
    cache: Path | None = None
    """What judges said before; None: OUT/cache."""
    limit: int | None = None
    """Only the first so many items."""
    seeds: tuple[int, ...] | None = None
    """What the synthesis starts from; None: the protocol's."""
    steps: int | None = None
    """Steps of the solver; None: the model's own number."""
    guidance: float | None = None
    """None: the model's own, else 2; a student has it inside."""
    prompt_guidance: float | None = None
    temperature: float | None = None
    """Of the noise; None: the model's own, else 1."""
    cluster: bool = False
    """Draw whole speakers, not utterances, for the intervals."""
    batch_size: int | None = None
    """Clips a judge hears together; None: 16 on a GPU, 1 elsewhere."""
    report_megabytes: int = 40
    """How much audio and pictures report.html holds; what is beyond is linked."""
    device: str = "auto"
    ray: RayOptions | None = None
    """The cluster that makes and judges; None: this machine."""


@dataclass(frozen=True)
class Plan:
    """The protocol as it will be used."""

    protocol: Protocol
    """The one asked for, with the overrides in it."""
    modified: list[str]
    """What departs from the protocol of that name, in words."""
    items: ItemList

    @property
    def label(self) -> str:
        """What a table is headed with."""
        changes = f" (modified: {'; '.join(self.modified)})" if self.modified else ""
        return self.protocol.name + changes

    @property
    def description(self) -> dict[str, Any]:
        """Return what is stored with the results."""
        return {**self.protocol.description, "modified": self.modified, "label": self.label}


def make_plan(options: EvaluateOptions) -> Plan:
    """Read protocol and list; every recording that the list names exists.

    Raises:
        ConfigError: options that do not go together, an unknown protocol.
        DataError: from reading the list, or recordings are missing.
    """
    check_together(options)
    named = load_protocol(options.protocol)
    asked = {"asr": options.asr, "speaker": options.speaker, "seeds": options.seeds}
    overrides: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    used = dataclasses.replace(named, **overrides)
    items = _open_list(options, used)
    nameless = sum(item.speaker is None for item in items.items)
    if options.cluster and nameless:
        raise ConfigError(
            f"--cluster-by-speaker: {nameless} of {len(items.items)} items name no speaker. Give each row of a JSONL list "
            'a field "speaker", or leave the option out.'
        )
    changes = modifications(named, overrides | {"list_sha256": items.description["sha256"]})
    if "limited_to_first" in items.description and named.name != "offline":
        changes.append(f"only the first {items.description['limited_to_first']} utterances")
    if options.wavs is not None and named.name != "offline":
        found = len(existing_seeds(items.items, options.wavs))
        if found != len(used.seeds):
            changes.append(
                f"{found} recording{'s' * (found > 1)} of each utterance instead of {len(used.seeds)} seeds"
            )
    return Plan(used, changes, items)


def check_together(options: EvaluateOptions) -> None:
    """Raise ConfigError with all that excludes each other, makes no sense or would have no effect."""
    problems = list(_problems(options))
    if problems:
        raise ConfigError("\n".join(problems))
    sampling_of(options).check()


def sampling_of(options: EvaluateOptions) -> Sampling:
    """Return how the model under evaluation generates, but for seeds and durations."""
    return Sampling(
        num_steps=options.steps,
        guidance_scale=options.guidance,
        prompt_guidance=options.prompt_guidance,
        temperature=options.temperature,
    )


def _problems(options: EvaluateOptions) -> Iterator[str]:
    """Yield what options exclude each other or make no sense."""
    synthesizes = options.model is not None and not options.reconstruction
    external = options.command is not None or options.endpoint is not None
    ways = {
        "--model": options.model,
        "--wavs": options.wavs,
        "--command": options.command,
        "--endpoint": options.endpoint,
    }
    given = [name for name, value in ways.items() if value is not None]
    if options.reconstruction and (options.wavs is not None or external):
        others = " or ".join(name for name in given if name != "--model")
        yield f"evaluate: {others} and --reconstruction exclude each other"
    if options.reconstruction and options.model is None:
        yield "evaluate --reconstruction: pass --model DIR, a run or checkpoint of train-vae or train-tts"
    if not options.reconstruction and len(given) != 1:
        found = f", not {' and '.join(given)}" if given else ""
        yield (
            "evaluate: pass either --model DIR (synthesise), --wavs DIR (score what is there), --command or "
            f"--endpoint (another system synthesises){found}"
        )
    if options.fields and options.endpoint is None:
        yield "--field: belongs to the requests of --endpoint; leave it out"
    if options.jobs < 1:
        yield f"--jobs {options.jobs}: must be at least 1"
    if options.jobs != 1 and not external:
        yield "--jobs: only --command and --endpoint are called several times at once; leave it out"
    if not 0 < options.timeout < float("inf"):
        yield f"--timeout {options.timeout}: must be more than 0 seconds"
    if options.timeout != EvaluateOptions.timeout and not external:
        yield "--timeout: of the calls of --command and --endpoint; leave it out"
    if not synthesizes and (options.steps is not None or options.guidance is not None):
        yield (
            "--steps, --guidance: of the synthesis by --model; nothing else reads them (another system has options "
            "of its own): leave them out"
        )
    if options.prompt_guidance is not None and not synthesizes:
        yield "--prompt-guidance: nothing is synthesised here; leave it out"
    if options.temperature is not None and not synthesizes:
        yield "--temperature: nothing is synthesised here; leave it out"
    if options.seeds is not None and options.wavs is not None:
        yield "--seeds: wavs that are there were made with the seeds they were made with; leave it out"
    elif options.seeds is not None and options.reconstruction:
        yield "--seeds: a reconstruction is the posterior's mean and has no seed; leave it out"
    if options.audio_root is not None and options.list_file is None:
        yield "--audio-root: where the recordings that --list names lie; pass --list, or leave it out"
    if options.data != EvaluateOptions.data and options.list_file is not None:
        yield "--data and --list exclude each other: the utterances are those of one of them"
    if options.limit is not None and options.limit < 1:
        yield f"--limit {options.limit}: must be at least 1"
    if options.batch_size is not None and options.batch_size < 1:
        yield f"--batch-size {options.batch_size}: must be at least 1"
    names = [name for name, _ in options.others]
    titles = {"originals", "reconstruction", "wavs"}
    if options.wavs is not None:
        titles.add(f"{options.wavs.name}/")
    for name in sorted(set(names)):
        if name in titles or name.startswith(("seed ", "synthesised")) or names.count(name) > 1:
            yield f"--other {name}=…: this name is taken; choose another"


def _open_list(options: EvaluateOptions, protocol: Protocol) -> ItemList:
    """Return the items that the options name."""
    if options.list_file is not None:
        items = read_list(
            options.list_file,
            options.audio_root,
            form=protocol.list_format,
            language=protocol.language,
            normalize=protocol.normalize,
        )
    elif protocol.list_format == "auto":
        items = held_out_list(options.data, need_prompts=not options.reconstruction)
    else:
        known = f" with sha256 {protocol.list_sha256[:12]}…" if protocol.list_sha256 else ""
        raise ConfigError(
            f"--protocol {protocol.name}: pass --list FILE, a list of the form {protocol.list_format!r}{known}. "
            f"docs/protocols.md says where it is published ({protocol.source})."
        )
    if options.limit is not None and options.limit < len(items.items):
        kept = items.items[: options.limit]
        items = ItemList(
            kept, items.description | {"utterances": len(kept), "limited_to_first": options.limit}
        )
    listed = options.list_file
    named_by = f"--data {options.data}" if listed is None else f"--list {listed}"
    check_recordings(items.items, option=named_by)
    return items


def load_judges(options: EvaluateOptions, protocol: Protocol, world: World) -> Judges:
    """Load the protocol's recogniser and speaker models, and the predictors of opinion scores that were given.

    Raises:
        ConfigError: one cannot be loaded; the message says what works offline.
    """
    asr = load_asr(
        protocol.asr,
        world.device,
        language=protocol.language,
        num_beams=protocol.num_beams,
        batch_size=batch_size(options, world),
    )
    speakers = {}
    if protocol.speaker != "none":
        speakers["sim_ecapa"] = load_speaker_model(protocol.speaker, world.device)
    if options.sim_o is not None:
        speakers["sim_o"] = load_speaker_model(f"wavlm-ecapa:{options.sim_o}", world.device)
    files = {UTMOS: options.utmos, DNSMOS: options.dnsmos and dnsmos_file(options.dnsmos)}
    quality: list[QualityPredictor] = [DistillMOS(world.device)] if options.distillmos else []
    quality += [OnnxPredictor(name, path) for name, path in files.items() if path]
    return Judges(asr, speakers, {predictor.name: predictor for predictor in quality})


def batch_size(options: EvaluateOptions, world: World) -> int:
    """Return how many clips a judge hears together."""
    return options.batch_size or (GPU_BATCH if world.device.type == "cuda" else 1)
