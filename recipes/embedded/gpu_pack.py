"""Pack people's recordings for a machine without a network, for `recipes/embedded/gpu.sh`.

    python recipes/embedded/gpu_pack.py --root ../shared/data/real-speech --out gpu-carry

Copies recordings of `metadata.jsonl` that `people.py` would use, corpus by corpus, until `--megabytes` are full; FLAC becomes
Ogg/Opus. The result is a `--root` for `people.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import soundfile

from people import CORPORA, reason_against

OPUS_LEVEL = 0.85
"""libsndfile's: 0 is the best sound; this is some 40 kbit/s."""


def pack(root: Path, out: Path, limit: float) -> tuple[int, float]:
    """Copy recordings of at most `limit` bytes; return how many and their seconds."""
    rows = [json.loads(line) for line in (root / "metadata.jsonl").open(encoding="utf-8")]
    order = {name: place for place, name in enumerate(CORPORA)}
    usable = [
        row
        for row in rows
        if row["corpus"] in order
        and reason_against(row, "tts", CORPORA[row["corpus"]], 0.0) is None
    ]
    usable.sort(key=lambda row: order[row["corpus"]])
    kept = []
    size = 0
    for row in usable:
        source = root / row["audio"]
        target = (out / row["audio"]).with_suffix(".ogg")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ogg":
            shutil.copyfile(source, target)
        else:
            samples, rate = soundfile.read(source)
            soundfile.write(
                target, samples, rate, format="OGG", subtype="OPUS", compression_level=OPUS_LEVEL
            )
        size += target.stat().st_size
        if size > limit:
            target.unlink()
            break
        kept.append(row | {"audio": str(target.relative_to(out))})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (out / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return len(kept), sum(row["duration"] for row in kept)


def main() -> None:
    """Pack and say what was packed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("gpu-carry"))
    parser.add_argument("--megabytes", type=float, default=34.0)
    args = parser.parse_args()
    count, seconds = pack(args.root, args.out / "real-speech", args.megabytes * 1e6)
    print(f"{count} recordings, {seconds / 3600:.2f} h, in {args.out}")


if __name__ == "__main__":
    main()
