"""`svae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from svae.cli.app import app, example
from svae.cli.options import (
    Device,
    Guidance,
    PromptGuidance,
    Ray,
    RayGpus,
    Steps,
    Temperature,
    ray_options,
    refuse_idle_options,
)
from svae.errors import ConfigError


@app.command(
    epilog=example("""
        svae evaluate --model runs/tiny-tts
        svae evaluate --reconstruction --model runs/tiny-vae --other encodec=wavs/encodec
        svae evaluate --wavs generated/ --list list.jsonl --asr whisper:openai/whisper-large-v3
        svae evaluate --command 'flite -t {text} -o {out}' --jobs 2
        svae evaluate --endpoint http://127.0.0.1:8000 --field model=null --field voice=anna
        svae evaluate --protocol f5-librispeech-pc --model runs/tts --list librispeech_pc.lst --audio-root test-clean
        svae evaluate --model runs/tts --out out/tts --ray auto --ray-gpus 0.5
        svae evaluate --compare out/one out/other
    """)
)
def evaluate(
    ctx: typer.Context,
    model: Annotated[
        Path | None, typer.Option(help="Run or checkpoint to synthesise with.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="offline, f5-librispeech-pc, seed-tts-en, seed-tts-zh, zipvoice-librispeech-pc, minimax-multilingual-LANGUAGE, "
            "fleurs-LANGUAGE or FILE.yaml (docs/protocols.md)."
        ),
    ] = "offline",
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list", help="JSONL {id, text, ref, ref_text, target}, or a published .lst."
        ),
    ] = None,
    wavs: Annotated[
        Path | None, typer.Option(help="Score DIR/ID.wav or DIR/seed-N/ID.wav, do not synthesise.")
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            help="A program that speaks, called without a shell: 'prog --ref {ref} --ref-text {ref_text} --text {text} "
            "--out {out}'; also {seed}, {id}, {language}."
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="A server with OpenAI's interface for speech; its key, if any, in the variable SVAE_ENDPOINT_KEY."
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE of the requests to --endpoint, e.g. voice=alloy; also {text}, {ref}, {ref_data}, {ref_text}, {seed}."
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Calls of --command or --endpoint at a time.")
    ] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds that one of them may take.")] = 300.0,
    audio_root: Annotated[
        Path | None, typer.Option(help="Folder of the recordings that a list names.")
    ] = None,
    data: Annotated[
        Path,
        typer.Option(
            help="Without --list: shards (a folder or a URL) whose held-out utterances are used."
        ),
    ] = Path("data/shards/sample"),
    asr: Annotated[
        str | None,
        typer.Option(
            help="Recogniser instead of the protocol's: pocketsphinx, ctc:embedded, whisper:ID, faster-whisper:ID (whisper-int8: "
            "and faster-whisper-int8: compute in 8 bits), ctc:ID, paraformer:ID; IDs may be folders. omnilingual:CARD runs in an "
            "environment of its own (docs/protocols.md)."
        ),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(
            help="Speaker model instead of the protocol's: embedded, ecapa:ID_OR_FOLDER or none."
        ),
    ] = None,
    sim_o: Annotated[
        Path | None, typer.Option(help="wavlm_large_finetune.pth, for the column sim_o.")
    ] = None,
    distillmos: Annotated[
        bool,
        typer.Option(
            "--distillmos",
            help="Predict naturalness, 1 to 5, for the column distillmos; needs: pip install 'svae\\[mos]'.",
        ),
    ] = False,
    utmos: Annotated[
        Path | None,
        typer.Option(help="ONNX file, waveform at 16 kHz to one score, for the column utmos."),
    ] = None,
    dnsmos: Annotated[
        Path | None,
        typer.Option(
            help="speechmos (the package's, of 'svae\\[mos]') or a sig_bak_ovr.onnx, for the columns dnsmos_sig, _bak, _ovrl."
        ),
    ] = None,
    reconstruction: Annotated[
        bool, typer.Option("--reconstruction", help="Score the VAE alone.")
    ] = False,
    other: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR: wavs that get a row of their own.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two result folders: is the difference more than chance?"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html, metrics.json, wavs/ …; default: out/evaluation. With --compare: for a JSON."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Judges' answers, may be shared; default: OUT/cache.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds of the synthesis, e.g. 0,1,2; default: the protocol's."),
    ] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    prompt_guidance: PromptGuidance = None,
    temperature: Temperature = None,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster-by-speaker", help="Intervals and tests over speakers, not utterances."
        ),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Clips that a judge hears together; default: 16 on a GPU, else 1."
        ),
    ] = None,
    report_megabytes: Annotated[
        int, typer.Option(min=0, help="Megabytes of audio inside report.html; 0: no page.")
    ] = 40,
    device: Device = "auto",
    ray: Ray = None,
    ray_gpus: RayGpus = 1.0,
) -> None:
    """Score word error rate and speaker similarity, with the original recordings' scores beside the system's."""
    from svae.evaluation.compare import compare as run_compare
    from svae.evaluation.options import EvaluateOptions
    from svae.evaluation.protocols import parse_seeds
    from svae.evaluation.run import evaluate as run

    if compare is not None:
        refuse_idle_options(
            ctx,
            {"compare", "cluster", "out"},
            "evaluate --compare: takes results that are there, with their lists and judges; beside it only "
            "--cluster-by-speaker and --out are read",
        )
        run_compare(*compare, cluster=cluster, out=out)
        return
    run(
        EvaluateOptions(
            model=model,
            wavs=wavs,
            command=command,
            endpoint=endpoint,
            fields=tuple(field or ()),
            jobs=jobs,
            timeout=timeout,
            others=tuple(_name_and_folder(text) for text in other or ()),
            protocol=protocol,
            list_file=list_file,
            audio_root=audio_root,
            data=data,
            asr=asr,
            speaker=speaker,
            sim_o=sim_o,
            distillmos=distillmos,
            utmos=utmos,
            dnsmos=dnsmos,
            reconstruction=reconstruction,
            out=out or EvaluateOptions.out,
            cache=cache,
            limit=limit,
            seeds=None if seeds is None else parse_seeds(seeds),
            steps=steps,
            guidance=guidance,
            prompt_guidance=prompt_guidance,
            temperature=temperature,
            cluster=cluster,
            batch_size=batch_size,
            report_megabytes=report_megabytes,
            device=device,
            ray=ray_options(ray, ray_gpus),
        )
    )


def _name_and_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f"--other {text!r}: expected NAME=DIR")
    return name, Path(folder)
