"""How many seconds a step of a training takes, whatever else the machine does meanwhile.

    claim_pace.py OUT.json --steps 8 72 -- COMMAND…    # COMMAND trains; it is run for each number of steps, into a folder that then goes

On a CPU processor seconds are counted, which other work hardly moves, and on a GPU seconds of the clock. What starting takes is the same
in both runs, and drops out.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

NEVER = "1000000"


def seconds_of(command: Sequence[str], *, clock: bool) -> float:
    """Return the seconds that a program takes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True)
    if clock:
        return time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pace(command: Sequence[str], few: int, many: int) -> float:
    """Return the seconds of a step of a training command, from what so few and so many steps take."""
    clock = "cuda" in command
    taken = []
    for steps in (few, many):
        with tempfile.TemporaryDirectory(prefix="claim-pace-") as folder:
            sets = [
                f"trainer.{key}={value}"
                for key, value in (
                    ("steps", steps), ("checkpoint_every", NEVER), ("validate_every", NEVER)
                )
            ]  # fmt: skip
            options = [part for each in sets for part in ("--set", each)]
            run = [*command, "--out", f"{folder}/run", *options]
            taken.append(seconds_of(run, clock=clock))
    return (taken[1] - taken[0]) / (many - few)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, nargs=2, required=True)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    found = {"seconds_per_step": pace(args.command, *args.steps), "steps": args.steps}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_name(f".{args.out.name}")
    temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    temporary.replace(args.out)


if __name__ == "__main__":
    main()
