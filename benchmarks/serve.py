"""Ask a server of `svae serve` from several clients at once: requests a second, first audio, memory; and whether anything is lost.

    python benchmarks/serve.py --out benchmarks/results/serve.json
    python benchmarks/serve.py --clients 1 8 --rounds 4 --thousand 0 --early --pocket VENV/bin/python

Each server is a process of its own. Each client sends one request after another, streamed as PCM, `--rounds` times, and a few
clients more often, so that there are a dozen requests; with `--early` also requests whose first sentence leaves as it is decoded. Then `--thousand` requests come from 32 clients, of which a fifth break off
at a random moment: every answer of the others must be, byte for byte, what the request gives alone, and at the end no place may be taken.

`--pocket` names a Python with the package pocket-tts (`python -m venv VENV && VENV/bin/pip install pocket-tts soundfile`): its server is
asked the same, in turn with svae's, so that what else the machine does disturbs both. Its weights cannot be had here, so they are random, of its English model's shapes; with them it does not know
when to end, and is let speak as long as it would at most (a third of a second a word and two seconds more). Speeds compare by
`speech_per_second`, not by requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import torch
from common import describe, write
from common import load as machine_load
from rich.console import Console
from rich.table import Table

from svae.assets import asset_path
from svae.audio import load_audio, save_audio

TEXTS = (
    "Good morning.",
    "He lit the lamp, and waited.",
    "No one came that night. She said nothing.",
)
SHORT = ("Yes.", "No.", "Good.", "Well.")
"""Of the thousand."""
FEWEST = 12
"""Requests of a row: percentiles of fewer tell nothing."""
POCKET_FEWEST = 4
"""The same of pocket-tts, whose requests are several times as long with random weights."""
GONE = 0.2
"""The share of the thousand whose clients break off."""


@dataclass(frozen=True)
class Request:
    """What a server is asked."""

    path: str
    body: dict[str, Any]
    header: int = 0
    """Bytes before the first audio."""


def svae(text: str, seed: int, args: argparse.Namespace, *, early: bool = False) -> Request:
    asked = {"input": text, "seed": seed, "steps": args.steps, "response_format": "pcm"}
    return Request("/v1/audio/speech", {"json": asked | {"stream": True, "early": early}})


def pocket(text: str, seed: int, args: argparse.Namespace) -> Request:
    return Request("/tts", {"data": {"text": text}}, header=44)


async def ask(client: httpx.AsyncClient, asked: Request) -> tuple[float, float, bytes]:
    """Return seconds to the first audio and to the last, and the audio; come back where there is no place."""
    started = time.perf_counter()
    while True:
        first, data = 0.0, b""
        async with client.stream("POST", asked.path, **asked.body) as answer:
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                data += piece
                if not first and len(data) > asked.header:
                    first = time.perf_counter() - started
        return first, time.perf_counter() - started, data[asked.header :]


async def load(
    client: httpx.AsyncClient, clients: int, args: argparse.Namespace, way: Way
) -> dict[str, Any]:
    """Let clients ask at once, each some times, and return a row of the table."""
    firsts: list[float] = []
    seconds_of_speech = 0.0
    rounds = args.rounds if args.tiny else max(args.rounds, -(-way.fewest // clients))

    async def one(number: int) -> None:
        nonlocal seconds_of_speech
        for turn in range(rounds):
            asked = way.request(TEXTS[(number + turn) % len(TEXTS)], turn, args)
            first, _, data = await ask(client, asked)
            firsts.append(first)
            seconds_of_speech += len(data) / 2 / 24000

    started = time.perf_counter()
    await asyncio.gather(*map(one, range(clients)))
    taken = time.perf_counter() - started
    ordered = sorted(firsts)
    return {
        "server": way.name,
        "clients": clients,
        "requests": len(firsts),
        "per_second": round(len(firsts) / taken, 2),
        "first_audio_p50": round(statistics.median(firsts), 2),
        "first_audio_p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "speech_per_second": round(seconds_of_speech / taken, 2),
        "memory_mb": memory(way.pid),
        "load": machine_load()[0],
    }


async def thousand(client: httpx.AsyncClient, args: argparse.Namespace) -> dict[str, Any]:
    """Send many requests, some of whose clients break off; return how many answers were whole, gone and wrong."""
    draw, count = random.Random(0), args.thousand
    expected = {text: (await ask(client, svae(text, 3, args)))[2] for text in SHORT}
    waiting = [
        (SHORT[i % len(SHORT)], draw.random() < GONE, 3 * draw.random()) for i in range(count)
    ]
    found = {"requests": count, "whole": 0, "gone": 0, "wrong": 0}

    async def one() -> None:
        while waiting:
            text, goes, after = waiting.pop()
            try:
                asked = ask(client, svae(text, 3, args))
                _, _, data = await asyncio.wait_for(asked, after if goes else None)
            except TimeoutError:
                found["gone"] += 1
            except httpx.HTTPError:
                found["wrong"] += 1
            else:
                found["whole" if data == expected[text] else "wrong"] += 1

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(32)))
    found["seconds"] = round(time.perf_counter() - started)
    for _ in range(100):
        health = (await client.get("/health")).json()
        if not health["requests"]:
            break
        await asyncio.sleep(0.1)
    return found | {"places_taken_after": health["requests"]}


def memory(pid: int) -> int:
    """Return the resident memory of a process in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    match = re.search(r"VmRSS:\s*(\d+) kB", status)
    return round(int(match[1]) / 1000) if match else 0


@dataclass(frozen=True)
class Way:
    """A server and how it is asked."""

    name: str
    url: str
    pid: int
    request: Callable[..., Request]
    clients: list[int]
    """How many ask at once, in turn."""
    fewest: int = FEWEST
    """Requests of a row at least."""

    def client(self) -> httpx.AsyncClient:
        """Return what asks it."""
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=None, limits=limits)


async def measure(ways: list[Way], args: argparse.Namespace) -> dict[str, Any]:
    """Ask servers in turn, and svae's, the first one, the thousand."""
    rows = []
    for way in ways:
        async with way.client() as client:
            for text in TEXTS:
                await ask(client, way.request(text, 0, args))
    for clients in args.clients:
        for way in ways:
            if clients not in way.clients:
                continue
            async with way.client() as client:
                rows.append(await load(client, clients, args, way))
            print(rows[-1], flush=True)
    lost = None
    if args.thousand:
        async with ways[0].client() as client:
            lost = await thousand(client, args)
    return {"rows": rows, "thousand": lost, "memory_after_mb": memory(ways[0].pid)}


@contextmanager
def serving(command: list[str], port: int, status: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Start a server; yield its address and process; end it and keep its exit status."""
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(6000):
                try:
                    httpx.get(f"{url}/health", timeout=10)
                    break
                except httpx.TransportError:
                    if server.poll() is not None:
                        sys.exit(f"{command}: ended with status {server.returncode}")
                    time.sleep(0.1)
            yield url, server.pid
        finally:
            server.terminate()
        status[command[2]] = server.wait(150)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


POCKET_FILES = """
import json, sys
from pathlib import Path
import pocket_tts, yaml
out = Path(sys.argv[1])
config = yaml.safe_load((Path(pocket_tts.__file__).parent / "config/english_2026-10.yaml").read_text())
config.pop("weights_path"), config.pop("weights_path_without_voice_cloning")
config["default_eos_threshold"] = 1e9  # random weights say the end at random
table = config["flow_lm"]["lookup_table"]
words = {"<unk>": 0} | {f"w{i}": i for i in range(1, table["n_bins"])}
from tokenizers import Tokenizer, models, pre_tokenizers
tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.save(str(out / "tokenizer.json"))
table["tokenizer_path"] = str(out / "tokenizer.json")
(out / "random.yaml").write_text(yaml.safe_dump(config))
"""
"""Makes a configuration of pocket-tts without weights, and a tokenizer of words; run by its Python."""


@contextmanager
def serving_pocket(python: str, status: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Start pocket-tts's server with random weights."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-c", POCKET_FILES, folder], check=True)
        row = json.loads(asset_path("references", "references.json").read_text("utf-8"))[0]
        voice = Path(folder) / "voice.wav"
        waveform, rate = load_audio(asset_path("references", row["audio"]))
        save_audio(voice, waveform, rate)
        port = free_port()
        command = [python, "-m", "pocket_tts", "serve", "--port", str(port), "--host", "127.0.0.1"]
        command += ["--config", f"{folder}/random.yaml", "--default-voice", str(voice)]
        with serving(command, port, status) as server:
            yield server


def main() -> None:
    """Read the command line, measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="[NAME=]run or checkpoint folder")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, help="solver steps; default: the model's own")
    parser.add_argument("--rounds", type=int, default=4, help="requests of each client")
    parser.add_argument("--thousand", type=int, default=1000, help="requests that must not be lost")
    parser.add_argument("--early", action="store_true", help="also with `early`")
    parser.add_argument("--pocket", help="a Python with pocket-tts")
    parser.add_argument("--pocket-clients", type=int, nargs="+", help="of --clients; default: all")
    parser.add_argument("--tiny", action="store_true", help="one and two clients, eight requests")
    parser.add_argument("--note", help="kept with the result, such as what else the machine did")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.tiny:
        args.clients, args.rounds, args.thousand = [1, 2], 1, 8
    description = describe(torch.device("cpu"))
    port = free_port()
    command = [sys.executable, "-m", "svae", "serve", "--port", str(port), "--model", args.model]
    status: dict[str, int] = {}
    with ExitStack() as servers:
        server = servers.enter_context(serving(command, port, status))
        ways = [Way("svae", *server, svae, args.clients)]
        if args.early:
            ways.append(Way("svae, early", *server, partial(svae, early=True), args.clients))
        if args.pocket:
            other = servers.enter_context(serving_pocket(args.pocket, status))
            asked = args.clients if args.pocket_clients is None else args.pocket_clients
            ways.append(Way("pocket-tts, random weights", *other, pocket, asked, POCKET_FEWEST))
        found = asyncio.run(measure(ways, args))
    found["status"] = status
    rows = found["rows"]
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    console = Console()
    console.print(table)
    console.print(found["thousand"])
    write(args.out, description, note=args.note, **found)


if __name__ == "__main__":
    main()
