"""The benchmark of the judges runs, in its smallest size."""

from __future__ import annotations

import json
import runpy
import signal
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "evaluate.py"


def test_every_stage_is_measured(tmp_path, monkeypatch, capsys):
    out = tmp_path / "result.json"
    monkeypatch.setattr(
        sys,
        "argv",
        [str(SCRIPT), "--tiny", "--device", "cpu", "--batch-size", "4", "--out", str(out)],
    )
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # as `python benchmarks/evaluate.py` does it
    before = signal.getsignal(signal.SIGTERM)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    signal.signal(signal.SIGTERM, before)
    written = json.loads(out.read_text())
    assert written["complete"] is True
    stages = written["stages"]
    assert set(stages) == {"whisper", "hubert", "sim_ecapa", "sim_o", "signal"}
    for found in stages.values():
        assert found["audio_seconds"] == 6 and found["audio_seconds_per_second"] > 0
    assert "| whisper | 6.0 |" in capsys.readouterr().out
