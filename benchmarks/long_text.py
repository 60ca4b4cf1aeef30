"""Speak a text of any length with the embedded model, and report memory, time and the words that the offline judge hears.

    python benchmarks/long_text.py --words 2000
    python benchmarks/long_text.py --words 100 2000 --steps 4

Each length runs in a process of its own, on the project's own sentences (`recipes/embedded/sentences.txt`), repeated as often
as needed. `peak` is the largest resident memory up to the end of the synthesis, with Python, torch and the models in it; the
judge works afterwards, on the chunks that it would be given by `--verify`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from common import describe, write

from svae.assets import asset_path

SENTENCES = Path(__file__).parent.parent / "recipes" / "embedded" / "sentences.txt"


def text_of(words: int) -> str:
    """Return whole sentences with at least so many words."""
    found, count = [], 0
    lines = [line.strip() for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    for line in cycle(line for line in lines if line and not line.startswith("#")):
        if count >= words:
            return " ".join(found)
        found.append(line)
        count += len(line.split())
    raise SystemExit(f"{SENTENCES}: no sentences")


def measure(words: int, steps: int | None, threads: int) -> dict[str, Any]:
    """Speak a text in this process and return what that took (s, GiB) and how many words were heard."""
    from svae.judges.asr import load_asr
    from svae.judges.wer import word_errors
    from svae.synthesis.command import SynthesizeOptions, synthesize_file
    from svae.synthesis.types import Sampling
    from svae.text.spell_out import spoken_form

    torch.set_num_threads(threads)
    reference = json.loads(
        (asset_path("references") / "references.json").read_text(encoding="utf-8")
    )[0]
    text = text_of(words)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        out = synthesize_file(
            SynthesizeOptions(
                model=Path("embedded"),
                text=text,
                ref=asset_path("references", reference["audio"]),
                ref_text=reference["text"],
                out=Path(folder) / "long.wav",
                sampling=Sampling(num_steps=steps),
            )
        )
        elapsed = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**30 if sys.platform == "darwin" else 2**20
        )
        report = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
        heard = heard_in(out, load_asr("pocketsphinx"), report["chunks"])
    errors = word_errors(spoken_form(text, "en"), heard)
    return {
        "words": len(text.split()),
        "steps": report["steps"],
        "chunks": len(report["chunks"]),
        "audio_s": report["generated_seconds"],
        "elapsed_s": elapsed,
        "rtf": elapsed / report["generated_seconds"],
        "peak_gib": peak,
        "all_text_in_chunks": " ".join(c["text"] for c in report["chunks"])
        == spoken_form(text, "en"),
        "wer": errors.rate,
        "deletions": errors.deletions,
        "insertions": errors.insertions,
    }


def heard_in(audio: Path, judge: Any, chunks: list[dict[str, Any]]) -> str:  # noqa: ANN401
    """Return what the judge hears, in pieces of the chunks' lengths, so that it never holds the whole."""
    import soundfile

    from svae.synthesis.long_text import CROSSFADE_SECONDS

    said = []
    with soundfile.SoundFile(audio) as file:
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            seconds = chunk["generated_seconds"] - CROSSFADE_SECONDS
            piece = file.read(-1 if last else round(seconds * file.samplerate), dtype="float32")
            if len(piece):
                said += judge.transcribe([torch.from_numpy(piece)])
    return " ".join(said)


def main() -> None:
    """Measure the wanted lengths one after the other, print a table and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--words", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--steps", type=int, help="solver steps; default: the model's own number")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    description = describe(torch.device("cpu"))
    rows = []
    for words in args.words:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (words, args.steps, args.threads)))
        print(json.dumps(rows[-1], indent=2), flush=True)
    write(args.out, description, rows=rows)


if __name__ == "__main__":
    main()
