"""Speak utterances one by one and in batches: how long it takes, and how far the samples are from those of each alone.

    python benchmarks/batches.py --out benchmarks/results/batches.json
    python benchmarks/batches.py --model runs/my-voice --frames 0 2000 8000 --texts 16

The rows alternate in one run; medians of the repeats. `cpu_ratio` compares seconds of computing, which a busy machine disturbs less. `frames` is `TTS.batch_frames`: what goes through the network together, padding
included; 0: every utterance in its own shape.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from common import describe, write
from rich.console import Console
from rich.table import Table

from svae.assets import asset_path
from svae.audio import load_audio, resample
from svae.runtime.distributed import select_device
from svae.synthesis.load import load_tts
from svae.synthesis.model import batches
from svae.synthesis.types import Sampling

TEXTS = (
    "Yes.",
    "The old lighthouse keeper watched the storm come in from the sea.",
    "He lit the lamp, and waited.",
    "No one came that night.",
    "In the morning the boats were back, all of them.",
    "What a night!",
    "When the storm had come in from the sea, the old lighthouse keeper lit the lamp.",
    "She said nothing.",
)


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="run or checkpoint folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=int, default=8, help="utterances of one round")
    parser.add_argument("--frames", type=int, nargs="+", default=[0, 1000, 4000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="two texts, one step, one repeat")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = select_device(args.device)
    description = describe(device)
    tts = load_tts(args.model, device)
    tts.representation.load_decoder()
    folder = asset_path("references")
    reference = json.loads((folder / "references.json").read_text(encoding="utf-8"))[-1]
    waveform, rate = load_audio(folder / reference["audio"])
    prompt = tts.encode_prompt(resample(waveform, rate, tts.sample_rate), reference["text"])
    count, repeats, steps = (2, 1, 1) if args.tiny else (args.texts, args.repeats, None)
    utterances = [
        tts.prepare(TEXTS[i % len(TEXTS)], prompt, Sampling(seed=i, num_steps=steps))
        for i in range(count)
    ]
    tts.batch_frames = 0
    alone = [tts.speak_prepared([utterance])[0] for utterance in utterances]
    seconds = sum(speech.generated_seconds for speech in alone)
    taken: dict[str, list[float]] = {name: [] for name in ("alone", *map(str, args.frames))}
    computed: dict[str, list[float]] = {name: [] for name in taken}
    distance: dict[str, float] = {}
    for _ in range(repeats):
        for name in taken:
            tts.batch_frames = 0 if name == "alone" else int(name)
            started, computing = time.perf_counter(), time.process_time()
            if name == "alone":
                spoken = [tts.speak_prepared([utterance])[0] for utterance in utterances]
            else:
                spoken = tts.speak_prepared(utterances)
            taken[name].append(time.perf_counter() - started)
            computed[name].append(time.process_time() - computing)
            distance[name] = max(
                float((a.waveform - b.waveform).abs().max())
                for a, b in zip(spoken, alone, strict=True)
            )
    medians = {name: statistics.median(values) for name, values in taken.items()}
    cpu = {name: statistics.median(values) for name, values in computed.items()}
    rows = [
        {
            "frames": name,
            "batches": count if name == "alone" else len(batches(utterances, int(name))),
            "seconds": round(median, 3),
            "rtf": round(median / seconds, 4),
            "alone_over_this": round(medians["alone"] / median, 2),
            "cpu_ratio": round(cpu["alone"] / cpu[name], 2),
            "largest_difference": distance[name],
        }
        for name, median in medians.items()
    ]
    table = Table(*rows[0], title=f"{count} utterances, {seconds:.1f} s of speech")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    write(args.out, description, utterances=count, speech_seconds=seconds, rows=rows)


if __name__ == "__main__":
    main()
