"""`svae synthesize`: a text of any length and a voice to an audio file with a JSON beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import soundfile
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from svae.audio import pcm16, resample
from svae.errors import ConfigError
from svae.runtime.distributed import describe_device, select_device
from svae.runtime.environment import environment
from svae.runtime.files import writable_folder, write_text
from svae.synthesis.load import load_tts
from svae.synthesis.long_text import join_chunks, speak_long
from svae.synthesis.model import TTS
from svae.synthesis.reference import ASR_SAMPLE_RATE, OpenedPrompt, open_reference
from svae.synthesis.types import Prompt, Sampling, Synthesis
from svae.synthesis.voices import load_voice
from svae.text.sentences import prepare_sentences, read_text

__all__ = ["TTS", "Synthesis", "SynthesizeOptions", "load_tts", "speak_long", "synthesize_file"]


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """Options of `svae synthesize`."""

    model: Path
    """Checkpoint or run folder of `svae train-tts`."""
    text: str | None = None
    text_file: Path | None = None
    """UTF-8; `-`: standard input."""
    ref: Path | None = None
    """Recording of the voice: any format, rate and number of channels that libsndfile reads."""
    ref_text: str | None = None
    """What is said in the recording. None: the recogniser `asr` transcribes it."""
    voice: str | None = None
    """A saved voice instead of `ref`."""
    out: Path = Path("out.wav")
    """.wav or .flac."""
    sampling: Sampling = field(default_factory=Sampling)
    language: str | None = "en"
    """Numbers and symbols are spelled out in it; None: not at all."""
    skip_unknown: bool = False
    """Leave out characters the model does not know, and say so, instead of refusing."""
    verify: int = 0
    """Transcribe each chunk and try again with up to so many other seeds where it is not understood."""
    verify_wer: float = 0.3
    """Understood means a word error rate of at most this."""
    stream: bool = False
    """Speak sentence by sentence, and write each into `out` as soon as it is there."""
    verbose: bool = False
    device: str = "auto"
    asr: str = "pocketsphinx"
    """Recogniser for the reference and for `verify`: pocketsphinx, whisper:ID_OR_PATH or ctc:ID_OR_PATH."""


def synthesize_file(options: SynthesizeOptions) -> Path:
    """Speak a text in a voice; write the audio and, under the same name, a JSON that says how.

    Returns:
        The audio file.

    Raises:
        ConfigError: the output cannot be written, the device is not there, or a number is out of range.
        CheckpointError: the model is unusable.
        DataError: the recording or a text is unusable.
    """
    console, started = Console(), time.perf_counter()
    check_output(options.out)
    if (options.ref is None) == (options.voice is None):
        raise ConfigError(
            "pass either --ref RECORDING or --voice NAME (`svae voice save` makes one)"
        )
    text = read_text(options.text, options.text_file)
    tts = load_model(options, console)
    opened = open_prompt(options, tts, console)
    recognize = recognizer(options, tts) if options.verify else None
    sentences = sentences_of(text, tts, options, console)
    report = speak_into(options.out, tts, opened, sentences, options, recognize, console, started)
    row = {"model": tts.identity, **opened.description, "audio": options.out.name, **report}
    row["environment"] = environment(tts.device)
    path = options.out.with_suffix(".json")
    write_text(path, json.dumps(row, indent=2, ensure_ascii=False) + "\n")
    _print_result(console, row, options, path)
    return options.out


def sentences_of(text: str, tts: TTS, options: SynthesizeOptions, console: Console) -> list[str]:
    """Return a text's sentences as they are spoken; print what was changed where that was asked for or lost."""
    show = (
        (lambda line: console.print(line, highlight=False, markup=False))
        if options.verbose
        else None
    )
    sentences, notes = prepare_sentences(
        text,
        tts.vocabulary,
        language=options.language,
        skip_unknown=options.skip_unknown,
        show=show,
    )
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]", highlight=False)
    return sentences


def load_model(options: SynthesizeOptions, console: Console) -> TTS:
    """Load the model and print which one it is."""
    options.sampling.check()
    tts = load_tts(options.model, select_device(options.device))
    console.print(
        f"Model [bold]{escape(tts.identity['path'])}[/] ({tts.short_description}) on {describe_device(tts.device)}; "
        f"durations: {tts.duration_rule(options.sampling)}"
    )
    return tts


def open_prompt(options: SynthesizeOptions, tts: TTS, console: Console) -> OpenedPrompt:
    """Return the voice that the options name.

    Raises:
        ConfigError: no such saved voice.
        DataError: the recording is unusable.
    """
    if options.voice is not None:
        return load_voice(options.voice, tts, console)
    assert options.ref is not None
    return open_reference(tts, options.ref, options.ref_text, asr=options.asr, console=console)


# ----------------------------------------------------------------------------------------------- speech


def speak_into(
    out: Path,
    tts: TTS,
    opened: OpenedPrompt,
    sentences: Sequence[str],
    options: SynthesizeOptions,
    recognize: Callable[[Tensor], str] | None,
    console: Console,
    started: float,
) -> dict[str, Any]:
    """Speak sentences into an audio file, chunk by chunk; return the report.

    The file appears under its name when complete; with `stream`, at once, growing.
    """
    chunks: list[dict[str, Any]] = []

    def speak(text: str) -> Synthesis:
        result, attempts = speak_verified(tts, text, opened.prompt, options, recognize)
        chunks.append(describe(result) | ({"attempts": attempts} if attempts else {}))
        return result

    path = out if options.stream else out.with_name(f".{out.name}.tmp{out.suffix}")
    first_audio = None
    columns = (TextColumn("Speaking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with (
            Progress(
                *columns, console=console, transient=True, disable=len(sentences) < 2
            ) as progress,
            soundfile.SoundFile(path, "w", tts.sample_rate, 1, "PCM_16") as file,
        ):
            task, total = (
                progress.add_task("", total=sum(map(len, sentences))),
                sum(map(len, sentences)),
            )

            def waveforms() -> Iterator[Tensor]:
                for result in speak_long(
                    tts,
                    sentences,
                    opened.prompt,
                    options.sampling,
                    by_sentence=options.stream,
                    speak=speak,
                ):
                    progress.update(
                        task, completed=min(total, progress.tasks[0].completed + len(result.text))
                    )
                    yield result.waveform.reshape(-1)

            for piece in join_chunks(waveforms(), tts.sample_rate):
                file.write(pcm16(piece, full_scale=32767).numpy())
                if options.stream:
                    file.flush()
                first_audio = time.perf_counter() - started if first_audio is None else first_audio
            seconds = file.frames / tts.sample_rate
        path.replace(out)
    finally:
        if path != out:
            path.unlink(missing_ok=True)
    return _summary(chunks, seconds, first_audio, tts, opened, options)


def speak_verified(
    tts: TTS,
    text: str,
    prompt: Prompt,
    options: SynthesizeOptions,
    recognize: Callable[[Tensor], str] | None,
) -> tuple[Synthesis, list[dict[str, Any]]]:
    """Speak one chunk; with a recogniser, try other seeds while it is misunderstood, and keep the best attempt.

    Returns:
        The speech, and for each attempt its seed, what was heard, and the word error rate.
    """
    attempts: list[dict[str, Any]] = []
    best: tuple[float, Synthesis] | None = None
    for number in range(options.verify + 1 if recognize is not None else 1):
        sampling = replace(options.sampling, seed=options.sampling.seed + number)
        result = tts.speak([text], [prompt], sampling)[0]
        if recognize is None:
            return result, []
        heard = recognize(resample(result.waveform[0], tts.sample_rate, ASR_SAMPLE_RATE)[0])
        wer = _word_error_rate(text, heard)
        attempts.append({"seed": sampling.seed, "wer": wer, "heard": heard})
        if best is None or wer < best[0]:
            best = (wer, result)
        if wer <= options.verify_wer:
            break
    assert best is not None
    return best[1], attempts


def _word_error_rate(text: str, heard: str) -> float:
    from svae.judges.wer import normalize_for_wer, word_errors

    return word_errors(text, heard).rate if normalize_for_wer(text) else 0.0


def recognizer(options: SynthesizeOptions, tts: TTS) -> Callable[[Tensor], str]:
    """Return what transcribes a waveform (S,) at 16 kHz, as `--asr` names it."""
    from svae.judges.asr import load_asr

    judge = load_asr(options.asr, str(tts.device))
    return lambda waveform: judge.transcribe([waveform])[0]


# ----------------------------------------------------------------------------------------------- report


def describe(result: Synthesis) -> dict[str, Any]:
    """Return everything about a chunk but the samples, for JSON."""
    return {
        "text": result.text,
        "seed": result.sampling.seed,
        "generated_seconds": result.generated_seconds,
        "seconds_by_stage": result.timings,
    }


def _summary(
    chunks: list[dict[str, Any]],
    seconds: float,
    first_audio: float | None,
    tts: TTS,
    opened: OpenedPrompt,
    options: SynthesizeOptions,
) -> dict[str, Any]:
    stages = {"encode": opened.encode_seconds}
    for chunk in chunks:
        for stage, value in chunk["seconds_by_stage"].items():
            stages[stage] = stages.get(stage, 0.0) + value
    factors = {stage: value / seconds for stage, value in stages.items()}
    return {
        **tts.resolve(options.sampling).settings,
        "duration_rule": tts.duration_rule(options.sampling),
        "language": options.language,
        "text": " ".join(chunk["text"] for chunk in chunks),
        "prompt_text": opened.prompt.text.rstrip(),
        "prompt_seconds": opened.prompt.seconds,
        "sample_rate": tts.sample_rate,
        "generated_seconds": seconds,
        "first_audio_seconds": first_audio,
        "seconds_by_stage": stages,
        "real_time_factors": factors | {"total": sum(factors.values())},
        "chunks": chunks,
    }


def check_output(out: Path) -> None:
    """Raise ConfigError where `out` is not a .wav or .flac that can be written."""
    if out.suffix.lower() not in (".wav", ".flac"):
        raise ConfigError(f"--out {out}: must end in .wav or .flac")
    for path in (out, out.with_suffix(".json")):
        if path.is_dir():
            raise ConfigError(f"--out {out}: {path} is a folder; name a file in it, or another")
    writable_folder(out.parent, option="--out")


def _print_result(
    console: Console, row: dict[str, Any], options: SynthesizeOptions, report: Path
) -> None:
    guidance = f"guidance {row['guidance']:g} (prompt {row['prompt_guidance']:g})"
    console.print(
        f"Reference {row['prompt_seconds']:.2f} s, new speech {row['generated_seconds']:.2f} s in "
        f"{len(row['chunks'])} chunk(s), {row['steps']} steps, {guidance}, {row['precision']}, seed {row['seed']}"
    )
    first = f"; first audio after {row['first_audio_seconds']:.1f} s" if options.stream else ""
    stages = ", ".join(
        f"{stage} {factor:.2f}" for stage, factor in row["real_time_factors"].items()
    )
    console.print(f"Real-time factor: {stages}{first}")
    for chunk in row["chunks"]:
        attempts = chunk.get("attempts", [])
        if len(attempts) < 2 and all(attempt["wer"] <= options.verify_wer for attempt in attempts):
            continue
        best = min(attempts, key=lambda attempt: attempt["wer"])
        found = "Understood" if best["wer"] <= options.verify_wer else "Not understood"
        console.print(
            f"[yellow]{found} after {len(attempts)} attempt(s), kept seed {best['seed']} (WER {best['wer']:.2f}): "
            f"{escape(chunk['text'])} (heard: {escape(best['heard'])})[/]"
        )
    console.print(
        f"Speech in [bold]{escape(str(options.out))}[/], details in {escape(str(report))}"
    )
    model = escape(str(options.model))
    console.print(
        f"Next: svae evaluate --model {model} --list LIST.jsonl", highlight=False, soft_wrap=True
    )
