"""Which fields of a sample are its audio, text, speaker and language: chosen once, by looking at the first samples.

A sample is a dictionary of a source's fields; a field inside another is written with dots (`json.text`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from svae.audio import AUDIO_SUFFIXES
from svae.errors import DataError
from svae.runtime.text_files import check_characters, decode_utf8

AUDIO_NAMES = ("audio", *(suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES))
TEXT_NAMES = ("text", "txt", "transcript", "transcription", "sentence", "normalized_text")
SPEAKER_NAMES = ("speaker", "speaker_id", "spk", "spk_id", "client_id")
LANGUAGE_NAMES = ("language", "lang", "locale")
RESERVED = frozenset(
    "key duration_seconds num_samples speaker language text sample_rate source raw_text offset".split()
)
"""Names in a sample's key.json that svae gives a meaning."""


@dataclass(frozen=True)
class Fields:
    """Names of fields; `=value` stands for that value in every sample."""

    audio: tuple[str, ...] = ()
    """The first of them that a sample has."""
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    keep: tuple[str, ...] = ()
    """Numbers and texts that are stored beside the sample, under the last part of their name."""

    @property
    def named(self) -> tuple[str, ...]:
        """The names, without values that stand for themselves."""
        names = (*self.audio, self.text, self.speaker, self.language, *self.keep)
        return tuple(name for name in names if name is not None and not name.startswith("="))

    @property
    def metadata(self) -> tuple[str, ...]:
        """The names but those of the audio."""
        return self.named[len(self.audio) :]


LAYOUTS = {
    "emilia": Fields(
        ("mp3",), "json.text", "json.speaker", "json.language", ("json.duration", "json.dnsmos")
    )
}
"""Fields of corpora whose layout has a name."""


class FieldError(Exception):
    """A field of one sample that is not what it should be; the message says what it is."""


_ABSENT = object()


def lookup(sample: Mapping[str, Any], name: str) -> Any:
    """Return a field, None where the sample has none of this name; the longest name that is there wins at each dot."""
    if name in sample:
        return sample[name]
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        inner = sample.get(".".join(parts[:end]), _ABSENT)
        if inner is not _ABSENT:
            return lookup(inner, ".".join(parts[end:])) if isinstance(inner, Mapping) else None
    return None


def names_in(sample: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of all fields that are no dictionaries themselves, but for those of a file's content and path."""
    for name, value in sample.items():
        if isinstance(value, Mapping) and value and not value.keys() <= {"bytes", "path"}:
            yield from names_in(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def choose_fields(
    asked: Fields, samples: Sequence[Mapping[str, Any]], where: str
) -> tuple[Fields, list[str]]:
    """Check what was asked for against the first samples of a source, and choose what was not.

    Args:
        asked: what the user named; what is None or empty is looked for under its usual names.
        samples: the first ones.
        where: the source, for messages.

    Returns:
        The fields that are read, and notes that say which, and what is there besides.

    Raises:
        DataError: a field that is named is not there, no audio, or several that could be it; says what is there.
    """
    there = list(dict.fromkeys(name for sample in samples for name in names_in(sample)))
    found = replace(
        asked,
        audio=asked.audio or _audio(there, samples, where),
        text=asked.text or _usual(there, TEXT_NAMES),
        speaker=asked.speaker or _usual(there, SPEAKER_NAMES),
        language=asked.language or _usual(there, LANGUAGE_NAMES),
    )
    checked = [name for name in found.metadata if all(lookup(s, name) is None for s in samples)]
    if found.audio and all(lookup(s, name) is None for s in samples for name in found.audio):
        checked.insert(0, found.audio[0])
    if checked:
        raise DataError(
            f"{where}: no field {', '.join(map(repr, checked))} in its first {len(samples)} samples. "
            f"There: {', '.join(there)}. Name fields with --audio, --text, --speaker, --language and --keep."
        )
    kept = [_last(name) for name in found.keep]
    if wrong := sorted({name for name in kept if name in RESERVED or kept.count(name) > 1}):
        raise DataError(
            f"--keep: {wrong[0]!r} has a meaning of its own or is named twice. Keep fields with other names."
        )
    return found, list(_notes(found, there))


def values(sample: Mapping[str, Any], fields: Fields, name: str) -> dict[str, Any]:
    """Return text, speaker, language and metadata of a sample, as arguments of `Recording`.

    Args:
        sample: with its fields.
        fields: which are taken.
        name: of the sample, for messages.

    Raises:
        FieldError: one that is no text, or no number.
    """
    found = {"text": _text(sample, fields.text, name)}
    for part in ("speaker", "language"):
        text = _text(sample, getattr(fields, part), name)
        found[part] = text.strip() if text and text.strip() else "unknown"
    metadata = {}
    for field in fields.keep:
        value = lookup(sample, field)
        known = value is None or isinstance(value, str | int | float)
        if not known or (isinstance(value, float) and not math.isfinite(value)):
            raise FieldError(f"{field} is {_shown(value)}. Expected a text or a number")
        metadata[_last(field)] = value
    return {**found, "metadata": metadata}


def parse_json(data: bytes, name: str) -> Any:
    """Return the content of a JSON file.

    Raises:
        FieldError: it is not JSON.
    """
    try:
        return json.loads(decode_utf8(data, name))
    except DataError as error:
        raise FieldError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise FieldError(f"{name}: not JSON ({error})") from error


def _text(sample: Mapping[str, Any], field: str | None, name: str) -> str | None:
    if field is None:
        return None
    if field.startswith("="):
        return field[1:]
    value = lookup(sample, field)
    if isinstance(value, bytes):
        try:
            value = decode_utf8(value, f"{name}: {field}")
        except DataError as error:
            raise FieldError(str(error)) from error
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # speakers are often numbers
    if value is not None and not isinstance(value, str):
        raise FieldError(f"{field} is {_shown(value)}. Expected text")
    try:
        check_characters(value or "", f"{name}: {field}")
    except DataError as error:
        raise FieldError(str(error)) from error
    return value


def _audio(
    there: Sequence[str], samples: Sequence[Mapping[str, Any]], where: str
) -> tuple[str, ...]:
    """Return the fields that hold audio by their names.

    Raises:
        DataError: there is none, or a sample has several.
    """
    found = tuple(name for name in there if _last(name).lower() in AUDIO_NAMES)
    if not found:
        raise DataError(
            f"{where}: no audio in its first {len(samples)} samples. There: {', '.join(there) or 'nothing'}. "
            "Name the field with --audio."
        )
    for sample in samples:
        several = [name for name in found if lookup(sample, name) is not None]
        if len(several) > 1:
            raise DataError(
                f"{where}: a sample has {' and '.join(several)}. Say which is meant: --audio {several[0]}"
            )
    return found


def _usual(there: Iterable[str], names: Sequence[str]) -> str | None:
    """Return the field with the most usual of some names; None where there is none."""
    for usual in names:
        for name in there:
            if _last(name).lower() == usual:
                return name
    return None


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _notes(fields: Fields, there: Sequence[str]) -> Iterator[str]:
    taken = [f"{part} {getattr(fields, part)}" for part in ("text", "speaker", "language")]
    taken = [part for part in taken if not part.endswith(" None")]
    yield f"fields: {', '.join(['audio ' + ' or '.join(fields.audio), *taken, *fields.keep])}."
    unused = [name for name in there if name not in fields.named and not name.startswith("__")]
    if unused:
        more = f" and {len(unused) - 20} more" if len(unused) > 20 else ""
        yield f"fields that are not used: {', '.join(map(repr, unused[:20]))}{more}."


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, bytes) else f"{len(value)} bytes"
    return text if len(text) <= 80 else f"{text[:79]}…"
