"""The `svae` command: parse, load the recipe, import what is needed, call. No torch until a command runs."""

from __future__ import annotations

import errno
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import svae
from svae import recipe
from svae.config import TTSTrainConfig, VAETrainConfig
from svae.errors import SvaeError

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR, errno.EIO})


class Commands(TyperGroup):
    """Turns errors that are the user's into one message on stderr and exit status 2."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command; see the class."""
        try:
            return super().invoke(ctx)
        except SvaeError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            _fail(f"{error.filename or 'disk'}: {error.strerror}. Choose another folder or make room.")
        except KeyboardInterrupt:
            print("\nInterrupted. Finished parts are kept; the same command continues.", file=sys.stderr)
            raise typer.Exit(130) from None


def _fail(message: str) -> None:
    rank = f" (rank {os.environ['RANK']})" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    print(f"error{rank}: {message}", file=sys.stderr)
    raise typer.Exit(2) from None


app = typer.Typer(
    cls=Commands,
    help="Speech synthesis over semantically aligned latents: prepare, train-vae, train-tts, synthesize, evaluate.",
    epilog="Start with: svae prepare sample, then svae train-vae",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Corpus(StrEnum):
    """Corpora that `svae prepare` reads."""

    sample = "sample"
    libritts = "libritts"
    librispeech = "librispeech"
    ljspeech = "ljspeech"
    vctk = "vctk"
    jsonl = "jsonl"


Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps; what is used is printed.")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="a.b=c", help="Change a recipe field; repeatable.")]
Resume = Annotated[str, typer.Option(help="auto: continue what --out holds; never: refuse; or a checkpoint's path.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print recipe, parameters, shards and worst batch; train nothing.")
]
RunFolder = Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME-OF-RECIPE.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of shards; default: the recipe's data.root.")]


def _show_version(value: bool) -> None:
    if value:
        print(f"svae {svae.__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Hold the options before the command."""


def example(text: str) -> str:
    """Return a command's epilog: examples that can be copied."""
    return "[bold]Examples[/]\n\n" + "\n\n".join(line.strip() for line in text.strip().splitlines())


@app.command(
    epilog=example("""
        svae prepare sample
        svae prepare libritts --root data/LibriTTS --subset train-clean-100 --subset dev-clean --workers 16
        svae prepare jsonl --root my/metadata.jsonl --out data/shards/mine
    """)
)
def prepare(
    corpus: Annotated[Corpus, typer.Argument(help="Which corpus, or jsonl: lines of {audio, text, speaker}.")],
    root: Annotated[Path | None, typer.Option(help="Where the corpus is; default data/LibriTTS and so on.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where shards go; default data/shards/CORPUS.")] = None,
    subset: Annotated[list[str], typer.Option(help="Only this subset; repeatable.")] = [],  # noqa: B006
    sample_rate: Annotated[int, typer.Option(min=8000, max=48000, help="Hz.")] = 16000,
    shards: Annotated[int | None, typer.Option(min=1, help="Number of shards; default by the corpus' size.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    validation: Annotated[float, typer.Option(min=0, max=0.5, help="Share of utterances held out of training.")] = 0.05,
) -> None:
    """Turn a corpus into webdataset shards of FLAC and text. Runs in parallel and continues where it was stopped."""
    from svae.data.prepare import PrepareOptions, prepare

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
        torchrun --nproc-per-node 8 -m svae train-vae libritts/vae-semantic64
    """),
)
def train_vae(
    name: Annotated[str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")] = "tiny/vae",
    data: Data = None,
    overrides: Overrides = [],  # noqa: B006
    out: RunFolder = None,
    resume: Resume = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train the speech VAE whose latents follow a self-supervised speech model."""
    config = recipe.load(VAETrainConfig, name, _with_data(overrides, data))
    _train(config, name, out, resume, device, dry_run)


@app.command(
    "train-tts",
    epilog=example("""
        svae train-tts --vae runs/tiny-vae
        svae train-tts libritts/tts-small-semantic64 --vae runs/libritts-vae-semantic64
        svae train-tts tiny/tts --vae runs/tiny-vae --set trainer.steps=200 --dry-run
    """),
)
def train_tts(
    name: Annotated[str, typer.Argument(metavar="[RECIPE]", help="Path or name of a recipe.")] = "tiny/tts",
    vae: Annotated[
        Path | None, typer.Option(help="Run or checkpoint folder of the VAE whose latents are learned.")
    ] = None,
    data: Data = None,
    overrides: Overrides = [],  # noqa: B006
    out: RunFolder = None,
    resume: Resume = "auto",
    device: Device = "auto",
    dry_run: DryRun = False,
) -> None:
    """Train text-to-speech on a VAE's latents by flow matching."""
    overrides = _with_data(overrides, data)
    if vae is not None:
        overrides = [*overrides, f"vae={str(vae)!r}"]
    config = recipe.load(TTSTrainConfig, name, overrides)
    _train(config, name, out, resume, device, dry_run)


def _with_data(overrides: list[str], data: Path | None) -> list[str]:
    return overrides if data is None else [*overrides, f"data.root={str(data)!r}"]


def _train(
    config: VAETrainConfig | TTSTrainConfig, name: str, out: Path | None, resume: str, device: str, dry_run: bool
) -> None:
    from svae.training.loop import TrainOptions

    if out is None:
        given = recipe.find_recipe(name)
        out = Path("runs") / (given.stem if Path(name).is_file() else name.removesuffix(".yaml").replace("/", "-"))
    options = TrainOptions(config=config, out=out, resume=resume, device=device)
    if dry_run:
        from svae.training.preflight import dry_run as show_plan

        show_plan(options)
    elif isinstance(config, VAETrainConfig):
        from svae.training.vae import train_vae

        train_vae(options)
    else:
        from svae.training.tts import train_tts

        train_tts(options)


class LatentType(StrEnum):
    """Storage of latents."""

    float16 = "float16"
    float32 = "float32"


@app.command(
    epilog=example("""
        svae encode data/shards/sample --vae runs/tiny-vae --out data/latents/sample
        svae train-tts --data data/latents/sample
    """)
)
def encode(
    data: Annotated[Path, typer.Argument(help="Waveform shards from `svae prepare`.")],
    vae: Annotated[Path, typer.Option(help="Run or checkpoint folder of the VAE.")],
    out: Annotated[Path, typer.Option(help="Where latent shards go.")],
    dtype: Annotated[LatentType, typer.Option(help="Storage.")] = LatentType.float16,
    device: Device = "auto",
) -> None:
    """Encode waveform shards once into latent shards, so that train-tts need not run the encoder."""
    from svae.latents import EncodeOptions, encode_shards

    encode_shards(EncodeOptions(data=data, vae=vae, out=out, dtype=dtype.value, device=device))


DEFAULT_TTS = Path("runs/tiny-tts")
"""Where `svae train-tts` writes if it is told nothing else."""


@app.command(
    epilog=example("""
        svae synthesize --ref a.wav --text "Good morning." --model runs/tiny-tts
        svae synthesize --ref a.wav --ref-text "What is said in it." --text "Good morning." --seed 7 --out hello.wav
    """)
)
def synthesize(
    ref: Annotated[Path, typer.Option(help="Recording of the voice: any format, rate, mono or stereo; at most 30 s.")],
    text: Annotated[str, typer.Option(help="What to say.")],
    ref_text: Annotated[
        str | None, typer.Option(help="What is said in --ref; default: transcribed and printed.")
    ] = None,
    model: Annotated[Path, typer.Option(help="Run or checkpoint folder of train-tts.")] = DEFAULT_TTS,
    out: Annotated[Path, typer.Option(help=".wav or .flac; a .json with all settings goes beside it.")] = Path(
        "out.wav"
    ),
    seed: Annotated[int, typer.Option(help="Same seed, same bytes (on the CPU).")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Solver steps.")] = 32,
    guidance: Annotated[float, typer.Option(help="v = v_cond + g (v_cond - v_uncond); 0 = none, twice as fast.")] = 2.0,
    speed: Annotated[float, typer.Option(help="Of speaking, relative to the reference.")] = 1.0,
    duration: Annotated[float | None, typer.Option(help="Seconds of new speech; default: from the texts.")] = None,
    asr: Annotated[str, typer.Option(help="Transcribes --ref: pocketsphinx, whisper:ID, ctc:ID.")] = "pocketsphinx",
    device: Device = "auto",
) -> None:
    """Say a text in the voice of a short recording."""
    from svae.synthesis import SynthesizeOptions, synthesize_file

    synthesize_file(
        SynthesizeOptions(
            ref=ref,
            text=text,
            ref_text=ref_text,
            model=model,
            out=out,
            seed=seed,
            steps=steps,
            guidance=guidance,
            speed=speed,
            duration=duration,
            asr=asr,
            device=device,
        )
    )


@app.command(
    epilog=example("""
        svae evaluate --model runs/tiny-tts
        svae evaluate --reconstruction --model runs/tiny-vae
        svae evaluate --wavs generated/ --list list.jsonl --asr whisper:openai/whisper-large-v3
        svae evaluate --model runs/tts --list librispeech_pc.lst --audio-root data/LibriSpeech/test-clean
    """)
)
def evaluate(
    model: Annotated[Path | None, typer.Option(help="Run or checkpoint to synthesise with.")] = None,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="JSONL {id, text, ref, ref_text, target}, or LibriSpeech-PC .lst.")
    ] = None,
    wavs: Annotated[Path | None, typer.Option(help="Score DIR/ID.wav instead of synthesising.")] = None,
    audio_root: Annotated[Path | None, typer.Option(help="Folder of the recordings that a .lst names.")] = None,
    data: Annotated[Path, typer.Option(help="Without --list: shards whose held-out utterances are used.")] = Path(
        "data/shards/sample"
    ),
    asr: Annotated[
        str, typer.Option(help="pocketsphinx, ctc:embedded, whisper:ID_OR_FOLDER or ctc:ID_OR_FOLDER.")
    ] = "pocketsphinx",
    speaker: Annotated[str, typer.Option(help="embedded, or ecapa:ID_OR_FOLDER.")] = "embedded",
    reconstruction: Annotated[bool, typer.Option("--reconstruction", help="Score the VAE alone.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, utterances.jsonl, wavs/.")] = Path(
        "out/evaluation"
    ),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    seed: Annotated[int, typer.Option(help="Of the synthesis.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Solver steps.")] = 32,
    guidance: Annotated[float, typer.Option(help="As in synthesize.")] = 2.0,
    device: Device = "auto",
) -> None:
    """Score word error rate and speaker similarity, with the original recordings' scores beside the system's."""
    from svae.evaluation.run import EvaluateOptions
    from svae.evaluation.run import evaluate as run

    run(
        EvaluateOptions(
            model=model,
            list_file=list_file,
            wavs=wavs,
            audio_root=audio_root,
            data=data,
            asr=asr,
            speaker=speaker,
            reconstruction=reconstruction,
            out=out,
            limit=limit,
            seed=seed,
            steps=steps,
            guidance=guidance,
            device=device,
        )
    )


def main() -> None:
    """Run the command line."""
    app(prog_name="svae")


if __name__ == "__main__":
    main()
