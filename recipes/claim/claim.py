"""The paper's claim on real speech: are latents that are aligned with a speech model learned faster by a text-to-speech model?

    python recipes/claim/claim.py --root ../shared/data/real-speech      # all of it; stopped with Ctrl-C it goes on where it was
    python recipes/claim/claim.py --plan                                 # what is left, and what has been spent
    python recipes/claim/claim.py --report                               # figure and tables of what there is so far
    python recipes/claim/claim.py --tiny                                 # does it run? Some minutes, the sample corpus

Seven representations: the latents of VAEs that differ in width (16, 32, 64) and alignment (vanilla, semantic) alone, and mel frames. On each
the same text-to-speech model. A first complete answer (one seed of each) comes first, further seeds add intervals. docs/claim.md says what
came out, and how many hours each kind of stage takes.

Every option can be given as an environment variable, too (VAE_STEPS=2000). Needs, without --list, flite and espeak-ng; --judges is a program
that is called as recipes/claim/claim_speech.py says; without it the judges that svae carries answer, which know little of naturalness.

Pieces on a machine with a GPU and without a network, an experiment of their own (give the same options everywhere but --root, --out):

    python recipes/claim/claim_carry.py pack gpu-claim --root ../shared/data/real-speech --teacher WHISPER-BASE       # 31 MB
    DEVICE=cuda MINUTES=9 JOBS=8 WORKERS=8 FLITE=0 HOURS=2 python recipes/claim/claim.py --root gpu-claim/real-speech --teacher gpu-claim/teacher
        --only "people choose shards timings features vae latents tts speak" --pack "$OUT"
    FLITE=0 HOURS=2 python recipes/claim/claim.py --out out/claim-gpu --teacher gpu-claim/teacher --take FOLDER --only "judge reconstruction inspect" …    # here
    python recipes/claim/claim_carry.py pack gpu-claim/before --out out/claim-gpu   # the next piece begins with --take gpu-claim/before
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from claim_jobs import Stage, Stages, run_stages

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SPEECH, REPORT, PACE = (str(HERE / f"claim_{name}.py") for name in ("speech", "report", "pace"))
SVAE = (sys.executable, "-m", "svae")
MEL = "mel"
KINDS = ("semantic64", "vanilla64", "semantic16", "vanilla16", "semantic32", "vanilla32", MEL)
"""In the order in which they are trained: the paper's comparison first."""
EXTRA = {
    "strong64": ("loss.alignment=10",),
    "noise64": ("vae.latent_noise=0.3", "loss.kl=0", "loss.alignment=null"),
    "anchored64": ("vae.anchored_latents=32", "loss.alignment_form=mse"),
}
"""The field's next questions, of the same VAE (docs/claim.md); asked for by KINDS."""
OTHER_MODELS = {
    "hidden": ("loss.hidden_alignment=0.5",),
    "characters": ("tokens=characters", "data.timings=null", "dit.average_upsampling=true"),
}
"""Of another text-to-speech model on the same latents: semantic64+hidden, whose states follow the teacher; semantic64+characters,
which is told no times of phones."""
SECONDS_A_BATCH = 20
MEL_RATE, LATENT_RATE = 93.75, 40


@dataclass(frozen=True)
class Settings:
    """Options of the experiment; the budgets are those of docs/claim.md."""

    out: Path = Path("out/claim")
    root: Path = Path("../shared/data/real-speech")
    list: Path | None = None
    voices: Path | None = None
    teacher: str = "openai/whisper-base"
    layer: int = 4
    judges: str = ""
    hours: float = 6.0
    flite: int = 1200
    say: int = 32
    kinds: str = " ".join(KINDS)
    first_vae: int = 0
    vae_seeds: int = 2
    tts_seeds: int = 3
    vae_steps: int = 1300
    adversarial_start: int = 800
    tts_steps: int = 1600
    every: int = 400
    solver_steps: int = 16
    jobs: int = 2
    threads: int = 1
    workers: int = 1
    device: str = "cpu"
    minutes: float = 0.0
    only: str = ""


MEANINGS = {
    "out": "folder that lasts: data, runs, results",
    "root": "people's recordings, as recipes/embedded/people.py takes them",
    "list": "a list for `svae prepare jsonl` made before, in place of --root",
    "voices": "with --list: held-out readers (dev-tts.jsonl of people.py)",
    "teacher": "hub id or folder",
    "layer": "of its hidden states",
    "judges": "program that judges",
    "hours": "of speech to learn from",
    "flite": "utterances of flite's voices beside the people's",
    "say": "sentences that are judged",
    "kinds": "which representations",
    "first_vae": "the first VAE's seed; 1: beside results of seed 0 whose weights are elsewhere",
    "vae_seeds": "VAEs of each kind, from that seed on",
    "tts_seeds": "text-to-speech models on each of them",
    "vae_steps": "steps of a VAE",
    "adversarial_start": "the step from which on it has discriminators",
    "tts_steps": "steps of a text-to-speech model",
    "every": "steps between those at which it is judged",
    "solver_steps": "when it speaks",
    "jobs": "stages at a time",
    "threads": "of each",
    "workers": "processes of a stage that prepares, aligns or encodes",
    "device": "of trainings and synthesis: cpu or cuda",
    "minutes": "stop after so many; 0: when all is done",
    "only": "kinds of stages, such as judge; nothing: all",
}
TINY = {
    "out": "out/claim-tiny", "list": "svae/assets/sample/metadata.jsonl", "voices": "svae/assets/sample/metadata.jsonl",
    "teacher": "embedded", "layer": "3", "hours": "0.06", "say": "2", "kinds": "semantic16 vanilla16 mel", "vae_seeds": "1",
    "tts_seeds": "1", "vae_steps": "4", "adversarial_start": "2", "tts_steps": "4", "every": "2", "solver_steps": "2",
}  # fmt: skip


def stages_of(s: Settings) -> Iterator[Stage]:
    """Yield all stages, in the order in which they are wanted."""
    yield from _data(s)
    kinds = s.kinds.split()
    vaes = list(dict.fromkeys(kind.partition("+")[0] for kind in kinds))
    vaes = [kind for kind in vaes if kind != MEL]
    if MEL in kinds:
        yield _reconstruction(s, MEL, MEL, needs=("choose",))
    for vae_seed in range(s.first_vae, s.first_vae + s.vae_seeds):
        for kind in vaes:
            yield _vae(s, kind, vae_seed)
        for kind in vaes:
            yield from _vae_measures(s, kind, vae_seed)
        for seed in range(s.tts_seeds):
            for kind in kinds:
                if kind != MEL or vae_seed == s.first_vae:
                    yield from _tts(s, kind, vae_seed, seed)
        if vae_seed == 0:
            yield from (_pace(s, kind) for kind in kinds)


def _python(script: str, *arguments: str | Path) -> tuple[str, ...]:
    return (sys.executable, script, *map(str, arguments))


def _svae(*arguments: str | Path) -> tuple[str, ...]:
    return (*SVAE, *map(str, arguments))


def _data(s: Settings) -> Iterator[Stage]:
    """Yield the stages that make what all representations learn from, and that probe what is not learned here."""
    out = s.out
    if s.list is None:
        yield _people(s)
        train, voices = (out / "people" / name for name in ("tts.jsonl", "dev-tts.jsonl"))
        needs: tuple[str, ...] = ("people",)
    else:
        assert s.voices is not None  # settings() sees to it
        train, voices, needs = s.list, s.voices, ()
    lists = ("--train", train, "--voices", voices, "--out", out)
    sizes = ("--hours", str(s.hours), "--say", str(s.say))
    choose = _python(str(HERE / "claim_list.py"), *lists, *sizes)
    yield Stage("choose", (choose,), needs, f"{s.hours} hours, {s.say} said")
    yield _shards(s, "shards", 16000)
    aligned = ("align", out / "shards", "--out", out / "timings", "--workers", str(s.workers))
    yield Stage("timings", (_svae(*aligned),), ("shards",))
    if MEL in s.kinds.split():
        yield _shards(s, "shards-24k", 24000)
        places = ("--shards", out / "shards-24k", "--of", out / "shards")
        times = ("--timings", out / "timings", "--out", out / "timings-24k")
        retimed = _python(SPEECH, "retime", *places, *times)
        yield Stage("timings-24k", (retimed,), ("shards-24k", "timings"))
    teacher = ("--teacher", s.teacher, "--layer", str(s.layer), "--device", s.device)
    places = ("--out", out / "features", "--workers", str(s.workers))
    cached = _svae("cache-teacher", out / "shards", *teacher, *places)
    yield Stage("features", (cached,), ("shards",), f"{Path(s.teacher).name} {s.layer}")
    yield _probe(s, "teacher", out / "features", needs=("timings", "features"))
    if MEL in s.kinds.split():
        yield _probe(s, MEL, Path(MEL), suffix="-24k", needs=("timings-24k",))


def _people(s: Settings) -> Stage:
    """Return the stage that lists people's recordings, and flite's beside them."""
    embedded = ROOT / "recipes" / "embedded"
    people = (str(embedded / "people.py"), "--root", s.root, "--out", s.out / "people")
    if not s.flite:
        return Stage("people", (_python(*people),), budget="flite 0")
    flite = s.out / "flite"
    chosen = "--voices train --texts train --wordnet 0.75 --flite 1.0".split()
    size = ("--utterances", str(s.flite), "--vary", "0.5", "--seed", "1")
    said = _python(str(embedded / "corpus.py"), "--out", flite, *size, *chosen)
    both = _python(*people, "--also", flite / "metadata.jsonl")
    return Stage("people", (said, both), budget=f"flite {s.flite}")


def _shards(s: Settings, name: str, rate: int) -> Stage:
    """Return the stage that prepares the chosen recordings at a rate."""
    places = ("--root", s.out / "list.jsonl", "--out", s.out / name)
    sizes = ("--validation", "0.02", "--shards", "16", "--workers", str(s.workers))
    made = _svae("prepare", "jsonl", *places, *sizes, "--sample-rate", str(rate))
    return Stage(name, (made,), ("choose",))


def _probe(
    s: Settings, name: str, what: Path, *, suffix: str = "", needs: tuple[str, ...]
) -> Stage:
    """Return the stage that measures the teacher's features, or mel frames, as `svae inspect` does latents."""
    places = ("--shards", s.out / f"shards{suffix}", "--timings", s.out / f"timings{suffix}")
    result = s.out / "results" / f"inspect-{name}.json"
    done = _python(SPEECH, "probe", *places, "--what", what, "--out", result)
    return Stage(f"probe-{name}", (done,), needs)


def _vae(s: Settings, kind: str, seed: int) -> Stage:
    run = s.out / "vae" / f"{kind}-v{seed}"
    width = int(kind.lstrip("abcdefghijklmnopqrstuvwxyz-"))
    needs: tuple[str, ...] = ("shards",)
    sets = [
        f"vae.latent_dim={width}",
        f"vae.encoder_linear_latents={width * 7 // 8}",
        f"trainer.seed={seed}",
    ]
    sets += [f"trainer.steps={s.vae_steps}", f"loss.adversarial_start_step={s.adversarial_start}"]
    sets += EXTRA.get(kind, ())
    if kind.startswith("vanilla"):
        sets.append("loss.alignment=null")
    options = _set(sets)
    if "loss.alignment=null" not in sets:
        needs += ("features",)
        stored = (
            f"teacher.cache={s.out / 'features'}",
            f"teacher.model={s.teacher}",
            f"teacher.layer={s.layer}",
        )
        options += _set(stored)
    places = ("--data", s.out / "shards", "--out", run, "--device", s.device)
    command = _svae("train-vae", HERE / "vae.yaml", *places, *options)
    return Stage(
        f"vae-{kind}-v{seed}", (command,), needs, f"{s.vae_steps} {s.adversarial_start}",
        complete=lambda: _no_checkpoint(run, s.vae_steps),
    )  # fmt: skip


def _vae_measures(s: Settings, kind: str, seed: int) -> Iterator[Stage]:
    """Yield what is made and measured of a VAE before anything learns its latents."""
    out, name = s.out, f"{kind}-v{seed}"
    run, vae = out / "vae" / name, f"vae-{name}"
    latents = out / "latents" / name
    how = ("--workers", str(s.workers), "--device", s.device)
    encode = _svae("encode", out / "shards", "--vae", run, "--out", latents, *how)
    yield Stage(f"latents-{name}", (encode,), (vae,))
    yield _reconstruction(s, name, str(run), needs=(vae, "choose"))
    folder = out / "inspect" / name
    places = ("--timings", out / "timings", "--out", folder, "--device", "cpu")
    measure = _svae("inspect", latents, *places)
    result = out / "results" / f"inspect-{name}.json"
    copied = _python(REPORT, "keep", folder / "inspection.json", result)
    yield Stage(f"inspect-{name}", (measure, copied), (f"latents-{name}", "timings"))


def _reconstruction(s: Settings, name: str, model: str, *, needs: tuple[str, ...]) -> Stage:
    """Return the stage that judges the readers' recordings as a representation gives them back."""
    said = s.out / "said" / f"reconstruction-{name}"
    say = ("--say", s.out / "say.jsonl")
    back = _python(SPEECH, "reconstruct", *say, "--model", model, "--out", said)
    result = s.out / "results" / f"reconstruction-{name}.json"
    folders = (said, said / "originals") if name == MEL else (said,)
    asked = ("--wavs", *folders, "--judges", _judges(s), "--out", result)
    judged = _python(SPEECH, "judge", *say, "--recordings", *asked)
    return Stage(f"reconstruction-{name}", (back, judged), needs)


def _training(s: Settings, kind: str, vae_seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the command that trains a text-to-speech model, without where to and how long, and the stages that it needs."""
    out = s.out
    base, _, other = kind.partition("+")
    if kind == MEL:
        data, needs = out / "shards-24k", ("timings-24k",)
        sets = ["representation=mel", "vocoder=griffin-lim"]
        sets += [f"batch_frames={round(SECONDS_A_BATCH * MEL_RATE)}"]
        sets += [f"data.timings={out / 'timings-24k'}"]
    else:
        vae = f"{base}-v{vae_seed}"
        data, needs = out / "latents" / vae, (f"latents-{vae}", "timings")
        sets = [f"batch_frames={SECONDS_A_BATCH * LATENT_RATE}", f"data.timings={out / 'timings'}"]
    sets += OTHER_MODELS.get(other, ())
    if other == "hidden":
        needs = (*needs, "features")
        sets.append(f"teacher.cache={out / 'features'}")
        sets += [f"teacher.model={s.teacher}", f"teacher.layer={s.layer}"]
    train = _svae("train-tts", HERE / "tts.yaml", "--data", data, "--device", s.device, *_set(sets))
    return train, needs


def _set(sets: Sequence[str]) -> list[str]:
    """Return fields of a recipe as options."""
    return [part for each in sets for part in ("--set", each)]


def _pace(s: Settings, kind: str) -> Stage:
    """Return the stage that measures how long a step takes; trainings that share the machine cannot tell."""
    train, needs = _training(s, kind, 0)
    first = max(1, s.tts_steps // 160)
    result = s.out / "results" / f"pace-{kind}.json"
    measured = _python(PACE, result, "--steps", str(first), str(6 * first), "--", *train)
    return Stage(f"pace-{kind}", (measured,), needs)


def _tts(s: Settings, kind: str, vae_seed: int, seed: int) -> Iterator[Stage]:
    out = s.out
    name = f"{kind}-v{vae_seed}-seed{seed}" if kind != MEL else f"{MEL}-v0-seed{seed}"
    run = out / "tts" / name
    sets = [f"trainer.seed={seed}", f"trainer.steps={s.tts_steps}"]
    sets += [f"trainer.checkpoint_every={s.every}", f"trainer.validate_every={s.every}"]
    command, needs = _training(s, kind, vae_seed)
    train = (*command, "--out", str(run), *_set(sets))
    budget = f"{s.tts_steps} every {s.every}"
    yield Stage(
        f"tts-{name}", (train,), needs, budget, complete=lambda: _no_checkpoint(run, s.tts_steps)
    )
    steps = [str(step) for step in range(s.every, s.tts_steps + 1, s.every)]
    said, say = out / "said" / name, ("--say", out / "say.jsonl")
    speaking = ("--run", run, "--steps", *steps, "--device", s.device)
    solver = ("--solver-steps", str(s.solver_steps))
    speak = _python(SPEECH, "speak", *say, *speaking, *solver, "--out", said)
    needed = (f"tts-{name}", "choose")
    yield Stage(f"speak-{name}", (speak,), needed, f"{s.solver_steps} solver steps")
    result = out / "results" / f"speech-{name}.json"
    folders = [said / step for step in steps]
    asked = ("--wavs", *folders, "--judges", _judges(s), "--out", result)
    judged = _python(SPEECH, "judge", *say, *asked)
    noted = _python(REPORT, "run", run, out / "results" / f"run-{name}.json")
    yield Stage(f"judge-{name}", (judged, noted), (f"speak-{name}",))


def _judges(s: Settings) -> str:
    return s.judges or shlex.join([sys.executable, SPEECH, "offline"])


def _no_checkpoint(run: Path, steps: int) -> str | None:
    wanted = run / "checkpoints" / f"step-{steps:08d}"
    return None if wanted.is_dir() else f"{wanted} is not there; it was stopped"


def settings() -> tuple[Settings, argparse.Namespace]:
    """Read the command line and the environment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tiny = "--tiny" in sys.argv[1:]
    for field in fields(Settings):
        given = os.environ.get(field.name.upper(), TINY.get(field.name) if tiny else None)
        default = field.default if given is None else given
        kind = {"int": int, "float": float, "Path": Path, "Path | None": Path}.get(
            str(field.type), str
        )
        # A text as default is converted as an option is.
        help_text = f"{MEANINGS[field.name]} [{default}]"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=default, help=help_text
        )
    parser.add_argument("--tiny", action="store_true", help="a trial: few clips, few steps")
    parser.add_argument("--plan", action="store_true", help="only say what is left")
    parser.add_argument("--report", action="store_true", help="only draw what there is")
    parser.add_argument(
        "--take", type=Path, help="first unpack what --pack or claim_carry.py wrote"
    )
    parser.add_argument(
        "--pack", type=Path, help="at the end pack results and weights into this folder"
    )
    args = parser.parse_args()
    found = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    if (found.list is None) != (found.voices is None):
        parser.error("--list and --voices: give both or neither")
    unknown = [
        kind
        for kind in found.kinds.split()
        if kind.partition("+")[0] not in (*KINDS, *EXTRA)
        or kind.partition("+")[2] not in ("", *OTHER_MODELS)
        or kind.startswith(f"{MEL}+")
    ]
    if unknown:
        parser.error(f"--kinds: unknown: {' '.join(unknown)}; known: {' '.join((*KINDS, *EXTRA))}")
    return found, args


def main() -> int:
    """Do what is left, then report."""
    began = time.monotonic()
    s, args = settings()
    os.chdir(ROOT)
    if args.take is not None:
        from claim_carry import take

        take(args.take, s.out)
    if Path(s.teacher).is_dir():
        from claim_carry import whole_teacher

        s = replace(s, teacher=str(whole_teacher(Path(s.teacher), s.out)))
    plan = Stages(stages_of(s), s.out)
    if args.plan:
        from claim_report import print_plan

        print_plan(plan)
        return 0
    code = 0
    if not args.report:
        environment = os.environ | {"OMP_NUM_THREADS": str(s.threads), "PYTHONPATH": str(ROOT)}
        deadline = began + 60 * s.minutes if s.minutes else None
        code = run_stages(
            plan,
            root=ROOT,
            jobs=s.jobs,
            environment=environment,
            deadline=deadline,
            only=s.only.split(),
        )
    from claim_report import report

    report(s.out / "results", s.out / "report")
    if args.pack is not None:
        from claim_carry import pack

        pack(s.out, args.pack)
    return code


if __name__ == "__main__":
    sys.exit(main())
