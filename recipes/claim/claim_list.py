"""Choose what the claim experiment learns from, and what is said and judged.

    python recipes/claim/claim_list.py --train people/tts.jsonl --voices people/dev-tts.jsonl --hours 6 --say 32 --out out/claim

`--train` is a list for `svae prepare jsonl`, `--voices` a list of held-out readers with id, ref, ref_text and text (both as
recipes/embedded/people.py writes them; without ref the first utterances of --train themselves, for a trial). Writes

- `list.jsonl`: rows of --train, chosen by their names' hashes, of about so many hours,
- `voices/`: the readers' recordings, and `say.jsonl`: id, ref, ref_text, text: every reader says the words of another reader and then, where more are asked for, sentences
  that no voice was trained on (recipes/embedded/texts.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "embedded"))
from texts import composed_sentences, own_sentences

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read one JSON object a line; recordings are relative to the list's folder."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    for row in rows:
        for name in ("audio", "ref"):
            if name in row:
                row[name] = str((path.parent / row[name]).absolute())
    return rows


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def chosen(rows: list[Row], hours: float) -> list[Row]:
    """Return rows of about so many hours, in their order: those whose recordings' names have the least hashes."""
    ranked = sorted(rows, key=lambda row: _hash(Path(row["audio"]).name))
    kept, seconds = set(), 0.0
    for row in ranked:
        if seconds >= 3600 * hours:
            break
        info = soundfile.info(row["audio"])
        seconds += info.frames / info.samplerate
        kept.add(row["audio"])
    return [row for row in rows if row["audio"] in kept]


def what_is_said(voices: list[Row], count: int) -> list[Row]:
    """Return so many rows: each voice with its row's text, then with held-out sentences, until there are enough."""
    sentences = own_sentences("held-out")
    sentences += composed_sentences(max(count, 1), seed=23, part="held-out")
    rows = [_saying(voice, voice["text"]) for voice in voices]
    for number, sentence in enumerate(sentences):
        rows.append(_saying(voices[number % len(voices)], sentence))
    # Alternately, so that few rows too are of both kinds.
    half = len(voices)
    mixed = [row for pair in zip(rows[:half], rows[half:], strict=False) for row in pair]
    kept = (mixed + rows[2 * half :])[:count]
    return [row | {"id": f"{number:03d}"} for number, row in enumerate(kept)]


def with_copy(row: Row, out: Path) -> Row:
    """Copy a row's reference to OUT/voices and return the row with the copy, relative to OUT: results travel with it."""
    source = Path(row["ref"])
    copy = Path("voices") / source.name
    (out / copy).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, out / copy)
    return row | {"ref": str(copy)}


def _saying(voice: Row, text: str) -> Row:
    return {"ref": voice["ref"], "ref_text": voice["ref_text"], "text": text}


def _hash(name: str) -> str:
    return hashlib.sha256(f"claim {name}".encode()).hexdigest()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--voices", type=Path, required=True)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--say", type=int, required=True, help="rows of say.jsonl")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    voices = read_rows(args.voices)
    if "ref" not in voices[0]:
        voices = [row | {"ref": row["audio"], "ref_text": row["text"]} for row in voices[:4]]
    rows = chosen(read_rows(args.train), args.hours)
    write_rows(args.out / "list.jsonl", rows)
    said = [with_copy(row, args.out) for row in what_is_said(voices, args.say)]
    write_rows(args.out / "say.jsonl", said)
    print(f"{len(rows)} utterances to learn from, {len(said)} to say")


if __name__ == "__main__":
    main()
