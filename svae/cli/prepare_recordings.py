"""`svae prepare recordings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import example
from svae.cli.options import Device
from svae.cli.prepare import SampleRate, SpellOut, Validation, preparer


@preparer.command(
    "recordings",
    epilog=example("""
        svae prepare recordings --root memos --speaker anna --asr whisper:openai/whisper-small
        svae prepare recordings --root interviews --out data/shards/interviews --asr whisper:FOLDER --language de
        svae prepare recordings --root memos --speaker anna --asr whisper:openai/whisper-small --review review.json
    """),
)
def prepare_recordings(
    root: Annotated[
        Path,
        typer.Option(
            help="Folder of recordings of any format and length; a folder below it is a speaker. Texts beside them, "
            "NAME.txt (a whole chapter too), NAME.srt or NAME.vtt, are used."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where shards, segments and review.html go.")] = Path(
        "data/shards/recordings"
    ),
    speaker: Annotated[
        str | None, typer.Option(help="Who speaks in all of them, in place of the folders' names.")
    ] = None,
    asr: Annotated[
        str,
        typer.Option(
            help="Recognises the words: whisper:ID_OR_FOLDER, faster-whisper:ID_OR_FOLDER (its extra), ctc:ID, pocketsphinx "
            "(English, bad); none: texts beside only."
        ),
    ] = "pocketsphinx",
    language: Annotated[str, typer.Option(help="What is spoken: en, de, zh, …")] = "en",
    review: Annotated[
        Path | None, typer.Option(help="Edited texts and rejections, as review.html saves them.")
    ] = None,
    min_seconds: Annotated[float, typer.Option(min=0, help="Shorter segments are left out.")] = 0.5,
    max_seconds: Annotated[float, typer.Option(help="Speech is cut to at most this.")] = 20.0,
    min_snr: Annotated[
        float, typer.Option(help="dB between loud and quiet parts; noisier ones are left out.")
    ] = 15.0,
    max_clipping: Annotated[
        float, typer.Option(min=0, max=100, help="Per cent of samples at full scale.")
    ] = 0.1,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of a given text's words that are heard; default: 0.5, pocketsphinx 0.4.",
        ),
    ] = None,
    min_fit: Annotated[
        float, typer.Option(help="Of text to sound by the aligner of phones; English, 0 is best.")
    ] = -35.0,
    distillmos: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=5,
            help="Least predicted naturalness, 1 to 5; needs: pip install 'svae\\[mos]'.",
        ),
    ] = None,
    sample_rate: SampleRate = 16000,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Number of shards; default: by how much there is.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that cut; default: one per core.")
    ] = None,
    validation: Validation = 0.05,
    spell_out: SpellOut = False,
    device: Device = "auto",
) -> None:
    """Turn recordings of any kind and length into shards: cut at speech, transcribed, filtered, with a page to look through.

    Continues where it was stopped; the same command takes in recordings, texts and reviews that came since.
    """
    from svae.recordings.command import RecordingsOptions
    from svae.recordings.command import prepare_recordings as run
    from svae.recordings.filters import Limits

    run(
        RecordingsOptions(
            root=root,
            out=out,
            speaker=speaker,
            asr=asr,
            language=language,
            device=device,
            limits=Limits(
                min_seconds=min_seconds,
                max_seconds=max_seconds,
                max_clipped=max_clipping / 100,
                min_snr_db=min_snr,
                min_fit=min_fit,
                min_distillmos=distillmos,
            ),
            min_agreement=min_agreement,
            review=review,
            sample_rate=sample_rate,
            shards=shards,
            workers=workers,
            validation=validation,
            spell_out=spell_out,
        )
    )
