"""`--ray` on a real cluster of three nodes, all on this machine: one is killed midway, and the bytes are those of one process."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_shards import make_shards
from ray_cluster import kill_node
from rich.console import Console
from tiny_runs import vae_of

from svae.assets import asset_path
from svae.config import TeacherConfig
from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions
from svae.errors import ConfigError
from svae.precompute import latents as latents_module
from svae.precompute.latents import EncodeOptions, encode_shards
from svae.precompute.phone_times import align_shards
from svae.precompute.teacher_features import cache_teacher
from svae.runtime.ray_jobs import RayOptions, open_cluster, run_on

pytestmark = pytest.mark.slow

SAMPLE = asset_path("sample")
HELD = 3
"""The shard at which a node is killed."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards"), shards=9, per_shard=2).root


@pytest.fixture(scope="module")
def vae(toy_tts: Path) -> Path:
    return vae_of(toy_tts)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def hold_and_encode(options, number, device, tick) -> None:
    """Encode a shard; the first who gets shard `HELD` says on which node, and waits for its end."""
    import ray

    said = options.out.parent / "held"
    if number == HELD and not said.exists():
        said.write_text(ray.get_runtime_context().get_node_id())
        time.sleep(600)
    latents_module._encode_shard(options, number, device, tick)


def test_a_node_that_is_killed_costs_nothing_but_time(cluster, shards, vae, tmp_path, monkeypatch):
    alone = EncodeOptions(
        data=shards, vae=vae, out=tmp_path / "alone", device="cpu", workers=1, dtype="float32"
    )
    encode_shards(alone, Console(quiet=True))
    monkeypatch.setattr(latents_module, "_encode_shard", hold_and_encode)
    said = tmp_path / "held"
    killer = threading.Thread(target=kill_node, args=(cluster, said), daemon=True)
    killer.start()
    console = Console(file=io.StringIO(), width=300)
    options = replace(
        alone, out=tmp_path / "ray", workers=None, device="auto", ray=RayOptions(cluster.address)
    )
    encode_shards(options, console)
    killer.join(timeout=60)
    shown = console.file.getvalue()
    assert f"job {HELD} was lost (" in shown and "it is done again elsewhere" in shown
    assert "cpu of a Ray cluster (4 nodes, 3 CPUs, 0 GPUs)" in shown and "18/18" in shown
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")


def test_prepare_align_and_cache_teacher_give_the_same_bytes(cluster, tmp_path):
    ray, quiet = RayOptions(cluster.address), Console(quiet=True)
    rows = [json.loads(row) for row in (SAMPLE / "metadata.jsonl").read_text().splitlines()[::24]]
    text = "".join(json.dumps(r | {"audio": str(SAMPLE / r["audio"])}) + "\n" for r in rows)
    (tmp_path / "list.jsonl").write_text(text)
    alone = PrepareOptions(
        corpus="jsonl", root=tmp_path / "list.jsonl", out=tmp_path / "alone", shards=3, workers=1
    )
    prepare(alone, quiet)
    prepare(replace(alone, out=tmp_path / "ray", workers=None, ray=ray), quiet)
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")
    align_shards(tmp_path / "alone", tmp_path / "times", workers=1, console=quiet)
    align_shards(tmp_path / "alone", tmp_path / "ray-times", ray=ray, console=quiet)
    assert contents(tmp_path / "ray-times") == contents(tmp_path / "times")
    teacher = TeacherConfig(model="embedded", layer=3)
    cache_teacher(tmp_path / "alone", tmp_path / "teacher", teacher, workers=1, device="cpu")
    cache_teacher(tmp_path / "alone", tmp_path / "ray-teacher", teacher, ray=ray)
    assert contents(tmp_path / "ray-teacher") == contents(tmp_path / "teacher")


def test_what_the_cluster_has_not_is_said_at_once(cluster, shards, vae, tmp_path):
    options = EncodeOptions(
        data=shards, vae=vae, out=tmp_path, device="cuda", ray=RayOptions(cluster.address, 0.5)
    )
    with pytest.raises(ConfigError, match=r"no node can do a job on cuda; the cluster is .* 0 GPU"):
        encode_shards(options, Console(quiet=True))


def test_an_error_of_a_job_is_the_users_message(cluster, shards, vae, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in shards.iterdir():
        data = path.read_bytes()
        (folder / path.name).write_bytes(b"x" * len(data) if path.suffix == ".tar" else data)
    options = EncodeOptions(
        data=folder, vae=vae, out=tmp_path / "out", ray=RayOptions(cluster.address)
    )
    with pytest.raises(Exception, match="shard-0000") as caught:
        encode_shards(options, Console(quiet=True))
    assert type(caught.value).__name__ == "DataError"
    assert not list((tmp_path / "out").glob("shard-*.tar"))


def share_a_gpu(tick) -> tuple[list[int], float, float, float]:
    """Return the GPUs that the job was given, how much of one, and from when to when it had it."""
    import ray

    began = time.time()
    time.sleep(1.5)
    tick()
    share = ray.get_runtime_context().get_assigned_resources()["GPU"]
    return [int(number) for number in ray.get_gpu_ids()], share, began, time.time()


def test_jobs_share_a_gpu_by_the_fraction_that_each_takes(cluster, tmp_path):
    """The GPU is one by name: Ray deals them out without looking."""
    node = cluster.add_node(num_cpus=4, num_gpus=1, object_store_memory=80_000_000)
    cluster.wait_for_nodes()
    try:
        options = RayOptions(cluster.address, 0.5)
        with open_cluster(options, folder=tmp_path, device="auto") as there:
            assert there.device == "cuda" and there.slots() == 2
            assert "1 GPUs, 0.5 of a GPU for each job" in there.describe()
            jobs = {number: () for number in range(4)}
            quiet = Console(quiet=True)
            found = run_on(there, share_a_gpu, jobs, description="", console=quiet, total=4)
    finally:
        cluster.remove_node(node)
    assert [(gpus, share) for gpus, share, _, _ in found.values()] == [([0], 0.5)] * 4
    times = [(began, ended) for _, _, began, ended in found.values()]
    at_once = [sum(a <= began < b for a, b in times) for began, _ in times]
    assert max(at_once) == 2
