"""One HTTP request on its way through an application in another process, and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from control_plane.exchange import Aborted
from tests.simulation.timeline import Process


@dataclass(frozen=True)
class Answer:
    """What the client has at the end. ``status`` 0: the connection broke before any."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    whole: bool  # the body came to its end
    by: str  # "task", "night", or "edge" for what the load balancer says itself
    silent_s: float = 0.0  # the longest silence


@dataclass(eq=False)
class Call:
    """Made by the client, served by one process."""

    client: Process
    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    upload_s: float = 0.0  # until all of the body is there
    query: bytes = b""
    by: str = ""
    server: Process | None = None
    let_go_at: float | None = None  # by a task that had to end, and not to sleep
    torn: bool = False  # by the load balancer, at the end of the deregistration delay
    overdue: bool = False  # the function was ended at its limit
    task: asyncio.Task[None] | None = None
    _status: int = 0
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _chunks: list[bytes] = field(default_factory=list)
    _began_at: float = 0.0
    _heard_at: float = 0.0
    _silent_s: float = 0.0
    _gone: asyncio.Future[dict[str, Any]] | None = None
    hung_up: bool = False

    def __post_init__(self) -> None:
        self.answer: asyncio.Future[Answer] = self.client.loop.create_future()
        self._heard_at = self._began_at = self.client.timeline.now

    def answered_by(self, process: Process, app: Callable[..., Any], *, done: Callable[[], None]) -> None:
        self.server = process
        process.when_dead.append(self.broken)
        self._gone = process.loop.create_future()

        async def serve() -> None:
            try:
                await app(self._scope(), self._receiver(), self._send)
            except Aborted:
                pass
            finally:
                done()
                self.broken()

        self.task = process.spawn(serve())

    @property
    def left_s(self) -> float:
        """Until all of the body is there; below 0 it is."""
        return self._began_at + self.upload_s - self.client.timeline.now

    def hang_up(self) -> None:
        self.hung_up = True
        if self._gone and not self._gone.done():
            self._gone.set_result({"type": "http.disconnect"})

    def tear(self) -> None:
        """The load balancer breaks the connection, to both sides."""
        self.torn = True
        self.broken()
        self.hang_up()

    def fail(self, status: int) -> None:
        """The load balancer's own answer."""
        self.by = "edge"
        self._finish(Answer(status, {}, b"", whole=True, by="edge"))

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "headers": list(self.headers.items()),
            "http_version": "1.1",
            "scheme": "http",
            "server": ("x", 80),
            "client": ("y", 1),
            "root_path": "",
        }

    def _receiver(self) -> Callable[[], Any]:
        given = False
        gone = self._gone
        assert gone

        async def receive() -> dict[str, Any]:
            nonlocal given
            if not given:
                given = True
                if self.left_s > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self.left_s):
                            return await asyncio.shield(gone)
                return {"type": "http.request", "body": self.body, "more_body": False}
            return await asyncio.shield(gone)

        return receive

    async def _send(self, message: dict[str, Any]) -> None:
        if self.hung_up:
            return
        now = self.client.timeline.now
        self._silent_s = max(self._silent_s, now - self._heard_at)
        self._heard_at = now
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = dict(message["headers"])
            return
        self._chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            self._finish(self._made(whole=True))

    def broken(self) -> None:
        """Nothing more comes; where the answer is whole already, that changes nothing."""
        self._finish(self._made(whole=False))

    def _made(self, *, whole: bool) -> Answer:
        return Answer(self._status, self._headers, b"".join(self._chunks), whole, self.by, self._silent_s)

    def _finish(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
