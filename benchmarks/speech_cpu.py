"""Speak with a model in one process, as a server would: real-time factors, and how soon the first audio is there.

    python benchmarks/speech_cpu.py --out benchmarks/results/speech_cpu.json
    python benchmarks/speech_cpu.py --model runs/my-voice --steps 4 --repeats 9

The model is loaded before. `prompt known`: the reference has been encoded and aligned, as for a saved voice; `prompt anew`: both are
done each time, as in `svae synthesize --batch`. First audio is the time from a text to the first samples that `--stream` would
write. Medians of alternating repeats, so that a disturbance hits all rows alike.
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
from torch import Tensor

from svae.assets import asset_path
from svae.audio import load_audio, resample
from svae.synthesis.load import load_tts
from svae.synthesis.long_text import ChunkJoiner, speak_long
from svae.synthesis.model import TTS
from svae.synthesis.types import Prompt, Sampling
from svae.text.sentences import prepare_sentences

TEXTS = {
    "one word": "Yes.",
    "a sentence": "The old lighthouse keeper watched the storm come in from the sea.",
    "two sentences": "The old lighthouse keeper watched the storm come in from the sea. He lit the lamp, and waited.",
    "a long sentence": "When the storm had come in from the sea, the old lighthouse keeper lit the lamp, put on his coat, "
    "and waited at the window until the last of the boats was home.",
}


def speak(
    tts: TTS, text: str, prompt: Prompt | None, recording: tuple[Tensor, str], sampling: Sampling
) -> tuple[float, float, float]:
    """Speak a text as `--stream` does; return seconds to the first audio and to the last, and of audio."""
    started = time.perf_counter()
    if prompt is None:
        prompt = tts.encode_prompt(*recording)
    sentences, _ = prepare_sentences(text, tts.vocabulary, language="en")
    joiner = ChunkJoiner(tts.sample_rate)
    first, samples = 0.0, 0
    for chunk in speak_long(tts, sentences, prompt, sampling, by_sentence=True):
        samples += joiner.add(chunk.waveform).shape[-1]
        first = first or time.perf_counter() - started
    samples += joiner.rest().shape[-1]
    return first, time.perf_counter() - started, samples / tts.sample_rate


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="run or checkpoint folder")
    parser.add_argument("--steps", type=int, help="solver steps; default: the model's own")
    parser.add_argument("--guidance", type=float, help="default: the model's own")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    description = describe(torch.device("cpu"))
    tts = load_tts(args.model)
    tts.representation.load_decoder()
    folder = asset_path("references")
    reference = json.loads((folder / "references.json").read_text(encoding="utf-8"))[-1]
    waveform, rate = load_audio(folder / reference["audio"])
    recording = resample(waveform, rate, tts.sample_rate), reference["text"]
    sampling = tts.resolve(Sampling(num_steps=args.steps, guidance_scale=args.guidance))
    known = tts.encode_prompt(*recording)
    cases = [(name, how) for name in TEXTS for how in ("prompt known", "prompt anew")]
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {case: [] for case in cases}
    for repeat in range(args.repeats + 1):
        for name, how in cases:
            prompt = known if how == "prompt known" else None
            times = speak(tts, TEXTS[name], prompt, recording, sampling)
            if repeat:  # the first one opens dictionaries and aligner
                found[name, how].append(times)
    words = sampling.words(tts.identity)
    table = Table("text", "", "audio (s)", "real-time factor", "first audio (s)")
    table.title = f"{args.model}: {words}, {args.threads} threads"
    rows = []
    for (name, how), measured in found.items():
        first, last, audio = (statistics.median(column) for column in zip(*measured, strict=True))
        table.add_row(name, how, f"{audio:.2f}", f"{last / audio:.3f}", f"{first:.2f}")
        rows.append(
            {
                "text": name,
                "prompt": how.removeprefix("prompt "),
                "audio_seconds": audio,
                "real_time_factor": last / audio,
                "first_audio_seconds": first,
                "runs": measured,
            }
        )
    Console().print(table)
    write(args.out, description, model=args.model, sampling=words, threads=args.threads, rows=rows)


if __name__ == "__main__":
    main()
