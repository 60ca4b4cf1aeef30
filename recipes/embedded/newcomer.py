"""Say what a newcomer types, and look for what would spoil it: cut ends, long silences, words of the prompt.

    python recipes/embedded/newcomer.py                            # the embedded model, in the voices of svae/assets/references
    python recipes/embedded/newcomer.py --ref me.wav --out out/me  # any voice; --model for another model

Says every sentence of newcomer.txt in every voice, as `svae synthesize --batch` does: the prompt is transcribed by the recogniser,
and seed 0 is taken. Writes the recordings and `newcomer.json` into `--out`. Ends with status 1 if something is spoilt. What is said
wrongly is no such thing: the word error rate tells it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from svae.assets import asset_path
from svae.judges.asr import load_asr
from svae.judges.wer import word_errors
from svae.judges.wer import zipvoice_english as plain
from svae.synthesis.batch import synthesize_batch
from svae.synthesis.command import SynthesizeOptions
from svae.synthesis.trim import FRAME_SECONDS, silent_frames
from texts import lines

END_SECONDS = 0.01
MAX_SILENCE_SECONDS = 1.0
MAX_END = 0.1
"""Level of the last frame, of the loudest frame's: 20 dB below it. A cut word ends louder."""
TELLING_LETTERS = 4
"""A word of the prompt must have so many letters to tell that the prompt leaked: any sentence has an `and`."""


@dataclass(frozen=True)
class Shape:
    """What a recording looks like, whatever is said in it."""

    seconds: float
    longest_silence: float
    """Seconds, its ends left out."""
    end: float
    """Level of the last 10 ms, of the loudest 10 ms'."""


def shape_of(samples: np.ndarray, sample_rate: int) -> Shape:
    """Return the shape of a recording (S,)."""
    loud = np.flatnonzero(~silent_frames(torch.from_numpy(samples), sample_rate).numpy())
    silence = (np.diff(loud).max() - 1) * FRAME_SECONDS if len(loud) > 1 else 0.0
    size = round(END_SECONDS * sample_rate)
    frames = samples[len(samples) % size :].reshape(-1, size)
    level = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
    return Shape(
        len(samples) / sample_rate,
        round(float(silence), 3),
        round(float(level[-1] / level.max()), 4),
    )


def leaked(heard: str, text: str, prompt: str) -> list[str]:
    """Return the telling words of a prompt that were heard and do not belong to the text; all three are `plain`."""
    return sorted(
        w
        for w in set(heard.split()) & set(prompt.split()) - set(text.split())
        if len(w) >= TELLING_LETTERS
    )


def spoilt(row: dict) -> list[str]:
    """Return what is wrong with one recording."""
    problems = [f"the prompt's {word!r} was heard" for word in row["leaked"]]
    if row["longest_silence"] > MAX_SILENCE_SECONDS:
        problems.append(f"{row['longest_silence']:.2f} s of silence")
    if row["end"] > MAX_END:
        problems.append(f"ends at {row['end']:.0%} of its greatest level")
    return problems


def listen(recordings: list[Path]) -> list[dict]:
    """Look at and transcribe recordings; what was said is read from the JSON beside each."""
    recognizer, rows = load_asr("pocketsphinx"), []
    for path in recordings:
        made = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        samples, rate = soundfile.read(path, dtype="float32")
        heard = plain(recognizer.transcribe([torch.from_numpy(samples)], rate)[0])
        text = plain(" ".join(chunk["text"] for chunk in made["chunks"]))
        rows.append(
            {
                "audio": made["audio"],
                "text": made["text"],
                "heard": heard,
                "wer": round(word_errors(text, heard, plain).rate, 4),
                "leaked": leaked(heard, text, plain(made["prompt_text"])),
                "real_time_factor": round(made["real_time_factors"]["total"], 3),
                **vars(shape_of(samples, rate)),
            }
        )
        rows[-1]["spoilt"] = spoilt(rows[-1])
    return rows


def main() -> None:
    """Read the command line, speak, listen, print and write newcomer.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=asset_path("tts"))
    parser.add_argument(
        "--ref", type=Path, nargs="+", default=sorted(asset_path("references").glob("*.wav"))
    )
    parser.add_argument("--out", type=Path, default=Path("out/newcomer"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = [
        {"text": text, "ref": str(ref.resolve()), "out": f"{ref.stem}-{number:02d}.wav"}
        for ref in args.ref
        for number, text in enumerate(lines("newcomer.txt"), start=1)
    ]
    batch = args.out / "list.jsonl"
    batch.write_text("".join(json.dumps(row) + "\n" for row in wanted), encoding="utf-8")
    synthesize_batch(batch, SynthesizeOptions(model=args.model), args.out)
    recordings = [args.out / row["out"] for row in wanted]
    # Written after the recording.
    rows = listen([path for path in recordings if path.with_suffix(".json").is_file()])
    summary = {
        "recordings": len(rows),
        "spoilt": sum(bool(row["spoilt"]) for row in rows),
        "wer": round(float(np.mean([row["wer"] for row in rows])), 4),
        "at_most_one_word_in_ten_misheard": sum(row["wer"] <= 0.1 for row in rows),
        "longest_silence_seconds": max(row["longest_silence"] for row in rows),
        "loudest_end": max(row["end"] for row in rows),
        "real_time_factor": {
            "under 2 s": _mean_factor(row for row in rows if row["seconds"] < 2),
            "2 s and more": _mean_factor(row for row in rows if row["seconds"] >= 2),
        },
    }
    (args.out / "newcomer.json").write_text(
        json.dumps({"summary": summary, "rows": rows}, indent=2) + "\n"
    )
    for row in rows:
        print(
            f"{row['audio']:24} {row['wer']:4.0%}  {row['heard']}{''.join(f'  SPOILT: {p}' for p in row['spoilt'])}"
        )
    print(json.dumps(summary, indent=2))
    sys.exit(1 if summary["spoilt"] or len(rows) < len(wanted) else 0)


def _mean_factor(rows) -> float | None:  # noqa: ANN001
    factors = [row["real_time_factor"] for row in rows]
    return round(float(np.mean(factors)), 3) if factors else None


if __name__ == "__main__":
    main()
