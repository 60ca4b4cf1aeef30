"""Ranks of a job as children of the test's process: nothing is imported again."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

import torch

from svae.errors import SvaeError


def in_processes(work: Callable[[int], str], count: int = 2) -> list[str]:
    """Return what a function says in each of so many ranks; of one that ends with an error of svae's, that."""
    context = multiprocessing.get_context("fork")
    said: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        os.environ |= place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        torch.set_num_threads(1)
        try:
            said.put((rank, work(rank)))
        except SvaeError as error:
            said.put((rank, f"{type(error).__name__}: {error}"))

    processes = [context.Process(target=run, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    try:
        found = dict(said.get(timeout=100) for _ in processes)
    finally:
        for process in processes:
            process.join(timeout=20)
            process.kill()
    return [found[rank] for rank in range(count)]
