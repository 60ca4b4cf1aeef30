"""`svae prepare recordings` on recordings of people, by the real detector, recogniser and aligner: benchmarks/ makes and scores them.

Whisper base is made by `python ../shared/tools/whisper_base.py OUT --ct2`; SVAE_WHISPER_CT2 is its OUT/ct2.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from svae.data.index import read_index

ROOT = Path(__file__).resolve().parents[2]
WHISPER = Path(
    os.environ.get("SVAE_WHISPER_CT2", "~/.cache/real-judges/whisper-base/ct2")
).expanduser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (WHISPER / "model.bin").is_file(), reason=f"needs Whisper base in {WHISPER}"
    ),
]


def call(*arguments: object) -> str:
    """Run a script or `-m svae` as a user does; return what it printed."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def prepare(root: Path, out: Path, asr: str) -> str:
    return call(
        *("-m", "svae", "prepare", "recordings", "--root", root, "--out", out),
        *("--asr", f"{asr}:{WHISPER}", "--workers", 1, "--device", "cpu"),
    )


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ten_minutes_of_phone_recordings_become_shards_in_one_command(shared, tmp_path):
    memos, out = tmp_path / "memos", tmp_path / "shards"
    call(ROOT / "benchmarks/recordings.py", "make", shared / "data/real-speech", memos)
    prepare(memos, out, "faster-whisper")
    call(ROOT / "benchmarks/recordings.py", "score", memos, out, "--out", tmp_path / "score.json")
    found = json.loads((tmp_path / "score.json").read_text())
    total, each = found["total"], found["recordings"]
    # Measured: 15.2 % of 1,123 words, and 13.4 % where the filters leave something.
    assert total["words"] == 1123 and total["wer"] < 0.2 and total["used_wer"] < total["wer"]
    assert total["used"] > 45 and total["used_seconds"] > 300
    # One recording is too noisy, one clipped; chords are no speech.
    assert each["ben/memo 8.m4a"]["used"] == 0 and each["ben/memo 10.m4a"]["used"] <= 2
    assert each["ann/memo 4.ogg"]["segments"] <= 8
    index = read_index(out)
    assert {sample.speaker for sample in index.samples} == {"ann", "ben"}
    assert len(index.samples) == total["used"]


@pytest.mark.parametrize("minutes", [float(os.environ.get("SVAE_BOOK_MINUTES", "60"))])
def test_an_hour_of_a_book_gets_the_words_of_the_book(shared, tmp_path, minutes):
    """A quarter of an hour of a processor, most of it Whisper's; SVAE_BOOK_MINUTES reads less of the book."""
    book, out = tmp_path / "book", tmp_path / "shards"
    script = ROOT / "benchmarks/audiobook.py"
    call(script, "make", shared / "data/real-speech", book, "--minutes", minutes)
    prepare(book / "audio", out, "faster-whisper-int8")
    call(script, "score", book, out, "--out", tmp_path / "score.json")
    total = json.loads((tmp_path / "score.json").read_text())["total"]
    assert total["minutes"] >= min(minutes, 55) and not total["announcement_used"]
    assert total["used_minutes"] > 0.7 * total["minutes"]
    # What a recogniser hears is far from it: the words are the book's, each where it is said.
    assert total["used_wer"] < 0.02 < total["heard_wer"]
    assert total["groups_exact"] > 0.9 * total["groups_used"]
