"""From what judges said to one row for each utterance, and from rows to means with their intervals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from svae.errors import DataError
from svae.evaluation.ask import Bench, Failed, Heard, Judges, embed_all, rate_all, transcribe_all
from svae.evaluation.items import Item
from svae.evaluation.recordings import Recording
from svae.evaluation.signals import SIGNAL_SCORES, SignalScores
from svae.evaluation.statistics import FEW_UNITS, Ratio, interval, resampling_counts, spread
from svae.judges.distillmos import DISTILLMOS
from svae.judges.naturalness import DNSMOS_SCALES, UTMOS, WORST
from svae.judges.wer import WordErrors, word_errors
from svae.text.phonemes import as_heard, without_phones

Systems = dict[str, dict[str, Recording]]
"""Name (`originals`, `seed 0`, `wavs`, a codec) → item id → recording."""
ORIGINALS = "originals"
COUNTS = ("substitutions", "deletions", "insertions", "words")
SIMILARITIES = ("sim_ecapa", "sim_o")
QUALITY_SCORES = (DISTILLMOS, UTMOS, *DNSMOS_SCALES)
JUDGED_SCORES = (*SIMILARITIES, *QUALITY_SCORES, *(f"{s}_to_original" for s in SIMILARITIES))
SCORES = ("wer", "wer_corpus", *JUDGED_SCORES, *SIGNAL_SCORES)
"""All columns, in the order of tables."""


@dataclass(frozen=True)
class Scored:
    """What the judges say about one recording of an utterance."""

    audio: str
    """Where it lies."""
    seconds: float
    hypothesis: str
    word_errors: WordErrors | None
    """None for a text without words."""
    judged: dict[str, float | None]
    """Scores out of `JUDGED_SCORES`: those that were asked for; None where there is nothing to compare with."""
    error: str | None = None
    """Why it could not be heard; it counts as wholly wrong then."""
    signal: SignalScores | None = None
    """Only reconstructions have these."""

    @property
    def columns(self) -> dict[str, float | None]:
        """All scores by column, but for `wer_corpus`, which a single recording does not have."""
        wer = None if self.word_errors is None else self.word_errors.rate
        return {"wer": wer} | self.judged | (self.signal.scores if self.signal else {})

    def to_json(self) -> dict[str, Any]:
        """Return what utterances.jsonl holds."""
        row: dict[str, Any] = {"audio": self.audio, "seconds": self.seconds}
        if self.error is not None:
            row["error"] = self.error
        row["hypothesis"] = self.hypothesis
        row["wer"] = self.columns["wer"]
        if self.word_errors is not None:
            row |= asdict(self.word_errors)
        row |= self.judged
        if self.signal is not None:
            row |= self.signal.to_json()
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Scored:
        """Read what `to_json` made; raises KeyError or TypeError where something is missing."""
        known = row["wer"] is not None
        return cls(
            audio=row["audio"],
            seconds=row["seconds"],
            hypothesis=row["hypothesis"],
            word_errors=WordErrors(**{name: row[name] for name in COUNTS}) if known else None,
            judged={name: row[name] for name in JUDGED_SCORES if name in row},
            error=row.get("error"),
            signal=SignalScores.from_json(row) if "compared_seconds" in row else None,
        )


@dataclass(frozen=True)
class Row:
    """One utterance: what was to be said, and what each system's recording of it was heard as."""

    id: str
    speaker: str | None
    text: str
    prompt: str | None
    """Where the prompt lies."""
    prompt_text: str | None
    recordings: dict[str, Scored]
    """By the name of the system."""

    def of(self, names: Sequence[str]) -> list[Scored]:
        """Return the recordings of these systems, of those that have one."""
        return [self.recordings[name] for name in names if name in self.recordings]

    def mean(self, names: Sequence[str], column: str) -> float | None:
        """Return the mean of a score over the recordings of these systems."""
        values = [scored.columns.get(column) for scored in self.of(names)]
        known = [value for value in values if value is not None]
        # Not sum / len: three recordings of one score have that score, to the last bit, and so does a test of them.
        return statistics.mean(known) if known else None

    def to_json(self) -> dict[str, Any]:
        """Return the line of utterances.jsonl."""
        recordings = {name: scored.to_json() for name, scored in self.recordings.items()}
        return vars(self) | {"recordings": recordings}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Row:
        """Read what `to_json` made; raises KeyError or TypeError where something is missing."""
        recordings = {name: Scored.from_json(found) for name, found in row["recordings"].items()}
        return cls(
            id=row["id"],
            speaker=row.get("speaker"),
            text=row["text"],
            prompt=row.get("prompt"),
            prompt_text=row.get("prompt_text"),
            recordings=recordings,
        )


def score(
    items: Sequence[Item],
    systems: Systems,
    judges: Judges,
    bench: Bench,
    normalize: Callable[[str], str],
) -> list[Row]:
    """Return one row for each item: what each system's recording was heard as, its WER and its similarities.

    Similarity is to the prompt; that of `originals` is that of the human recording to the prompt. A recording that is
    missing or cannot be read counts: all words deleted, similarity 0, opinion score 1, and its row says why.

    Raises:
        DataError: a prompt cannot be read; that is the list's fault, not the system's.
    """
    prompts = [item.prompt for item in items if item.prompt is not None]
    # Each system by itself: batches, and so what is remembered of the originals, do not depend on who stands beside them.
    sets = [list(of_item.values()) for of_item in systems.values()]
    voices: dict[str, dict[str, Tensor | Failed]] = {}
    for kind, model in judges.speakers.items():
        voices[kind] = embed_all(bench, kind, model, prompts)
        for prompt in prompts:  # before the recogniser hears hours of speech
            voice = voices[kind][prompt.name]
            if isinstance(voice, Failed):
                raise DataError(f"prompt {prompt.name}: {voice.reason}")
        for recordings in sets:
            voices[kind] |= embed_all(bench, kind, model, recordings)
    heard: dict[str, Heard | Failed] = {}
    for recordings in sets:
        heard |= transcribe_all(bench, judges.asr, recordings)
    rated: dict[str, dict[str, dict[str, float] | Failed]] = {}
    for name, predictor in judges.quality.items():
        rated[name] = {}
        for recordings in sets:
            rated[name] |= rate_all(bench, name, predictor, recordings)

    def scored(item: Item, recording: Recording) -> Scored:
        answer = heard[recording.name]
        errors = [answer.reason] if isinstance(answer, Failed) else []
        hypothesis = "" if isinstance(answer, Failed) else answer.text
        written = as_heard(item.text, hypothesis)
        has_words = bool(normalize(written).strip())
        judged: dict[str, float | None] = {}
        for kind, vectors in voices.items():
            voice = vectors[recording.name]
            judged[kind] = None if item.prompt is None else cosine(voice, vectors[item.prompt.name])
            if isinstance(voice, Failed):
                errors.append(voice.reason)
        for name, ratings in rated.items():
            rating = ratings[recording.name]
            if isinstance(rating, Failed):
                judged |= dict.fromkeys(judges.quality[name].columns, WORST)
                errors.append(rating.reason)
            else:
                judged |= rating
        return Scored(
            audio=recording.name,
            seconds=0.0 if isinstance(answer, Failed) else answer.seconds,
            hypothesis=hypothesis,
            word_errors=word_errors(written, hypothesis, normalize) if has_words else None,
            judged=judged,
            error=errors[0] if errors else None,
        )

    return [
        Row(
            id=item.id,
            speaker=item.speaker,
            text=without_phones(item.text),
            prompt=None if item.prompt is None else item.prompt.name,
            prompt_text=item.prompt_text,
            recordings={
                name: scored(item, of_item[item.id])
                for name, of_item in systems.items()
                if item.id in of_item
            },
        )
        for item in items
    ]


def cosine(a: Tensor | Failed, b: Tensor | Failed) -> float:
    """Return the cosine of two embeddings (E,); 0, that of strangers, where one is not there."""
    if isinstance(a, Failed) or isinstance(b, Failed):
        return 0.0
    return float(F.cosine_similarity(a, b, dim=0))


def ratio(rows: Sequence[Row], names: Sequence[str], column: str) -> Ratio | None:
    """Return a column as a ratio over utterances, each the mean over several recordings of it (seeds).

    However many recordings a system has, an utterance weighs the same: a paired test exchanges it with another system's.
    """
    numerators: list[float] = []
    denominators: list[float] = []
    for row in rows:
        if column == "wer_corpus":
            counted = [s.word_errors for s in row.of(names) if s.word_errors is not None]
            several = max(len(counted), 1)
            numerators.append(sum(found.errors for found in counted) / several)
            denominators.append(sum(found.words for found in counted) / several)
        else:
            value = row.mean(names, column)
            numerators.append(0.0 if value is None else value)
            denominators.append(0.0 if value is None else 1.0)
    if not any(denominators):
        return None
    return Ratio(np.array(numerators, dtype=np.float64), np.array(denominators, dtype=np.float64))


def summarize(
    rows: Sequence[Row], names: Sequence[str], *, cluster: bool = False
) -> dict[str, Any] | None:
    """Return the means over the rows that have these recordings, with intervals; None if there are none.

    `names` are the recordings of one system, several where it spoke with several seeds: an utterance counts with their
    mean, and the interval is over utterances. `cluster` draws whole speakers in the bootstrap.
    """
    kept = [row for row in rows if row.of(names)]
    if not kept:
        return None
    groups = speakers_of(kept) if cluster else None
    counts = resampling_counts(len(kept) if groups is None else len(set(groups)))
    entries = [scored for row in kept for scored in row.of(names)]
    asked = {"wer_corpus"}.union(*(scored.columns for scored in entries))
    summary: dict[str, Any] = {}
    intervals: dict[str, list[float]] = {}
    for column in SCORES:
        if column not in asked:
            continue
        found = ratio(kept, names, column)
        summary[column] = None if found is None else found.value  # None: defined for no utterance
        ends = None if found is None else interval(found.added_up(groups), counts)
        if ends is not None:
            intervals[column] = [round(end, 8) for end in ends]
    return summary | {
        "intervals": intervals,
        "utterances": len(kept),
        "seconds": round(sum(scored.seconds for scored in entries), 6),
        "errors": sum(scored.error is not None for scored in entries),
    }


def speakers_of(rows: Sequence[Row]) -> list[str]:
    """Return the speaker of each row; a row without one is a speaker of its own."""
    return [row.speaker if row.speaker is not None else f"\0{row.id}" for row in rows]


def spread_over_seeds(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    """Return mean, deviation, least and greatest of every column over the seeds."""
    found = {}
    for column in SCORES:
        ratios = [ratio(rows, [name], column) for name in names]
        known = [each.value for each in ratios if each is not None]
        if len(known) == len(names):
            found[column] = spread(known)
    return found


def failures_of(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return every recording that could not be heard: id, system, reason."""
    return [
        {"id": row.id, "recording": name, "error": scored.error}
        for row in rows
        for name, scored in row.recordings.items()
        if scored.error is not None
    ]


def notes_on(items: Sequence[Item], rows: Sequence[Row], *, cluster: bool = False) -> list[str]:
    """Return what a reader of the table has to know."""
    notes = []
    units = len(set(speakers_of(rows))) if cluster else len(rows)
    name = "speakers" if cluster else "utterances"
    if units < FEW_UNITS:
        notes.append(
            f"intervals over only {units} {name} are too narrow: such a 95 % interval holds the truth less often than that"
        )
    without = sum(ORIGINALS not in row.recordings for row in rows)
    if without == len(rows):
        notes.append(
            "no item names an original recording (`target`), so there is nothing to compare with"
        )
    elif without:
        notes.append(
            f"{without} of {len(rows)} items name no original recording (`target`); its row is over the rest"
        )
    alone = sum(item.prompt is None for item in items)
    if alone:
        notes.append(f"{alone} of {len(rows)} items have no prompt, so no similarity to it")
    wordless = sum(
        all(scored.word_errors is None for scored in row.recordings.values()) for row in rows
    )
    if wordless:
        notes.append(f"{wordless} of {len(rows)} items have no text, so no WER")
    failed = failures_of(rows)
    if failed:
        first = failed[0]
        notes.append(
            f"{len(failed)} recordings are missing or unreadable and count as wholly wrong (WER 100 %, "
            f"similarity 0, opinion score 1, signal scores of silence), "
            f"e.g. {first['recording']}/{first['id']}: {first['error'].splitlines()[0]}"
        )
    return notes
