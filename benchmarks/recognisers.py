"""Engines of Whisper side by side on the same clips: texts, word errors, and seconds of one CPU core.

    python benchmarks/recognisers.py --transformers FOLDER --ct2 FOLDER --clips metadata.jsonl --count 50 --out out.json

--clips names {audio, text} a line, paths relative to it. Clips are heard in order of length, eight in turn by every engine, so that a
busy machine slows all alike; processor time is counted, not that of the clock. Eight clips are also what `whisper, batch 8` hears at a
time. What was heard is kept in --out: the same command goes on, and `--minutes` ends it in time. The files should have 16 kHz:
faster-whisper resamples by its own filter. `own` is faster-whisper's interface on the file, without svae: its texts have to be those of
`faster-whisper`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svae.audio import SPEECH_RATE, load_audio
from svae.evaluation.statistics import Ratio, interval, resampling_counts
from svae.judges.asr import load_asr
from svae.judges.clips import batches
from svae.judges.wer import word_errors
from svae.runtime.environment import environment
from svae.runtime.files import write_text

TOGETHER = 8
ENGINES = {
    "faster-whisper": ("faster-whisper", 1),
    "own": ("", 1),
    "whisper": ("whisper", 1),
    "whisper-int8": ("whisper-int8", 1),
    "whisper, batch 8": ("whisper", TOGETHER),
    "faster-whisper-int8": ("faster-whisper-int8", 1),
}
"""What `--asr` begins with, and clips heard together."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transformers", type=Path, required=True)
    parser.add_argument("--ct2", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--corpus", default="", help="only rows whose `corpus` begins with this")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in args.clips.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("corpus", "").startswith(args.corpus)][: args.count]
    paths = [args.clips.parent / row["audio"] for row in rows]
    clips = {path: load_audio(path, sample_rate=SPEECH_RATE)[0][0] for path in paths}
    order = sorted(zip(paths, rows, strict=True), key=lambda pair: len(clips[pair[0]]))
    report: dict[str, Any] = {"rows": {}, "cpu_seconds": {}}
    if args.out.exists():
        report = json.loads(args.out.read_text(encoding="utf-8"))
    folders = {"whisper": args.transformers, "faster": args.ct2}
    engines = {name: open_engine(name, folders, clips) for name in args.engines}
    for group in batches(order, TOGETHER):
        names = [path.stem for path, _ in group]
        for engine, hear in engines.items():
            done = report["rows"].setdefault(engine, {})
            if all(name in done for name in names) or time.monotonic() > end:
                continue
            start = time.process_time()
            texts = hear([path for path, _ in group])
            spent = report["cpu_seconds"].get(engine, 0.0) + time.process_time() - start
            report["cpu_seconds"][engine] = spent
            for name, text, (path, row) in zip(names, texts, group, strict=True):
                seconds = len(clips[path]) / SPEECH_RATE
                done[name] = {"heard": text, "text": row["text"], "seconds": seconds}
            report["environment"] = environment(torch.device("cpu"))
            report["engines"] = summary(report)
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write_text(args.out, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
            print(engine, len(done), f"{spent:.1f} s", flush=True)
    print(json.dumps(report["engines"], indent=1))


def open_engine(
    name: str, folders: dict[str, Path], clips: dict[Path, Tensor]
) -> Callable[[Sequence[Path]], list[str]]:
    """Return what hears files."""
    if name != "own":
        kind, batch_size = ENGINES[name]
        asr = load_asr(f"{kind}:{folders[kind.partition('-')[0]]}", batch_size=batch_size)
        return lambda paths: asr.transcribe([clips[path] for path in paths])
    from faster_whisper import WhisperModel

    own = WhisperModel(str(folders["faster"]), device="cpu", compute_type="float32", cpu_threads=1)

    def hear(path: Path) -> str:
        segments, _ = own.transcribe(str(path), beam_size=5, language="en")
        return "".join(segment.text for segment in segments).strip()

    return lambda paths: [hear(path) for path in paths]


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """Return engine → its scores over what it has heard."""
    found = {}
    reference = report["rows"].get("faster-whisper", {})
    for engine, rows in report["rows"].items():
        if not rows:
            continue
        counts = [word_errors(row["text"], row["heard"]) for row in rows.values()]
        ratio = Ratio(
            np.array([count.errors for count in counts], np.float64),
            np.array([count.words for count in counts], np.float64),
        )
        both = [name for name in rows if name in reference]
        seconds = sum(row["seconds"] for row in rows.values())
        found[engine] = {
            "clips": len(rows),
            "wer_corpus": ratio.value,
            "interval": interval(ratio, resampling_counts(len(rows))),
            "same_text_as_faster_whisper": [
                sum(rows[name]["heard"] == reference[name]["heard"] for name in both),
                len(both),
            ],
            "cpu_seconds_per_second": report["cpu_seconds"][engine] / seconds,
        }
    return found


if __name__ == "__main__":
    main()
