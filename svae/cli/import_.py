"""`svae import semantic-vae` and `svae import f5-tts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.errors import ConfigError

HubFile = Annotated[
    str | None, typer.Option(help="Of a repository on the hub with several: which file or folder.")
]
NewCheckpoint = Annotated[Path, typer.Option(help="Checkpoint folder to write; must not exist.")]

importer = typer.Typer(
    help="Turn published checkpoints into svae's.",
    no_args_is_help=True,
    epilog=example("svae import semantic-vae ckpts/semantic_vae --out runs/semantic-vae"),
)
app.add_typer(importer, name="import")


@importer.command(
    "semantic-vae",
    epilog=example("""
        svae import semantic-vae ckpts/semantic_vae --out runs/semantic-vae
        svae evaluate --reconstruction --model runs/semantic-vae
        svae encode data/shards/libritts --vae runs/semantic-vae --out data/latents/libritts
    """),
)
def import_semantic_vae(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="Folder with metainfo.json and dac/, or user/repo\\[@revision] on the hub.",
        ),
    ],
    out: NewCheckpoint,
    file: HubFile = None,
    ema: Annotated[
        bool,
        typer.Option(
            "--ema/--no-ema",
            help="Averaged weights (dac/ema_state_dict.pth) or raw (dac/weights.pth).",
        ),
    ] = True,
) -> None:
    """Turn an official Semantic-VAE checkpoint into one of svae's, every key accounted for."""
    from svae.importing.from_hub import semantic_vae_folder
    from svae.importing.semantic_vae import import_semantic_vae as run
    from svae.runtime.hub import hub_model

    if (model := hub_model(source)) is not None:
        source = semantic_vae_folder(model, file)
    run(source, out, ema=ema)


@importer.command(
    "f5-tts",
    epilog=example("""
        svae import f5-tts SWivid/F5-TTS --out runs/f5-base
        svae import f5-tts F5TTS_v1_Base/model_1250000.safetensors --vocab vocab.txt --out runs/f5-base
        svae synthesize --model runs/f5-base --ref a.wav --ref-text "What is said in it." --text "Good morning."
        svae train-tts mine --init runs/f5-base --data data/shards/mine24k
    """),
)
def import_f5_tts(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT",
            help=".safetensors or .pt of a v1 DiT, or user/repo\\[@revision] on the hub.",
        ),
    ],
    out: NewCheckpoint,
    vocab: Annotated[
        Path | None,
        typer.Option(
            help="Its vocab.txt: one symbol a line; default: the one beside it on the hub."
        ),
    ] = None,
    file: HubFile = None,
    heads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Attention heads; default: read from the tensors, else so many that each is 64 wide.",
        ),
    ] = None,
    ema: Annotated[
        bool,
        typer.Option("--ema/--no-ema", help="Averaged or raw weights, where a .pt holds both."),
    ] = True,
    average_upsampling: Annotated[
        bool,
        typer.Option(
            "--average-upsampling",
            help="The model was trained with its text spread evenly over the frames.",
        ),
    ] = False,
    vocoder: Annotated[
        str, typer.Option(help="Hub id or folder of Vocos, or griffin-lim.")
    ] = "charactr/vocos-mel-24khz",
) -> None:
    """Turn an F5-TTS v1 checkpoint into one of svae's, every tensor accounted for."""
    from svae.importing.f5_tts import import_f5_tts as run
    from svae.importing.from_hub import f5_files
    from svae.runtime.hub import hub_model

    if (model := hub_model(source)) is not None:
        source, beside = f5_files(model, file)
        vocab = vocab or beside
    if vocab is None:
        raise ConfigError("svae import f5-tts: pass --vocab, its vocab.txt with one symbol a line")
    run(
        source,
        vocab,
        out,
        heads=heads,
        ema=ema,
        average_upsampling=average_upsampling,
        vocoder=vocoder,
    )
