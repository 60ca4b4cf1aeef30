"""The claim's teacher: carried in 8 bits it says what it said; what its stored features know of phones is measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny_teachers import write_whisper

from svae.assets import asset_path
from svae.config import TeacherConfig
from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions
from svae.models.teacher import load_teacher
from svae.precompute.phone_times import align_shards
from svae.precompute.teacher_features import cache_teacher

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "claim"))
import claim_carry  # noqa: E402
import claim_speech  # noqa: E402


@pytest.fixture
def whisper(tmp_path):
    write_whisper(tmp_path / "whisper")
    return tmp_path / "whisper"


def test_what_is_carried_says_the_same(whisper, tmp_path):
    claim_carry.pack_teacher(whisper, 1, tmp_path / "packed")
    whole = claim_carry.whole_teacher(tmp_path / "packed", tmp_path / "out")
    assert whole == tmp_path / "out" / "teacher"
    waveform = 0.1 * torch.randn(1, 1, 8000)
    one, other = (
        load_teacher(TeacherConfig(model=str(folder), layer=1)).features(waveform)
        for folder in (whisper, whole)
    )
    assert one.shape == other.shape
    assert torch.nn.functional.cosine_similarity(one, other, dim=-1).min() > 0.999
    sizes = [
        sum(p.stat().st_size for p in f.glob("*.safetensors"))
        for f in (whisper, tmp_path / "packed")
    ]
    assert sizes[1] < 0.4 * sizes[0]


def test_a_teacher_that_is_not_packed_is_taken_as_it_is(whisper, tmp_path):
    assert claim_carry.whole_teacher(whisper, tmp_path / "out") == whisper


def test_mel_frames_and_stored_features_are_probed(tmp_path):
    sample, listed, shards = asset_path("sample"), tmp_path / "list.jsonl", tmp_path / "shards"
    rows = [json.loads(row) for row in (sample / "metadata.jsonl").read_text().splitlines()[::16]]
    whole = [json.dumps(row | {"audio": str(sample / row["audio"])}) + "\n" for row in rows]
    listed.write_text("".join(whole))
    prepare(PrepareOptions(corpus="jsonl", root=listed, out=shards, shards=2, workers=1))
    timings = align_shards(shards, tmp_path / "timings", workers=1)
    features = tmp_path / "features"
    cache_teacher(shards, features, TeacherConfig(model="embedded", layer=3), workers=1)
    for what in (features, Path("mel")):
        claim_speech.probe(shards, timings, str(what), tmp_path / "found.json")
        found = json.loads((tmp_path / "found.json").read_text())
        assert 0 < found["phone_probe"]["accuracy"] <= 1
        assert 1 < found["effective_rank"] <= len(found["mean"]) and found["frames"] > 100
