"""`svae evaluate --ray` on a real cluster: the files are those of one process, a node that is killed costs only time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray_cluster import kill_node
from tiny_runs import vae_of
from tone_shards import write_tone_shards

from svae.errors import SvaeError
from svae.evaluation import place
from svae.evaluation.options import EvaluateOptions
from svae.evaluation.run import evaluate
from svae.runtime.ray_jobs import RayOptions

pytestmark = pytest.mark.slow


@pytest.fixture
def one_thread():
    """As the jobs of a cluster have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory) -> Path:
    """Shards of which eight utterances are held out."""
    import json

    root = write_tone_shards(tmp_path_factory.mktemp("data") / "tones", shards=2, per_shard=6)
    index = json.loads((root / "index.json").read_text())
    index["validation"] = [f"tone-{number:03d}" for number in range(8)]
    (root / "index.json").write_text(json.dumps(index))
    return root


def results(folder: Path) -> dict[str, bytes]:
    """Return what an evaluation wrote, less what says seconds: timings.json, what stands beside wavs, the cache."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.parent.name != "cache"
        and path.name != "timings.json"
        and not (path.suffix == ".json" and path.with_suffix(".wav").exists())
    }


def ages(folder: Path) -> dict[str, int]:
    """Return when wavs were written and answers remembered."""
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.suffix in (".wav", ".jsonl") and path.name != "utterances.jsonl"
    }


def hold_and_hear(options, part, kind, batches, tick):
    """Hear recordings; the first who gets part 1 says on which node, and waits for its end."""
    import ray

    said = Path("held")  # of the folder that the command was called in
    if part == 1 and kind == "asr" and not said.exists():
        said.write_text(ray.get_runtime_context().get_node_id())
        time.sleep(600)
    return place._hear_part(options, part, kind, batches, tick)


def test_a_node_that_is_killed_costs_nothing_and_the_files_are_those_of_one_process(
    cluster, toy_tts, held_out, tmp_path, monkeypatch, capsys, one_thread
):
    alone = EvaluateOptions(
        model=toy_tts,
        data=held_out,
        asr="ctc:embedded",
        speaker="embedded",
        seeds=(0, 1),
        steps=2,
        out=Path("out"),  # which the nodes have to find where the command was called
        device="cpu",
    )
    for name in ("alone", "ray"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    evaluate(alone)
    monkeypatch.chdir(tmp_path / "ray")
    hear = place._hear_part
    monkeypatch.setattr(place, "_hear_part", hold_and_hear)
    monkeypatch.setattr(place, "PARTS", 4)
    killer = threading.Thread(
        target=kill_node, args=(cluster, tmp_path / "ray" / "held"), daemon=True
    )
    killer.start()
    capsys.readouterr()
    there = replace(alone, device="auto", ray=RayOptions(cluster.address))
    evaluate(there)
    killer.join(timeout=60)
    shown = capsys.readouterr().out
    assert "job 1 was lost (" in shown and "Judges on cpu of a Ray cluster (" in shown
    expected = results(tmp_path / "alone" / "out")
    assert len([name for name in expected if name.endswith(".wav")]) == 2 * 8
    assert results(tmp_path / "ray" / "out") == expected

    # Whoever comes after finds everything made and answered, here or on the cluster.
    monkeypatch.setattr(place, "_hear_part", hear)
    before = ages(tmp_path / "ray" / "out")
    for again in (there, alone):
        evaluate(again)
        assert ages(tmp_path / "ray" / "out") == before
        assert results(tmp_path / "ray" / "out") == expected


def test_reconstructions_and_wavs_that_are_there_are_judged_by_the_nodes(
    cluster, toy_tts, held_out, tmp_path, monkeypatch, one_thread
):
    alone = EvaluateOptions(
        model=vae_of(toy_tts),
        data=held_out,
        asr="ctc:embedded",
        speaker="embedded",
        reconstruction=True,
        out=Path("out"),
        device="cpu",
    )
    for name, options in {
        "alone": alone,
        "ray": replace(alone, device="auto", ray=RayOptions(cluster.address)),
    }.items():
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        evaluate(options)
        found = Path("out/wavs")
        wavs = replace(options, model=None, reconstruction=False, wavs=found, out=Path("found"))
        next(found.glob("*.wav")).write_bytes(b"RIFF nothing")
        evaluate(wavs)
    for folder in ("out", "found"):
        assert results(tmp_path / "ray" / folder) == results(tmp_path / "alone" / folder)


def test_an_error_of_a_node_is_the_users_message(cluster, toy_tts, held_out, tmp_path):
    options = EvaluateOptions(
        model=toy_tts,
        data=held_out,
        asr=f"ctc:{tmp_path}/nothing",
        out=tmp_path / "out",
        ray=RayOptions(cluster.address),
    )
    with pytest.raises(SvaeError, match="nothing"):
        evaluate(options)
