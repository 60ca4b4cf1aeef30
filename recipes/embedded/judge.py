"""Have the voice say other people's words in voices that it never heard, and judge it.

    python recipes/embedded/judge.py --root ../shared/data/real-speech --list test --judges "bash ../shared/tools/real_judges.sh"
    python recipes/embedded/judge.py --root … --list dev --judges … --out out/warm --seeds 0 1 -- --temperature 1

`dev` are the readers of LibriSpeech train-clean-100 that `people.py` holds out, `test` the recordings of test-other; each voice
says the words of another speaker. What follows `--` goes to `svae synthesize`. `--judges` is a program that is called as
recipes/claim/claim_speech.py says. Prints means with 95 % bootstrap intervals over clips, and writes them, every clip's
answers and the machine into `--out`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import torch

from people import Row, cloning, held_out, read_rows, write_rows
from svae.runtime.environment import environment

JUDGED = "librispeech-test-other"
PROMPT_SECONDS = 3.0, 12.0
"""How long the recordings of `test` are; those of `dev` are chosen by people.py."""


def clones(root: Path, name: str) -> list[Row]:
    """Return the rows of a list: a voice, and words of another speaker."""
    rows = read_rows(root / "metadata.jsonl")
    if name == "dev":
        chosen = held_out(rows)
    else:
        shortest, longest = PROMPT_SECONDS
        chosen = [row for row in rows if row["corpus"] == JUDGED]
        chosen = [row for row in chosen if shortest <= row["duration"] <= longest]
        chosen.sort(key=lambda row: row["speaker"])
    # So far on, nobody is given words of their own, and every text is said once.
    shift = max(Counter(row["speaker"] for row in chosen).values())
    others = chosen[shift:] + chosen[:shift]
    return [cloning(row, other, root) for row, other in zip(chosen, others, strict=True)]


def speak(rows: list[Row], model: str, seed: int, folder: Path, options: list[str]) -> list[Row]:
    """Have everything said; return what the judges are asked."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("ref", "ref_text", "text")
    wanted = [{name: row[name] for name in names} | {"out": f"{row['id']}.wav"} for row in rows]
    write_rows(folder / "batch.jsonl", wanted)
    command = [sys.executable, "-m", "svae", "synthesize", "--model", model, "--seed", str(seed)]
    command += ["--batch", str(folder / "batch.jsonl"), "--out", str(folder), *options]
    subprocess.run(command, check=True)
    return [
        {
            "wav": str((folder / f"{row['id']}.wav").absolute()),
            "text": row["text"],
            "ref": row["ref"],
        }
        for row in rows
    ]


def main() -> None:
    """Read the command line, speak, judge, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder with metadata.jsonl")
    parser.add_argument("--list", choices=("dev", "test"), default="test")
    parser.add_argument("--judges", required=True, help="a program")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("out/judged"))
    parser.add_argument("options", nargs="*", help="of `svae synthesize`, after --")
    args = parser.parse_args()
    rows = clones(args.root, args.list)
    scores = {}
    for seed in args.seeds:
        folder = args.out / f"{args.list}-seed{seed}"
        listed, answered = folder / "list.jsonl", folder / "answers.json"
        write_rows(listed, speak(rows, args.model, seed, folder, args.options))
        subprocess.run(
            [*shlex.split(args.judges), str(listed), "--json", str(answered)], check=True
        )
        scores[f"seed {seed}"] = json.loads(answered.read_text(encoding="utf-8"))["summary"]
    found = {
        "date": date.today().isoformat(),
        "model": args.model,
        "options": args.options,
        "list": args.list,
        "judges": args.judges,
        "scores": scores,
        "machine": environment(torch.device("cpu")),
    }
    (args.out / f"{args.list}.json").write_text(
        json.dumps(found, indent=2) + "\n", encoding="utf-8"
    )
    print(json.dumps(scores, indent=2))


if __name__ == "__main__":
    main()
