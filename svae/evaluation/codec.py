"""What only reconstructions have: scores of the signal, and similarity, against the very recording that was coded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from rich.progress import track

from svae.errors import DataError
from svae.evaluation.answer_cache import AnswerCache
from svae.evaluation.ask import JUDGE_RATE, Bench, Judges, embed_all
from svae.evaluation.items import Item
from svae.evaluation.recordings import Recording
from svae.evaluation.rows import ORIGINALS, SIGNAL_SCORES, Rows, Systems, cosine
from svae.evaluation.signals import identity, signal_scores
from svae.runtime.distributed import barrier, gather_lists

TOLERANCE_SECONDS = 0.1
"""Codecs work in whole frames; what differs by more than this is not a reconstruction of the same recording."""


def add_codec_scores(
    rows: Rows, items: Sequence[Item], systems: Systems, judges: Judges, bench: Bench
) -> None:
    """Add the signal scores, and `sim_…_to_original`, to the rows of all systems but the originals."""
    pairs = [
        (row["recordings"][name], of_item[item.id], item.target)
        for row, item in zip(rows, items, strict=True)
        for name, of_item in systems.items()
        if name != ORIGINALS and item.id in of_item and item.target is not None
    ]
    for kind, model in judges.speakers.items():
        found = embed_all(
            bench, kind, model, list({target.name: target for _, _, target in pairs}.values())
        )
        for name, of_item in systems.items():
            if name != ORIGINALS:
                found |= embed_all(bench, kind, model, list(of_item.values()))
        for entry, made, target in pairs:
            a, b = found[made.name], found[target.name]
            entry[f"{kind}_to_original"] = (
                0.0 if isinstance(a, dict) or isinstance(b, dict) else cosine(a, b)
            )
    with bench.stages.measure("signal"):
        answers = ask_pairs(bench, [(made, target) for _, made, target in pairs])
    for entry, made, target in pairs:
        entry |= dict.fromkeys(SIGNAL_SCORES) | answers[made.name, target.name]


def ask_pairs(
    bench: Bench, pairs: list[tuple[Recording, Recording]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the scores by the names of a pair; remembered by content, divided over ranks."""
    cache = AnswerCache(bench.cache, "signal", identity(), bench.world.rank)
    keys: dict[tuple[str, str], str] = {}
    for made, target in pairs:
        keys[made.name, target.name] = f"{_content(bench, made)}:{_content(bench, target)}"
    todo = {
        keys[m.name, t.name]: (m, t) for m, t in pairs if cache.get(keys[m.name, t.name]) is None
    }
    mine = list(todo.items())[bench.world.rank :: bench.world.world_size]
    barrier(bench.world)
    lines = []
    for key, (made, target) in track(
        mine,
        "Comparing signals",
        console=bench.console,
        transient=True,
        disable=not bench.console.is_terminal,
    ):
        scores = score_pair(target, made)
        if "missing " not in key:
            cache.add({key: scores})
        bench.stages.heard("signal", scores["compared_seconds"])
        lines.append(json.dumps([key, scores]))
    fresh = dict(json.loads(line) for line in gather_lists(lines, bench.world))
    return {names: fresh.get(key) or cache.get(key) for names, key in keys.items()}


def _content(bench: Bench, recording: Recording) -> str:
    """Return the hash of a recording; of one that is not there its name, since nothing about it may be remembered."""
    try:
        return bench.content(recording)
    except (DataError, OSError):
        return f"missing {recording.name}"


def score_pair(original: Recording, made: Recording) -> dict[str, Any]:
    """Return the signal scores of a recording against its original, both at 16 kHz, cut or padded to its length.

    A recording that is missing or unreadable is scored as silence, so that losing one improves no mean.
    """
    try:
        reference = original.load(JUDGE_RATE)
    except DataError as error:
        reason = f"the original cannot be read: {error}"
        return {"undefined": dict.fromkeys(SIGNAL_SCORES, reason), "compared_seconds": 0.0}
    size = reference.shape[0]
    try:
        degraded = made.load(JUDGE_RATE)
    except DataError:
        degraded = torch.zeros(size)
    fitted = torch.nn.functional.pad(degraded[:size], (0, max(0, size - degraded.shape[0])))
    scores = signal_scores(reference, fitted, JUDGE_RATE) | {"compared_seconds": size / JUDGE_RATE}
    excess = (degraded.shape[0] - size) / JUDGE_RATE
    return scores | ({"longer_by_seconds": excess} if abs(excess) > TOLERANCE_SECONDS else {})


def codec_notes(rows: Rows, names: Sequence[str]) -> list[str]:
    """Say of how many utterances a score does not exist, and why; and whose length is not the original's."""
    notes = []
    for name in names:
        entries = [row["recordings"][name] for row in rows if name in row["recordings"]]
        for score in SIGNAL_SCORES:
            reasons = Counter(
                r for e in entries if (r := e.get("undefined", {}).get(score)) is not None
            )
            if reasons:
                why = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3))
                notes.append(
                    f"{name}: {score} is undefined for {reasons.total()} of {len(entries)} utterances: {why}"
                )
        off = sum("longer_by_seconds" in e for e in entries)
        if off:
            notes.append(
                f"{name}: {off} of {len(entries)} recordings are not as long as the original; cut or padded"
            )
    return notes
