"""Shards of speech-like tones with texts, written as `svae prepare` writes them."""

from __future__ import annotations

from pathlib import Path


def write_tone_shards(
    root: Path,
    *,
    shards: int = 2,
    per_shard: int = 4,
    seconds: float = 0.6,
    rate: int = 16000,
    mark: str = "",
) -> Path:
    """Write waveform shards of short gliding tones with texts, `mark` in each; the first is held out."""
    import io

    import numpy as np
    import soundfile

    from svae.data.index import write_index
    from svae.data.shard_writer import ShardItem, write_shard

    def items(shard: int):  # noqa: ANN202
        for i in range(per_shard):
            number = shard * per_shard + i
            size = int(rate * (seconds + 0.05 * (number % 5)))
            time = np.arange(size) / rate
            wave = 0.3 * np.sin(2 * np.pi * (150 + 40 * number) * time * (1 + 0.2 * time))
            file = io.BytesIO()
            soundfile.write(file, wave, rate, format="FLAC", subtype="PCM_16")
            text = (
                "one two three four five six".split()[number % 6]
                + f" tone {'abcdefgh'[number % 8]}{mark}"
            )
            yield ShardItem(
                f"tone-{number:03d}",
                {"flac": file.getvalue()},
                size,
                rate,
                f"s{number % 2}",
                "en",
                text,
            )

    entries = [write_shard(root, shard, items(shard)) for shard in range(shards)]
    write_index(
        root,
        kind="waveforms",
        corpus="tones",
        sample_rate=rate,
        shards=entries,
        validation=["tone-000"],
        rejected={},
    )
    return root
