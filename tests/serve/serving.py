"""A server with a tiny model, in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from svae.serve.app import Service
from svae.serve.run import ServeOptions, listen, open_server


@dataclass
class Running:
    url: str
    service: Service
    stop: object
    """Asks the server to stop and returns at once."""

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **options)


@contextmanager
def running(folder: Path, **changes) -> Iterator[Running]:
    options = ServeOptions(models=[("tiny", folder)], port=0, device="cpu", **changes)
    with listen(options) as listener:
        server, service = open_server(options)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()

        def stop() -> None:
            server.should_exit = True

        try:
            while not server.started and thread.is_alive():
                thread.join(0.01)
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", service, stop)
        finally:
            stop()
            thread.join(60)
            assert not thread.is_alive()
