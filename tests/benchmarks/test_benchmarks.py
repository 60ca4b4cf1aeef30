"""The benchmarks run, agree with the baseline, and write what the tables are made of; the longest are `slow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(tmp_path: Path, script: str, *options: str) -> dict:
    out = tmp_path / "result.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(BENCHMARKS.parent)}
    command = [sys.executable, str(BENCHMARKS / script), "--tiny", "--out", str(out), *options]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {
        "date",
        "command",
        "revision",
        "processor",
        "load_before",
        "load_after",
        "packages",
    } <= found["machine"].keys()
    return found


@pytest.mark.slow
def test_cpu_benchmark_compares_three_models(tmp_path):
    rows = run(
        tmp_path,
        "vae_cpu.py",
        "--tasks",
        "decode",
        "--seconds",
        "0.5",
        "--repeats",
        "1",
        "--threads",
        "1",
    )["rows"]
    assert [row["model"] for row in rows] == ["baseline", "baseline, folded", "svae"]
    for row in rows:
        assert row["max_difference"] <= 1e-5 < row["largest_output"]
        assert row["rtf"] > 0 and 0.1 < row["peak_memory_gb"] < 10


@pytest.mark.slow
def test_training_benchmark_covers_arithmetic_and_teacher(tmp_path):
    found = run(tmp_path, "vae_train.py", "--device", "cpu", "--arithmetic", "fp32", "bf16")
    assert [(row["arithmetic"], row["teacher"]) for row in found["training"]] == [
        ("fp32", False),
        ("fp32", True),
        ("bf16", False),
        ("bf16", True),
    ]
    assert all(
        row["audio_seconds_per_second"] > 0 and 0 <= row["waiting_for_data"] < 1
        for row in found["training"]
    )
    assert {(row["task"], row["batch"]) for row in found["inference"]} == {
        (task, batch) for task in ("encode", "decode") for batch in (1, 32)
    }


def test_numerics_benchmark_has_float32_first(tmp_path):
    rows = run(tmp_path, "vae_numerics.py", "--device", "cpu")["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]
    assert rows[0]["decode"] < 1e-4 < rows[1]["decode"]


@pytest.mark.slow
def test_long_audio_benchmark_processes_all_of_it_in_both_directions(tmp_path):
    rows = run(
        tmp_path, "long_audio.py", "--minutes", "0.1", "--chunk-seconds", "1", "--threads", "1"
    )["results"]
    assert [(row["direction"], row["audio_s"]) for row in rows] == [
        ("encode", 6.0),
        ("decode", 6.0),
    ]
    for row in rows:
        assert [point["audio_s"] for point in row["course"]] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        assert row["rtf"] > 0 and 0.1 < row["base_gib"] <= row["peak_gib"] < 10


def test_baseline_is_the_same_model_in_both_directions():
    code = """
import torch, vae_cpu
state = vae_cpu.random_state(vae_cpu.TINY)
models = [vae_cpu.build(name, vae_cpu.TINY, state) for name in vae_cpu.MODELS]
with torch.inference_mode():
    for task, x in vae_cpu.inputs(vae_cpu.TINY, 0.5).items():
        first, *others = [vae_cpu.operation(model, task, x)() for model in models]
        for other in others:
            torch.testing.assert_close(other, first, atol=1e-5, rtol=1e-5)
"""
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=os.environ | {"PYTHONPATH": f"{BENCHMARKS.parent}:{BENCHMARKS}"},
    )


@pytest.mark.slow
def test_dit_benchmark_compares_networks_of_the_same_numbers(tmp_path):
    rows = run(tmp_path, "dit_cpu.py", "--repeats", "1", "--threads", "1")["rows"]
    tasks = ["forward", "guided step", "16 steps"]
    assert [row["task"] for row in rows] == [task for task in tasks for _ in range(3)] + [
        "16 steps and decoder"
    ] * 2
    for row in rows[:-2]:
        tolerance = 0.05 if "bf16" in row["model"] else 1e-4
        assert row["max_difference"] <= tolerance < row["largest_output"]
    assert all(row["seconds"] > 0 and row["rtf"] == row["seconds"] / 10 for row in rows)


@pytest.mark.slow
def test_tts_benchmark_covers_representations_modes_and_training(tmp_path):
    found = run(tmp_path, "tts_gpu.py", "--device", "cpu")
    rows = {(row["representation"], row["mode"], row["batch"]) for row in found["synthesis"]}
    assert rows == {
        (r, m, b) for r in ("latents", "mel") for m in ("eager", "bf16") for b in (1, 2)
    }
    assert all(row["rtf_4_steps"] > 0 and row["ms_per_step"] > 0 for row in found["synthesis"])
    frames = {row["representation"]: row["frames"] for row in found["training"]}
    assert frames == {"latents": 40, "mel": 94}
    assert all(row["frames_per_second"] > 0 and row["tflops"] > 0 for row in found["training"])


def test_counted_operations_are_those_of_the_published_table():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from tts_gpu import flops
    finally:
        sys.path.remove(str(BENCHMARKS))
    import torch

    from svae.config import DiTConfig
    from svae.models.tts.dit import DiT

    # facts: GFLOP of one forward pass, by a counter on the official network that leaves attention's products out
    for cfg, channels, frames, expected in (
        (DiTConfig(), 64, 400, 73.7),
        (DiTConfig(), 100, 938, 172.8),
        (DiTConfig(dim=1024, depth=22, heads=16), 64, 400, 155.1),
    ):
        with torch.device("meta"):
            model = DiT(cfg, 2545, channels)
        attention = 4 * frames * frames * cfg.dim * cfg.depth
        found = (flops(model, 1, frames) - attention) / 1e9
        assert abs(found / expected - 1) < 0.01, (found, expected)


def test_the_benchmark_of_batches_finds_no_difference_in_own_shapes(tmp_path):
    rows = run(tmp_path, "batches.py", "--threads", "1", "--frames", "0", "10000")["rows"]
    assert [row["frames"] for row in rows] == ["alone", "0", "10000"]
    assert [row["batches"] for row in rows] == [2, 2, 1]
    assert rows[0]["largest_difference"] == rows[1]["largest_difference"] == 0.0
    assert 0.0 < rows[2]["largest_difference"] < 0.05


@pytest.mark.slow
def test_the_benchmark_of_the_server_loses_nothing(tmp_path, folder):
    pytest.importorskip("fastapi", reason="pip install 'svae[serve]'")
    found = run(tmp_path, "serve.py", "--model", f"tiny={folder}")
    assert [row["requests"] for row in found["rows"]] == [1, 2] and found["status"] == {"svae": 0}
    lost = found["thousand"]
    assert (
        lost["whole"] + lost["gone"] == 8 and not lost["wrong"] and not lost["places_taken_after"]
    )


# ------------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_rows_are_kept_whatever_ends_a_benchmark(tmp_path, by):
    code = f"""
import os, pathlib, tempfile
from common import Results
out = pathlib.Path({str(tmp_path)!r})
with tempfile.TemporaryDirectory(dir=out):
    results = Results(out / "result.json", {{}}, seconds=1)
    results.add("rows", {{"a": 1}})
    results.add("rows", {{"a": 2}})
    os.kill(os.getpid(), {int(by)})
    results.add("rows", {{"a": 3}})
    results.finish()
"""
    environment = os.environ | {"PYTHONPATH": f"{BENCHMARKS.parent}:{BENCHMARKS}"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert ended.returncode != 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["rows"] == [{"a": 1}, {"a": 2}] and found["seconds"] == 1
    assert found["complete"] is False
    if by == signal.SIGTERM:  # a time limit: what was temporary is removed
        assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def gpu_script(tmp_path: Path, parts: str) -> subprocess.Popen:
    environment = os.environ | {"OUT": str(tmp_path), "DEVICE": "cpu", "TINY": "1", "PARTS": parts}
    environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(["bash", str(BENCHMARKS / "gpu.sh")], env=environment)


@pytest.mark.slow
def test_the_gpu_script_says_what_is_complete(tmp_path):
    (tmp_path / "numerics.json").write_text("of an earlier call")
    assert gpu_script(tmp_path, "numerics evaluate").wait(timeout=600) == 0
    summary = (tmp_path / "summary.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in summary] == ["numerics", "evaluate"]
    assert all("ended with 0" in line and "rows, complete" in line for line in summary)
    assert json.loads((tmp_path / "numerics.json").read_text())["complete"] is True
    assert (tmp_path / "numerics.earlier.json").read_text() == "of an earlier call"


@pytest.mark.slow
def test_an_interrupted_gpu_script_keeps_the_rows_that_are_there(tmp_path):
    running = gpu_script(tmp_path, "tts")
    deadline = time.monotonic() + 600
    while not (tmp_path / "tts.json").is_file():
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 130
    found = json.loads((tmp_path / "tts.json").read_text())
    assert found["complete"] is False and len(found["synthesis"]) >= 1
    assert "interrupted" in (tmp_path / "summary.txt").read_text()


# ------------------------------------------------------------------------------------------- plans of memory


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in (BENCHMARKS.parent / "recipes" / "libritts").glob("*.yaml")),
)
def test_each_published_recipe_runs_on_one_card_of_16_gb_with_the_papers_batch(name):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from recipe_plans import case_of, row_of
    finally:
        sys.path.remove(str(BENCHMARKS))
    case = case_of(f"libritts/{name}")
    assert case.trainer.accumulate == "auto"  # without a --set
    row = row_of(f"libritts/{name}", case, "16G")
    assert row["fits"] and case.fewest <= row["pieces"] <= case.most
    text = (BENCHMARKS.parent / "recipes" / "libritts" / f"{name}.yaml").read_text()
    assert "On one card of any size, 16 GB too" in text


@pytest.mark.slow
def test_plans_are_near_real_steps(tmp_path):
    options = ["--kinds", "tts", "--frames", "100"]
    rows = run(tmp_path, "memory_plan.py", *options)["rows"]
    assert [(row["pieces"], row["computed_twice"]) for row in rows] == [
        (1, False),
        (2, False),
        (1, True),
        (2, True),
    ]
    assert all(abs(row["error"]) < 0.1 for row in rows)


@pytest.mark.slow
def test_remote_benchmark_trains_from_disk_and_bucket(tmp_path):
    for package in ("moto", "flask_cors", "s3fs"):
        pytest.importorskip(package)
    found = run(tmp_path, "remote.py", "--port", "5199")
    assert [row["data"] for row in found["rows"]] == ["disk", "bucket"]
    for row in found["rows"]:
        assert 0 <= row["wait_share"] <= 1 and row["step_seconds"] > 0
