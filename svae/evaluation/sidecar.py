"""ID.json beside ID.wav: what made it, so that an interrupted evaluation goes on and another one starts anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from svae.runtime.files import file_sha256, write_text


def is_made(wav: Path, made_with: dict[str, Any]) -> bool:
    """Tell whether a wav is there and was made in the same way; else forget what made it.

    What made a wav, and the wav's sha256, stand in ID.json beside it, written after it: a wav that is half written,
    replaced by another, or made with another model, seed, prompt or setting is made again.
    """
    row = read_sidecar(wav)
    if (
        row.get("made_with") == made_with
        and wav.is_file()
        and row.get("sha256") == file_sha256(wav)
    ):
        return True
    # The wav that is written next must not be taken for one of another setting.
    wav.with_suffix(".json").unlink(missing_ok=True)
    return False


def read_sidecar(wav: Path) -> dict[str, Any]:
    """Return what stands beside a wav; nothing where nothing readable does."""
    try:
        return json.loads(wav.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_sidecar(wav: Path, made_with: dict[str, Any], **more: Any) -> None:
    """Write beside a wav what made it, and its sha256."""
    row = {"made_with": made_with, **more, "sha256": file_sha256(wav)}
    write_text(wav.with_suffix(".json"), json.dumps(row) + "\n")
