"""Single requests on plain sockets: is the proxy up, what does the engine know, and a client that hangs up."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass

HANG_UP_LIMIT_S = 3.0
"""A hang-up that the engine has not seen after this long counts as this long."""

_CHUNKS_BEFORE_HANG_UP = 3
_POLL_S = 0.02


class NotUp(RuntimeError):
    """It never answered."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Target:
    """Where to ask, as whom, for what."""

    address: Address
    key: str
    model: str


def ask(target: Target, *, timeout_s: float) -> bool:
    """One short request. True when the answer is a 200; False also while nobody listens."""
    try:
        with _connect(target.address, timeout_s=timeout_s) as connection:
            connection.sendall(_chat(target, "bench chunks=1 end", stream=False))
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def wait_until_up(target: Target, *, patience_s: float) -> None:
    """Asks until the first 200. Raises NotUp."""
    deadline = time.monotonic() + patience_s
    while not ask(target, timeout_s=patience_s):
        if time.monotonic() > deadline:
            raise NotUp(f"no answer from {target.address} in {patience_s:.0f} s")
        time.sleep(_POLL_S)


def open_stream(target: Target) -> socket.socket:
    """A short streaming request, sent; the answer is the caller's to read."""
    connection = _connect(target.address, timeout_s=5)
    connection.sendall(_chat(target, "bench chunks=3 end", stream=True))
    return connection


def status_of(address: Address, path: str) -> int:
    """The status of a GET; 0 while nobody listens."""
    try:
        with _connect(address, timeout_s=1) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            words = connection.recv(4096).split(b" ", 2)
    except OSError:
        return 0
    return int(words[1]) if len(words) > 1 else 0


def active_requests(engine: Address) -> int:
    """How many requests the engine works on now."""
    return int(_get(engine, "/stats")["active"])


def hang_up(target: Target, engine: Address, *, request: int, silent: bool) -> float:
    """Milliseconds from the client's close() to the moment the engine sees its own peer gone.

    ``silent``: before anything was answered, while the engine still reads the prompt; else in the middle of a
    stream. Both moments are of the machine's monotonic clock, so the difference is exact.
    """
    wish = f"bench chunks=1000 gap_us=50000 id={request} first_us={60_000_000 if silent else 0} end"
    with _connect(target.address, timeout_s=HANG_UP_LIMIT_S) as connection:
        connection.sendall(_chat(target, wish, stream=not silent))
        if silent:
            if not _moment(engine, request, "began_at"):
                raise NotUp("the request never reached the engine")
        else:
            _read_chunks(connection, _CHUNKS_BEFORE_HANG_UP)
        closed_at = time.monotonic_ns()
    seen_at = _moment(engine, request, "hung_up_at")
    return (seen_at - closed_at) / 1e6 if seen_at else HANG_UP_LIMIT_S * 1000


def _read_chunks(connection: socket.socket, count: int) -> None:
    seen = b""
    while seen.count(b"@@") < count:
        piece = connection.recv(65536)
        if not piece:
            raise NotUp("the stream ended before the hang-up")
        seen += piece


def _moment(engine: Address, request: int, name: str) -> int:
    """When it happened, by the engine's clock; 0 when it did not happen in time."""
    deadline = time.monotonic() + HANG_UP_LIMIT_S
    while time.monotonic() < deadline:
        if at := int(_get(engine, f"/requests/{request}")[name]):
            return at
        time.sleep(_POLL_S)
    return 0


def _connect(address: Address, *, timeout_s: float) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=timeout_s)


def _get(address: Address, path: str) -> dict[str, int]:
    with _connect(address, timeout_s=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        answer = connection.recv(4096)
    document: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return document


def _chat(target: Target, wish: str, *, stream: bool) -> bytes:
    messages = [{"role": "user", "content": wish}]
    body = json.dumps({"model": target.model, "messages": messages, "stream": stream}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {target.address}\r\nAuthorization: Bearer {target.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
