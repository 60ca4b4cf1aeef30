"""`svae prepare`: one command for every corpus that svae knows, and for sources of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from svae.cli.app import app, example
from svae.cli.options import Ray, ray_options
from svae.data.corpora import CORPORA
from svae.data.corpora.corpus import Corpus
from svae.text.languages import check_code

preparer = typer.Typer(
    help="Turn a corpus into webdataset shards of FLAC and text. Runs in parallel and continues where it was stopped.",
    no_args_is_help=True,
    epilog=example("""
        svae prepare sample
        svae prepare libritts --root data/LibriTTS --subset train-clean-100 --subset dev-clean --workers 16
        svae prepare jsonl --root my/metadata.jsonl --out data/shards/mine --max-seconds 20
        svae prepare webdataset my/tars --text json.text --speaker json.speaker --audio mp3
    """),
)
app.add_typer(preparer, name="prepare")

# ------------------------------------------------------------------------------ what all have

Out = Annotated[
    Path | None,
    typer.Option(
        help="Where the shards go, a folder or a URL; default: data/shards/ and the name above."
    ),
]
SampleRate = Annotated[
    int, typer.Option(min=8000, max=48000, help="Sample rate of the shards in Hz.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")]
MinSeconds = Annotated[float, typer.Option(min=0, help="Shorter utterances are rejected.")]
MaxSeconds = Annotated[float, typer.Option(min=0, help="Longer utterances are rejected.")]
Validation = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of utterances held out of training.")
]
Shards = Annotated[
    int | None, typer.Option(min=1, help="Number of shards; default: by the corpus' size.")
]

CorpusLanguage = Annotated[
    str | None,
    typer.Option("--language", help="Of utterances whose corpus does not say it: en, zh, de, …"),
]
SpellOut = Annotated[
    bool,
    typer.Option(
        "--spell-out",
        help="Store numbers and signs as words, by the language of each utterance (en, zh, ja); the text as it was is kept "
        "beside it.",
    ),
]

# ------------------------------------------------------------------------------ folders in a layout of their own


def _add(corpus: Corpus) -> None:
    """Give a corpus its command."""
    root = f" --root {corpus.folder or 'my/metadata.jsonl'}" if corpus.name != "sample" else ""

    @preparer.command(
        corpus.name,
        short_help=corpus.title,
        help=f"{corpus.title}: {corpus.how_to_get}\n\nLayout: {corpus.layout}",
        epilog=example(f"svae prepare {corpus.name}{root} --out data/shards/mine --workers 16"),
    )
    def command(
        root: Annotated[
            Path | None, typer.Option(help="Where the corpus is; default: data/LibriTTS and so on.")
        ] = None,
        out: Out = None,
        subset: Annotated[list[str], typer.Option(help="Only this subset; repeatable.")] = [],  # noqa: B006
        sample_rate: SampleRate = 16000,
        shards: Shards = None,
        workers: Workers = None,
        ray: Ray = None,
        min_seconds: MinSeconds = 0.3,
        max_seconds: MaxSeconds = 35.0,
        validation: Validation = 0.05,
        language: CorpusLanguage = None,
        spell_out: SpellOut = False,
    ) -> None:
        from svae.data.prepare import prepare as run
        from svae.data.prepare_plan import PrepareOptions

        run(
            PrepareOptions(
                corpus=corpus.name,
                root=root,
                out=out,
                subsets=tuple(subset),
                sample_rate=sample_rate,
                shards=shards,
                workers=workers,
                ray=ray_options(ray),
                min_seconds=min_seconds,
                max_seconds=max_seconds,
                validation=validation,
                language=None if language is None else check_code(language, "--language"),
                spell_out=spell_out,
            )
        )


for _corpus in CORPORA.values():
    if _corpus.argument is None:
        _add(_corpus)


@preparer.command(
    "lhotse",
    short_help=CORPORA["lhotse"].title,
    epilog=example("""
        svae prepare lhotse data/manifests/cuts_train.jsonl.gz --out data/shards/mine
    """),
)
def lhotse(
    cuts: Annotated[
        Path, typer.Argument(metavar="CUTS", help="A cut manifest: .jsonl.gz, .jsonl or .json.")
    ],
    out: Out = None,
    sample_rate: SampleRate = 16000,
    shards: Shards = None,
    workers: Workers = None,
    ray: Ray = None,
    min_seconds: MinSeconds = 0.3,
    max_seconds: MaxSeconds = 35.0,
    validation: Validation = 0.05,
    language: CorpusLanguage = None,
    spell_out: SpellOut = False,
) -> None:
    """Turn the cuts of a lhotse manifest into shards; a cut with several supervisions becomes one utterance for each."""
    from svae.data.prepare import prepare as run
    from svae.data.prepare_plan import PrepareOptions

    run(
        PrepareOptions(
            corpus="lhotse",
            root=cuts,
            out=out,
            sample_rate=sample_rate,
            shards=shards,
            workers=workers,
            ray=ray_options(ray),
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            validation=validation,
            language=None if language is None else check_code(language, "--language"),
            spell_out=spell_out,
        )
    )


# ------------------------------------------------------------------------------ sources that are read from front to back

Audio = Annotated[
    list[str],
    typer.Option(
        metavar="FIELD", help="Field that holds audio; repeatable: the first that is there."
    ),
]
TextField = Annotated[
    str | None, typer.Option("--text", metavar="FIELD", help="Field that holds the transcript.")
]
Speaker = Annotated[
    str | None,
    typer.Option(metavar="FIELD", help="Field that names the speaker, or =NAME for all."),
]
Language = Annotated[
    str | None, typer.Option(metavar="FIELD", help="Field that names the language, or =en for all.")
]
Keep = Annotated[
    list[str],
    typer.Option(metavar="FIELD", help="Field to store beside each utterance; repeatable."),
]
PerShard = Annotated[int, typer.Option(min=1, help="Recordings that are read for one shard.")]
SkipUnreadable = Annotated[
    bool,
    typer.Option(
        "--skip-unreadable",
        help="Finish without parts that cannot be read; they are listed as rejected.",
    ),
]


@preparer.command(
    "webdataset",
    short_help="any webdataset: tars on a disk, a server, in a bucket",
    epilog=example("""
        svae prepare webdataset my/tars --text json.text --speaker json.speaker --audio mp3
        svae prepare webdataset "https://example.org/train-{000..099}.tar" --language =en --out data/shards/example
        svae prepare webdataset "hf://datasets/amphion/Emilia-Dataset/Emilia/EN/*.tar" --layout emilia
        svae prepare webdataset "pipe:aws s3 cp s3://bucket/train-{00..15}.tar -" --audio flac --text txt
    """),
)
def webdataset(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC",
            help="Tars, folders of tars, http(s)://, s3://, hf:// and other URLs of fsspec, or pipe:COMMAND; braces and stars.",
        ),
    ],
    layout: Annotated[
        Literal["emilia"] | None,
        typer.Option(help="Fields of a corpus by its name; options below change single ones."),
    ] = None,
    audio: Audio = [],  # noqa: B006
    text: TextField = None,
    speaker: Speaker = None,
    language: Language = None,
    keep: Keep = [],  # noqa: B006
    out: Out = None,
    per_shard: PerShard = 500,
    skip_unreadable: SkipUnreadable = False,
    sample_rate: SampleRate = 16000,
    workers: Workers = None,
    ray: Ray = None,
    min_seconds: MinSeconds = 0.3,
    max_seconds: MaxSeconds = 35.0,
    validation: Validation = 0.05,
    spell_out: SpellOut = False,
) -> None:
    """Turn any webdataset into shards: read from front to back, nothing unpacked, no pickle decoded.

    A field is an extension in the tar, or a name in a JSON member: json.text. What is not named is looked for under its
    usual names and printed.
    """
    from svae.data.prepare_plan import PrepareOptions
    from svae.data.prepare_stream import prepare_stream
    from svae.data.streams.fields import LAYOUTS, Fields
    from svae.data.streams.webdataset import open_webdataset

    known = LAYOUTS[layout] if layout is not None else Fields()
    fields = Fields(
        audio=tuple(audio) or known.audio,
        text=text or known.text,
        speaker=speaker or known.speaker,
        language=language or known.language,
        keep=tuple(keep) or known.keep,
    )
    prepare_stream(
        open_webdataset(sources, fields),
        PrepareOptions(
            corpus="webdataset",
            out=out,
            sample_rate=sample_rate,
            workers=workers,
            ray=ray_options(ray),
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            validation=validation,
            spell_out=spell_out,
        ),
        utterances_per_shard=per_shard,
        skip_unreadable=skip_unreadable,
    )


@preparer.command(
    "huggingface",
    short_help="a dataset of the hub, or a folder of parquet or audio (extra: huggingface)",
    epilog=example("""
        svae prepare huggingface openslr/librispeech_asr --subset clean --split train.100 --speaker speaker_id --language =en
        svae prepare huggingface my/parquet --audio audio --text transcription --out data/shards/mine
    """),
)
def huggingface(
    repository: Annotated[
        str, typer.Argument(metavar="REPO_OR_FOLDER", help="owner/name on the hub, or a folder.")
    ],
    subset: Annotated[
        str | None, typer.Option(help="Configuration, where the dataset has several.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which split; default: train, or the only one.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the hub; default: the newest.")
    ] = None,
    audio: Audio = [],  # noqa: B006
    text: TextField = None,
    speaker: Speaker = None,
    language: Language = None,
    keep: Keep = [],  # noqa: B006
    out: Out = None,
    per_shard: PerShard = 500,
    skip_unreadable: SkipUnreadable = False,
    sample_rate: SampleRate = 16000,
    workers: Workers = None,
    ray: Ray = None,
    min_seconds: MinSeconds = 0.3,
    max_seconds: MaxSeconds = 35.0,
    validation: Validation = 0.05,
    spell_out: SpellOut = False,
) -> None:
    """Turn a dataset of the hub into shards: its rows are streamed, its audio is decoded by svae.

    A field is a column, or a name inside one: info.speaker. What is not named is looked for under its usual names and
    printed.
    """
    from svae.data.prepare_plan import PrepareOptions
    from svae.data.prepare_stream import prepare_stream
    from svae.data.streams.fields import Fields
    from svae.data.streams.huggingface import open_huggingface

    fields = Fields(tuple(audio), text, speaker, language, tuple(keep))
    prepare_stream(
        open_huggingface(repository, fields, subset=subset, split=split, revision=revision),
        PrepareOptions(
            corpus="huggingface",
            out=out,
            sample_rate=sample_rate,
            workers=workers,
            ray=ray_options(ray),
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            validation=validation,
            spell_out=spell_out,
        ),
        utterances_per_shard=per_shard,
        skip_unreadable=skip_unreadable,
    )
