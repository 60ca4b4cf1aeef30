"""What the benchmarks share: a description of the machine, and results as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from svae.runtime.environment import environment


def describe(device: torch.device) -> dict[str, Any]:
    """Return date, command, commit, versions and hardware; call it before measuring, for the load of the machine."""
    return environment(device) | {
        "command": " ".join(["python", *sys.argv]),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": load(),
    }


def load() -> list[float]:
    """Return the load averages over 1, 5 and 15 minutes: more than the benchmark's own threads disturbs it."""
    return [round(value, 2) for value in os.getloadavg()]


def write(path: Path | None, description: dict[str, Any], **results: Any) -> None:
    """Write description and results as JSON; None only adds the load afterwards."""
    description["load_after"] = load()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"machine": description} | results, indent=2) + "\n", encoding="utf-8"
        )
        print(f"written: {path}")


def _processor() -> str:
    """Return the processor's name, its cache and the widest vector instructions, where Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    facts = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    vector = next(
        (name for name in ("avx512f", "avx2") if name in facts.get("flags", "").split()), ""
    )
    family = f"family {facts.get('cpu family')} model {facts.get('model')}"
    return ", ".join(part for part in (facts.get("model name", "unknown"), family, vector) if part)
