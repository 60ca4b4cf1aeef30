"""Which recorded people the embedded models learn from, and which only judge them.

A folder of recordings with `metadata.jsonl` (audio, speaker, corpus, duration): LibriSpeech, speechocean762 and Picovoice's
commands, all under licences that allow models to be made and passed on.

    python recipes/embedded/speaker_people.py DIR data/people/list.jsonl        # the list that ge2e.py reads

Parts:

    train       LibriSpeech train-clean-100 and speechocean762 but for those below; Picovoice's speakers have no names
    dev         20 readers of LibriSpeech train-clean-100, chosen by a hash, one clip each; `dev-halves`: its two halves
    held-out    about 15 % of speechocean762's adults and children, chosen by a hash
    judge       LibriSpeech test-other, for judging alone
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from people import HELD_OUT_FROM, held_out, read_rows

SAMPLE_RATE = 16000
HELD_OUT_PERCENT = 15
_JUDGE = "librispeech-test-other"
_NAMED = ("speechocean762-adult", "speechocean762-child")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One recording, or a piece of one."""

    audio: str
    """Path, and `#START-END` in seconds for a piece: a name in the list for ge2e.py."""
    speaker: str
    """Empty where the corpus does not say who speaks."""
    corpus: str
    part: str
    """`train`, `dev`, `dev-halves`, `held-out`, `judge`."""

    def load(self) -> Tensor:
        """Read the samples (S,), int16 at 16 kHz. Raises ValueError for another rate."""
        path, _, piece = self.audio.partition("#")
        samples, rate = soundfile.read(path, dtype="int16")
        if rate != SAMPLE_RATE:
            raise ValueError(f"{path}: {rate} Hz, expected {SAMPLE_RATE}")
        if piece:
            start, end = (round(float(second) * rate) for second in piece.split("-"))
            samples = samples[start:end]
        return torch.from_numpy(samples)


def people(root: Path) -> list[Clip]:
    """List every recording below `root`; the dev clips come whole and as two halves, so that each reader has a pair."""
    rows = read_rows(root / "metadata.jsonl")
    # Those that the voice is not trained on either: on them choices are made.
    dev = {row["speaker"] for row in held_out(rows)}
    clips = []
    for row in rows:
        part = _part(row, dev)
        whole = Clip(
            audio=str(root / row["audio"]),
            speaker=row["speaker"],
            corpus=row["corpus"],
            part=part,
        )
        clips.append(whole)
        if part == "dev":
            half, end = row["duration"] / 2, row["duration"]
            clips += [
                replace(whole, audio=f"{whole.audio}#{piece}", part="dev-halves")
                for piece in (f"0.000-{half:.3f}", f"{half:.3f}-{end:.3f}")
            ]
    return clips


def write_list(clips: Iterable[Clip], path: Path) -> None:
    """Write the list that ge2e.py reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"audio": str(Path(c.audio).absolute())}) + "\n" for c in clips)
    path.write_text(lines, encoding="utf-8")


def _part(row: dict, dev: set[str]) -> str:
    if row["corpus"] == _JUDGE:
        return "judge"
    if row["corpus"] == HELD_OUT_FROM and row["speaker"] in dev:
        # A reader has one clip here; of one with several, all are left out of training.
        return "dev"
    number = int(hashlib.sha256(f"person:{row['speaker']}".encode()).hexdigest(), 16)
    return "held-out" if row["corpus"] in _NAMED and number % 100 < HELD_OUT_PERCENT else "train"


def main() -> None:
    """Read the command line and write the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("list", type=Path)
    args = parser.parse_args()
    write_list(people(args.root), args.list)


if __name__ == "__main__":
    main()
