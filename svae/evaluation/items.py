"""What is to be synthesised and scored: lists in files, or the utterances held out of training."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from svae.data.index import read_index
from svae.data.samples import Sample
from svae.errors import DataError
from svae.evaluation.recordings import Recording, recording_from_file, recording_from_shards
from svae.judges.wer import normalize_for_wer
from svae.runtime.files import file_sha256
from svae.runtime.remote import is_url
from svae.runtime.text_files import read_utf8

PROMPT_SECONDS = (1.5, 12.0)
"""A prompt taken from shards has a length in this range where the speaker has one."""
LIST_FIELDS = "{id, text, ref, ref_text, target (optional)}"
OMNIVOICE_FIELDS = "{id, text, ref_audio, ref_text, language_id}"
OMNIVOICE_LANGUAGES = {"arb": "ar", "npi": "ne", "ory": "or"}
"""Codes of such lists that are others elsewhere."""


@dataclass(frozen=True)
class Item:
    """One utterance of an evaluation."""

    id: str
    """Names the wav (shortened where it is too long for that: `file_stem`); letters, digits, `-`, `_` and `.`."""
    text: str
    prompt: Recording | None
    prompt_text: str | None
    target: Recording | None
    """A human recording of the text."""
    speaker: str | None = None


@dataclass(frozen=True)
class ItemList:
    """Items and what identifies the list in results."""

    items: list[Item]
    description: dict[str, Any]


def read_list(
    path: Path,
    audio_root: Path | None = None,
    *,
    form: str = "auto",
    language: str = "en",
    normalize: Callable[[str], str] = normalize_for_wer,
) -> ItemList:
    """Read a list of what is to be said.

    Args:
        path: the list.
        audio_root: where recordings lie; for `librispeech-pc` the folder with speaker/chapter/utterance.flac, for the
            others the list's own folder unless this is given.
        form: `jsonl`, one object a line; `librispeech-pc`, F5-TTS's six tab-separated columns: prompt id, prompt
            seconds, prompt text, target id, target seconds, target text; `seed-tts`,
            `utt|prompt_text|prompt_wav|text[|target_wav]`; `zipvoice`, tab separated utt, prompt text, prompt wav, text;
            `omnivoice`, a JSON object {id, text, ref_audio, ref_text, language_id} a line; `auto`, by the file's ending: `.jsonl`, or `.lst` with tabs or bars.
        language: rows of others are left out, where rows name their language (`omnivoice`).
        normalize: leaves words in every text, or the row is refused.

    Raises:
        DataError: missing file, a bad row (by number), equal ids, or no row at all.
    """
    if not path.is_file():
        raise DataError(f"--list {path}: no such file")
    # Not splitlines(): it also cuts at U+2028 and its like, which may stand inside a text.
    lines = read_utf8(path, f"--list {path}").split("\n")
    if form == "auto":
        form = _form_of(path, lines[0])
    folder = audio_root or path.parent
    parsers: dict[str, Callable[[str], Item | None]] = {
        "jsonl": partial(_jsonl_item, folder),
        "librispeech-pc": partial(_librispeech_item, audio_root),
        "seed-tts": partial(_seed_tts_item, folder),
        "zipvoice": partial(_zipvoice_item, folder),
        "omnivoice": partial(_omnivoice_item, folder, language),
    }
    items: dict[str, Item] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = parsers[form](line)
            if item is None:
                continue
            if item.id in items:
                raise ValueError(f"id {item.id!r} appeared before")
            if not normalize(item.text).strip():
                raise ValueError("the text has no word")
        except (ValueError, KeyError, TypeError) as error:
            reason = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"--list {path}, line {number}: {reason}") from None
        items[item.id] = item
    if not items:
        fields = (
            f"{OMNIVOICE_FIELDS} of language {language!r}" if form == "omnivoice" else LIST_FIELDS
        )
        raise DataError(f"--list {path}: no row in it. Expected JSON objects {fields}, one a line.")
    description = {"list": str(path), "sha256": file_sha256(path), "utterances": len(items)}
    return ItemList(list(items.values()), description)


def _form_of(path: Path, first_line: str) -> str:
    if path.suffix == ".jsonl":
        return "jsonl"
    has_bars = "\t" not in first_line and first_line.count("|") in (3, 4)
    return "seed-tts" if has_bars else "librispeech-pc"


def _json_row(line: str, fields: str, names: Sequence[str]) -> dict[str, Any]:
    """Return an object whose fields of these names are text where they are there; it has an id and a text."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error}); expected {fields}") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected an object {fields}, got {type(row).__name__}")
    for name in ("id", "text", *names):
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"field {name!r} must be text, got {value!r}")
        if value is not None and any("\ud800" <= char <= "\udfff" for char in value):
            raise ValueError(
                f"field {name!r} holds half of a surrogate pair, {value!r}; write the character itself"
            )
    for name in ("id", "text"):
        if row.get(name) is None:
            raise KeyError(name)
    _check_id(row["id"])
    return row


def _jsonl_item(folder: Path, line: str) -> Item:
    row = _json_row(line, LIST_FIELDS, ("ref", "ref_text", "target", "speaker"))
    return Item(
        id=row["id"],
        text=row["text"],
        prompt=recording_from_file(folder / row["ref"]) if row.get("ref") else None,
        prompt_text=row.get("ref_text"),
        target=recording_from_file(folder / row["target"]) if row.get("target") else None,
        speaker=row.get("speaker"),
    )


def _omnivoice_item(folder: Path, language: str, line: str) -> Item | None:
    """Read a row of k2-fsa's lists; the paths of its prompts begin where OmniVoice's scripts unpack them."""
    row = _json_row(line, OMNIVOICE_FIELDS, ("ref_audio", "ref_text", "language_id"))
    for name in ("ref_audio", "language_id"):
        if row.get(name) is None:
            raise KeyError(name)
    found = row["language_id"]
    if OMNIVOICE_LANGUAGES.get(found, found) != language:
        return None
    parts = PurePosixPath(row["ref_audio"]).parts
    ends = [folder.joinpath(*parts[start:]) for start in range(len(parts))]
    prompt = next((end for end in ends if end.is_file()), ends[0])
    return Item(row["id"], row["text"], recording_from_file(prompt), row.get("ref_text"), None)


def _check_id(name: str) -> None:
    if (
        not name
        or any(c in "/\\" or c.isspace() or not c.isprintable() for c in name)
        or name.startswith(".")
    ):
        raise ValueError(f"id {name[:80]!r} cannot name a file")


def _librispeech_item(audio_root: Path | None, line: str) -> Item:
    columns = line.split("\t")
    if len(columns) != 6:
        raise ValueError(
            f"expected the 6 tab-separated columns of a `librispeech-pc` list, got {len(columns)}; a protocol takes "
            "lists of its own form only (docs/protocols.md)"
        )
    if audio_root is None:
        raise ValueError(
            "this list names LibriSpeech utterances; pass their folder with --audio-root DIR"
        )
    prompt_id, _, prompt_text, target_id, _, text = (column.strip() for column in columns)

    def find(utterance: str) -> Recording:
        speaker, chapter, *_ = utterance.split("-")
        return recording_from_file(audio_root / speaker / chapter / f"{utterance}.flac")

    if prompt_id.count("-") != 2 or target_id.count("-") != 2:
        raise ValueError(f"expected ids like 4077-13754-0000, got {prompt_id!r} and {target_id!r}")
    return Item(
        target_id, text, find(prompt_id), prompt_text, find(target_id), target_id.split("-")[0]
    )


def _seed_tts_item(folder: Path, line: str) -> Item:
    """Read a row of Seed-TTS's meta.lst; a human recording without a fifth column is wavs/UTT.wav where that exists."""
    columns = line.strip().split("|")
    if len(columns) not in (4, 5):
        raise ValueError(
            f"expected utt|prompt_text|prompt_wav|text or one more, |target_wav, got {len(columns)} parts"
        )
    name, prompt_text, prompt, text = columns[:4]
    _check_id(name)
    target = folder / (columns[4] if len(columns) == 5 else f"wavs/{name}.wav")
    known = len(columns) == 5 or target.is_file()
    prompted = recording_from_file(folder / prompt)
    return Item(name, text, prompted, prompt_text, recording_from_file(target) if known else None)


def _zipvoice_item(folder: Path, line: str) -> Item:
    columns = line.strip().split("\t")
    if len(columns) != 4:
        raise ValueError(
            f"expected 4 tab-separated columns (utt, prompt text, prompt wav, text), got {len(columns)}"
        )
    name, prompt_text, prompt, text = columns
    _check_id(name)
    return Item(name, text, recording_from_file(folder / prompt), prompt_text, None)


def refuse_items(problems: Sequence[str], items: Sequence[Item], what: str) -> None:
    """Raise one DataError that counts items with a problem and shows the first ones; `what` says what is wrong with them."""
    if problems:
        some = "\n".join(f"  {problem}" for problem in problems[:5])
        raise DataError(f"{len(problems)} of {len(items)} items {what}:\n{some}")


def check_recordings(items: Sequence[Item], *, option: str) -> None:
    """Make sure that every file an evaluation will read is there, before anything is computed.

    Shards on a server are not asked for: reading their index has found them.

    Raises:
        DataError: some are not; they are counted and the first are named.
    """
    files = {
        recording.path
        for item in items
        for recording in (item.prompt, item.target)
        if recording is not None and not is_url(recording.path)
    }
    missing = sorted(str(path) for path in files if not path.is_file())
    if missing:
        some = "\n".join(f"  {name}" for name in missing[:5])
        some += "\n  …" if len(missing) > 5 else ""
        raise DataError(
            f"{option}: {len(missing)} of {len(files)} recordings that it names are missing:\n{some}\n"
            "Paths are relative to the list's folder, those of a .lst to --audio-root."
        )


def held_out_list(root: Path, *, need_prompts: bool = True) -> ItemList:
    """Make a list of the utterances that `svae prepare` held out, each prompted by another of its speaker.

    `need_prompts` leaves out, and counts, utterances without words or without another one by their speaker; else all are
    kept, some without text or prompt.

    Raises:
        DataError: no such shards, nothing held out, or nothing is left.
    """
    index = read_index(root)
    if index.kind != "waveforms":
        raise DataError(
            f"--data {root}: holds {index.kind}; evaluation needs waveform shards from `svae prepare`"
        )
    by_speaker: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in index.samples:
        if normalize_for_wer(sample.text):
            by_speaker[sample.speaker].append(sample)
    items: list[Item] = []
    alone = 0
    for sample in index.validation:
        others = [s for s in by_speaker[sample.speaker] if s.key != sample.key]
        if need_prompts and (not others or not normalize_for_wer(sample.text)):
            alone += 1
            continue
        prompt = min(others, key=partial(_prompt_rank, sample.key), default=None)
        items.append(
            Item(
                id=sample.key,
                text=sample.text,
                prompt=None if prompt is None else recording_from_shards(index, prompt),
                prompt_text=None if prompt is None else prompt.text,
                target=recording_from_shards(index, sample),
                speaker=sample.speaker,
            )
        )
    if not items:
        reason = "there are none"
        if index.validation:
            reason = "none of them has words and another utterance by its speaker"
        raise DataError(
            f"--data {root}: nothing to evaluate among {len(index.validation)} held-out utterances: {reason}. "
            "Pass --list FILE, or prepare the corpus with a larger --validation share."
        )
    content = "\n".join(f"{item.id}\t{item.text}" for item in items)
    description = {
        "list": f"held-out utterances of {root}",
        "sha256": hashlib.sha256(content.encode()).hexdigest(),
        "utterances": len(items),
        "left_out_without_prompt": alone,
    }
    return ItemList(items, description)


def _prompt_rank(key: str, sample: Sample) -> tuple[float, str]:
    """Order prompts: those nearest to a good length first, equals as if at random but by the keys alone."""
    low, high = PROMPT_SECONDS
    misfit = max(low - sample.duration_seconds, sample.duration_seconds - high, 0.0)
    return misfit, hashlib.sha256(f"{key}/{sample.key}".encode()).hexdigest()
