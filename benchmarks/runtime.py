"""The runtime package beside svae: a cold process to its file, and real-time factors of both in one process, one thread each.

    python benchmarks/runtime.py out/voice --model embedded --environment /path/of/a/venv/with/svae-runtime

Without --environment the runtime's processes use this Python. Repeats alternate, so that a disturbance hits both; medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import describe, write
from rich.console import Console

from svae.assets import asset_path
from svae.audio import load_audio, resample
from svae.synthesis.load import load_tts
from svae.synthesis.types import Sampling

ROOT = Path(__file__).resolve().parents[1]
TEXT = "The old lighthouse keeper watched the storm come in from the sea."


def seconds(command: list[str | Path], **more: object) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, **more)
    return time.perf_counter() - started


def size_mb(environment: Path) -> float:
    return sum(path.stat().st_size for path in environment.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("voice", type=Path, help="folder of svae export")
    parser.add_argument("--model", default="embedded", help="what was exported")
    parser.add_argument("--environment", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ref = asset_path("references") / "flite-slt.wav"
    rows = json.loads((ref.parent / "references.json").read_text(encoding="utf-8"))
    said = next(row["text"] for row in rows if row["audio"] == ref.name)
    sys.path.insert(0, str(ROOT / "runtime"))
    from build_shared import stage

    found: dict[str, list[float]] = {"svae": [], "runtime": [], "torch rtf": [], "onnx rtf": []}
    with tempfile.TemporaryDirectory() as work:
        staged = stage(Path(work) / "staged")
        out, common = Path(work) / "x.wav", ["--ref", ref, "--ref-text", said, "--text", TEXT]
        speak: list[str | Path] = [sys.executable, "-m", "svae_runtime.cli", given.voice]
        where: dict[str, object] = {"cwd": staged}
        if given.environment is not None:
            speak, where = [given.environment / "bin" / "svae-speak", given.voice.resolve()], {}
        speak[-1] = given.voice.resolve()
        torch_command = [sys.executable, "-m", "svae", "synthesize", "--model", given.model]
        for _ in range(given.repeats):
            found["runtime"].append(
                seconds([*speak, *common, "--out", out, "--threads", "1"], **where)
            )
            found["svae"].append(seconds([*torch_command, *common, "--out", out], cwd=ROOT))
        sys.path.insert(0, str(staged))
        from svae_runtime import Voice

        voice, tts = Voice.load(given.voice, threads=1), load_tts(given.model)
        prompt = voice.prompt(ref, said)
        waveform, rate = load_audio(ref)
        torch_prompt = tts.encode_prompt(resample(waveform, rate, tts.sample_rate), said)
        settings = Sampling().filled(voice.about["own"])
        for _ in range(given.repeats + 1):
            started = time.perf_counter()
            spoken = voice.speak_chunk(TEXT, prompt, settings)
            found["onnx rtf"].append(
                (time.perf_counter() - started) / (len(spoken) / voice.sample_rate)
            )
            started = time.perf_counter()
            speech = tts.speak([TEXT], [torch_prompt], Sampling())[0]
            found["torch rtf"].append((time.perf_counter() - started) / speech.generated_seconds)
        for name in ("onnx rtf", "torch rtf"):
            del found[name][0]  # which loads and packs weights
    result = {name: statistics.median(values) for name, values in found.items()}
    if given.environment is not None:
        result["environment_mb"] = size_mb(given.environment)
    result["voice_mb"] = size_mb(given.voice)
    Console().print(result)
    write(given.out, describe(torch.device("cpu")), medians=result, all=found)


if __name__ == "__main__":
    main()
