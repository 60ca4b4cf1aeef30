"""How far each device and precision is from float64 on the CPU, at the published width.

    python benchmarks/vae_numerics.py --out benchmarks/results/vae_numerics.json

The measurement is that of `svae doctor`, which makes it on a smaller model. The first row is the CPU's own float32; without
a GPU the second is bfloat16 autocast on the CPU.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from common import Results, describe

from svae.analysis.doctor import SMALL, numerics
from svae.config import VAEConfig
from svae.runtime.distributed import select_device


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--tiny", action="store_true", help="a quarter of the width and of the length"
    )
    args = parser.parse_args()
    device = select_device(args.device)
    machine = describe(device)
    if device.type == "cpu":
        print("no GPU here: float32 and bfloat16 on the CPU only\n")
    config, seconds = (SMALL, args.seconds / 4) if args.tiny else (VAEConfig(), args.seconds)
    results = Results(args.out, machine, seconds=seconds)
    rows = numerics(device, config, seconds=seconds)
    print(
        "| device | precision | relative error, encode | relative error, decode |\n|---|---|---|---|"
    )
    for row in rows:
        print(f"| {row.device} | {row.precision} | {row.encode:.1e} | {row.decode:.1e} |")
        results.add("rows", asdict(row))
    results.finish()


if __name__ == "__main__":
    main()
