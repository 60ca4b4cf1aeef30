"""`svae encode`, and what else works on a VAE and its latents."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import Device, app, example
from svae.config import TeacherConfig
from svae.errors import ConfigError


class LatentType(StrEnum):
    """Storage of latents."""

    float16 = "float16"
    float32 = "float32"


class Content(StrEnum):
    """What is stored of an utterance."""

    posterior = "posterior"
    sample = "sample"


class AudioFormat(StrEnum):
    """Files that `svae decode` writes."""

    wav = "wav"
    flac = "flac"


Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes on the CPU; default: one per core. GPUs: torchrun."),
]


@app.command(
    epilog=example("""
        svae encode data/shards/sample --vae runs/tiny-vae --out data/latents/sample
        svae train-tts --data data/latents/sample
        torchrun --nproc-per-node 8 -m svae encode data/shards/libritts --vae runs/vae --out data/latents/libritts
    """)
)
def encode(
    data: Annotated[Path, typer.Argument(help="Waveform shards from `svae prepare`.")],
    vae: Annotated[Path, typer.Option(help="Run or checkpoint folder of the VAE.")],
    out: Annotated[Path, typer.Option(help="Where latent shards go.")],
    dtype: Annotated[LatentType, typer.Option(help="Storage.")] = LatentType.float16,
    content: Annotated[
        Content,
        typer.Option(help="Mean and log-variance, or one sample of the posterior per utterance."),
    ] = Content.posterior,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Utterances at once on a GPU; on the CPU each goes alone.")
    ] = 16,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Encode waveform shards once into latent shards, so that train-tts need not run the encoder.

    On the CPU the bytes depend on data, VAE, --dtype, --content and --seed alone.
    """
    from svae.precompute.latents import EncodeOptions, encode_shards

    encode_shards(
        EncodeOptions(
            data=data,
            vae=vae,
            out=out,
            dtype=dtype.value,
            content=content.value,
            seed=seed,
            batch_size=batch_size,
            workers=workers,
            device=device,
        )
    )


@app.command(
    epilog=example("""
        svae decode data/latents/sample --out out/decoded
        svae decode data/latents/sample --out out/decoded --format flac --workers 2
    """)
)
def decode(
    latents: Annotated[Path, typer.Argument(help="Latent shards from `svae encode`.")],
    out: Annotated[Path, typer.Option(help="Where OUT/KEY.wav go; files that are there are kept.")],
    vae: Annotated[
        Path | None, typer.Option(help="The VAE that made them; default: the copy beside them.")
    ] = None,
    audio: Annotated[AudioFormat, typer.Option("--format", help="Of the files.")] = AudioFormat.wav,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Decode latent shards into waveforms of the original lengths."""
    from svae.precompute.decode import DecodeOptions, decode_shards

    decode_shards(
        DecodeOptions(
            latents=latents, out=out, vae=vae, format=audio.value, workers=workers, device=device
        )
    )


@app.command(
    "cache-teacher",
    epilog=example("""
        svae cache-teacher data/shards/sample --teacher embedded --layer 3 --out data/features/sample
        svae train-vae --set teacher.cache=data/features/sample
        torchrun --nproc-per-node 8 -m svae cache-teacher data/shards/libritts --out data/features/libritts
    """),
)
def cache_teacher(
    data: Annotated[Path, typer.Argument(help="Waveform shards from `svae prepare`.")],
    out: Annotated[Path, typer.Option(help="Where feature shards go.")],
    teacher: Annotated[
        str, typer.Option(help="Hub id, folder or `embedded`.")
    ] = TeacherConfig.model,
    layer: Annotated[str, typer.Option(help="Index into hidden_states, or `average`.")] = str(
        TeacherConfig.layer
    ),
    dtype: Annotated[LatentType, typer.Option(help="Storage.")] = LatentType.float16,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Store a teacher's features once, so that train-vae need not run the teacher."""
    from svae.precompute.teacher_features import CacheOptions
    from svae.precompute.teacher_features import cache_teacher as run

    cfg = TeacherConfig(model=teacher, layer=parse_layer(layer))
    run(
        CacheOptions(
            data=data, out=out, teacher=cfg, dtype=dtype.value, workers=workers, device=device
        )
    )


@app.command(
    epilog=example("""
        svae align data/shards/mine --out data/timings/mine
        svae train-tts --data data/latents/mine --set tokens=frame-phonemes --set data.timings=data/timings/mine
    """)
)
def align(
    data: Annotated[Path, typer.Argument(help="Waveform shards from `svae prepare`, in English.")],
    out: Annotated[Path, typer.Option(help="Where the times go; finished shards are kept.")],
    workers: Workers = None,
) -> None:
    """Find when each phone of every utterance is spoken, for models of frame-level phonemes.

    Forced alignment by pocketsphinx's acoustic model; needs no GPU and no download.
    """
    from svae.precompute.phone_times import AlignOptions, align_shards

    align_shards(AlignOptions(data, out, workers))


def parse_layer(text: str) -> int | str:
    """Read `--layer`. Raises ConfigError for anything but an integer or `average`."""
    if text == "average":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f"--layer {text!r}: expected an integer (an index into hidden_states) or `average`"
        ) from None


@app.command(
    epilog=example("""
        svae inspect data/latents/sample
        svae inspect runs/tiny-vae --data data/shards/sample
        svae inspect runs/semantic-vae --data data/shards/libritts --teacher microsoft/wavlm-large --layer 24
    """)
)
def inspect(
    path: Annotated[
        Path, typer.Argument(help="Latent shards, or run or checkpoint folder of a VAE.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Waveform shards; a checkpoint and the teacher need them.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for inspection.json and .png.")] = Path(
        "out/inspection"
    ),
    teacher: Annotated[
        str | None, typer.Option(help="Hub id or folder; default: what the checkpoint names.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Of --teacher; index into hidden_states, or `average`.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Utterances.")] = 200,
    device: Device = "auto",
) -> None:
    """Measure and draw what decides whether a flow model can learn these latents."""
    from svae.analysis.inspect_latents import InspectOptions
    from svae.analysis.inspect_latents import inspect as run

    run(
        InspectOptions(
            path, data, out, teacher, None if layer is None else parse_layer(layer), limit, device
        )
    )


@app.command(
    epilog=example("""
        svae doctor
        svae doctor --device cuda
    """)
)
def doctor(device: Device = "auto") -> None:
    """Print what this machine has and lacks, and test whether its arithmetic is right."""
    from svae.analysis.doctor import doctor as run

    run(device)


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
        Path, typer.Argument(metavar="SRC", help="Folder with metainfo.json and dac/.")
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write; must not exist.")],
    ema: Annotated[
        bool,
        typer.Option(
            "--ema/--no-ema",
            help="Averaged weights (dac/ema_state_dict.pth) or raw (dac/weights.pth).",
        ),
    ] = True,
) -> None:
    """Turn an official Semantic-VAE checkpoint into one of svae's, every key accounted for."""
    from svae.importing.semantic_vae import import_semantic_vae as run

    run(source, out, ema=ema)


@importer.command(
    "f5-tts",
    epilog=example("""
        svae import f5-tts F5TTS_v1_Base/model_1250000.safetensors --vocab vocab.txt --out runs/f5-base
        svae synthesize --model runs/f5-base --ref a.wav --ref-text "What is said in it." --text "Good morning."
        svae train-tts mine --init runs/f5-base --data data/shards/mine24k
    """),
)
def import_f5_tts(
    source: Annotated[
        Path, typer.Argument(metavar="CKPT", help=".safetensors or .pt of a v1 DiT.")
    ],
    vocab: Annotated[Path, typer.Option(help="Its vocab.txt: one symbol a line.")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write; must not exist.")],
    heads: Annotated[
        int | None,
        typer.Option(min=1, help="Attention heads; default: from the tensors, else of width 64."),
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema/--no-ema", help="Of a .pt with both: averaged or raw weights.")
    ] = True,
    average_upsampling: Annotated[
        bool,
        typer.Option(
            "--average-upsampling", help="It was trained with text spread evenly over the frames."
        ),
    ] = False,
    vocoder: Annotated[
        str, typer.Option(help="Hub id or folder of Vocos, or griffin-lim.")
    ] = "charactr/vocos-mel-24khz",
) -> None:
    """Turn an F5-TTS v1 checkpoint into one of svae's, every tensor accounted for."""
    from svae.importing.f5_tts import import_f5_tts as run

    run(
        source,
        vocab,
        out,
        heads=heads,
        ema=ema,
        average_upsampling=average_upsampling,
        vocoder=vocoder,
    )
