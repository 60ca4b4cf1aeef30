"""An hour read by people, in one recording, with the text of its book beside it: does each piece get the words that are said in it?

    python benchmarks/audiobook.py make ../shared/data/real-speech out/book
    svae prepare recordings --root out/book/audio --out out/book-shards --asr faster-whisper-int8:FOLDER
    python benchmarks/audiobook.py score out/book out/book-shards --out benchmarks/results/audiobook.json

`make` joins all recordings of LibriSpeech in real-speech, with pauses of 0.8 to 3 s over faint room noise, and writes one MP3 as
LibriVox does. It begins with an announcement that is not in the book; the book beside it, `hour.txt`, begins and ends with chapters
that nobody reads. `score` knows from truth.json when each sentence is said. Where pieces and sentences overlap in time they
belong together: there the words of the pieces have to be those of the sentences, whatever a recogniser heard.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile
from common import describe, write
from recordings import RATE, made_with, make_or_score, page_rows, room_noise

from svae.assets import asset_path

UNREAD = 120
"""Sentences of the book before and after what is read, each."""
NOISE = 3e-4
"""Root mean square of the room: 50 to 60 dB below the voices."""
ANNOUNCEMENT = "flite-slt.wav"


def make(source: Path, folder: Path, minutes: float) -> None:
    """Write audio/reader/hour.mp3, hour.txt beside it, and truth.json: what is said when."""
    rng = np.random.default_rng(0)
    lines = (source / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    read = [row for row in rows if row["corpus"].startswith("librispeech")]
    others = dict.fromkeys(
        row["text"] for row in rows if row["corpus"] == "speechocean762-adult" and row["text"]
    )
    unread = list(others)[: 2 * UNREAD]
    announcement, rate = soundfile.read(asset_path("references", ANNOUNCEMENT))
    assert rate == RATE
    pieces, said, at = [announcement], [], len(announcement) / RATE
    announced = at
    for row in read:
        pause = np.zeros(int(RATE * rng.uniform(0.8, 3)))
        speech, rate = soundfile.read(source / row["audio"])
        assert rate == RATE
        pieces += [pause, speech]
        at += len(pause) / RATE
        said.append({"start": at, "end": at + len(speech) / RATE, "text": row["text"]})
        at += len(speech) / RATE
        if at >= 60 * minutes:
            break
    samples = np.concatenate(pieces)
    samples += NOISE * room_noise(len(samples), rng)
    path = folder / "audio" / "reader" / "hour.mp3"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    sentences = [*unread[:UNREAD], *(each["text"] for each in said), *unread[UNREAD:]]
    book = "".join(f"{text[0].upper()}{text[1:]}.\n\n" for text in sentences)
    path.with_suffix(".txt").write_text(book, encoding="utf-8")
    truth = {"announced": announced, "seconds": at, "said": said}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {at / 60:.1f} minutes, {len(said)} sentences, a book of {len(sentences)}")


def together(said: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[tuple[list, list]]:
    """Return sentences and pieces, grouped where they overlap in time."""
    spans = [(each["start"], each["end"], 0, each) for each in said]
    spans += [(row["start"], row["start"] + row["seconds"], 1, row) for row in rows]
    groups: list[tuple[list, list]] = []
    end = -1.0
    for start, until, kind, each in sorted(spans, key=lambda span: span[:2]):
        if start >= end:
            groups.append(([], []))
        groups[-1][kind].append(each)
        end = max(end, until)
    return groups


def score(folder: Path, shards: Path, out: Path | None) -> None:
    """Compare the words of the pieces with what is said while they last."""
    import torch

    from svae.judges.wer import word_errors

    description = describe(torch.device("cpu"))
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    rows = page_rows(shards)
    total: Counter[str] = Counter()
    wrong = []
    for said, pieces in together(truth["said"], rows):
        if not said:
            total["pieces_without_words"] += len(pieces)
            total["of_them_used"] += sum(row["used"] for row in pieces)
            continue
        reference = " ".join(each["text"] for each in said)
        heard = " ".join(row["heard"] or row["text"] for row in pieces)
        total["words"] += (words := len(reference.split()))
        total["heard_errors"] += word_errors(reference, heard).errors
        if not pieces or not all(row["used"] for row in pieces):
            continue
        text = " ".join(row["text"] for row in pieces)
        errors = word_errors(reference, text).errors
        total["groups_used"] += 1
        total["groups_exact"] += errors == 0
        total["used_words"] += words
        total["used_errors"] += errors
        if errors:
            wrong.append({"said": reference, "text": text})
    reasons = Counter(reason.split(":")[0] for row in rows for reason in row["reasons"])
    found = {
        "minutes": round(truth["seconds"] / 60, 1),
        "pieces": len(rows),
        "used": sum(row["used"] for row in rows),
        "used_minutes": round(sum(row["seconds"] for row in rows if row["used"]) / 60, 1),
        **total,
        "used_wer": round(total["used_errors"] / max(total["used_words"], 1), 5),
        "heard_wer": round(total["heard_errors"] / total["words"], 4),
        "announcement_used": any(
            row["used"] and row["start"] < truth["announced"] - 0.5 for row in rows
        ),
        "reasons": dict(reasons),
    }
    print(json.dumps(found))
    write(out, description, total=found, wrong=wrong, made_with=made_with(shards))


def main() -> None:
    parser, making = make_or_score(__doc__)
    making.add_argument("--minutes", type=float, default=60.0, help="at most so many")
    given = parser.parse_args()
    if given.command == "make":
        make(given.source, given.folder, given.minutes)
    else:
        score(given.folder, given.shards, given.out)


if __name__ == "__main__":
    main()
