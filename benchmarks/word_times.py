"""How far the times of words in subtitles are from true ones: flite says when it speaks each phone.

    python benchmarks/word_times.py --sentences 60

Needs flite. Which of its phones belong to which word is found by comparing them with the dictionary's phones. Of the
embedded model, whose words stand where its frames have them, no truth is known; its times are compared with the aligner's on
the same speech, so that row holds the errors of both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from svae.assets import asset_path  # noqa: E402
from svae.audio import load_audio, resample  # noqa: E402
from svae.judges.ctc import CTC  # noqa: E402
from svae.synthesis.load import load_tts  # noqa: E402
from svae.synthesis.model import aligner  # noqa: E402
from svae.synthesis.subtitles import deal_times, written_words  # noqa: E402
from svae.synthesis.types import Sampling  # noqa: E402
from svae.text.phonemes import Word, pieces  # noqa: E402
from svae.text.unknown_words import guess  # noqa: E402

SENTENCES = Path(__file__).resolve().parent.parent / "recipes" / "embedded" / "sentences.txt"
VOICES = ("slt", "rms", "awb", "kal16")
SAME = {"ax": "AH", "axr": "ER", "dx": "T", "en": "N", "el": "L", "em": "M"}
Times = list[tuple[float, float]]


def speak(text: str, voice: str) -> tuple[np.ndarray, int, list[tuple[str, float, float]]]:
    """Return samples, their rate, and phone, start and end of all but pauses."""
    with tempfile.TemporaryDirectory() as folder:
        wav = f"{folder}/a.wav"
        command = ["flite", "-voice", voice, "-psdur", "-t", text, "-o", wav]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        samples, rate = soundfile.read(wav, dtype="float32")
    rows = [piece.rsplit(":", 1) for piece in printed.split()]
    ends = [0.0, *(float(end) for _, end in rows)]
    phones = [
        (SAME.get(name, name.upper()), start, end)
        for (name, _), (start, end) in zip(rows, pairwise(ends), strict=True)
        if name != "pau"
    ]
    return samples, rate, phones


def true_words(text: str, phones: list[tuple[str, float, float]]) -> Times | None:
    """Return when each word is spoken; None where flite reads the text otherwise than the dictionary."""
    words = [piece for piece in pieces(text) if isinstance(piece, Word)]
    expected = [
        (phone, number)
        for number, word in enumerate(words)
        for phone in word.phones or guess(word.letters) or ()
    ]
    size = np.zeros((len(expected) + 1, len(phones) + 1))
    size[:, 0], size[0] = range(len(expected) + 1), range(len(phones) + 1)
    for i, (wanted, _) in enumerate(expected, 1):
        for j, (found, _, _) in enumerate(phones, 1):
            other = 0.0 if wanted == found else 0.7 if (wanted[0] in "AEIOU") == (found[0] in "AEIOU") else 1.5  # fmt: skip
            size[i, j] = min(size[i - 1, j] + 1, size[i, j - 1] + 1, size[i - 1, j - 1] + other)
    if size[-1, -1] > 0.25 * len(expected):
        return None
    owner: dict[int, int] = {}
    i, j = len(expected), len(phones)
    while i and j:
        if size[i, j] == size[i - 1, j] + 1:
            i -= 1
        elif size[i, j] == size[i, j - 1] + 1:
            j -= 1
        else:
            i, j = i - 1, j - 1
            owner[j] = expected[i][1]
    times: Times = []
    for number in range(len(words)):
        own = [phones[j] for j, word in owner.items() if word == number]
        if not own:
            return None
        times.append((min(start for _, start, _ in own), max(end for _, _, end in own)))
    return times


def errors(found: Times, true: Times) -> tuple[list[float], list[float]]:
    """Return the errors of starts and of ends, in milliseconds."""
    starts = [1000 * abs(a[0] - b[0]) for a, b in zip(found, true, strict=True)]
    return starts, [1000 * abs(a[1] - b[1]) for a, b in zip(found, true, strict=True)]


def row(name: str, starts: list[float], ends: list[float]) -> str:
    def describe(values: list[float]) -> str:
        ordered = sorted(values)
        late = sum(value > 100 for value in values) / len(values)
        return (
            f"{statistics.median(values):.0f} | {ordered[int(0.95 * len(values))]:.0f} | {late:.1%}"
        )

    return f"| {name} | {len(starts)} | {describe(starts)} | {describe(ends)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--embedded", type=int, default=20, help="sentences of the embedded model")
    args = parser.parse_args()
    lines = SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if line and line[0] != "#"]
    ours: tuple[list[float], list[float]] = ([], [])
    spread: tuple[list[float], list[float]] = ([], [])
    by_ctc: tuple[list[float], list[float]] = ([], [])
    ctc = CTC("embedded")
    left_out = 0
    for number, text in enumerate(texts[: args.sentences]):
        samples, rate, phones = speak(text, VOICES[number % len(VOICES)])
        true = true_words(text, phones)
        if true is None:
            left_out += 1
            continue
        waveform = torch.from_numpy(samples)
        heard = resample(waveform[None], rate, 16000)[0]
        found = [(times[0], times[-1]) for times in aligner().align(heard, text)]
        by_length = deal_times(text, None, len(samples) / rate)
        for gathered, times in (
            (ours, found),
            (spread, [(w.start, w.end) for w in by_length]),
            (by_ctc, ctc.align(heard, written_words(text)) or []),
        ):
            if len(times) == len(true):
                for kept, new in zip(gathered, errors(times, true), strict=True):
                    kept += new
    print(f"flite, {args.sentences - left_out} sentences of {len(VOICES)} voices")
    print(
        "| times from | words | start: median ms | 95 % | > 100 ms | end: median ms | 95 % | > 100 ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(row("`aligner`, against flite", *ours))
    print(row("`ctc` (ctc:embedded), against flite", *by_ctc))
    print(row("`spread`, against flite", *spread))
    tts = load_tts("embedded")
    folder = asset_path("references")
    reference, _ = load_audio(folder / "flite-slt.wav", sample_rate=tts.sample_rate)
    said = "The waves broke softly on the shore, and a warm breeze moved through the grass."
    prompt = tts.encode_prompt(reference, said)
    both: tuple[list[float], list[float]] = ([], [])
    for text in texts[: args.embedded]:
        speech = tts.speak([text], [prompt], Sampling())[0].waveform[0]
        frames = speech.shape[-1] // tts.hop_length
        known = tts.planner.own.word_times(prompt, text, frames)
        heard = resample(speech, tts.sample_rate, 16000)[0]
        aligned = [(times[0], times[-1]) for times in aligner().align(heard, text)]
        assert known is not None
        for kept, new in zip(both, errors(known, aligned), strict=True):
            kept += new
    print(row("`durations` of the embedded model, against `aligner`", *both))


if __name__ == "__main__":
    main()
