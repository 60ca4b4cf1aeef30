"""`svae synthesize`: a text of any length and a voice to an audio file with a JSON beside it.

The way of a text: options → text → model → prompt → sentences → spoken chunks → audio file → report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from svae.errors import ConfigError, DataError
from svae.judges.asr import load_asr
from svae.judges.ctc import CTC
from svae.runtime.distributed import describe_device, select_device
from svae.runtime.environment import environment
from svae.synthesis.credentials import Credentials, sign
from svae.synthesis.load import load_tts
from svae.synthesis.long_text import (
    SpokenChunk,
    Verifier,
    WrittenSpeech,
    speak_long,
    write_chunks,
)
from svae.synthesis.loudness import TARGET_LUFS, Leveller, check_loudness, measure
from svae.synthesis.marks import mark, tags
from svae.synthesis.model import TTS
from svae.synthesis.output import check_output, identities, report_path, write_report
from svae.synthesis.reference import OpenedPrompt, open_reference
from svae.synthesis.subtitles import (
    SubtitleFormat,
    WordTimes,
    check_subtitles,
    remove_details,
    subtitles_path,
    write_subtitles,
)
from svae.synthesis.types import Sampling
from svae.synthesis.voices import load_voice, own_voice
from svae.text.lexicon import Lexicon
from svae.text.phonemes import without_phones
from svae.text.sentences import Sentence, prepare_sentences, read_text


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """Options of `svae synthesize`."""

    model: Path
    """Checkpoint or run folder of `svae train-tts`."""
    text: str | None = None
    text_file: Path | None = None
    """UTF-8; `-`: standard input."""
    ref: Path | None = None
    """Recording of the voice: any format, rate and number of channels that libsndfile or FFmpeg reads."""
    ref_text: str | None = None
    """What is said in the recording. None: the recogniser `asr` transcribes it."""
    voice: str | None = None
    """A saved voice instead of `ref`; without both, the model's own, which one of `svae adapt` has."""
    out: Path = Path("out.wav")
    """.wav or .flac."""
    sampling: Sampling = field(default_factory=Sampling)
    language: str | None = "en"
    """Numbers and symbols are spelled out in it; None: not at all."""
    skip_unknown: bool = False
    """Leave out characters the model does not know, and say so, instead of refusing."""
    loudness: float | None = TARGET_LUFS
    """Of the speech, in LUFS; None: as loud as the reference is."""
    verify: int = 0
    """Transcribe each chunk and try again with up to so many other seeds where it is not understood."""
    verify_wer: float = 0.3
    """Understood means a word error rate of at most this."""
    stream: bool = False
    """Speak sentence by sentence, and write each into `out` as soon as it is there."""
    verbose: bool = False
    subtitles: SubtitleFormat | None = None
    """Write when each word is spoken beside the audio."""
    credentials: Credentials | None = None
    """Who signs what is written, by C2PA."""
    lexicon: Path | None = None
    """Words and how they are said, which override all other pronunciations; see `Lexicon.read`."""
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
    started = time.perf_counter()
    console = Console()
    check_output(options.out, identities(inputs_of(options)))
    path = report_path(options.out)
    check_subtitles(options.out, options.subtitles, path)
    check_credentials(options)
    if options.ref is not None and options.voice is not None:
        raise ConfigError("pass either --ref RECORDING or --voice NAME, not both")
    text = read_text(options.text, options.text_file)
    lexicon = open_lexicon(options)
    tts = load_model(options, console)
    opened = open_prompt(options, tts, console, lexicon)
    verifier = open_verifier(options, tts)
    ctc = open_ctc(options, tts)
    sentences = sentences_of(text, tts, options, console, lexicon)
    chunks = speak_long(
        tts,
        sentences,
        opened.prompt,
        options.sampling,
        by_sentence=options.stream,
        verifier=verifier,
    )
    times = open_word_times(options, tts, opened, ctc)
    if options.stream:  # the audio is replaced from the first sentence on, else when all is spoken
        remove_details(options.out, path)
    written = write_chunks(
        options.out,
        show_progress(chunks, sentences, console),
        tts.sample_rate,
        stream=options.stream,
        leveller=open_leveller(options, opened, tts),
        tags=tags(tts.identity, options.sampling.seed, opened.description),
        listener=None if times is None else times.add,
    )
    remove_details(options.out, path)
    report = SpeechReport(options, tts, opened, written, started, times)
    report.sign()
    report.write(path)
    _print_result(report, path, console)
    return options.out


def inputs_of(options: SynthesizeOptions) -> list[tuple[str, Path | None]]:
    """Return the files that a command, or a row of a list, reads, by the options that name them."""
    return [
        ("--ref", options.ref),
        ("--text-file", options.text_file),
        ("--lexicon", options.lexicon),
    ]


def check_credentials(options: SynthesizeOptions) -> None:
    """Raise ConfigError where credentials are asked for and cannot be given."""
    if options.credentials is None:
        return
    if options.stream:
        raise ConfigError("--c2pa-cert: a file is signed when it is whole; leave out --stream")
    options.credentials.signer()


def load_model(options: SynthesizeOptions, console: Console) -> TTS:
    """Load the model and print which one it is."""
    options.sampling.check()
    check_loudness(options.loudness)
    tts = load_tts(options.model, select_device(options.device)).in_language(options.language)
    console.print(
        f"Model [bold]{escape(tts.identity['path'])}[/] ({tts.short_description}) on {describe_device(tts.device)}; "
        f"durations: {_duration_rule(tts, options.sampling)}"
    )
    return tts


def open_lexicon(options: SynthesizeOptions) -> Lexicon | None:
    """Return the reader's own pronunciations, where there are any. Raises as `Lexicon.read`."""
    return None if options.lexicon is None else Lexicon.read(options.lexicon)


def open_prompt(
    options: SynthesizeOptions, tts: TTS, console: Console, lexicon: Lexicon | None
) -> OpenedPrompt:
    """Return the voice that the options name.

    Raises:
        ConfigError: no such saved voice; none is named, and the model has none of its own.
        DataError: the recording is unusable.
    """
    if options.voice is not None:
        return load_voice(options.voice, tts, console)
    if options.ref is None:
        return own_voice(tts, console)
    return open_reference(
        tts,
        options.ref,
        options.ref_text,
        asr=options.asr,
        console=console,
        language=options.language,
        lexicon=lexicon,
    )


def open_leveller(options: SynthesizeOptions, opened: OpenedPrompt, tts: TTS) -> Leveller:
    """Return what decides the loudness of one file."""
    reference = measure(opened.waveform.reshape(-1), tts.sample_rate)
    return Leveller(options.loudness, reference, tts.sample_rate)


def open_verifier(options: SynthesizeOptions, tts: TTS) -> Verifier | None:
    """Return what listens to each chunk, where that is asked for. Raises as `load_asr`."""
    if not options.verify:
        return None
    return Verifier(load_asr(options.asr, str(tts.device)), options.verify, options.verify_wer)


def open_word_times(
    options: SynthesizeOptions, tts: TTS, opened: OpenedPrompt, ctc: CTC | None = None
) -> WordTimes | None:
    """Return what times the words of one file, where subtitles are asked for; `ctc`: see `open_ctc`."""
    if options.subtitles is None:
        return None
    return WordTimes(tts, opened.prompt, ctc, options.language)


def open_ctc(options: SynthesizeOptions, tts: TTS) -> CTC | None:
    """Return the recogniser that aligns words with speech: --asr where it is one of CTC. Raises as `load_asr`."""
    if options.subtitles is None or not options.asr.startswith("ctc:"):
        return None
    return CTC(options.asr.removeprefix("ctc:"), tts.device)


def sentences_of(
    text: str, tts: TTS, options: SynthesizeOptions, console: Console, lexicon: Lexicon | None
) -> list[Sentence]:
    """Return a text's sentences as they are spoken.

    Prints how every sentence is spoken (`verbose`), and which characters were changed or left out.
    """
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
        lexicon=lexicon,
    )
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]", highlight=False)
    return sentences


def show_progress(
    chunks: Iterable[SpokenChunk], sentences: Sequence[str], console: Console
) -> Iterator[SpokenChunk]:
    """Pass chunks on, with a bar of the characters that are spoken."""
    columns = (TextColumn("Speaking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=len(sentences) < 2
    ) as progress:
        task = progress.add_task("", total=len(" ".join(sentences)))
        for chunk in chunks:
            progress.advance(task, len(chunk.report.text))
            yield chunk


# ----------------------------------------------------------------------------------------------- report


@dataclass(frozen=True)
class SpeechReport:
    """How a file of speech was made."""

    options: SynthesizeOptions
    tts: TTS
    opened: OpenedPrompt
    written: WrittenSpeech
    started: float
    """When the command, or the row of a list, began, by `time.perf_counter`."""
    times: WordTimes | None = None
    """When each word is spoken, where that is asked for."""

    def sign(self) -> None:
        """Write credentials into the audio, where they are asked for."""
        if self.options.credentials is not None:
            made_by = mark(self.tts.identity, self.options.sampling.seed, self.opened.description)
            sign(self.options.out, self.options.credentials, made_by)

    def write(self, path: Path, more: Mapping[str, Any] | None = None) -> None:
        """Write the JSON beside the audio, with `more` before its own fields, and the subtitles, where they are asked for."""
        # First what says that the subtitles are ours, whatever comes between.
        write_report(path, {**(more or {}), **self.to_json()})
        if self.times is not None and self.options.subtitles is not None:
            write_subtitles(self.options.out, self.options.subtitles, self.times)

    @property
    def sampling(self) -> Sampling:
        """The settings, with the model's own numbers filled in."""
        return self.tts.resolve(self.options.sampling)

    @property
    def first_audio_seconds(self) -> float:
        """From the start to the first written piece."""
        return self.written.first_audio_at - self.started

    @property
    def seconds_by_stage(self) -> dict[str, float]:
        """Wall-clock seconds of `encode`, `sample` and `decode`, of all chunks together."""
        stages = {"encode": self.opened.encode_seconds}
        for chunk in self.written.chunks:
            for stage, seconds in chunk.seconds_by_stage.items():
                stages[stage] = stages.get(stage, 0.0) + seconds
        return stages

    @property
    def real_time_factors(self) -> dict[str, float]:
        """Seconds of computing per second of new speech: by stage, and `total`.

        Raises:
            DataError: nothing was spoken.
        """
        if not self.written.seconds:
            raise DataError(f"{self.options.out}: nothing to say; the text gave no speech")
        factors = {
            stage: seconds / self.written.seconds
            for stage, seconds in self.seconds_by_stage.items()
        }
        return {**factors, "total": sum(factors.values())}

    @property
    def warnings(self) -> list[str]:
        """What may be wrong with the speech, and what to do."""
        unsure = self.times.note if self.times is not None else None
        return [*self._hurried(), *([] if unsure is None else [unsure])]

    def _hurried(self) -> list[str]:
        hurried = [chunk for chunk in self.written.chunks if chunk.least_seconds]
        if not hurried:
            return []
        worst = max(hurried, key=lambda chunk: chunk.least_seconds / chunk.generated_seconds)
        needed = worst.least_seconds / worst.generated_seconds
        asked = self.sampling.duration_seconds
        advice = (
            f"--speed {math.floor(20 * self.sampling.speed / needed) / 20:g} or less"
            if asked is None
            else f"--duration {math.ceil(10 * asked * needed) / 10:g} or more"
        )
        return [
            f"{len(hurried)} of {len(self.written.chunks)} chunk(s) have less time than their phones need at least, and "
            f"words may be lost: {worst.generated_seconds:.2f} of {worst.least_seconds:.2f} s for "
            f"{without_phones(worst.text)[:60]!r}. Use {advice}"
        ]

    def _subtitles(self) -> dict[str, Any]:
        if self.times is None or self.options.subtitles is None:
            return {}
        path = subtitles_path(self.options.out, self.options.subtitles)
        return {"subtitles": path.name, "word_times_from": self.times.sources}

    def to_json(self) -> dict[str, Any]:
        """Return what the JSON beside the audio holds."""
        return {
            "model": self.tts.identity,
            **self.opened.description,
            "audio": self.options.out.name,
            **self.sampling.settings,
            "duration_rule": _duration_rule(self.tts, self.options.sampling),
            "language": self.options.language,
            "text": without_phones(" ".join(chunk.text for chunk in self.written.chunks)),
            "prompt_text": self.opened.prompt.text.rstrip(),
            "prompt_seconds": self.opened.prompt.seconds,
            "loudness": self.written.loudness,
            "warnings": self.warnings,
            "sample_rate": self.tts.sample_rate,
            "generated_seconds": self.written.seconds,
            "first_audio_seconds": self.first_audio_seconds,
            "seconds_by_stage": self.seconds_by_stage,
            "real_time_factors": self.real_time_factors,
            **self._subtitles(),
            "signed": self.options.credentials is not None,
            "chunks": [chunk.to_json() for chunk in self.written.chunks],
            "environment": environment(self.tts.device),
        }


def _duration_rule(tts: TTS, sampling: Sampling) -> str:
    return "given" if sampling.duration_seconds is not None else tts.duration_rule(sampling)


def _describe_loudness(done: dict[str, Any]) -> str:
    if done["target_lufs"] is None:
        return "Loudness: as the reference"
    limited = done["limited_chunks"]
    rest = f"; {limited} chunk(s) less, so as not to clip" if limited else ""
    return f"Loudness: {done['target_lufs']:g} LUFS (gain {done['gain_db']:+.1f} dB){rest}"


def _print_result(report: SpeechReport, path: Path, console: Console) -> None:
    options = report.options
    sampling = report.sampling
    chunks = report.written.chunks
    console.print(
        f"Reference {report.opened.prompt.seconds:.2f} s, new speech {report.written.seconds:.2f} s in {len(chunks)} "
        f"chunk(s), {sampling.words(report.tts.identity)}, "
        f"{sampling.precision}, seed {sampling.seed}"
    )
    first = f"; first audio after {report.first_audio_seconds:.1f} s" if options.stream else ""
    factors = report.real_time_factors.items()
    stages = ", ".join(f"{stage} {factor:.2f}" for stage, factor in factors)
    console.print(f"Real-time factor: {stages}{first}")
    console.print(_describe_loudness(report.written.loudness))
    for warning in report.warnings:
        console.print(f"[yellow]{escape(warning)}.[/]", highlight=False)
    for chunk in chunks:
        if not chunk.attempts:
            continue
        best = min(chunk.attempts, key=lambda attempt: attempt.wer)
        understood = best.wer <= options.verify_wer
        if understood and len(chunk.attempts) == 1:
            continue
        console.print(
            f"[yellow]{'Understood' if understood else 'Not understood'} after {len(chunk.attempts)} attempt(s), "
            f"kept seed {best.seed} (WER {best.wer:.2f}): {escape(without_phones(chunk.text))} (heard: {escape(best.heard)})[/]"
        )
    if report.times is not None and options.subtitles is not None:
        how = ", ".join(f"{source} {count}" for source, count in report.times.sources.items())
        console.print(
            f"Subtitles in {escape(str(subtitles_path(options.out, options.subtitles)))} (times of words from: {how})",
            highlight=False,
        )
    console.print(f"Speech in [bold]{escape(str(options.out))}[/], details in {escape(str(path))}")
    console.print(
        f"Next: svae evaluate --model {escape(str(options.model))} --list LIST.jsonl",
        highlight=False,
        soft_wrap=True,
    )
