"""Ten minutes of phone-like recordings with known words, and what `svae prepare recordings` makes of them.

    python benchmarks/recordings.py make ../shared/data/real-speech out/memos
    svae prepare recordings --root out/memos --out out/shards --asr whisper:FOLDER
    python benchmarks/recordings.py score out/memos out/shards --out benchmarks/results/recordings-whisper.json

`make` needs ffmpeg and writes twelve recordings of the six readers of LibriSpeech test-other in two folders: m4a, mp4,
mp3, Ogg/Opus, WebM, WAV; mono, stereo, a voice in one channel; 8 to 48 kHz; room noise, silence, chords before, between and
under the speech; one too noisy and one clipped. What was said lies in truth.json. `score` counts word errors of all segments,
and of those that are used, against it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jiwer
import numpy as np
import soundfile
from common import describe, write

RATE = 16000
CLIPS = 5
"""In each recording."""


@dataclass(frozen=True)
class Phone:
    """How a recording was made."""

    suffix: str
    rate: int
    channels: str
    """mono, stereo or left."""
    snr_db: float
    music: str = ""
    """before, between, under or nothing."""
    gain: float = 1.0
    """Above 1 it is clipped."""


PHONES = (
    Phone("m4a", 44100, "mono", 30), Phone("m4a", 48000, "stereo", 25, "before"),
    Phone("mp3", 44100, "left", 30), Phone("ogg", 48000, "mono", 25, "between"),
    Phone("wav", 8000, "mono", 30), Phone("mp4", 44100, "stereo", 30, "before"),
    Phone("webm", 48000, "stereo", 35), Phone("m4a", 22050, "mono", 5),
    Phone("wav", 44100, "stereo", 35, "between"), Phone("m4a", 44100, "mono", 30, gain=12.0),
    Phone("mp3", 32000, "stereo", 25, "under"), Phone("wav", 48000, "mono", 40),
)  # fmt: skip
CODECS = {
    "m4a": "-c:a aac -b:a 64k", "mp4": "-c:a aac -b:a 96k", "mp3": "-c:a libmp3lame -b:a 96k",
    "ogg": "-c:a libopus -b:a 32k", "webm": "-c:a libopus -b:a 48k", "wav": "-c:a pcm_s16le",
}  # fmt: skip


def chords(seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Return music-like sound: chords of harmonics that fade, one every half second."""
    time = np.arange(int(RATE * 0.5)) / RATE
    pieces = []
    for _ in range(int(np.ceil(seconds / 0.5))):
        root = 220 * 2 ** (rng.integers(-5, 7) / 12)
        tones = [
            np.sin(2 * np.pi * root * ratio * n * time + rng.uniform(0, 6)) / n
            for ratio in (1, 1.26, 1.5)
            for n in range(1, 6)
        ]
        pieces.append(0.03 * np.exp(-3 * time) * sum(tones))
    return np.concatenate(pieces)[: int(RATE * seconds)]


def room_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise that is louder at low frequencies, of root mean square 1."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 40))
    noise = np.fft.irfft(spectrum, length)
    return noise / np.sqrt(np.mean(noise**2))


def make_one(
    rows: list[dict[str, Any]], source: Path, path: Path, phone: Phone, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Write one recording; return what is said where."""
    pieces, said, at = [], [], 0.0

    def add(samples: np.ndarray) -> None:
        nonlocal at
        pieces.append(samples)
        at += len(samples) / RATE

    add(np.zeros(int(RATE * rng.uniform(0.5, 3))))
    if phone.music == "before":
        add(chords(8, rng))
    for row in rows:
        speech, rate = soundfile.read(source / row["audio"])
        assert rate == RATE
        speech = 0.08 * speech / np.sqrt(np.mean(speech**2))
        start = at
        add(speech)
        said.append({"start": start, "end": at, "text": row["text"]})
        add(np.zeros(int(RATE * rng.uniform(0.8, 3))))
        if phone.music == "between":
            add(chords(4, rng))
    voice = np.concatenate(pieces)
    voice += 0.08 * 10 ** (-phone.snr_db / 20) * room_noise(len(voice), rng)
    if phone.music == "under":
        voice += 0.5 * chords(len(voice) / RATE + 1, rng)[: len(voice)]
    voice = np.clip(phone.gain * voice, -1, 1)
    channels = voice[:, None]
    if phone.channels == "stereo":
        channels = np.stack([voice, 0.7 * np.roll(voice, 8)], axis=1)
    elif phone.channels == "left":
        channels = np.stack([voice, np.zeros_like(voice)], axis=1)
    with tempfile.NamedTemporaryFile(suffix=".wav") as plain:
        soundfile.write(plain.name, channels, RATE)
        command = f"ffmpeg -v error -y -i {plain.name} -ar {phone.rate} {CODECS[phone.suffix]}"
        subprocess.run([*command.split(), str(path)], check=True)
    return said


def make(source: Path, folder: Path) -> None:
    """Write the recordings and truth.json, the same every time but for ffmpeg."""
    rng = np.random.default_rng(0)
    lines = (source / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["corpus"] == "librispeech-test-other"]
    truth = {}
    for number, phone in enumerate(PHONES):
        speaker = "ann" if number < len(PHONES) // 2 else "ben"
        path = folder / speaker / f"memo {number + 1}.{phone.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        clips = rows[CLIPS * number : CLIPS * (number + 1)]
        truth[f"{speaker}/{path.name}"] = {
            "kind": vars(phone),
            "said": make_one(clips, source, path, phone, rng),
        }
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def page_rows(shards: Path) -> list[dict[str, Any]]:
    """Return what the page of a run knows of each segment."""
    page = (shards / "review.html").read_text(encoding="utf-8")
    data = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    rows: list[dict[str, Any]] = json.loads(data)["rows"]
    return rows


def score(folder: Path, shards: Path, out: Path | None) -> None:
    """Compare what the page of a run says of its segments with the truth."""
    from svae.judges.wer import normalize_for_wer

    description = describe(__import__("torch").device("cpu"))
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    rows = page_rows(shards)
    found: dict[str, dict[str, Any]] = {}
    for source, told in truth.items():
        segments = [row for row in rows if row["source"] == source]
        words = [normalize_for_wer(row["text"]).split() for row in segments]
        reference = normalize_for_wer(" ".join(clip["text"] for clip in told["said"]))
        hypothesis = " ".join(word for each in words for word in each)
        owners = [n for n, each in enumerate(words) for _ in each]
        aligned = jiwer.process_words(reference, hypothesis)
        errors, said = [0] * len(segments), [0] * len(segments)
        unheard = 0
        for chunk in aligned.alignments[0]:
            heard = range(chunk.hyp_start_idx, chunk.hyp_end_idx)
            length = chunk.ref_end_idx - chunk.ref_start_idx
            if chunk.type == "delete":
                if not owners:
                    unheard += length
                    continue
                owner = owners[min(chunk.hyp_start_idx, len(owners) - 1)]
                errors[owner] += length
                said[owner] += length
                continue
            for n in heard:
                errors[owners[n]] += chunk.type != "equal"
                said[owners[n]] += chunk.type != "insert"
        used = [n for n, row in enumerate(segments) if row["used"]]
        found[source] = {
            **told["kind"],
            "words": len(reference.split()),
            "errors": sum(errors) + unheard,
            "segments": len(segments),
            "used": len(used),
            "used_words": sum(said[n] for n in used),
            "used_errors": sum(errors[n] for n in used),
            "seconds": round(sum(row["seconds"] for row in segments), 1),
            "used_seconds": round(sum(segments[n]["seconds"] for n in used), 1),
            "reasons": sorted({each.split(":")[0] for row in segments for each in row["reasons"]}),
        }
    total = {
        name: sum(each[name] for each in found.values())
        for name in (
            "words",
            "errors",
            "segments",
            "used",
            "used_words",
            "used_errors",
            "used_seconds",
        )
    }
    total["wer"] = round(total["errors"] / total["words"], 4)
    total["used_wer"] = round(total["used_errors"] / max(total["used_words"], 1), 4)
    for source, each in found.items():
        print(
            f"{source:18} {each['channels']:6} {each['snr_db']:3.0f} dB {each['music']:8} WER {100 * each['errors'] / each['words']:5.1f} %"
            f" used {each['used']}/{each['segments']} {', '.join(each['reasons'])}"
        )
    print(json.dumps(total))
    write(out, description, total=total, recordings=found, made_with=made_with(shards))


def made_with(shards: Path) -> Any:
    """Return what the index of a run says of how it was made."""
    return json.loads((shards / "index.json").read_text(encoding="utf-8"))["recordings"]


def make_or_score(
    description: str,
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Return a command line of `make SOURCE FOLDER` and `score FOLDER SHARDS`, and its part for `make`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("source", type=Path)
    making.add_argument("folder", type=Path)
    scoring = commands.add_parser("score")
    scoring.add_argument("folder", type=Path)
    scoring.add_argument("shards", type=Path)
    scoring.add_argument("--out", type=Path)
    return parser, making


def main() -> None:
    parser, _ = make_or_score(__doc__)
    given = parser.parse_args()
    if given.command == "make":
        make(given.source, given.folder)
    else:
        score(given.folder, given.shards, given.out)


if __name__ == "__main__":
    main()
