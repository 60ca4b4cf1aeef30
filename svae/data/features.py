"""Teacher features stored in shards: reading those of a crop. `svae.precompute.teacher_features` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svae.data.index import ShardIndex, read_array, read_index
from svae.data.samples import Sample
from svae.errors import ConfigError, DataError
from svae.frames import interpolate_frames, num_frames, teacher_positions


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """A folder of kind `features`: for every utterance the teacher's features over its whole length."""

    index: ShardIndex

    @cached_property
    def places(self) -> dict[str, int]:
        """Key → place in `index.samples`."""
        return {key: place for place, key in enumerate(self.index.samples.keys())}

    @property
    def description(self) -> dict[str, Any]:
        """What index.json says of the features: model, layer, feature_dim, hop_length, receptive_field, source."""
        return self.index.metadata["features"]

    def __contains__(self, key: object) -> bool:
        return key in self.places

    def read_whole(self, key: str, hop_length: int) -> Tensor:
        """Return features (T, C), float32, at all latent frames of an utterance; see `read`."""
        frames = num_frames(self._sample(key).num_samples, hop_length)
        return self.read(key, 0, frames, hop_length)

    def read(self, key: str, start_sample: int, num_frames: int, hop_length: int) -> Tensor:
        """Return features (num_frames, C), float32, at the latent frames of a crop that begins at `start_sample`.

        Raises:
            DataError: there are none of this utterance, or the shard is truncated or corrupt.
        """
        array = self._array(self._sample(key))
        positions = teacher_positions(
            start_sample,
            num_frames,
            hop_length=hop_length,
            teacher_hop=self.description["hop_length"],
            receptive_field=self.description["receptive_field"],
        )
        # Only the rows around the crop are turned into float32.
        first = int(positions[0].floor().clamp(0, len(array) - 1))
        last = int(positions[-1].ceil().clamp(0, len(array) - 1))
        rows = torch.from_numpy(array[first : last + 1].astype(np.float32))
        return interpolate_frames(rows[None], positions - first)[0]

    def _sample(self, key: str) -> Sample:
        if key not in self:
            raise DataError(
                f"{self.index.root}: no teacher features of utterance {key!r}; run `svae cache-teacher` again"
            )
        return self.index.samples[self.places[key]]

    def _array(self, sample: Sample) -> np.ndarray:
        array = read_array(self.index, sample)
        if array.ndim != 2 or array.shape[1] != self.description["feature_dim"] or not len(array):
            raise DataError(
                f"{self.index.describe(sample)}: .npy has shape {array.shape}, expected "
                f"(frames, {self.description['feature_dim']}). Run `svae cache-teacher` again."
            )
        return array


def open_cache(root: str | Path, data: ShardIndex, *, model: str, layer: int | str) -> FeatureCache:
    """Open stored teacher features and check that they are those of these waveforms (or latents) by this teacher.

    Raises:
        DataError: the folder is missing or damaged.
        ConfigError: it holds something else, or features of other data or of another teacher.
    """
    index = read_index(root)
    if index.kind != "features":
        raise ConfigError(
            f"teacher.cache {root}: holds {index.kind}; expected a folder of `svae cache-teacher`"
        )
    description = index.metadata["features"]
    wanted = {
        "model": model,
        "layer": layer,
        "source": data.source_hashes,
    }
    changed = [name for name in wanted if description[name] != wanted[name]]
    if changed:
        found = ", ".join(
            "other waveforms"
            if name == "source"
            else f"{name} {description[name]!r} instead of {wanted[name]!r}"
            for name in changed
        )
        raise ConfigError(
            f"teacher.cache {root}: holds features of {found}; run `svae cache-teacher` for this recipe"
        )
    return FeatureCache(index)
