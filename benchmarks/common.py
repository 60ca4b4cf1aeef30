"""What the benchmarks share: a description of the machine, and results as JSON."""

from __future__ import annotations

import json
import os
import signal
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


class Results:
    """Rows of a benchmark that are written one by one, so that an interruption costs the row that was being measured.

    `complete` in the file says whether all are there. A SIGTERM, as a time limit sends it, ends the program like Ctrl-C.

    Args:
        path: The JSON file; None keeps nothing.
        description: Of the machine, from `describe`.
        facts: What is true of all rows.
    """

    def __init__(self, path: Path | None, description: dict[str, Any], **facts: Any) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self._path, self._description, self._facts = path, description, facts
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Put a row below those of a table, and keep it."""
        self.tables.setdefault(table, []).append(row)
        self._write(complete=False)

    def note(self, **facts: Any) -> None:
        """Put what is no row beside them, in the place of what had its name, and keep it."""
        self._facts |= facts
        self._write(complete=False)

    def finish(self) -> None:
        """Say that all rows are there."""
        self._write(complete=True)
        if self._path is not None:
            print(f"written: {self._path}")

    def _write(self, *, complete: bool) -> None:
        self._description["load_after"] = load()
        if self._path is None:
            return
        found = {"machine": self._description, "complete": complete} | self._facts | self.tables
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Beside it first: an interruption while it is written must not cost the rows before.
        beside = self._path.with_name(f".{self._path.name}.tmp")
        beside.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        beside.replace(self._path)


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
