"""Embed recordings with Resemblyzer's GE2E speaker encoder, in an environment that has it (svae's own does not).

    PYTHON recipes/embedded/ge2e.py LIST.jsonl OUT.npz     # rows with a field "audio", relative to the list's folder

PYTHON is one with Resemblyzer 0.1.4 (Apache-2.0, its weights included). OUT.npz holds `names`, the `audio` of the rows, and
`vectors` (N, 256) of unit length. An `audio` may end in `#START-END`, in seconds: only that piece is heard.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from resemblyzer import VoiceEncoder, preprocess_wav


def main() -> None:
    """Read the command line and embed every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("list", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder = VoiceEncoder("cpu", verbose=False)
    names, vectors = [], []
    for line in args.list.read_text(encoding="utf-8").splitlines():
        name = json.loads(line)["audio"]
        path, _, piece = name.partition("#")
        samples, rate = soundfile.read(args.list.parent / path, dtype="float32")
        if piece:
            start, end = (round(float(second) * rate) for second in piece.split("-"))
            samples = samples[start:end]
        names.append(name)
        vectors.append(encoder.embed_utterance(preprocess_wav(samples, source_sr=rate)))
        if len(names) % 500 == 0:
            print(len(names), flush=True)
    np.savez(args.out, names=np.array(names), vectors=np.stack(vectors).astype(np.float32))


if __name__ == "__main__":
    main()
