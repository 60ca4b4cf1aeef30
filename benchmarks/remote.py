"""Train from a bucket and from the disk in turn: what share of the time the training waits for data.

    python benchmarks/remote.py --out benchmarks/results/remote.json
    python benchmarks/remote.py --latency 0.1 --rate 5e6

The bucket is moto's S3 server, in a process of its own on the loopback; `--latency` seconds are added to every answer, and a
connection gets `--rate` bytes a second. The cache starts empty and holds `--cache-shards` shards, fewer than there are, so that
every epoch fetches anew. Shares are of the wall clock, `start` is the part until the first logged row: it has the first shards to wait
for. Runs alternate; the numbers are means over `--repeats`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from common import describe, write
from rich.console import Console

from svae import recipe
from svae.assets import asset_path
from svae.config import VAETrainConfig
from svae.data.index import read_index, read_member, write_index
from svae.data.prepare import prepare
from svae.data.prepare_plan import PrepareOptions
from svae.data.shard_writer import ShardItem, write_shard
from svae.training.loop import TrainOptions
from svae.training.vae.train import train_vae

BUCKET = "shards"
MODEL = {
    "vae": {
        "latent_dim": 16,
        "encoder_channels": 4,
        "attention_heads": 2,
        "decoder": {
            "upsample_rates": [5, 5, 4, 4],
            "upsample_kernel_sizes": [9, 9, 8, 8],
            "initial_channels": 16,
            "resblock_kernel_sizes": [3],
            "resblock_dilation_sizes": [[1]],
        },
    },
    "discriminator": {"periods": [2], "period_channels": [4, 4], "fft_sizes": [256], "spectral_channels": 2},
    "loss": {"alignment": None, "adversarial_start_step": 1},
    "segment_seconds": 0.2,
    "batch_size": 8,
    "validation_crops": 1,
}  # fmt: skip
"""Small, so that a step is short and reads much for its time; what a large one waits for is less."""


def make_shards(root: Path, *, shards: int, utterances: int) -> Path:
    """Write shards of the packaged sample's utterances, each as often as it takes."""
    options = PrepareOptions(
        corpus="jsonl", root=asset_path("sample") / "metadata.jsonl", out=root / "sample", shards=1
    )
    prepare(options, Console(quiet=True))
    sample = read_index(root / "sample")
    count = len(sample.samples)

    def items(shard: int) -> Iterator[ShardItem]:
        for number in range(shard * utterances, (shard + 1) * utterances):
            each = sample.samples[number % count]
            flac = read_member(sample, each, "flac")
            yield ShardItem(
                f"u{number:06d}", {"flac": flac}, each.num_samples, sample.sample_rate, each.speaker,
                each.language, each.text,
            )  # fmt: skip

    out = root / "shards"
    out.mkdir()
    write_index(
        out,
        kind="waveforms",
        corpus="sample",
        sample_rate=sample.sample_rate,
        shards=[write_shard(out, number, items(number)) for number in range(shards)],
        validation=["u000000"],
        rejected={},
    )
    return out


# ----------------------------------------------------------------------------------------------- the server


def serve(port: int, latency: float, rate: float) -> None:
    """Be moto's S3 server on the loopback, later and slower than it is by itself."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)

    def slower(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        time.sleep(latency)
        body = b"".join(app(environ, start_response))
        if rate and environ["REQUEST_METHOD"] == "GET":
            time.sleep(len(body) / rate)
        return [body]

    make_server("127.0.0.1", port, slower, threaded=True).serve_forever()


@contextmanager
def bucket(folder: Path, port: int, latency: float, rate: float) -> Iterator[str]:
    """Give the URL of a bucket that holds a folder."""
    import boto3

    command = [sys.executable, __file__, "--serve", str(port), "--latency", str(latency)]
    server = subprocess.Popen(
        [*command, "--rate", str(rate)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for _ in range(600):
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.iterdir()):
            client.put_object(Bucket=BUCKET, Key=f"data/{path.name}", Body=path.read_bytes())
        yield f"s3://{BUCKET}/data"
    finally:
        server.terminate()
        server.wait()


# ----------------------------------------------------------------------------------------------- the trainings


def train(data: str, out: Path, args: argparse.Namespace) -> dict[str, float]:
    """Train once; return what share of the time, and how many seconds, were waits for data."""
    trainer = {
        "steps": args.steps,
        "log_every": args.log_every,
        "validate_every": args.steps,
        "checkpoint_every": args.steps,
    }
    tree = MODEL | {
        "data": {"root": data, "slots": 2},
        "trainer": trainer,
        "loader": {"num_workers": 1, "shuffle_shards": 2},
    }
    config = recipe.build(VAETrainConfig, tree, where="benchmarks/remote.py")
    train_vae(TrainOptions(config, out, device="cpu"))
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    seconds = [
        args.log_every * args.batch_seconds / row["audio_seconds_per_second"] for row in rows
    ]
    waits = [row["data_wait_share"] * took for row, took in zip(rows, seconds, strict=True)]
    shutil.rmtree(out)
    return {
        "wait_share": sum(waits) / sum(seconds),
        "wait_share_after_start": sum(waits[1:]) / sum(seconds[1:]),
        "start_wait_seconds": waits[0],
        "step_seconds": sum(seconds) / len(rows) / args.log_every,
    }


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--utterances", type=int, default=36, help="of a shard")
    parser.add_argument("--cache-shards", type=int, default=12)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds")
    parser.add_argument("--rate", type=float, default=20e6, help="bytes a second; 0: no limit")
    parser.add_argument("--port", type=int, default=5123)
    parser.add_argument("--tiny", action="store_true", help="few shards and steps, one repeat")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.serve is not None:
        return serve(args.serve, args.latency, args.rate)
    if args.tiny:
        args.shards, args.utterances, args.steps, args.log_every, args.repeats = 4, 6, 4, 2, 1
    torch.set_num_threads(args.threads)
    description = describe(torch.device("cpu"))
    measured: dict[str, list[dict[str, float]]] = {"disk": [], "bucket": []}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        shards = make_shards(root, shards=args.shards, utterances=args.utterances)
        entries = read_index(shards).shards
        sizes = [entry["bytes"] for entry in entries]
        rows = sum(entry["rows_bytes"] for entry in entries)
        os.environ["SVAE_CACHE"] = str(root / "cache")
        os.environ["SVAE_CACHE_SIZE"] = str(rows + args.cache_shards * max(sizes))
        args.batch_seconds = MODEL["batch_size"] * MODEL["segment_seconds"]
        with bucket(shards, args.port, args.latency, args.rate) as url:
            for _ in range(args.repeats):
                for place, data in (("disk", str(shards)), ("bucket", url)):
                    shutil.rmtree(root / "cache", ignore_errors=True)
                    measured[place].append(train(data, root / "run", args))
    found = [
        {"data": place, **{key: statistics.mean(run[key] for run in runs) for key in runs[0]}}
        for place, runs in measured.items()
    ]
    print("| data | waits for data | after the start | start, s | a step, s |")
    print("|---|---:|---:|---:|---:|")
    for row in found:
        print(
            f"| {row['data']} | {row['wait_share']:.2%} | {row['wait_share_after_start']:.2%} "
            f"| {row['start_wait_seconds']:.2f} | {row['step_seconds']:.3f} |"
        )
    setting = {name: value for name, value in vars(args).items() if name not in ("out", "serve")}
    write(
        args.out,
        description,
        setting=setting,
        shard_bytes=round(statistics.mean(sizes)),
        rows=found,
        runs=measured,
    )


if __name__ == "__main__":
    main()
