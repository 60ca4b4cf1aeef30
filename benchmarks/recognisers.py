"""Engines of Whisper side by side on the same clips: texts, word errors, and seconds of one CPU core.

    python benchmarks/recognisers.py --transformers FOLDER --ct2 FOLDER --clips metadata.jsonl --count 50 --out out.json

--clips names {audio, text} a line, paths relative to it. Clips are heard in turn by every engine, so that a busy machine slows
all alike; processor time is counted, not that of the clock. The files should have 16 kHz: faster-whisper resamples by its own
filter. `own` is faster-whisper's interface on the file, without svae: its texts have to be those of `faster-whisper`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from svae.audio import SPEECH_RATE, load_audio
from svae.evaluation.statistics import Ratio, interval, resampling_counts
from svae.judges.asr import load_asr
from svae.judges.wer import word_errors
from svae.runtime.environment import environment


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transformers", type=Path, required=True)
    parser.add_argument("--ct2", type=Path, required=True)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--corpus", default="", help="only rows whose `corpus` begins with this")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    from faster_whisper import WhisperModel

    rows = [json.loads(line) for line in args.clips.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row.get("corpus", "").startswith(args.corpus)][: args.count]
    torch.set_num_threads(1)
    engines: dict[str, Callable[[Path], str]] = {}
    for spec in (
        f"whisper:{args.transformers}",
        f"faster-whisper:{args.ct2}",
        f"faster-whisper-int8:{args.ct2}",
    ):
        asr = load_asr(spec)
        engines[spec.partition(":")[0]] = lambda path, asr=asr: asr.transcribe(
            [load_audio(path, sample_rate=SPEECH_RATE)[0][0]]
        )[0]
    own = WhisperModel(str(args.ct2), device="cpu", compute_type="float32", cpu_threads=1)
    engines["own"] = lambda path: "".join(
        s.text for s in own.transcribe(str(path), beam_size=5, language="en")[0]
    ).strip()
    texts: dict[str, list[str]] = {name: [] for name in engines}
    spent = dict.fromkeys(engines, 0.0)
    seconds = 0.0
    for number, row in enumerate(rows):
        path = args.clips.parent / row["audio"]
        waveform, rate = load_audio(path)
        seconds += waveform.shape[-1] / rate
        for name, hear in engines.items():
            start = time.process_time()
            texts[name].append(hear(path))
            spent[name] += time.process_time() - start
        print(number + 1, {name: round(value, 1) for name, value in spent.items()}, flush=True)
        results = {}
        for name, said in texts.items():
            counts = [word_errors(r["text"], t) for r, t in zip(rows, said, strict=False)]
            found = Ratio(
                torch.tensor([c.errors for c in counts]).double().numpy(),
                torch.tensor([c.words for c in counts]).double().numpy(),
            )
            results[name] = {
                "wer_corpus": found.value,
                "interval": interval(found, resampling_counts(len(counts))),
                "same_text_as_faster_whisper": sum(
                    a == b for a, b in zip(said, texts["faster-whisper"], strict=True)
                ),
                "cpu_seconds": spent[name],
                "cpu_seconds_per_second": spent[name] / seconds,
            }
        report = {
            "clips": number + 1,
            "seconds": seconds,
            "environment": environment(torch.device("cpu")),
            "engines": results,
            "texts": [
                {"audio": r["audio"], "text": r["text"]} | {n: t[i] for n, t in texts.items()}
                for i, r in enumerate(rows[: number + 1])
            ],
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(report["engines"], indent=1))


if __name__ == "__main__":
    main()
