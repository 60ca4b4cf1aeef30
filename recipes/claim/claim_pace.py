"""How many seconds a step of a training takes, whatever else the machine does meanwhile.

    claim_pace.py OUT.json --steps 10 60 -- COMMAND…    # COMMAND trains; it is run into a folder that then goes

The seconds are those between two steps, so that starting does not count: on a CPU of the processor, which other work hardly moves, on a
GPU of the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from svae.runtime.files import write_text

NEVER = "1000000"


def processor_seconds(pid: int) -> float:
    """Return the processor seconds that a process has taken (Linux)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def reached(metrics: Path) -> int:
    """Return the last step of which a training has written."""
    try:
        lines = metrics.read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return 0
    rows = [json.loads(line) for line in lines]
    return max((row["step"] for row in rows if row["split"] == "train"), default=0)


def pace(command: Sequence[str], first: int, last: int) -> float:
    """Return the seconds of a step of a training command, from one step to another.

    Raises:
        SystemExit: the training ended before its last step.
    """
    passed: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory(prefix="claim-pace-") as folder:
        run = Path(folder) / "run"
        # More steps than are waited for: it is stopped, and never ends by itself in between.
        values = {
            "steps": 10 * last,
            "log_every": 1,
            "checkpoint_every": NEVER,
            "validate_every": NEVER,
        }
        options = [
            part for key, value in values.items() for part in ("--set", f"trainer.{key}={value}")
        ]
        training = subprocess.Popen([*command, "--out", str(run), *options])
        try:
            while len(passed) < 2 and training.poll() is None:
                step = reached(run / "metrics.jsonl")
                if step >= (last if passed else first):
                    now = time.monotonic() if "cuda" in command else processor_seconds(training.pid)
                    passed.append((step, now))
                time.sleep(0.02)
        finally:
            training.kill()
            code = training.wait()
    if len(passed) < 2:
        sys.exit(f"claim_pace: the training ended with code {code} before step {last}")
    (begin, before), (end, after) = passed
    return (after - before) / (end - begin)


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
    write_text(args.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
