"""What a person says of segments: edited texts, and which are to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from svae.data.corpora.jsonl import without_repeats
from svae.errors import DataError
from svae.recordings.filters import Judged
from svae.recordings.segments import Segment
from svae.runtime.text_files import check_characters, read_utf8
from svae.text.vocabulary import normalize_text

FORM = '{"segments": {"KEY": {"text": "What is said.", "use": true}}}'
FIELDS = ("text", "use", "audio")


@dataclass(frozen=True)
class Decision:
    """What was decided about a segment."""

    text: str | None = None
    """What is said in it; None: as it was."""
    use: bool | None = None
    """True: in spite of all reasons; False: not; None: as the filters say."""
    audio: str | None = None
    """`Segment.audio` of what it was decided about; None, as people write it: of what is there now."""

    @property
    def row(self) -> dict[str, Any]:
        """What a review says of it."""
        return {
            name: value
            for name, value in (("text", self.text), ("use", self.use), ("audio", self.audio))
            if value is not None
        }


@dataclass(frozen=True)
class Entry:
    """A segment, what is known of it, and what becomes of it."""

    judged: Judged
    reasons: list[tuple[str, str]]
    """Why the filters leave it out."""
    decision: Decision

    @property
    def segment(self) -> Segment:
        """The segment itself."""
        return self.judged.segment

    @property
    def used(self) -> bool:
        """Whether it goes into the shards."""
        return not self.reasons if self.decision.use is None else self.decision.use


def read_review(path: Path) -> dict[str, Decision]:
    """Read a review as the page lets one download it, or as somebody wrote it.

    Raises:
        DataError: not UTF-8, not JSON, another form, or an empty text; names segment and field.
    """
    try:
        content = json.loads(read_utf8(path), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}). Expected {FORM}") from None
    segments = content.get("segments") if isinstance(content, dict) else None
    if not isinstance(segments, dict):
        raise DataError(f"{path}: holds no `segments`. Expected {FORM}")
    if unknown := sorted(content.keys() - {"segments", "made_with"}):
        raise DataError(f"{path}: `{unknown[0]}` is unknown. Expected {FORM}")
    return {key: _decision(row, f"{path}, segment {key!r}") for key, row in segments.items()}


def check_keys(review: Mapping[str, Decision], keys: Sequence[str], path: Path) -> None:
    """Raise DataError where a review speaks of segments that are not there."""
    unknown = [key for key in review if key not in set(keys)]
    if unknown:
        close = get_close_matches(unknown[0], keys, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"{path}: {len(unknown)} of {len(review)} segments are not of these recordings, first {unknown[0]!r}.{hint} "
            "Expected the review of this --out, or of the same recordings cut with the same options."
        )


def in_force(review: Mapping[str, Decision], segments: Sequence[Segment]) -> dict[str, Decision]:
    """Return the decisions about what is there now: a key alone may be of another recording that took its place."""
    audio = {segment.key: segment.audio for segment in segments}
    return {
        key: replace(decision, audio=audio[key])
        for key, decision in review.items()
        if key in audio and decision.audio in (None, audio[key])
    }


def write_review(review: Mapping[str, Decision]) -> str:
    """Return a review as a file."""
    rows = {key: decision.row for key, decision in sorted(review.items())}
    return json.dumps({"segments": rows}, ensure_ascii=False, indent=1) + "\n"


def _decision(row: Any, place: str) -> Decision:
    if not isinstance(row, dict) or not row.keys() - {"audio"} or row.keys() - set(FIELDS):
        raise DataError(
            f"{place}: {json.dumps(row, ensure_ascii=False)[:80]}. Expected `text`, `use` (true or false), or both."
        )
    text, use, audio = (row.get(name) for name in FIELDS)
    if audio is not None and not isinstance(audio, str):
        raise DataError(
            f"{place}: `audio` is {audio!r}. Expected it as it was, or leave it out: then the segment is meant as it is now."
        )
    if "use" in row and not isinstance(use, bool):
        raise DataError(f"{place}: `use` is {use!r}. Expected true or false.")
    if "text" in row:
        if not isinstance(text, str):
            raise DataError(
                f"{place}: `text` is {text!r}. Expected what is said, in quotation marks."
            )
        check_characters(text, f"{place}: `text`")
        text = normalize_text(text)
        if not text and use is not False:
            raise DataError(f'{place}: `text` is empty. Expected what is said, or "use": false.')
    return Decision(text or None, use, audio)
