"""How audio is stored in a dataset of the package datasets, which needs torchcodec even to pass it on. Imported with that package only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets


class StoredAudio(datasets.Audio):
    """A column of audio files, each `{"bytes": …, "path": …}`, of which one may be None."""

    def encode_example(self, value: Any) -> dict[str, Any]:
        """Return what a row has as a file, its path or its content, as it is."""
        if isinstance(value, Mapping):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        if isinstance(value, bytes):
            return {"bytes": value, "path": None}
        return {"bytes": None, "path": str(value)}
