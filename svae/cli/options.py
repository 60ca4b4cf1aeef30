"""Options that several commands have, each said once: its type, its name, its bounds and its help."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from svae import recipe
from svae.errors import ConfigError
from svae.runtime.remote import place_of

if TYPE_CHECKING:
    from svae.runtime.ray_jobs import RayOptions

# ------------------------------------------------------------------------------ where a command runs

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps; what is used is printed.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes on the CPU; default: one per core. GPUs: use torchrun."),
]

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Do the work on a Ray cluster (extra: ray), not in processes here: auto, or HOST:PORT of its head.",
    ),
]
RayGpus = Annotated[
    float,
    typer.Option(min=0.01, help="What a job takes of a GPU of the cluster; 0.25 puts four on one."),
]

# ------------------------------------------------------------------------------ what goes together


def refuse_idle_options(ctx: typer.Context, read: Collection[str], where: str) -> None:
    """Refuse what was given on the command line and would have no effect, also where it is the default.

    Args:
        ctx: of the command that was called.
        read: parameters that have an effect, by the names that the command's function has for them.
        where: what was asked for and which options are read there; begins the message.

    Raises:
        ConfigError: names every other option that was given.
    """
    idle = []
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name not in read and source is not None and source.name == "COMMANDLINE":
            idle.append(parameter.opts[0])
    if idle:
        raise ConfigError(f"{where}; leave out {', '.join(idle)}")


# ------------------------------------------------------------------------------ work on shards

WaveformShards = Annotated[
    Path, typer.Argument(help="Waveform shards from `svae prepare`: a folder or a URL (s3://…).")
]
StoredType = Annotated[
    Literal["float16", "float32"], typer.Option(help="Type in which the numbers are stored.")
]


def ray_options(address: str | None, gpus: float = 1.0) -> RayOptions | None:
    """Return what `--ray` and `--ray-gpus` say; None without the first."""
    if address is None:
        return None
    from svae.runtime.ray_jobs import RayOptions  # imports torch

    return RayOptions(address, gpus)


# ------------------------------------------------------------------------------ training

TrainingData = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Folder or URL of shards; default: the recipe's data.root or data.sources."
    ),
]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="a.b=c", help="Change a recipe field; repeatable.")
]
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="Run folder; default: runs/NAME-OF-RECIPE.")
]
Resume = Annotated[
    str,
    typer.Option(help="auto: continue what --out holds; never: refuse; or a checkpoint's path."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print recipe, parameters, shards and worst batch; train nothing."
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="16G",
        help="With --dry-run: does a step fit into a GPU of so much memory? None need be there; default: the one that is.",
    ),
]


def memory_bytes(memory: str | None, dry_run: bool) -> int | None:
    """Return what `--memory` says. Raises ConfigError for what is no size, and without --dry-run, where nothing would be planned."""
    from svae.training.pieces import parse_memory  # imports torch

    if memory is None:
        return None
    size = parse_memory(memory)
    if not dry_run:
        raise ConfigError(
            f"--memory {memory}: is planned for by --dry-run, and a training takes what there is; add --dry-run, or leave it out"
        )
    return size


def with_paths(overrides: list[str], paths: dict[str, Path | None]) -> list[str]:
    """Return `--set` and, after it, the recipe fields that have options of their own, those that were given."""
    given = {field: str(place_of(path)) for field, path in paths.items() if path is not None}
    return [*overrides, *(f"{field}={place!r}" for field, place in given.items())]


def default_run_folder(name: str) -> Path:
    """Return where a recipe's run goes without `--out`: runs/tiny-vae for tiny/vae, runs/mine for my/mine.yaml."""
    path = recipe.find_recipe(name)
    is_file = Path(name).is_file()
    return Path("runs") / (path.stem if is_file else name.removesuffix(".yaml").replace("/", "-"))


# ------------------------------------------------------------------------------ speaking

DEFAULT_TTS = Path("embedded")
"""The small model in the package."""
SpeakingModel = Annotated[
    Path,
    typer.Option(
        help="Run or checkpoint folder of train-tts, or user/repo\\[@revision] on the hub; `embedded`: the small one in the package."
    ),
]
ReferenceText = Annotated[
    str | None, typer.Option(help="What is said in --ref; default: transcribed and printed.")
]
SpokenLanguage = Annotated[
    str,
    typer.Option(
        help="Of the text: en, zh and ja spell out numbers and symbols, none leaves them; models of `tokens: espeak` read "
        "whatever espeak-ng speaks."
    ),
]
Recognizer = Annotated[
    str,
    typer.Option(
        help="Transcribes --ref, and checks with --verify: pocketsphinx, whisper:ID, ctc:ID."
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="Solver steps; default: the model's own number (4 embedded), else 32."
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="v = v_cond + g (v_cond - v_uncond); 0: none, two to three times as fast; default: the model's own "
        "(1 embedded), else 2; a student of `svae distill` has it inside.",
    ),
]
PromptGuidance = Annotated[
    float | None,
    typer.Option(
        min=-1,
        help="A scale for the prompt alone: less says the words better, more is nearer to the voice; default: "
        "the model's own (1 embedded) up to --guidance, else --guidance.",
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Deviation of the noise that speech begins as: less is clearer and varies less; default: the model's own "
        "(0.7 embedded), else 1.",
    ),
]

# ------------------------------------------------------------------------------ teachers


def parse_layer(text: str) -> int | Literal["average"]:
    """Read `--layer`. Raises ConfigError for anything but an integer or `average`."""
    if text == "average":
        return "average"
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--layer {text!r}: expected an integer (an index into hidden_states) or `average`"
        ) from None
