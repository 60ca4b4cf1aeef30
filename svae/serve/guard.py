"""What is asked of a request before anything looks at it: who sends it, from where, and how much."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from svae.serve.metrics import Metrics

OPEN_PATHS = ("/", "/health")
"""What needs no key: the page holds no data, and whoever watches the server must reach it."""
MAX_JSON_BYTES = 2**20


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def problem(
    status: int, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return an error as OpenAI's interface has it."""
    return JSONResponse(error_body(status, message, param=param), status, headers)


def error_body(status: int, message: str, *, param: str | None = None) -> dict[str, Any]:
    """Return what such an error says."""
    kinds = {401: "authentication_error", 429: "rate_limit_error", 503: "server_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


class Guard:
    """Refuses requests without the key, from other sites' pages, for other hosts' names, and those that are too large.

    Args:
        app: what answers the others.
        api_key: what a client must send; None: nothing.
        loopback: the server is for this machine alone: names that a stranger's DNS points here are refused.
        max_upload_bytes: of a recording with its form.
        max_open: requests that are answered at once, those of slow readers among them.
        metrics: counts the answers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_key: str | None,
        loopback: bool,
        max_upload_bytes: int,
        max_open: int,
        metrics: Metrics,
    ) -> None:
        self.app = app
        self.api_key = api_key
        self.loopback = loopback
        self.max_upload_bytes = max_upload_bytes
        self.max_open = max_open
        self.metrics = metrics
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self.metrics.answered(getattr(route, "path", "other"), message["status"])
            await send(message)

        headers = Headers(scope=scope)
        is_upload = headers.get("content-type", "").startswith("multipart/")
        limit = self.max_upload_bytes if is_upload else MAX_JSON_BYTES
        refused = self._refuse(scope, headers, limit)
        if refused is not None:
            await refused(scope, receive, counted)
            return
        self._open += 1
        try:
            await self.app(scope, _limited(receive, limit), counted)
        finally:
            self._open -= 1

    def _refuse(self, scope: Scope, headers: Headers, limit: int) -> JSONResponse | None:
        host = headers.get("host", "")
        if self.loopback and not is_loopback(_name(host)):
            return problem(
                403, f"host {host[:100]!r}: this server is for 127.0.0.1 and localhost alone"
            )
        origin = headers.get("origin")
        if origin is not None and origin.split("://")[-1] != host:
            return problem(403, f"origin {origin[:100]!r}: pages of other sites are not answered")
        if self.api_key is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), self.api_key.encode()):
                return problem(
                    401,
                    "no or a wrong key; expected the header `Authorization: Bearer KEY` with the server's --api-key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        if self._open >= self.max_open:
            return problem(503, "too many clients; try again in 5 s", headers={"Retry-After": "5"})
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            return problem(413, _too_large(limit), headers={"Connection": "close"})
        return None


def _name(host: str) -> str:
    """Return the host of a `Host` header, without its port."""
    return host.rsplit(":", 1)[0] if not host.endswith("]") else host


def _too_large(limit: int) -> str:
    return f"the request is too large: at most {limit / 2**20:g} MiB are read"


def _limited(receive: Receive, limit: int) -> Receive:
    read = 0

    async def limited() -> Any:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return limited
