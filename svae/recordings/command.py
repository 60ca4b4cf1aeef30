"""`svae prepare recordings`: find, cut, recognise, match, filter, and write shards of what is left, with a page of everything."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from torch import Tensor

from svae.audio import SPEECH_RATE, resample
from svae.data.prepare import prepare
from svae.data.prepare_plan import (
    PrepareOptions,
    PrepareReport,
    Rejection,
    check_options,
    number_of_shards,
)
from svae.errors import ConfigError, DataError
from svae.judges.asr import Recognizer, load_asr
from svae.judges.distillmos import DISTILLMOS, DistillMOS
from svae.recordings.filters import LETTERS_A_SECOND, Judged, Limits, reasons
from svae.recordings.find import Found, find_recordings
from svae.recordings.given import check_given
from svae.recordings.match import agreement, deal_text, in_words, tokens
from svae.recordings.page import write_page
from svae.recordings.review import (
    Decision,
    Entry,
    check_keys,
    in_force,
    read_review,
    write_review,
)
from svae.recordings.segments import (
    CutRecording,
    Cutting,
    Question,
    Segment,
    ask,
    audio_name,
    check_same,
    cut_all,
)
from svae.recordings.speech import SileroVAD
from svae.runtime.distributed import describe_device, select_device
from svae.runtime.files import check_writable, folder_lock, remove_leftovers, write_text
from svae.runtime.remote import is_url, place_of
from svae.text.languages import base_language, check_code
from svae.text.phone_aligner import AlignmentError, PhoneAligner
from svae.text.vocabulary import normalize_text

NO_ASR = "none"
WEAK_ASR = "pocketsphinx"
WEAK_AGREEMENT = 0.4
"""PocketSphinx hears less than that of many a text that is right, and sometimes 0.3 of one that is not."""
LIST = Path("segments") / "list.jsonl"
"""In the folder of shards: what is in them, as `svae prepare jsonl` reads it."""
GPU_BATCH = 16
LONGEST = 3600.0
"""Seconds; what the filters and a person let pass is not measured again."""


@dataclass(frozen=True, kw_only=True)
class RecordingsOptions:
    """Options of `svae prepare recordings`."""

    root: Path
    out: Path = Path("data/shards/recordings")
    speaker: str | None = None
    """Who speaks in all recordings. None: the folder below `root` in which each lies."""
    asr: str = WEAK_ASR
    """As `load_asr` takes it, or `none`."""
    language: str = "en"
    """In any form: en, en-US, eng, English."""
    device: str = "auto"
    limits: Limits = field(default_factory=Limits)
    min_agreement: float | None = None
    """None: by the recogniser."""
    review: Path | None = None
    sample_rate: int = 16000
    shards: int | None = None
    workers: int | None = None
    validation: float = 0.05
    spell_out: bool = False
    """As in `PrepareOptions`; what is looked through stays as it was written."""


def prepare_recordings(options: RecordingsOptions, console: Console | None = None) -> PrepareReport:
    """Turn a folder of recordings into shards, or finish or renew what an earlier run made of it.

    Raises:
        ConfigError: silero-vad or the recogniser cannot be loaded.
        DataError: nothing is there, a text beside a recording or the review is damaged, the folder holds something else,
            or not a single segment is left.
    """
    console = console if console is not None else Console(stderr=True)
    options = replace(options, language=check_code(options.language, "--language"))
    _check_places(options)
    check_options(_of_list(options))
    limits = _limits(options)
    found = _listed(options)
    given = {} if options.review is None else read_review(options.review)
    for note in found.notes:
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    detector = SileroVAD()
    device = select_device(options.device)
    recognizer = _recognizer(options, found, str(device))
    mos = None if limits.min_distillmos is None else DistillMOS(device)
    by = None if recognizer is None else recognizer.description
    _announce(options, detector.description, recognizer, describe_device(device), console)
    folder = options.out / "segments"
    settings = {
        "sample_rate": options.sample_rate,
        "max_seconds": limits.max_seconds,
        "language": options.language,
        "asr": options.asr,
    }
    check_same(folder, settings)
    with folder_lock(folder):
        remove_leftovers(folder)
        how = Cutting(
            folder, options.sample_rate, limits.max_seconds, SileroVAD, detector.description
        )
        cut = cut_all(found.recordings, how, workers=options.workers, console=console)
        batch_size = GPU_BATCH if device.type == "cuda" else 1
        judge = _Judges(folder, console, recognizer, mos, batch_size, options.language)
        stored = options.out / "review.json"
        earlier = read_review(stored) if stored.is_file() else {}
        review = _review(options, earlier, given, cut, console)
        judged = judge.all(cut, review)
        entries = [
            Entry(each, reasons(each, limits), review.get(each.segment.key, Decision()))
            for each in judged
        ]
        for entry in entries:
            if entry.used and not entry.judged.text:
                raise DataError(
                    f"{options.review or stored}, segment {entry.segment.key!r}: is to be used, but nothing was recognised in it. Expected its "
                    "`text` too."
                )
        if (all_of_it := {**earlier, **given, **review}) != earlier:
            write_text(stored, write_review(all_of_it))
        made_with = {
            "vad": detector.description,
            "asr": by,
            "limits": asdict(limits),
            "texts": dict(Counter(entry.judged.text_from for entry in entries if entry.used)),
            "review": {
                "edited": sum(each.text is not None for each in review.values()),
                "used": sum(each.use is True for each in review.values()),
                "rejected": sum(each.use is False for each in review.values()),
            },
        }
        if mos is not None:
            made_with["distillmos"] = mos.description
        write_page(options.out / "review.html", entries, cut, made_with)
        return _shards(options, entries, cut, made_with, console)


# ----------------------------------------------------------------------------------------------- before anything is read


def _check_places(options: RecordingsOptions) -> None:
    """Refuse URLs, with what to do instead, and a folder that cannot be written."""
    if is_url(options.root):
        raise ConfigError(
            f"--root {place_of(options.root)}: recordings are read from a folder on this machine. Copy them here first."
        )
    if is_url(options.out):
        raise ConfigError(
            f"--out {place_of(options.out)}: has to be a folder on this machine, where segments and review.html are looked "
            f"through. From there: svae prepare jsonl --root FOLDER/{LIST} --out {place_of(options.out)}"
        )
    check_writable(options.out, option="--out")


def _of_list(options: RecordingsOptions) -> PrepareOptions:
    """Return how shards are made of the list of what is used."""
    return PrepareOptions(
        corpus="jsonl",
        root=options.out / LIST,
        out=options.out,
        sample_rate=options.sample_rate,
        shards=options.shards,
        workers=options.workers,
        validation=options.validation,
        min_seconds=0.0,
        max_seconds=LONGEST,
        spell_out=options.spell_out,
    )


def _limits(options: RecordingsOptions) -> Limits:
    limits = options.limits
    weak = options.asr == WEAK_ASR
    least = options.min_agreement
    if least is None:
        least = WEAK_AGREEMENT if weak else limits.min_agreement
    limits = Limits(**{**asdict(limits), "min_agreement": least})
    if not 0 <= limits.min_seconds < limits.max_seconds or not 1 <= limits.max_seconds <= 60:
        raise DataError(
            f"--min-seconds {limits.min_seconds:g}, --max-seconds {limits.max_seconds:g}: expected at least 0, and for the "
            "longest more than that and 1 to 60 s"
        )
    return limits


def _listed(options: RecordingsOptions) -> Found:
    """List the recordings and read all texts beside them, so that what is wrong with one is said at once."""
    root, out = options.root.absolute(), options.out.absolute()
    if root.is_relative_to(out):
        raise DataError(
            f"--out {options.out}: holds --root {options.root}. Choose a folder that is not above the recordings."
        )
    found = find_recordings(options.root, options.out, options.speaker)
    problems = []
    for recording in found.recordings:
        if recording.text is not None:
            try:
                check_given(recording.text, recording.path, recording.source)
            except DataError as error:
                problems.append(str(error))
    if problems:
        more = f"\n  … and {len(problems) - 3} more texts" if len(problems) > 3 else ""
        raise DataError("\n".join(problems[:3]) + more)
    return found


def _recognizer(options: RecordingsOptions, found: Found, device: str) -> Recognizer | None:
    if options.asr == NO_ASR:
        silent = [each.source for each in found.recordings if each.text is None]
        if silent:
            raise ConfigError(
                f"--asr none: {len(silent)} of {len(found.recordings)} recordings have no text beside them, first "
                f"{silent[0]}. Write NAME.txt, NAME.srt or NAME.vtt, or choose a recogniser with --asr."
            )
        return None
    language = base_language(options.language) or options.language
    if options.asr == WEAK_ASR and language != "en":
        raise ConfigError(
            f"--asr {WEAK_ASR} --language {options.language}: it knows English only; use --asr whisper:ID_OR_FOLDER"
        )
    if options.asr.partition(":")[0].startswith(("whisper", "faster-whisper")):
        from transformers.models.whisper.tokenization_whisper import LANGUAGES

        if language not in LANGUAGES:
            raise ConfigError(
                f"--language {options.language}: not one of Whisper's: {' '.join(sorted(LANGUAGES))}"
            )
    batch_size = GPU_BATCH if device.startswith("cuda") else 1
    return load_asr(options.asr, device, language=language, batch_size=batch_size)


def _announce(
    options: RecordingsOptions,
    vad: Mapping[str, Any],
    recognizer: Recognizer | None,
    device: str,
    console: Console,
) -> None:
    heard_by = "no recogniser" if recognizer is None else f"{options.asr} on {device}"
    console.print(
        f"Speech is found by {vad['vad']} {vad['version']}, words by {escape(heard_by)}.",
        highlight=False,
    )
    if options.asr == WEAK_ASR:
        console.print(
            "[yellow]pocketsphinx hears most words of many voices wrongly (docs/prepare-recordings.md): good for texts "
            "beside recordings, clear ones; else use --asr whisper:ID_OR_FOLDER.[/]",
            highlight=False,
        )


def _review(
    options: RecordingsOptions,
    earlier: Mapping[str, Decision],
    given: Mapping[str, Decision],
    cut: Sequence[CutRecording],
    console: Console,
) -> dict[str, Decision]:
    """Return what is in force of all that was decided: what is given now replaces what was said of the same segments."""
    segments = [segment for each in cut for segment in each.segments]
    if options.review is not None:
        check_keys(given, [*(segment.key for segment in segments), *earlier], options.review)
    found: dict[str, Decision] = {}
    others: set[str] = set()
    for review in (earlier, given):
        valid = in_force(review, segments)
        others |= review.keys() - valid.keys()
        found |= valid
    if others:
        console.print(
            f"[yellow]note:[/] {len(others)} reviewed segments are not there, or of other audio than was reviewed; what was "
            f"decided about them is kept, not used: {escape(', '.join(sorted(others)[:5]))}"
            f"{' …' if len(others) > 5 else ''}.",
            highlight=False,
            soft_wrap=True,
        )
    return found


# ----------------------------------------------------------------------------------------------- words


@dataclass(frozen=True)
class _Judges:
    """Who is asked about segments."""

    folder: Path
    console: Console
    recognizer: Recognizer | None
    mos: DistillMOS | None
    batch_size: int
    language: str

    def all(self, cut: Sequence[CutRecording], review: Mapping[str, Decision]) -> list[Judged]:
        """Return all segments, in order, with their words and what judges say."""
        segments = [segment for each in cut for segment in each.segments]
        heard = self._heard(segments)
        texts = _texts(cut, heard, self.language)
        for key, decision in review.items():
            if decision.text is not None:
                texts[key] = (decision.text, "review")
        spoken = {
            key: in_words(text, self.language)
            for key, (text, origin) in texts.items()
            if text and origin != "review"
        }
        fits = self._fits(segments, spoken) if base_language(self.language) == "en" else {}
        scores = self._scores(segments)
        judged = []
        for segment in segments:
            text, origin = texts[segment.key]
            fit = fits.get(segment.key)
            compared = origin not in ("heard", "review") and text and segment.key in heard
            judged.append(
                Judged(
                    segment,
                    text,
                    origin,
                    heard.get(segment.key),
                    agreement(text or "", heard[segment.key], self.language) if compared else None,
                    fit if isinstance(fit, float) else None,
                    fit if isinstance(fit, str) else None,
                    scores.get(segment.key),
                    spoken.get(segment.key),
                )
            )
        return judged

    def _heard(self, segments: Sequence[Segment]) -> dict[str, str]:
        if self.recognizer is None:
            return {}
        recognizer = self.recognizer

        def answer(_: Sequence[Segment], clips: Sequence[Tensor], rate: int) -> list[str]:
            return [normalize_text(text) for text in recognizer.transcribe(clips, rate)]

        question = Question("Recognising", recognizer.description, answer, self.batch_size)
        return ask(segments, question, self.folder, console=self.console)

    def _fits(
        self, segments: Sequence[Segment], about: Mapping[str, str]
    ) -> dict[str, float | str]:
        """Return how well each text, as it is spoken, fits its sound, or why it does not."""
        aligner = PhoneAligner()

        def answer(batch: Sequence[Segment], clips: Sequence[Tensor], rate: int) -> list[Any]:
            answers: list[float | str] = []
            for segment, clip in zip(batch, clips, strict=True):
                speech = resample(clip, rate, SPEECH_RATE)
                try:
                    answers.append(round(aligner.fit(speech, about[segment.key]), 2))
                except AlignmentError as error:
                    answers.append(str(error))
            return answers

        asked = [segment for segment in segments if tokens(about.get(segment.key, ""))]
        question = Question("Aligning", {"aligner": "pocketsphinx"}, answer, about=about)
        return ask(asked, question, self.folder, console=self.console)

    def _scores(self, segments: Sequence[Segment]) -> dict[str, float]:
        if self.mos is None:
            return {}
        mos = self.mos

        def answer(_: Sequence[Segment], clips: Sequence[Tensor], rate: int) -> list[float]:
            at_rate = [resample(clip, rate, SPEECH_RATE) for clip in clips]
            return [round(score[DISTILLMOS], 3) for score in mos.predict(at_rate)]

        question = Question("Scoring", mos.description, answer)
        return ask(segments, question, self.folder, console=self.console)


def _texts(
    cut: Sequence[CutRecording], heard: Mapping[str, str], language: str
) -> dict[str, tuple[str | None, str]]:
    """Return key → what is said, by the text beside the recording, else by the recogniser, and which of them."""
    texts: dict[str, tuple[str | None, str]] = {}
    for each in cut:
        if each.text is not None and each.segments:
            if _is_all_of(each.text, each.segments):
                texts[each.segments[0].key] = (each.text, "text")
                continue
            if not heard:
                raise ConfigError(
                    f"--asr none: {each.recording.source} has {len(each.segments)} segments, and {each.recording.text} no times: a "
                    "recogniser must find which words are said where. Choose one with --asr."
                )
            answers = [heard[segment.key] for segment in each.segments]
            parts = deal_text(each.text, answers, language)
            for segment, part in zip(each.segments, parts, strict=True):
                texts[segment.key] = (part, "text")
            continue
        timed = each.recording.text is not None and each.recording.text.suffix.lower() != ".txt"
        for segment in each.segments:
            if segment.given is not None:
                texts[segment.key] = (segment.given, "subtitles" if timed else "text")
            else:
                texts[segment.key] = (heard[segment.key], "heard")
    return texts


def _is_all_of(text: str, segments: Sequence[Segment]) -> bool:
    """Tell whether a text can be said in a recording that is one segment; if not, it holds more than that."""
    most = LETTERS_A_SECOND[1] * segments[0].speech_seconds
    return len(segments) == 1 and len("".join(tokens(text))) <= most


# ----------------------------------------------------------------------------------------------- shards


def _shards(
    options: RecordingsOptions,
    entries: Sequence[Entry],
    cut: Sequence[CutRecording],
    made_with: dict[str, Any],
    console: Console,
) -> PrepareReport:
    """Write the list of what is used, then shards of it; those of another list are made anew."""
    out, page = options.out, options.out / "review.html"
    rejections = [
        Rejection(each.recording.key, each.recording.source, *each.problem)
        for each in cut
        if each.problem is not None
    ]
    rejections += [
        Rejection(each.recording.key, each.recording.source, "no speech", "nobody speaks in it")
        for each in cut
        if each.problem is None and not each.segments
    ]
    rejections += [_rejection(entry) for entry in entries if not entry.used]
    unsaid = sum(each.unsaid for each in cut)
    if unsaid >= 1:
        console.print(
            f"[yellow]note:[/] {unsaid:.0f} s of speech are in no subtitle and not used.",
            highlight=False,
        )
    used = [entry for entry in entries if entry.used]
    if not used:
        counts = Counter(rejection.reason for rejection in rejections)
        shown = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        raise DataError(
            f"{options.root}: nothing is left of {len(cut)} recordings: {shown}. Listen to them with their reasons in {page}"
        )
    rows = [
        {
            "audio": audio_name(entry.segment.key),
            "text": entry.judged.text,
            "speaker": entry.segment.speaker,
            "language": options.language,
        }
        for entry in used
    ]
    number_of_shards(_of_list(options), len(used))  # before those of earlier are removed
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    extra = {"corpus": "recordings", "recordings": made_with}
    audio = [entry.segment.audio for entry in used]
    stamp = _stamp(content, audio, rejections, extra, options)
    stamped = out / "segments" / "shards.sha256"
    if not stamped.is_file() or stamped.read_text(encoding="utf-8") != stamp:
        if (out / "plan.json").is_file():
            console.print(
                f"{out}: other recordings, texts, limits or options than before, or an older svae: its shards are made anew.",
                highlight=False,
                soft_wrap=True,
            )
        _remove_shards(out)
        write_text(out / LIST, content)
        write_text(stamped, stamp)
    report = prepare(_of_list(options), console, rejections=rejections, extra=extra)
    console.print(
        f"Listen, correct texts, reject: {page}; what it saves comes back with --review FILE",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return report


def _rejection(entry: Entry) -> Rejection:
    segment = entry.segment
    source = f"{segment.source} from {segment.start:.3f} s to {segment.end:.3f} s"
    if entry.decision.use is False:
        return Rejection(segment.key, source, "by review", "")
    detail = "; ".join(f"{reason}: {detail}" for reason, detail in entry.reasons)
    return Rejection(segment.key, source, entry.reasons[0][0], detail)


def _stamp(
    content: str,
    audio: Sequence[str],
    rejections: Sequence[Rejection],
    extra: Mapping[str, Any],
    options: RecordingsOptions,
) -> str:
    """Return a hash of everything that decides the shards."""
    decides = [
        content,
        audio,
        [asdict(rejection) for rejection in rejections],
        extra,
        [options.sample_rate, options.shards, options.validation, options.spell_out],
    ]
    data = json.dumps(decides, ensure_ascii=False, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest() + "\n"


def _remove_shards(out: Path) -> None:
    """Remove the shards of another list; the index first, without which none of them counts as there."""
    for path in (
        out / "index.json",
        out / "plan.json",
        out / "rejected.jsonl",
        *out.glob("shard-*"),
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(out / ".rejected", ignore_errors=True)
