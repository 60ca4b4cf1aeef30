"""Choose what the embedded voice learns from people's recordings, and list whose recordings these are.

    python recipes/embedded/people.py --root ../shared/data/real-speech --also data/flite/metadata.jsonl --out data/people

`--root` holds `metadata.jsonl`, one object a line: audio (path within the root), text, speaker, corpus, licence, duration
(seconds), snr_db, and where known check (1: a recogniser picked this text out of others) and uncertain (the text is). Writes

- `vae.jsonl` and `tts.jsonl` for `svae prepare jsonl`: rows of a corpus that weighs more are repeated, each with its own link;
  the TTS also learns relatives of all speakers, their recordings faster and higher, or slower and lower,
- `dev.jsonl`, for `svae evaluate --reconstruction --list`: one clip of each held-out speaker,
- `dev-tts.jsonl`, for `svae evaluate --list`: each of these voices with the words of the next,
- `LICENCES.md`: hours, licence and source of each corpus, for the cards of what is trained.

`--also` names metadata.jsonl files of `corpus.py`, whose rows are added to `tts.jsonl` as they are: flite pronounces every word.

What is left out, and why, is printed and counted. The same input gives the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from svae.audio import resample

Row = dict[str, Any]


@dataclass(frozen=True)
class Corpus:
    """How a corpus is used, and whose it is."""

    source: str
    vae_repeats: int
    """Rows an utterance has in `vae.jsonl`, of which training takes a crop of about a second each."""
    tts_repeats: int
    """Rows in `tts.jsonl`, each a whole utterance an epoch."""
    relatives: tuple[float, ...]
    """Each recording is in `tts.jsonl` once more for each of these, so many times as fast and as high: another voice."""
    vae_snr: float
    """Least ratio in dB of loud to quiet frames (90th and 10th percentile) for the VAE, which copies noise too."""
    tts_snr: float


CORPORA = {
    "librispeech-train-clean-100": Corpus(
        "LibriSpeech, V. Panayotov et al. 2015, openslr.org/12",
        16,
        2,
        (0.84, 0.88, 0.92, 0.96, 1.04, 1.08, 1.13, 1.18),
        20.0,
        20.0,
    ),
    "picovoice-speech-to-intent": Corpus(
        "Picovoice, github.com/Picovoice/speech-to-intent-benchmark", 2, 1, (0.9, 1.1), 30.0, 28.0
    ),
    "speechocean762-adult": Corpus(
        "speechocean762, J. Zhang et al. 2021, openslr.org/101", 1, 1, (0.88, 1.12), 34.0, 30.0
    ),
}
"""What is learned from. Children and wake words did not sound like anyone's voice in trials; test sets only judge."""
HELD_OUT_FROM = "librispeech-train-clean-100"
HELD_OUT_SPEAKERS = 20
HELD_OUT_SECONDS = (4.0, 12.0)
CLIPPED = 0.985
"""Of full scale: samples above count as clipped."""
MAX_CLIPPED = 1e-4
RELATIVES_DIFFER = 0.0175
"""A speaker's factors differ from those above by up to this, so that relatives of two speakers are no octave of each other."""
MIN_SECONDS = {"vae": 1.2, "tts": 0.8}


def held_out(rows: list[Row]) -> list[Row]:
    """Return the development clips: those speakers' whose names have the least hashes."""
    low, high = HELD_OUT_SECONDS
    of_corpus = [row for row in rows if row["corpus"] == HELD_OUT_FROM]
    of_corpus.sort(key=lambda row: hashlib.sha256(f"dev {row['speaker']}".encode()).hexdigest())
    return [row for row in of_corpus if low <= row["duration"] <= high][:HELD_OUT_SPEAKERS]


def reason_against(row: Row, use: str, corpus: Corpus, clipped: float) -> str | None:
    """Say why `use` (vae or tts) leaves a recording out, or None.

    Args:
        row: Of metadata.jsonl.
        use: The VAE needs clean sound, the TTS also a text that is surely what is said.
        corpus: Its rules.
        clipped: Share of clipped samples.
    """
    if row["duration"] < MIN_SECONDS[use]:
        return "too short"
    if row["snr_db"] < (corpus.vae_snr if use == "vae" else corpus.tts_snr):
        return "noisy"
    if clipped > MAX_CLIPPED:
        return "clipped"
    if use == "vae":
        return None
    if not row["text"] or row.get("uncertain"):
        return "text uncertain"
    if row.get("check") != 1 and row["corpus"].startswith("speechocean"):
        return "text uncertain"  # prompts that were not always read
    return None


def share_clipped(path: Path) -> float:
    """Return the share of clipped samples of a recording."""
    samples, _ = soundfile.read(path, dtype="float32")
    return float((np.abs(samples) > CLIPPED).mean())


def link(source: Path, target: Path) -> Path:
    """Make `target` a link to a recording and return it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())
    return target


def relative(source: Path, factor: float, target: Path) -> Path:
    """Write a recording that is `factor` times as fast and as high, unless it is there, and return `target`.

    Speed perturbation (T. Ko et al., Interspeech 2015); a copy and its speaker count as another person.
    """
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(source, dtype="float32")
        changed = resample(torch.from_numpy(samples), round(rate * factor), rate).numpy()
        soundfile.write(target, changed / max(1.0, float(np.abs(changed).max())), rate)
    return target


def factors(corpus: Corpus, speaker: str) -> list[float]:
    """Return the factors of a speaker's relatives, the same for all recordings."""
    found = []
    for middle in corpus.relatives:
        drawn = int(hashlib.sha256(f"{speaker}{middle}".encode()).hexdigest()[:4], 16) / 0xFFFF
        found.append(round(middle + RELATIVES_DIFFER * (2 * drawn - 1), 3))
    return found


def read_rows(path: Path) -> list[Row]:
    """Read one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def added(metadata: Path) -> list[Row]:
    """Return another corpus's rows with absolute paths."""
    return [
        {
            "audio": str((metadata.parent / row["audio"]).absolute()),
            "text": row["text"],
            "speaker": row["speaker"],
        }
        for row in read_rows(metadata)
    ]


def choose(root: Path, out: Path, also: Sequence[Path] = ()) -> None:
    """Write the lists and the licences; print hours and what was left out."""
    rows = read_rows(root / "metadata.jsonl")
    dev = held_out(rows)
    held = {row["speaker"] for row in dev}
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / "dev.jsonl", [reconstruction(row, root) for row in dev])
    write_rows(
        out / "dev-tts.jsonl",
        [cloning(row, other, root) for row, other in zip(dev, dev[1:] + dev[:1], strict=True)],
    )
    hours: Counter[tuple[str, str]] = Counter()
    left_out: Counter[tuple[str, str, str]] = Counter()
    chosen: dict[str, list[Row]] = {"vae": [], "tts": []}
    for row in rows:
        corpus = CORPORA.get(row["corpus"])
        if corpus is None or row["speaker"] in held:
            continue
        source = root / row["audio"]
        clipped = share_clipped(source)
        for use, kept in chosen.items():
            reason = reason_against(row, use, corpus, clipped)
            if reason is not None:
                left_out[row["corpus"], use, reason] += 1
                continue
            hours[row["corpus"], use] += row["duration"] / 3600
            for copy in range(corpus.vae_repeats if use == "vae" else corpus.tts_repeats):
                name = f"{source.stem}-{copy}{source.suffix}"
                audio = link(source, out / "audio" / row["corpus"] / name)
                kept.append(
                    {
                        "audio": str(audio.absolute()),
                        "text": row["text"] or "none",
                        "speaker": row["speaker"] or row["corpus"],
                    }
                )
            if use == "tts":
                speaker = row["speaker"] or row["corpus"]
                for factor in factors(corpus, speaker):
                    name = f"{source.stem}-x{factor}.flac"
                    audio = relative(source, factor, out / "audio" / row["corpus"] / name)
                    kept.append(
                        {
                            "audio": str(audio.absolute()),
                            "text": row["text"],
                            "speaker": f"{speaker}-x{factor}",
                        }
                    )
    for metadata in also:
        chosen["tts"] += added(metadata)
    for use, kept in chosen.items():
        write_rows(out / f"{use}.jsonl", kept)
    licences = {row["corpus"]: row["licence"] for row in rows}
    table = ["| corpus | hours (VAE, TTS) | licence | source |", "|---|---|---|---|"]
    for name, corpus in CORPORA.items():
        amounts = ", ".join(f"{hours[name, use]:.2f}" for use in chosen)
        table.append(
            f"| {name} | {amounts} | {licences.get(name, 'not there')} | {corpus.source} |"
        )
    (out / "LICENCES.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    print("\n".join(table))
    for (name, use, reason), count in sorted(left_out.items()):
        print(f"left out of {use}: {count} of {name}, {reason}")
    print(f"{len(dev)} speakers held out: {out / 'dev.jsonl'}")


def reconstruction(row: Row, root: Path) -> Row:
    """Return a row of a list whose recording is to be reconstructed."""
    audio = str((root / row["audio"]).resolve())
    return {
        "id": Path(audio).stem,
        "text": row["text"],
        "target": audio,
        "speaker": row["speaker"],
    }


def cloning(prompt: Row, other: Row, root: Path) -> Row:
    """Return a row of a list in which one speaker's voice says another's words."""
    audio = str((root / prompt["audio"]).resolve())
    return {
        "id": Path(audio).stem,
        "text": other["text"],
        "ref": audio,
        "ref_text": prompt["text"],
        "speaker": prompt["speaker"],
    }


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder with metadata.jsonl")
    parser.add_argument(
        "--also", type=Path, nargs="*", default=(), help="of corpus.py, for the TTS"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    choose(args.root, args.out, args.also)


if __name__ == "__main__":
    main()
