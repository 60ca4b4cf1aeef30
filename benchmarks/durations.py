"""How well F5-TTS's byte rule and the learned predictor know the length of speech, on pairs of one speaker.

    python benchmarks/durations.py --list data/librispeech_pc_test_clean_cross_sentence.lst

Reads F5-TTS's cross-sentence list (tab-separated: prompt, its seconds, its text, target, its seconds, its text). Two kinds of
pairs: the list's own, which were chosen so that the byte rule fits; and random ones of the same utterances, each with another
one by its speaker, as users' references are. The predictor is fitted as `svae train-tts` does it, on the utterances of one half
of the speakers, and asked about the other half; then the other way round.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import describe as describe_machine
from common import write  # noqa: E402

from svae.data.samples import Sample
from svae.synthesis.durations import TextRule, predict_frames
from svae.synthesis.types import Prompt
from svae.text.vocabulary import Vocabulary, normalize_text
from svae.training.tts.fit_durations import STEPS, fit_duration

HOP, RATE = 400, 16000


def read(path: Path) -> tuple[dict[str, Sample], list[tuple[str, str]]]:
    """Return key → utterance, and the list's pairs (prompt, target)."""
    samples, pairs = {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        prompt, prompt_seconds, prompt_text, target, seconds, text = line.split("\t")
        for key, duration, said in ((prompt, prompt_seconds, prompt_text), (target, seconds, text)):
            samples[key] = Sample(
                key=key, shard=0, duration_seconds=float(duration), num_samples=round(float(duration) * RATE),
                speaker=key.split("-")[0], language="en", text=normalize_text(said), members={}, crc32={},
            )  # fmt: skip
        pairs.append((prompt, target))
    return samples, pairs


def random_pairs(samples: dict[str, Sample], seed: int) -> list[tuple[str, str]]:
    """Return each utterance as a target, with another one by its speaker as the prompt."""
    choose, by_speaker = random.Random(seed), {}
    for key, sample in samples.items():
        by_speaker.setdefault(sample.speaker, []).append(key)
    return [
        (choose.choice([k for k in by_speaker[s.speaker] if k != key]), key)
        for key, s in samples.items()
        if len(by_speaker[s.speaker]) > 1
    ]


def ratios(
    samples: dict[str, Sample], pairs: list[tuple[str, str]], steps: int
) -> dict[str, list[float]]:
    """Return predicted / true seconds of the new speech, by rule."""
    speakers = sorted({sample.speaker for sample in samples.values()})
    vocabulary = Vocabulary.from_characters(sample.text for sample in samples.values())
    found: dict[str, list[float]] = {"bytes": [], "predictor": []}
    for half in (set(speakers[::2]), set(speakers[1::2])):
        known = [sample for sample in samples.values() if sample.speaker not in half]
        predictor = fit_duration(known, vocabulary, hop_length=HOP, steps=steps)
        rule = TextRule(vocabulary, RATE / HOP, predictor)
        for prompt, target in (
            (samples[p], samples[t]) for p, t in pairs if samples[t].speaker in half
        ):
            frames, true = prompt.num_samples // HOP, target.num_samples / HOP
            found["bytes"].append(
                (predict_frames(frames, prompt.text, target.text) - frames) / true
            )
            spoken = Prompt(torch.zeros(1, 1, frames), prompt.text, 1.0, frames * HOP / RATE)
            total = rule.total_frames(spoken, target.text, 1.0)
            found["predictor"].append((total - frames) / true)
    return found


def describe(values: list[float]) -> dict[str, float]:
    """Return percentiles and mean absolute logarithm of the ratios."""
    array = np.array(values)
    row = {
        name: float(np.percentile(array, q)) for name, q in (("p5", 5), ("p50", 50), ("p95", 95))
    }
    return row | {
        "least": array.min(),
        "greatest": array.max(),
        "mean_abs_log": float(np.abs(np.log(array)).mean()),
    }


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS, help="of fitting the predictor")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    samples, pairs = read(args.list)
    rows = []
    for kind, chosen in (("list", pairs), ("random", random_pairs(samples, 0))):
        for rule, values in ratios(samples, chosen, args.steps).items():
            rows.append({"pairs": kind, "number": len(values), "rule": rule} | describe(values))
            row = rows[-1]
            numbers = "  ".join(
                f"{name} {row[name]:.3f}"
                for name in ("p5", "p50", "p95", "least", "greatest", "mean_abs_log")
            )
            print(f"{kind:6} {row['number']:5} pairs  {rule:9}  {numbers}")
    write(args.out, describe_machine(torch.device("cpu")), rows=rows)


if __name__ == "__main__":
    main()
