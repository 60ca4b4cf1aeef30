"""Small corpora on the disk, good and bad."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console

from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions


def speech(number: int, seconds: float, rate: int = 16000) -> np.ndarray:
    """Return 16-bit noise that is not silent."""
    return np.random.default_rng(number).integers(-8000, 8000, int(seconds * rate)).astype(np.int16)


def make_corpus(root: Path, count: int = 12, *, rate: int = 16000, seconds: float = 0.4) -> Path:
    """Write a jsonl corpus of `count` usable utterances by three speakers."""
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        name = f"s{number % 3}-{number:03d}.wav"
        soundfile.write(root / name, speech(number, seconds + 0.05 * (number % 5), rate), rate)
        rows.append(
            {
                "audio": name,
                "text": f"Utterance number {number}.",
                "speaker": f"s{number % 3}",
                "language": "en",
            }
        )
    write_rows(root, rows)
    return root


def write_rows(root: Path, rows: list[dict]) -> None:
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(corpus_root: Path, out: Path, **changes):
    output = io.StringIO()
    options = {
        "corpus": "jsonl",
        "root": corpus_root,
        "out": out,
        "shards": 3,
        "workers": 2,
    } | changes
    report = prepare(PrepareOptions(**options), Console(file=output, width=200))
    return report, output.getvalue()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_bad_corpus(root: Path) -> dict[str, str]:
    """Write a corpus with one utterance for every reason to reject it; return key → reason."""
    make_corpus(root, 4)
    rows = [json.loads(line) for line in (root / "metadata.jsonl").read_text().splitlines()]

    def add(name: str, data: np.ndarray | bytes | None, text: str = "words") -> None:
        rows.append({"audio": f"{name}.wav", "text": text})
        if isinstance(data, bytes):
            (root / f"{name}.wav").write_bytes(data)
        elif data is not None:
            soundfile.write(
                root / f"{name}.wav",
                data,
                16000,
                subtype="FLOAT" if data.dtype == np.float32 else "PCM_16",
            )

    add("missing", None)
    add("text", b"not audio at all" * 100)
    add("nothing", b"")
    add("no-samples", np.zeros(0, np.int16))
    add("nan", np.full(16000, np.nan, np.float32))
    add("short", speech(1, 0.29))
    add("long", speech(2, 35.1))
    add("silent", np.full(16000, 20, np.int16))
    add("untold", speech(3, 1.0), text=" \u200b ")
    write_rows(root, rows)
    return {
        "missing": "missing",
        "text": "unreadable",
        "nothing": "empty",
        "no-samples": "empty",
        "nan": "non-finite",
        "short": "too short",
        "long": "too long",
        "silent": "silent",
        "untold": "without text",
    }
