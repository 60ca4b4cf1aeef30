"""Small folders of shards whose audio says by its values which utterance it is and where in it one is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from svae.audio import encode_flac
from svae.data.index import ShardIndex, write_index
from svae.data.shard_writer import ShardItem, write_shard

SAMPLE_RATE = 16000
HOP = 400


def fake_waveform(number: int, num_samples: int) -> torch.Tensor:
    """Return (1, num_samples) on the 16-bit grid: a ramp that starts elsewhere for every utterance."""
    return ((torch.arange(num_samples) + 977 * number) % 30000 + 1).float()[None] / 32768


def fake_length(number: int) -> int:
    """Return the samples of utterance `number`: 0.2 s to 1 s, irregular."""
    return 3200 + (number * 7919) % 12800


def fake_latents(number: int, frames: int, dtype: type = np.float32) -> np.ndarray:
    """Return (2, 3, frames)."""
    return np.random.default_rng(number).standard_normal((2, 3, frames)).astype(dtype)


def make_shards(
    root: Path,
    *,
    shards: int = 8,
    per_shard: int = 5,
    kind: str = "waveforms",
    validation: tuple[int, ...] = (),
    texts: dict[int, str] | None = None,
    dtype: type = np.float32,
) -> ShardIndex:
    """Write a folder: utterance n has the key `u<n>` and lies in shard n // per_shard."""
    entries = []
    for shard in range(shards):
        items = []
        for number in range(shard * per_shard, (shard + 1) * per_shard):
            length = fake_length(number)
            if kind == "waveforms":
                members = {"flac": encode_flac(fake_waveform(number, length), SAMPLE_RATE)}
            else:
                buffer = io.BytesIO()
                np.save(buffer, fake_latents(number, -(-length // HOP), dtype))
                members = {"npy": buffer.getvalue()}
            text = (texts or {}).get(number, f"abc {number}")
            items.append(
                ShardItem(
                    f"u{number}", members, length, SAMPLE_RATE, f"speaker{number % 3}", "en", text
                )
            )
        entries.append(write_shard(root, shard, items))
    return write_index(
        root,
        kind=kind,
        corpus="fake",
        sample_rate=SAMPLE_RATE,
        shards=entries,
        validation=[f"u{number}" for number in validation],
    )


def corrupt(index: ShardIndex, key: str) -> None:
    """Flip one bit in the middle of a sample's first member."""
    sample = next(sample for sample in index.samples if sample.key == key)
    name = next(name for name in sample.members if name != "json")
    offset, size = sample.members[name]
    path = index.root / index.shards[sample.shard]["name"]
    content = bytearray(path.read_bytes())
    content[offset + size // 2] ^= 4
    path.write_bytes(content)
