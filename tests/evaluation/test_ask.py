"""Asking a judge: what the cache holds, who is asked again, and how far ahead recordings are read."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console

from svae.evaluation.ask import (
    Bench,
    Failed,
    Heard,
    Judges,
    _read_ahead,
    embed_all,
    transcribe_all,
)
from svae.evaluation.items import Item
from svae.evaluation.recordings import recording_from_file
from svae.evaluation.rows import score
from svae.judges.naturalness import NotFinite
from svae.runtime.distributed import World


class ASR:
    description = {"asr": "fake"}

    def transcribe(self, waveforms, sample_rate=16000):
        return [f"{waveform.shape[0]} samples" for waveform in waveforms]


class Speaker:
    description = {"speaker": "fake"}

    def embed(self, waveforms, sample_rate=16000):
        return torch.stack([torch.tensor([0.6, w.max() * float("inf")]) for w in waveforms])


class Quality:
    name, columns, description = "utmos", ("utmos",), {"quality": "fake"}

    def predict(self, waveforms):
        return [{"utmos": self._of(waveform)} for waveform in waveforms]

    def _of(self, waveform):
        if waveform.abs().max() > 1e20:
            raise NotFinite("the score is not finite")
        return 4.0


class Asked:
    """Refuses to answer: everything it is asked about must have been remembered."""

    description = ASR.description

    def transcribe(self, waveforms, sample_rate=16000):
        raise AssertionError("asked again")


@pytest.fixture
def bench(tmp_path):
    console = Console(file=io.StringIO())
    return Bench(World(0, 1, torch.device("cpu")), tmp_path / "cache", 2, console)


@pytest.fixture
def recordings(tmp_path):
    for size in (800, 1600, 2400):
        soundfile.write(tmp_path / f"{size}.wav", torch.full((size,), 0.5).numpy(), 16000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing")
    names = ("800", "1600", "2400", "bad", "gone")
    return {name: recording_from_file(tmp_path / f"{name}.wav") for name in names}


def cached(bench, kind):
    lines = next(bench.cache.glob(f"{kind}-*.jsonl")).read_text().split("\n")
    return [row["answer"] for row in map(json.loads, filter(None, lines)) if "answer" in row]


def test_answers_are_typed_and_the_cache_holds_them_in_the_form_it_always_had(bench, recordings):
    found = transcribe_all(bench, ASR(), list(recordings.values()))
    assert found[recordings["1600"].name] == Heard("1600 samples", 0.1)
    assert isinstance(found[recordings["bad"].name], Failed)
    assert "no such file" in found[recordings["gone"].name].reason
    assert len(cached(bench, "asr")) == 3
    assert {"text": "800 samples", "seconds": 0.05} in cached(bench, "asr")
    good = [recordings[name] for name in ("800", "1600", "2400")]
    again = transcribe_all(bench, Asked(), good)
    assert again == {recording.name: found[recording.name] for recording in good}


def test_what_was_heard_in_other_company_is_asked_again(bench, recordings):
    """What stands in a batch beside a clip may change its answer, and the result says how many were heard together."""
    good = [recordings[name] for name in ("800", "1600")]
    transcribe_all(bench, ASR(), good)
    for batch_size in (1, 3):
        with pytest.raises(AssertionError, match="asked again"):
            transcribe_all(replace(bench, batch_size=batch_size), Asked(), good)
    assert len(transcribe_all(bench, Asked(), good)) == 2


def test_an_embedding_that_is_not_finite_is_no_answer_and_is_remembered_as_such(bench, recordings):
    found = embed_all(bench, "sim_ecapa", Speaker(), [recordings["800"]])
    assert "not finite" in found[recordings["800"].name].reason
    assert cached(bench, "sim_ecapa") == [{"error": found[recordings["800"].name].reason}]


def test_a_recording_whose_score_is_not_finite_counts_as_the_worst_and_says_why(bench, recordings):
    loud = np.full(1600, 1e25, dtype=np.float32)
    soundfile.write(recordings["1600"].path, loud, 16000, subtype="FLOAT")
    items = [Item(name, "one", None, None, None, None) for name in recordings]
    judges = Judges(ASR(), {}, {"utmos": Quality()})
    for _ in range(2):  # the second time it is remembered
        rows = score(items, {"wavs": recordings}, judges, bench, str.lower)
        heard = {row.id: row.recordings["wavs"] for row in rows}
        assert [heard[name].judged["utmos"] for name in recordings] == [4.0, 1.0, 4.0, 1.0, 1.0]
        assert heard["1600"].error == "the score is not finite" and heard["1600"].hypothesis
        assert heard["800"].error is None and "no such file" in heard["gone"].error


def test_only_the_next_batch_is_read_while_a_batch_is_heard(recordings):
    begun = []

    def watched(name):
        class Watched:
            def load(self, rate):
                begun.append(name)
                return recordings[name].load(rate)

        return [(name, Watched())]

    with ThreadPoolExecutor(1) as pool:
        batches = _read_ahead([watched("800"), watched("1600"), watched("2400")], pool)
        assert [name for name, _ in next(batches)] == ["800"]
        assert "2400" not in begun
        assert [name for batch in batches for name, _ in batch] == ["1600", "2400"]
    assert begun == ["800", "1600", "2400"]
