"""Files that travel in the wheel: sample corpus, reference clips and the small embedded models."""

from __future__ import annotations

from pathlib import Path


def asset_path(*parts: str) -> Path:
    """Return the path of an embedded file or folder, e.g. `asset_path("teacher")`."""
    return Path(__file__).parent.joinpath(*parts)
