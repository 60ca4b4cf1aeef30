"""What `svae prepare` will do, fixed before any audio is read: which utterance goes into which shard, in which order.

The plan depends on the corpus' list and the options alone. It lies in the output folder as plan.json from the start,
so that a later run knows whether the shards that it finds there are its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from svae.audio import audio_seconds
from svae.data.corpora import find_corpus, list_utterances
from svae.data.corpora.corpus import Utterance
from svae.data.excerpt import segment_problem
from svae.errors import DataError
from svae.frames import ceil_div
from svae.runtime.files import LOCK_NAME, folder_lock, remove_leftovers, write_text
from svae.runtime.ray_jobs import RayOptions
from svae.runtime.remote import is_url, place_of
from svae.text.languages import language_code
from svae.text.vocabulary import normalize_text

FORMAT = 1
UTTERANCES_PER_SHARD = 500
"""Aimed at where the number of shards is not given: about an hour of speech, 50 to 100 MB."""
MIN_SHARDS, MAX_SHARDS = 8, 1024
MAX_VALIDATION = 256
BESIDE = ("segments", "review.html", "review.json")
"""What `svae prepare recordings` keeps in the folder of its shards."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Options of `svae prepare`."""

    corpus: str
    """One of `svae.data.corpora.CORPORA`."""
    root: Path | None = None
    """Where the corpus is. None: the corpus' own default, e.g. data/LibriTTS."""
    out: Path | None = None
    """Where the shards go. None: data/shards/CORPUS."""
    subsets: tuple[str, ...] = ()
    """LibriTTS, LibriSpeech: which. Empty: all train-* subsets, or all where there is none."""
    sample_rate: int = 16000
    """Hz; everything is resampled to it."""
    shards: int | None = None
    """Number of tar files. None: one for about 500 utterances, at least 8 where there are that many utterances."""
    workers: int | None = None
    """Processes. None: one per core. Does not change the result."""
    ray: RayOptions | None = None
    """A cluster that does the work. Nor does this."""
    validation: float = 0.05
    """Share of utterances held out of training; at most 256, at least 1 where there are 4. 0 holds out none."""
    min_seconds: float = 0.3
    """Shorter utterances are rejected."""
    max_seconds: float = 35.0
    """Longer ones too."""
    language: str | None = None
    """Of utterances whose corpus does not say it. None: `unknown`."""
    spell_out: bool = False
    """Store numbers, abbreviations and signs as words, by the rules of the utterance's language where there are any."""
    require_text: bool | None = None
    """Whether utterances without text are rejected. None: yes, unless the corpus has not a single transcript: then
    all are kept without text, which is enough for train-vae."""


@dataclass(frozen=True)
class Rejection:
    """An utterance that is left out."""

    key: str
    path: str
    reason: str
    """missing, unreadable, empty, non-finite, silent, too short, too long, beyond the end or without text."""
    detail: str


@dataclass(frozen=True)
class PrepareReport:
    """What a run of `prepare` did."""

    out: Path
    utterances: int
    seconds: float
    speakers: int
    shards: int
    shards_made: int
    """By this run; the others were finished before."""
    validation: int
    rejected: dict[str, int]
    """Utterances left out, by reason."""


@dataclass(frozen=True)
class PreparePlan:
    """Everything that is decided before reading audio."""

    root: Path
    out: Path
    options: PrepareOptions
    shards: list[list[Utterance]]
    """Utterances of each shard in order, texts normalised ("" where there is none)."""
    raw_texts: dict[str, str]
    """Key → text as the corpus has it, where normalising changed it."""
    rejections: list[Rejection]
    """What is known to be unusable without reading audio."""
    transcripts: bool
    """False: the corpus has no text at all and is prepared without."""
    notes: list[str]
    """What of the corpus is not used, for printing."""
    identity: dict[str, Any]
    """Content of plan.json."""


def make_plan(options: PrepareOptions) -> PreparePlan:
    """List the corpus and deal its utterances to shards.

    Raises:
        DataError: impossible options, no such corpus, or more shards asked for than there are utterances.
    """
    root, out = _folders(options)
    check_options(options)
    utterances = list_utterances(options.corpus, root, options.subsets)
    if options.language is not None:
        utterances = [
            replace(u, language=options.language) if language_code(u.language) is None else u
            for u in utterances
        ]
    transcripts = any(utterance.text is not None for utterance in utterances)
    require_text = transcripts if options.require_text is None else options.require_text
    sizes = _sizes(utterances)
    _check_segments([u for u in utterances if u.is_segment and sizes[u.key] > 0])
    accepted: list[Utterance] = []
    raw_texts: dict[str, str] = {}
    rejections: list[Rejection] = []
    for utterance in utterances:
        text = normalize_text(utterance.text or "")
        problem = None
        if sizes[utterance.key] < 0:
            problem = ("missing", _absence(utterance.audio))
        elif sizes[utterance.key] == 0:
            problem = ("empty", "the file has 0 bytes")
        elif require_text and not text:
            problem = ("without text", "no or empty transcript")
        if problem is not None:
            rejections.append(Rejection(utterance.key, utterance.source, *problem))
            continue
        if utterance.text is not None and utterance.text != text:
            raw_texts[utterance.key] = utterance.text
        accepted.append(replace(utterance, text=text))
    number = number_of_shards(options, len(accepted)) if accepted else 0
    shards = assign(accepted, _loads(accepted, sizes), number) if accepted else []
    return PreparePlan(
        root=root,
        out=out,
        options=options,
        shards=shards,
        raw_texts=raw_texts,
        rejections=rejections,
        transcripts=transcripts,
        notes=_unused_fields(utterances),
        identity=_identity(options, require_text, utterances, sizes, len(shards)),
    )


def assign(
    utterances: Sequence[Utterance], sizes: dict[str, int], number: int
) -> list[list[Utterance]]:
    """Deal utterances to shards, balanced in count (within 1) and in bytes of audio (about the longest utterance).

    Bytes stand for seconds: exact for uncompressed files of one corpus, close for compressed ones, and known without
    opening any. What is rejected later, when the audio is read, is missing from its shard.

    Args:
        utterances: what to deal.
        sizes: key → bytes.
        number: of shards.

    Returns:
        The shards; inside each, in the order of a hash of the key, which mixes speakers and chapters.
    """
    shards: list[list[Utterance]] = [[] for _ in range(number)]
    loads = [0] * number
    ordered = sorted(utterances, key=lambda u: (-sizes[u.key], u.key))
    # Each round gives every shard one utterance, the longest to the one that has least.
    for first in range(0, len(ordered), number):
        emptiest = sorted(range(number), key=lambda shard: (loads[shard], shard))
        for utterance, shard in zip(ordered[first : first + number], emptiest, strict=False):
            shards[shard].append(utterance)
            loads[shard] += sizes[utterance.key]
    return [sorted(shard, key=lambda u: _hash("order", u.key)) for shard in shards]


def choose_validation(keys: Iterable[str], share: float) -> list[str]:
    """Choose the utterances to hold out: those whose keys have the smallest hashes, in that order."""
    ordered = sorted(keys, key=lambda key: _hash("validation", key))
    if share <= 0:
        return []
    wanted = max(round(share * len(ordered)), 1 if len(ordered) >= 4 else 0)
    return ordered[: max(min(wanted, MAX_VALIDATION, len(ordered) - 1), 0)]


@contextmanager
def enter_folder(out: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Make the output folder and leave plan.json there, or check that the one there is the same; keep others out meanwhile.

    Args:
        out: the folder.
        identity: content of plan.json: everything that decides the shards' bytes.

    Raises:
        DataError: the folder holds shards of something else, or cannot be written.
        ConfigError: another process works there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    # Where all is done there is nothing to keep others from, and the folder may be one that only reads.
    with nullcontext() if (out / "index.json").exists() else folder_lock(out):
        _claim(out, identity)
        yield


def _claim(out: Path, identity: dict[str, Any]) -> None:
    path = out / "plan.json"
    advice = f"Choose another --out, or delete {out} and run again."
    try:
        if path.exists():
            changes = _differences(json.loads(path.read_text(encoding="utf-8")), identity)
            if changes:
                raise DataError(
                    f"{out}: was begun with other options: {'; '.join(changes)}.\n{advice}"
                )
        elif any(out.glob("shard-*")) or (out / "index.json").exists():
            raise DataError(
                f"{out}: holds shards that `svae prepare` did not begin (no plan.json).\n{advice}"
            )
        elif foreign := sorted(
            {entry.name for entry in out.iterdir()}
            - {"rejected.jsonl", ".rejected", LOCK_NAME, *BESIDE}
        ):
            raise DataError(
                f"{out}: holds {', '.join(foreign[:3])}, not by `svae prepare`. Choose another --out."
            )
        else:
            write_text(path, json.dumps(identity, indent=1) + "\n")
        remove_leftovers(out)
        remove_leftovers(out / ".rejected")
    except OSError as error:
        raise _unwritable(out, error) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}).\n{advice}") from error


def _unwritable(out: Path, error: OSError) -> DataError:
    return DataError(
        f"{out}: cannot be written ({error.strerror or error}). Choose another --out or make room."
    )


def _folders(options: PrepareOptions) -> tuple[Path, Path]:
    out = Path(options.out) if options.out is not None else Path("data/shards") / options.corpus
    if options.root is not None:
        if is_url(options.root):
            raise DataError(
                f"--root {place_of(options.root)}: a corpus is read from a folder on this machine. Copy it here; tars of "
                "recordings and texts in a bucket are read by `svae prepare webdataset URL`."
            )
        return Path(options.root), out
    folder = find_corpus(options.corpus).folder
    if folder is None:
        raise DataError(
            f"svae prepare {options.corpus}: --root is missing. Give the .jsonl file, or the folder it is in."
        )
    return folder, out


def check_options(options: PrepareOptions) -> None:
    """Raise DataError where numbers are impossible, all of them at once."""
    problems = []
    if options.sample_rate < 1:
        problems.append(f"--sample-rate {options.sample_rate}: expected Hz, e.g. 16000")
    if options.shards is not None and options.shards < 1:
        problems.append(f"--shards {options.shards}: expected at least 1")
    if options.workers is not None and options.workers < 1:
        problems.append(f"--workers {options.workers}: expected at least 1")
    if not 0 <= options.validation < 1:
        problems.append(
            f"--validation {options.validation}: expected a share from 0 up to, but not, 1"
        )
    if not 0 <= options.min_seconds < options.max_seconds:
        problems.append(
            f"--min-seconds {options.min_seconds:g}, --max-seconds {options.max_seconds:g}: expected at least 0, and more for the longest than for the shortest"
        )
    if problems:
        raise DataError("svae prepare: " + "; ".join(problems) + ".")


def number_of_shards(options: PrepareOptions, utterances: int) -> int:
    """Return of how many shards. Raises DataError where more are asked for than there are utterances."""
    if options.shards is None:
        return min(
            max(ceil_div(utterances, UTTERANCES_PER_SHARD), MIN_SHARDS), MAX_SHARDS, utterances
        )
    if options.shards > utterances:
        raise DataError(
            f"--shards {options.shards}: the corpus has only {utterances} usable utterances, and a shard needs one. "
            f"Use at most --shards {utterances}."
        )
    return options.shards


def _identity(
    options: PrepareOptions,
    require_text: bool,
    utterances: list[Utterance],
    sizes: dict[str, int],
    shards: int,
) -> dict[str, Any]:
    """Return everything that decides the shards' bytes; not where the corpus lies, nor how many processes work."""
    content = hashlib.sha256()
    for u in utterances:
        row = [u.key, u.source, sizes[u.key], u.text, u.speaker, u.language]
        if u.is_segment:
            row += [u.offset, u.duration]
        if u.channel is not None:
            row.append({"channel": u.channel})
        content.update(json.dumps(row).encode() + b"\n")
    fixed = identifying(options, ("root", "out", "workers", "ray"))
    return {
        "format": FORMAT,
        **fixed,
        "subsets": sorted(options.subsets),
        "shards": shards,
        "require_text": require_text,
        "utterances": len(utterances),
        "content": content.hexdigest(),
    }


def identifying(options: PrepareOptions, without: Sequence[str]) -> dict[str, Any]:
    """Return the options that decide the shards, but for some; those that plans of old do not have only where they are used."""
    newer = [name for name in ("language", "spell_out") if not getattr(options, name)]
    tree = asdict(options)
    return {name: value for name, value in tree.items() if name not in (*without, *newer)}


def _differences(there: Any, now: dict[str, Any]) -> list[str]:
    if not isinstance(there, dict):
        return ["plan.json is damaged"]
    names = sorted(now.keys() | there.keys())
    changed = [name for name in names if there.get(name) != now.get(name)]
    return [
        "the corpus' files or texts changed"
        if name == "content"
        else f"{name} {there.get(name)} there, {now.get(name)} now"
        for name in changed
    ]


def _sizes(utterances: Sequence[Utterance]) -> dict[str, int]:
    """Return the bytes of every utterance's file by key, -1 where there is none."""

    def size(utterance: Utterance) -> int:
        try:
            return utterance.audio.stat().st_size
        except OSError:
            return -1

    # On a network disk each file waits, so many wait at once.
    with ThreadPoolExecutor(16) as pool:
        keys = [utterance.key for utterance in utterances]
        return dict(zip(keys, pool.map(size, utterances), strict=True))


def _loads(utterances: Sequence[Utterance], sizes: dict[str, int]) -> dict[str, int]:
    """Return about how many bytes each utterance has of its file: of a part, those of 16-bit audio at 16 kHz."""
    return {
        u.key: sizes[u.key] if u.duration is None else min(round(32000 * u.duration), sizes[u.key])
        for u in utterances
    }


def _absence(path: Path) -> str:
    """Return why a file cannot be looked at."""
    try:
        path.stat()
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror or str(error)
    return "the file came only now"


def _unused_fields(utterances: Sequence[Utterance]) -> list[str]:
    """Say once which fields of a list mean nothing here, and where each is first."""
    first: dict[str, str] = {}
    for utterance in utterances:
        for name in utterance.unused:
            first.setdefault(name, utterance.place)
    return [f"fields that are not used: {_placed(first)}."] if first else []


def _placed(first: dict[str, str]) -> str:
    shown = [f"{name!r} ({place})" for name, place in sorted(first.items())[:20]]
    return ", ".join(shown) + (f" and {len(first) - 20} more" if len(first) > 20 else "")


def _check_segments(segments: Sequence[Utterance]) -> None:
    """Check that the parts of recordings that a list names lie inside them, as far as headers say.

    Raises:
        DataError: parts that do not; names the lines.
    """
    files = dict.fromkeys(segment.audio for segment in segments)
    with ThreadPoolExecutor(16) as pool:
        seconds = dict(zip(files, pool.map(audio_seconds, files), strict=True))
    wrong = [
        f"{segment.place}: {problem}"
        for segment in segments
        if (problem := segment_problem(segment, seconds[segment.audio]))
    ]
    if wrong:
        more = f"\n  … and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DataError(
            "\n".join(wrong[:5]) + more + "\nExpected seconds inside the recording; mend the lines."
        )


def _hash(purpose: str, key: str) -> bytes:
    return hashlib.blake2b(f"{purpose}/{key}".encode(), digest_size=8).digest()
