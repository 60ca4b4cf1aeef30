"""Ask a server of `svae serve` from several clients at once: requests a second, first audio, memory; and whether anything is lost.

    python benchmarks/serve.py --out benchmarks/results/serve.json
    python benchmarks/serve.py --clients 1 8 --rounds 4 --thousand 0

A server of its own process is started. Each client sends one request after another, streamed as PCM, `--rounds` times. Then `--thousand`
requests come from 32 clients, of which a fifth break off at a random moment: every answer of the others must be, byte for byte, what the
request gives alone, and at the end no place may be taken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import torch
from common import describe, write
from rich.console import Console
from rich.table import Table

TEXTS = (
    "Good morning.",
    "He lit the lamp, and waited.",
    "No one came that night. She said nothing.",
)
SHORT = ("Yes.", "No.", "Good.", "Well.")
"""Of the thousand."""
GONE = 0.2
"""The share of the thousand whose clients break off."""


def body(text: str, seed: int, steps: int | None) -> dict[str, Any]:
    return {"input": text, "seed": seed, "steps": steps, "response_format": "pcm", "stream": True}


async def ask(client: httpx.AsyncClient, asked: dict[str, Any]) -> tuple[float, float, bytes]:
    """Return seconds to the first audio and to the last, and the audio; come back where there is no place."""
    started = time.perf_counter()
    while True:
        first, data = 0.0, b""
        async with client.stream("POST", "/v1/audio/speech", json=asked) as answer:
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["retry-after"]))
                continue
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                first = first or time.perf_counter() - started
                data += piece
        return first, time.perf_counter() - started, data


async def load(
    client: httpx.AsyncClient, clients: int, args: argparse.Namespace, pid: int
) -> dict[str, Any]:
    """Let clients ask at once, each some times, and return a row of the table."""
    firsts: list[float] = []
    seconds_of_speech = 0.0

    async def one(number: int) -> None:
        nonlocal seconds_of_speech
        for turn in range(args.rounds):
            asked = body(TEXTS[(number + turn) % len(TEXTS)], turn, args.steps)
            first, _, data = await ask(client, asked)
            firsts.append(first)
            seconds_of_speech += len(data) / 2 / 24000

    started = time.perf_counter()
    await asyncio.gather(*map(one, range(clients)))
    taken = time.perf_counter() - started
    ordered = sorted(firsts)
    return {
        "clients": clients,
        "requests": len(firsts),
        "per_second": round(len(firsts) / taken, 2),
        "first_audio_p50": round(statistics.median(firsts), 2),
        "first_audio_p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 2),
        "speech_per_second": round(seconds_of_speech / taken, 2),
        "memory_mb": memory(pid),
    }


async def thousand(client: httpx.AsyncClient, count: int, steps: int | None) -> dict[str, Any]:
    """Send many requests, some of whose clients break off; return how many answers were whole, gone and wrong."""
    draw = random.Random(0)
    expected = {text: (await ask(client, body(text, 3, steps)))[2] for text in SHORT}
    waiting = [
        (SHORT[i % len(SHORT)], draw.random() < GONE, 3 * draw.random()) for i in range(count)
    ]
    found = {"requests": count, "whole": 0, "gone": 0, "wrong": 0}

    async def one() -> None:
        while waiting:
            text, goes, after = waiting.pop()
            try:
                data = (
                    await asyncio.wait_for(
                        ask(client, body(text, 3, steps)), after if goes else None
                    )
                )[2]
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


async def measure(url: str, pid: int, args: argparse.Namespace) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        for text in TEXTS:
            await ask(client, body(text, 0, args.steps))
        rows = [await load(client, clients, args, pid) for clients in args.clients]
        lost = await thousand(client, args.thousand, args.steps) if args.thousand else None
        return {"rows": rows, "thousand": lost, "memory_after_mb": memory(pid)}


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
    parser.add_argument("--tiny", action="store_true", help="one and two clients, eight requests")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.tiny:
        args.clients, args.rounds, args.thousand = [1, 2], 1, 8
    description = describe(torch.device("cpu"))
    command = [sys.executable, "-m", "svae", "serve", "--port", "0", "--model", args.model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = next(line.split()[1] for line in server.stdout if line.startswith("Page:"))
            for _ in range(600):
                try:
                    httpx.get(f"{url}health", timeout=10)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            found = asyncio.run(measure(url, server.pid, args))
        finally:
            server.terminate()
        found["status"] = server.wait(150)
    table = Table(*found["rows"][0])
    for row in found["rows"]:
        table.add_row(*map(str, row.values()))
    console = Console()
    console.print(table)
    console.print(found["thousand"])
    write(args.out, description, **found)


if __name__ == "__main__":
    main()
