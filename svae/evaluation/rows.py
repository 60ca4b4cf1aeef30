"""From what judges said to one row for each utterance, and from rows to means with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from svae.errors import DataError
from svae.evaluation.ask import Bench, Judges, embed_all, rate_all, transcribe_all
from svae.evaluation.items import Item
from svae.evaluation.recordings import Recording
from svae.evaluation.statistics import FEW_UNITS, Ratio, interval, resampling_counts, spread
from svae.judges.naturalness import DNSMOS_SCALES, UTMOS
from svae.judges.wer import word_errors

Rows = list[dict[str, Any]]
Systems = dict[str, dict[str, Recording]]
"""Name (`originals`, `seed 0`, `wavs`, a codec) → item id → recording."""
COUNTS = ("substitutions", "deletions", "insertions", "words")
ORIGINALS = "originals"
SIGNAL_SCORES = (
    "pesq_wb",
    "pesq_nb",
    "stoi",
    "mel_distance",
    "stft_distance",
    "mcd",
    "f0_rmse",
    "voicing_error",
)
SIMILARITIES = ("sim_ecapa", "sim_o")
QUALITY_SCORES = (UTMOS, *DNSMOS_SCALES)
SCORES = (
    "wer", "wer_corpus", *SIMILARITIES, *QUALITY_SCORES, *(f"{s}_to_original" for s in SIMILARITIES), *SIGNAL_SCORES
)  # fmt: skip
"""All columns, in the order of tables."""


def score(
    items: Sequence[Item],
    systems: Systems,
    judges: Judges,
    bench: Bench,
    normalize: Callable[[str], str],
) -> Rows:
    """Return one row for each item: what each system's recording was heard as, its WER and its similarities.

    Similarity is to the prompt; that of `originals` is that of the human recording to the prompt. A recording that is
    missing or cannot be read counts: all words deleted, similarity 0, opinion score 1, and its row says why.

    Raises:
        DataError: a prompt cannot be read; that is the list's fault, not the system's.
    """
    prompts = [item.prompt for item in items if item.prompt is not None]
    # Each system by itself: batches, and so what is remembered of the originals, do not depend on who stands beside them.
    sets = [list(of_item.values()) for of_item in systems.values()]
    vectors: dict[str, dict[str, Any]] = {}
    for kind, model in judges.speakers.items():
        found = vectors[kind] = embed_all(bench, kind, model, prompts)
        for prompt in prompts:  # before the recogniser hears hours of speech
            if isinstance(found[prompt.name], dict):
                raise DataError(f"prompt {prompt.name}: {found[prompt.name]['error']}")
        for recordings in sets:
            found |= embed_all(bench, kind, model, recordings)
    heard: dict[str, Any] = {}
    for recordings in sets:
        heard |= transcribe_all(bench, judges.asr, recordings)
    rated: list[dict[str, Any]] = [
        {
            key: value
            for recordings in sets
            for key, value in rate_all(bench, name, model, recordings).items()
        }
        for name, model in judges.quality.items()
    ]
    rows = []
    for item in items:
        row: dict[str, Any] = {"id": item.id, "speaker": item.speaker, "text": item.text}
        row["prompt"] = None if item.prompt is None else item.prompt.name
        row["prompt_text"] = item.prompt_text
        row["recordings"] = {}
        for name, of_item in systems.items():
            if item.id in of_item:
                recording = of_item[item.id]
                entry = _heard(recording, item.text, heard[recording.name], normalize)
                for kind, found in vectors.items():
                    entry[kind] = _similarity(found, recording, item.prompt)
                    if isinstance(found[recording.name], dict):
                        entry.setdefault("error", found[recording.name]["error"])
                for found in rated:
                    entry |= found[recording.name]
                row["recordings"][name] = entry
        rows.append(row)
    return rows


def _heard(
    recording: Recording, text: str, answer: dict[str, Any], normalize: Callable[[str], str]
) -> dict[str, Any]:
    """Return what the recogniser's answer means; a text without words has no WER."""
    entry: dict[str, Any] = {"audio": recording.name, "seconds": answer.get("seconds", 0.0)}
    if "error" in answer:
        entry["error"] = answer["error"]
    entry["hypothesis"] = answer.get("text", "")
    if not normalize(text).strip():
        return entry | {"wer": None}
    errors = word_errors(text, entry["hypothesis"], normalize)
    return entry | {"wer": errors.rate} | {name: getattr(errors, name) for name in COUNTS}


def _similarity(
    found: dict[str, Any], recording: Recording, prompt: Recording | None
) -> float | None:
    """Return the cosine to the prompt; 0, that of strangers, for a recording that is not there."""
    if prompt is None:
        return None
    vector = found[recording.name]
    return 0.0 if isinstance(vector, dict) else cosine(vector, found[prompt.name])


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two embeddings (E,)."""
    return float(F.cosine_similarity(a, b, dim=0))


def ratio(rows: Rows, names: Sequence[str], column: str) -> Ratio | None:
    """Return a column as a ratio over utterances, each the sum over several recordings of it (seeds)."""
    entries = [
        [row["recordings"][name] for name in names if name in row["recordings"]] for row in rows
    ]
    if column == "wer_corpus":
        counted = [[e for e in found if e["wer"] is not None] for found in entries]
        errors = [
            sum(e["substitutions"] + e["deletions"] + e["insertions"] for e in found)
            for found in counted
        ]
        words = [sum(e["words"] for e in found) for found in counted]
        return (
            Ratio(np.array(errors, dtype=float), np.array(words, dtype=float))
            if sum(words)
            else None
        )
    each = [[e[column] for e in found if e.get(column) is not None] for found in entries]
    if not any(each):
        return None
    return Ratio(np.array([float(sum(v)) for v in each]), np.array([float(len(v)) for v in each]))


def summarize(rows: Rows, names: Sequence[str], *, cluster: bool = False) -> dict[str, Any] | None:
    """Return the means over the rows that have these recordings, with intervals; None if there are none.

    Args:
        rows: of `score`.
        names: the recordings of one system, several where it spoke with several seeds: an utterance counts with their
            mean, and the interval is over utterances.
        cluster: draw whole speakers in the bootstrap.
    """
    kept = [row for row in rows if any(name in row["recordings"] for name in names)]
    if not kept:
        return None
    groups = speakers_of(kept) if cluster else None
    counts = resampling_counts(len(kept), groups=groups)
    found = {column: r for column in SCORES if (r := ratio(kept, names, column)) is not None}
    entries = [
        row["recordings"][name] for row in kept for name in names if name in row["recordings"]
    ]
    columns = [
        column
        for column in SCORES
        if column == "wer_corpus" or any(column in entry for entry in entries)
    ]
    summary: dict[str, Any] = dict.fromkeys(
        columns
    )  # None: asked for, but defined for no utterance
    summary |= {column: r.value for column, r in found.items()}
    return summary | {
        "intervals": {
            column: ends
            for column, r in found.items()
            if (ends := _rounded(interval(r, counts, groups=groups))) is not None
        },
        "utterances": len(kept),
        "seconds": round(sum(entry["seconds"] for entry in entries), 6),
        "errors": sum("error" in entry for entry in entries),
    }


def _rounded(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else [round(end, 8) for end in ends]


def speakers_of(rows: Rows) -> list[str]:
    """Return the speaker of each row; a row without one is a speaker of its own."""
    return [row["speaker"] if row["speaker"] is not None else f"\0{row['id']}" for row in rows]


def spread_over_seeds(rows: Rows, names: Sequence[str]) -> dict[str, Any]:
    """Return mean, deviation, least and greatest of every column over the seeds."""
    found = {}
    for column in SCORES:
        ratios = [ratio(rows, [name], column) for name in names]
        if all(r is not None for r in ratios):
            found[column] = spread([r.value for r in ratios if r is not None])
    return found


def failures_of(rows: Rows) -> list[dict[str, str]]:
    """Return every recording that could not be heard: id, system, reason."""
    return [
        {"id": row["id"], "recording": name, "error": entry["error"]}
        for row in rows
        for name, entry in row["recordings"].items()
        if "error" in entry
    ]


def notes_on(items: Sequence[Item], rows: Rows, *, cluster: bool = False) -> list[str]:
    """Return what a reader of the table has to know."""
    notes = []
    units, name = (
        (len(set(speakers_of(rows))), "speakers") if cluster else (len(rows), "utterances")
    )
    if units < FEW_UNITS:
        notes.append(
            f"intervals over only {units} {name} are too narrow: such a 95 % interval holds the truth less often than that"
        )
    without = sum(ORIGINALS not in row["recordings"] for row in rows)
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
        all(entry["wer"] is None for entry in row["recordings"].values()) for row in rows
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
