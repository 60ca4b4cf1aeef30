"""What only reconstructions have: scores of the signal, and similarity, against the very recording that was coded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from svae.audio import SPEECH_RATE
from svae.errors import DataError
from svae.evaluation.answer_cache import AnswerCache
from svae.evaluation.ask import Bench, Judges, embed_all, own_share
from svae.evaluation.items import Item
from svae.evaluation.recordings import Recording
from svae.evaluation.rows import ORIGINALS, Row, Systems, cosine
from svae.evaluation.signals import SIGNAL_SCORES, SignalScores, identity, signal_scores
from svae.runtime.distributed import World, gather_lists
from svae.runtime.jobs import Tick

TOLERANCE_SECONDS = 0.1
"""Codecs work in whole frames; what differs by more than this is not a reconstruction of the same recording."""
MISSING = "missing "
"""Begins what stands for the hash of a recording that is not there."""


def with_codec_scores(
    rows: Sequence[Row], items: Sequence[Item], systems: Systems, judges: Judges, bench: Bench
) -> list[Row]:
    """Return the rows with signal scores, and `sim_…_to_original`, of all systems but the originals."""
    coded = {name: of_item for name, of_item in systems.items() if name != ORIGINALS}
    targets = {item.id: item.target for item in items if item.target is not None}
    pairs = [
        (of_item[item_id], target)
        for item_id, target in targets.items()
        for of_item in coded.values()
        if item_id in of_item
    ]
    voices = {}
    for kind, model in judges.speakers.items():
        voices[kind] = embed_all(bench, kind, model, [target for _, target in pairs])
        for of_item in coded.values():
            voices[kind] |= embed_all(bench, kind, model, list(of_item.values()))
    with bench.stages.measure("signal"):
        signals = ask_pairs(bench, pairs)
    found = []
    for row in rows:
        recordings = dict(row.recordings)
        for name, of_item in coded.items():
            if row.id in of_item and row.id in targets:
                made, target = of_item[row.id].name, targets[row.id].name
                to_original: dict[str, float | None] = {
                    f"{kind}_to_original": cosine(vectors[made], vectors[target])
                    for kind, vectors in voices.items()
                }
                recordings[name] = replace(
                    recordings[name],
                    judged=recordings[name].judged | to_original,
                    signal=signals[made, target],
                )
        found.append(replace(row, recordings=recordings))
    return found


def ask_pairs(
    bench: Bench, pairs: Sequence[tuple[Recording, Recording]]
) -> dict[tuple[str, str], SignalScores]:
    """Return the scores by the names of a pair; remembered by content, divided over ranks."""
    cache = remembered_signals(bench)
    keys = {
        (made.name, target.name): f"{_content(bench, made)}:{_content(bench, target)}"
        for made, target in pairs
    }
    by_key = {keys[made.name, target.name]: (made, target) for made, target in pairs}
    stored = {key: cache.get(key) for key in by_key}
    world = bench.world
    mine = {
        key: by_key[key]
        for key in list(by_key)[world.rank :: world.world_size]
        if stored[key] is None
    }
    if bench.elsewhere is None:
        compared = compare_pairs(bench, mine, cache)
    else:
        compared = bench.elsewhere.compare(mine)
    lines = [json.dumps(entry) for entry in compared.items()]
    stored |= dict(json.loads(line) for line in gather_lists(lines, world))
    return {names: SignalScores.from_json(stored[key]) for names, key in keys.items()}


def remembered_signals(bench: Bench) -> AnswerCache:
    """Return the scores that were computed before."""
    return AnswerCache(bench.cache, "signal", identity(), bench.world.rank)


def compare_pairs(
    bench: Bench,
    pairs: dict[str, tuple[Recording, Recording]],
    cache: AnswerCache,
    tick: Tick | None = None,
) -> dict[str, Any]:
    """Return key → scores as JSON of every pair; remember each, unless a recording of it is missing."""
    here = World(0, 1, bench.world.device)
    found = {}
    for key, (made, target) in own_share(
        list(pairs.items()), "Comparing signals", here, bench.console, tick
    ):
        scores = score_pair(target, made)
        found[key] = scores.to_json()
        if MISSING not in key:
            cache.add({key: found[key]})
        bench.stages.heard("signal", scores.compared_seconds)
    return found


def _content(bench: Bench, recording: Recording) -> str:
    """Return the hash of a recording; of one that is not there its name, since nothing about it may be remembered."""
    try:
        return bench.content(recording)
    except (DataError, OSError):
        return f"{MISSING}{recording.name}"


def score_pair(original: Recording, made: Recording) -> SignalScores:
    """Return the signal scores of a recording against its original, both at 16 kHz, cut or padded to its length.

    A recording that is missing or unreadable is scored as silence, so that losing one improves no mean.
    """
    try:
        reference = original.load(SPEECH_RATE)
    except DataError as error:
        reason = f"the original cannot be read: {error}"
        return SignalScores(dict.fromkeys(SIGNAL_SCORES), dict.fromkeys(SIGNAL_SCORES, reason), 0.0)
    size = reference.shape[0]
    try:
        degraded = made.load(SPEECH_RATE)
    except DataError:
        degraded = torch.zeros(size)
    fitted = torch.nn.functional.pad(degraded[:size], (0, max(0, size - degraded.shape[0])))
    scores = signal_scores(reference, fitted, SPEECH_RATE)
    excess = (degraded.shape[0] - size) / SPEECH_RATE
    return replace(scores, longer_by_seconds=excess) if abs(excess) > TOLERANCE_SECONDS else scores


def codec_notes(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Say of how many utterances a score does not exist, and why; and whose length is not the original's."""
    notes = []
    for name in names:
        entries = [scored.signal for row in rows for scored in row.of([name])]
        signals = [signal for signal in entries if signal is not None]
        for score in SIGNAL_SCORES:
            reasons = Counter(
                signal.undefined[score] for signal in signals if score in signal.undefined
            )
            if reasons:
                why = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3))
                notes.append(
                    f"{name}: {score} is undefined for {reasons.total()} of {len(entries)} utterances: {why}"
                )
        off = sum(signal.longer_by_seconds is not None for signal in signals)
        if off:
            notes.append(
                f"{name}: {off} of {len(entries)} recordings are not as long as the original; cut or padded"
            )
    return notes
