"""`svae prepare`, `train-vae`, `train-tts`, `compare`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from svae import recipe
from svae.cli.app import Device, app, example
from svae.config import TTSTrainConfig, VAETrainConfig


class Corpus(StrEnum):
    """Corpora that `svae prepare` reads."""

    sample = "sample"
    libritts = "libritts"
    librispeech = "librispeech"
    ljspeech = "ljspeech"
    vctk = "vctk"
    jsonl = "jsonl"


Overrides = Annotated[
    list[str], typer.Option("--set", metavar="a.b=c", help="Change a recipe field; repeatable.")
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
RunFolder = Annotated[
    Path | None, typer.Option("--out", help="Run folder; default runs/NAME-OF-RECIPE.")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of shards; default: the recipe's data.root.")
]


@app.command(
    epilog=example("""
        svae prepare sample
        svae prepare libritts --root data/LibriTTS --subset train-clean-100 --subset dev-clean --workers 16
        svae prepare jsonl --root my/metadata.jsonl --out data/shards/mine
    """)
)
def prepare(
    corpus: Annotated[
        Corpus, typer.Argument(help="Which corpus, or jsonl: lines of {audio, text, speaker}.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Where the corpus is; default data/LibriTTS and so on.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where shards go; default data/shards/CORPUS.")
    ] = None,
    subset: Annotated[list[str], typer.Option(help="Only this subset; repeatable.")] = [],  # noqa: B006
    sample_rate: Annotated[int, typer.Option(min=8000, max=48000, help="Hz.")] = 16000,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Number of shards; default by the corpus' size.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core.")
    ] = None,
    validation: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of utterances held out of training.")
    ] = 0.05,
) -> None:
    """Turn a corpus into webdataset shards of FLAC and text. Runs in parallel and continues where it was stopped."""
    from svae.data.prepare import prepare
    from svae.data.prepare_plan import PrepareOptions

    prepare(
        PrepareOptions(
            corpus=corpus.value,
            root=root,
            out=out,
            subsets=tuple(subset),
            sample_rate=sample_rate,
            shards=shards,
            workers=workers,
            validation=validation,
        )
    )


@app.command(
    "train-vae",
    epilog=example("""
        svae train-vae
        svae train-vae libritts/vae-semantic64 --set trainer.precision=bf16
        svae train-vae tiny/vae --set loss.alignment=null --out runs/acoustic
        svae train-vae mine.yaml --init runs/tiny-vae --set freeze_encoder=true --set loss.alignment=null
        torchrun --nproc-per-node 8 -m svae train-vae libritts/vae-semantic64
    """),
)
def train_vae(
    name: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")
    ] = "tiny/vae",
    init: Annotated[
        Path | None, typer.Option(help="VAE run or checkpoint whose weights are the start.")
    ] = None,
    data: Data = None,
    overrides: Overrides = [],  # noqa: B006
    out: RunFolder = None,
    resume: Resume = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train the speech VAE whose latents follow a self-supervised speech model."""
    overrides = overrides + ([] if init is None else [f"init={str(init)!r}"])
    config = recipe.load(VAETrainConfig, name, _with_data(overrides, data))
    _train(config, name, out, resume, device, dry_run)


@app.command(
    "train-tts",
    epilog=example("""
        svae train-tts --vae runs/tiny-vae
        svae train-tts libritts/tts-small-semantic64
        svae train-tts mine.yaml --init runs/libritts-tts-small-semantic64 --data data/latents/mine
        svae train-tts tiny/tts --vae runs/tiny-vae --set trainer.steps=200 --dry-run
    """),
)
def train_tts(
    name: Annotated[
        str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")
    ] = "tiny/tts",
    vae: Annotated[
        Path | None,
        typer.Option(help="Run or checkpoint folder of the VAE whose latents are learned."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="TTS run or checkpoint whose weights are the start; the vocabulary may grow."
        ),
    ] = None,
    data: Data = None,
    overrides: Overrides = [],  # noqa: B006
    out: RunFolder = None,
    resume: Resume = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train text-to-speech by flow matching, on a VAE's latents or on mel frames."""
    overrides = _with_data(overrides, data)
    overrides += [
        f"{name}={str(path)!r}" for name, path in (("vae", vae), ("init", init)) if path is not None
    ]
    config = recipe.load(TTSTrainConfig, name, overrides)
    _train(config, name, out, resume, device, dry_run)


@app.command(
    epilog=example("""
        svae compare runs/libritts-tts-small-semantic64 runs/libritts-tts-small-vanilla64 runs/libritts-tts-small-mel
        svae compare runs/a runs/b --out out/a-b
    """)
)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN…", help="Run folders of train-tts (or train-vae)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for comparison.png, .md and .json.")] = Path(
        "out/compare"
    ),
) -> None:
    """Draw WER, similarity and loss of several runs against steps and hours, with a table of where each ended."""
    from svae.analysis.compare_runs import compare_runs

    compare_runs(runs, out)


def _with_data(overrides: list[str], data: Path | None) -> list[str]:
    return [*overrides] if data is None else [*overrides, f"data.root={str(data)!r}"]


def _train(
    config: VAETrainConfig | TTSTrainConfig,
    name: str,
    out: Path | None,
    resume: str,
    device: str,
    dry_run: bool,
) -> None:
    from svae.training.loop import TrainOptions

    if out is None:
        given = recipe.find_recipe(name)
        out = Path("runs") / (
            given.stem if Path(name).is_file() else name.removesuffix(".yaml").replace("/", "-")
        )
    options = TrainOptions(config=config, out=out, resume=resume, device=device)
    if dry_run:
        from svae.training.dry_run import dry_run as show_plan

        show_plan(options)
    elif isinstance(config, VAETrainConfig):
        from svae.training.vae.train import train_vae

        train_vae(options)
    else:
        from svae.training.tts.train import train_tts

        train_tts(options)
