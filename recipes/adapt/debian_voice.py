"""One professional voice for trying `svae adapt`: the English prompts of Asterisk, as Debian packages them.

    python recipes/adapt/debian_voice.py                 # data/debian-voice; needs a Debian or Ubuntu, or --packages DIR
    svae adapt data/debian-voice/recordings --out runs/debian-voice
    svae synthesize --model runs/debian-voice --batch data/debian-voice/say.jsonl --out out/debian-voice
    cp data/debian-voice/judge.jsonl out/debian-voice && real_judges.sh out/debian-voice/judge.jsonl
    svae evaluate --model runs/debian-voice --list data/debian-voice/held_out.jsonl      # by svae's judges

Leaves recordings/ (at most ten minutes, NAME.wav with NAME.txt beside it), held_out/ (60 prompts that no training may see)
and the lists. Recorded by Allison Smith, CC BY-SA 3.0: whoever passes on a model made of them says so and shares it alike.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import torch

from svae.audio import save_audio

PACKAGES = ("asterisk-core-sounds-en-g722", "asterisk-core-sounds-en")
RATE = 16000
HELD_OUT = 60
MINUTES = 10.0


def main() -> None:
    """Fetch, decode, deal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/debian-voice"))
    parser.add_argument(
        "--packages", type=Path, help="folder with the two .deb files, instead of apt-get download"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="of recordings to train on, at most"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = unpack(args.packages or fetch(Path(folder)), Path(folder) / "unpacked")
        prompts = read_prompts(root)
        deal(prompts, args.out, args.minutes)


def fetch(folder: Path) -> Path:
    """Download the packages with apt-get, which needs no rights for it."""
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)
    return folder


def unpack(packages: Path, out: Path) -> Path:
    """Unpack the two packages and return the folder."""
    for name in PACKAGES:
        found = sorted(packages.glob(f"{name}_*.deb"))
        if not found:
            sys.exit(f"{packages}: no {name}_*.deb; get it with: apt-get download {name}")
        subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(out)], check=True)
    return out


def read_prompts(root: Path) -> dict[str, tuple[Path, str]]:
    """Return name → (file, words) of every prompt that says something: tones, and texts with remarks, are left out."""
    (listed,) = root.glob("usr/share/doc/*/core-sounds-en.txt.gz")
    (sounds,) = root.glob("usr/share/asterisk/sounds/*_Allison")
    prompts = {}
    for line in gzip.open(listed, "rt", encoding="utf-8"):
        name, colon, text = line.strip().partition(": ")
        path = sounds / f"{name}.g722"
        if line.startswith(";") or not colon or not path.is_file():
            continue
        text = " ".join(text.split())
        if re.search(r"[\[\]<>()]", text) or not re.search(r"[A-Za-z]", text):
            continue
        prompts[name.replace("/", "-")] = (path, text)
    return prompts


def decode(path: Path) -> torch.Tensor:
    """Return a recording (1, S) at 16 kHz."""
    with av.open(str(path), format="g722") as file:
        parts = [torch.from_numpy(frame.to_ndarray()).reshape(-1) for frame in file.decode(audio=0)]
    return torch.cat(parts)[None].float() / 32768


def deal(prompts: dict[str, tuple[Path, str]], out: Path, minutes: float) -> None:
    """Write held-out prompts and recordings, in an order that nobody chose."""
    order = sorted(prompts, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    held_out: list[dict[str, str]] = []
    said: set[str] = set()
    seconds = 0.0
    count = 0
    for name in order:
        path, text = prompts[name]
        waveform = decode(path)
        length = waveform.shape[1] / RATE
        words = len(text.split())
        if text.lower() in said or not 1.0 <= length <= 20.0 or words < 3:
            continue
        said.add(text.lower())
        if len(held_out) < HELD_OUT and 1.5 <= length <= 12.0:
            save_audio(out / "held_out" / f"{name}.wav", waveform, RATE)
            held_out.append({"id": name, "text": text})
        elif seconds + length <= 60 * minutes:
            save_audio(out / "recordings" / f"{name}.wav", waveform, RATE)
            (out / "recordings" / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
            seconds += length
            count += 1
    write_lists(held_out, out)
    print(f"{out}: {count} recordings, {seconds / 60:.1f} min; {len(held_out)} held out")


def write_lists(held_out: list[dict[str, str]], out: Path) -> None:
    """Write what is to be said, and what the judges compare it with: another held-out recording than that of the text."""
    names = [row["id"] for row in held_out]
    others = names[1:] + names[:1]
    lists = {
        "say": [{"text": row["text"], "out": f"{row['id']}.wav"} for row in held_out],
        "judge": [
            {
                "wav": f"{row['id']}.wav",
                "text": row["text"],
                "ref": str((out / "held_out" / f"{other}.wav").absolute()),
            }
            for row, other in zip(held_out, others, strict=True)
        ],
        "held_out": [
            row
            | {
                "ref": f"held_out/{other}.wav",
                "ref_text": text,
                "target": f"held_out/{row['id']}.wav",
            }
            for row, other, text in zip(
                held_out, others, [r["text"] for r in held_out[1:] + held_out[:1]], strict=True
            )
        ],
    }
    for name, rows in lists.items():
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
