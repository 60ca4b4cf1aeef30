"""Predictors of mean opinion scores from ONNX files, made here with a few operations whose answers are known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from svae.errors import ConfigError, DataError
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate
from svae.judges.naturalness import (
    DNSMOS_WINDOW,
    NotFinite,
    OnnxPredictor,
    dnsmos_file,
    dnsmos_windows,
)

onnx = pytest.importorskip("onnx", reason="make install brings it")
pytest.importorskip("onnxruntime", reason="pip install 'svae[mos]'")


def save(path: Path, *reductions: str, shape=(1, "samples"), numbers: str = "FLOAT") -> Path:
    """Write a network from (1, samples) to one number for each reduction: ReduceMax, ReduceMin, ReduceMean."""
    helper, kind = onnx.helper, getattr(onnx.TensorProto, numbers)
    nodes = [
        helper.make_node(op, ["audio"], [f"y{i}"], keepdims=1) for i, op in enumerate(reductions)
    ]
    nodes.append(
        helper.make_node("Concat", [f"y{i}" for i in range(len(reductions))], ["scores"], axis=-1)
    )
    ends = (
        [helper.make_tensor_value_info("audio", kind, shape)],
        [helper.make_tensor_value_info("scores", kind, None)],
    )
    graph = helper.make_graph(nodes, "predictor", *ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_one_number_of_each_waveform_whatever_its_neighbours(tmp_path):
    predictor = OnnxPredictor("utmos", save(tmp_path / "mos.onnx", "ReduceMax"))
    waveforms = [torch.tensor([0.1, 0.5, -0.7]), torch.tensor([0.25])]
    assert predictor.predict(waveforms) == [{"utmos": pytest.approx(0.5)}, {"utmos": 0.25}]
    flat = OnnxPredictor("utmos", save(tmp_path / "flat.onnx", "ReduceMax", shape=("samples",)))
    assert flat.predict(waveforms) == predictor.predict(waveforms)


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [
        (0.5, 7),
        (9.0, 7),
        (9.01, 1),
        (9.99, 1),
        (10.0, 1),
        (10.99, 1),
        (11.0, 2),
        (15.5, 6),
        (20.5, 7),
        (40.0, 14),
    ],
)
def test_dnsmos_hears_as_many_windows_as_its_authors_script(seconds, windows):
    samples = np.arange(round(seconds * 16000), dtype=np.float32)
    found = dnsmos_windows(samples)
    assert {w.shape for w in found} == {(DNSMOS_WINDOW,)}
    long = samples  # the script: while shorter than a window, append itself; then int(floor(seconds) - 9.01) + 1 windows
    while len(long) < int(9.01 * 16000):
        long = np.append(long, long)
    theirs = []
    for i in range(int(np.floor(len(long) / 16000) - 9.01) + 1):
        part = long[int(i * 16000) : int((i + 9.01) * 16000)]
        if len(part) >= int(
            9.01 * 16000
        ):  # seven seconds in, rounding leaves one sample out, and the window with it
            theirs.append(part)
    assert len(found) == windows == len(theirs)
    np.testing.assert_array_equal(np.stack(found), np.stack(theirs))


@pytest.mark.slow
def test_dnsmos_says_what_its_authors_code_says():
    """On 20 recordings of the sample, long ones joined from several among them, with the published weights."""
    from svae.assets import asset_path
    from svae.audio import load_audio

    theirs = pytest.importorskip("speechmos.dnsmos")
    files = sorted((asset_path("sample") / "audio").iterdir())
    clips = [load_audio(file, sample_rate=16000)[0][0].clamp(-1, 1) for file in files[:14]]
    while len(clips) < 20:
        clips.append(torch.cat(clips[len(clips) - 13 :])[: 16000 * (8 + 3 * (len(clips) - 13))])
    predictor = OnnxPredictor("dnsmos", dnsmos_file(Path("speechmos")))
    assert max(len(dnsmos_windows(clip.numpy())) for clip in clips) > 5
    for clip, scores in zip(clips, predictor.predict(clips), strict=True):
        said = theirs.run(clip.numpy(), 16000)
        expected = {f"dnsmos_{name}": said[f"{name}_mos"] for name in ("sig", "bak", "ovrl")}
        assert scores == pytest.approx(expected, abs=1e-4)
    assert len({scores["dnsmos_ovrl"] for scores in predictor.predict(clips[:3])}) == 3


def test_dnsmos_of_a_package_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'svae\[mos\]'"):
        dnsmos_file(Path("speechmos"))
    assert dnsmos_file(tmp_path / "x.onnx") == tmp_path / "x.onnx"


def test_dnsmos_scores_are_the_polynomials_of_each_window_averaged(tmp_path):
    predictor = OnnxPredictor(
        "dnsmos", save(tmp_path / "sig_bak_ovr.onnx", "ReduceMax", "ReduceMin", "ReduceMean")
    )
    samples = np.full(11 * 16000, 2.0, dtype=np.float32)
    samples[0] = 3.0  # in the first of the two windows only
    samples[-1] = 1.0  # in neither: 10.01 s is where the second one ends
    (scores,) = predictor.predict([torch.from_numpy(samples)])
    sig = [-0.08397278 * x * x + 1.22083953 * x + 0.0052439 for x in (3.0, 2.0)]
    assert scores["dnsmos_sig"] == pytest.approx(sum(sig) / 2, abs=1e-6)
    assert scores["dnsmos_bak"] == pytest.approx(
        -0.13166888 * 4 + 1.60915514 * 2 - 0.39604546, abs=1e-6
    )
    assert scores["dnsmos_ovrl"] == pytest.approx(
        -0.06766283 * 4 + 1.11546468 * 2 + 0.04602535, abs=1e-4
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p, "no such file"),
        (lambda p: (p.write_bytes(b"not onnx"), p)[1], "not a usable ONNX file"),
        (lambda p: save(p, "ReduceMax", shape=(1, 1, "samples")), "expected one float input"),
        (lambda p: save(p, "ReduceMax", numbers="DOUBLE"), "expected one float input"),
    ],
)
def test_a_file_that_is_no_predictor_is_refused_with_its_reason(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        OnnxPredictor("utmos", make(tmp_path / "mos.onnx"))


def test_answers_that_are_no_scores_are_errors(tmp_path):
    three = OnnxPredictor(
        "utmos", save(tmp_path / "three.onnx", "ReduceMax", "ReduceMin", "ReduceMean")
    )
    with pytest.raises(DataError, match="expected 1 finite"):
        three.predict([torch.ones(100)])
    with pytest.raises(NotFinite, match="expected 1 finite"):
        one = OnnxPredictor("utmos", save(tmp_path / "one.onnx", "ReduceMax"))
        one.predict([torch.tensor([float("inf")])])
    fixed = OnnxPredictor("utmos", save(tmp_path / "fixed.onnx", "ReduceMax", shape=(1, 50)))
    with pytest.raises(DataError, match=r"--utmos .*fixed.onnx"):
        fixed.predict([torch.ones(100)])


def test_evaluate_has_the_columns_and_a_missing_recording_counts_as_the_worst(tmp_path, capsys):
    wavs, originals = tmp_path / "wavs", tmp_path / "originals"
    rows = []
    for folder in (wavs, originals):
        folder.mkdir()
    for i in range(3):
        tone = 0.5 * np.sin(np.arange(16000) * (0.05 + 0.01 * i))
        soundfile.write(originals / f"{i}.wav", tone, 16000)
        if i:
            soundfile.write(wavs / f"{i}.wav", tone, 16000)
        rows.append(
            {
                "id": str(i),
                "text": "hello",
                "ref": f"originals/{i}.wav",
                "ref_text": "hello",
                "target": f"originals/{i}.wav",
            }
        )
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    utmos = save(tmp_path / "mos.onnx", "ReduceMax")
    dnsmos = save(tmp_path / "sig_bak_ovr.onnx", "ReduceMax", "ReduceMax", "ReduceMax")
    options = {
        "list_file": tmp_path / "list.jsonl",
        "speaker": "none",
        "out": tmp_path / "out",
        "device": "cpu",
    }
    metrics = evaluate(EvaluateOptions(wavs=wavs, utmos=utmos, dnsmos=dnsmos, **options))
    assert metrics["system"]["utmos"] == pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-3)
    assert metrics["originals"]["utmos"] == pytest.approx(0.5, abs=1e-3)
    sig = -0.08397278 * 0.25 + 1.22083953 * 0.5 + 0.0052439
    assert metrics["system"]["dnsmos_sig"] == pytest.approx((1 + 2 * sig) / 3, abs=1e-3)
    assert metrics["judges"]["utmos"]["sha256"] and metrics["judges"]["dnsmos"]["model"] == str(
        dnsmos
    )
    assert (
        "UTMOS" in capsys.readouterr().out
        and "UTMOS" in (tmp_path / "out" / "table.md").read_text()
    )
