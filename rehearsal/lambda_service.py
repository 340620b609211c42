"""The part of AWS Lambda that a function speaks to: its runtime API, for one process of one function."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from rehearsal.server_thread import ServerThread

_API = "/2018-06-01/runtime"
_ANSWER_LIMIT_S = 30.0
_POLL_S = 0.2


@dataclass(frozen=True)
class Outcome:
    """What became of an invocation, or of the function's start."""

    kind: str  # "response", "error" or "init-error"
    invocation: str  # empty for the start
    body: Any


class LambdaService(AbstractContextManager["LambdaService"]):
    """Answers on a free port of ``host``; ``address`` is what AWS_LAMBDA_RUNTIME_API has to say."""

    def __init__(self, host: str, *, frozen: Callable[[bool], None] = lambda _: None) -> None:
        """``frozen`` is told True when the function waits for work and there is none, and False before it gets some."""
        self._frozen = frozen
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self.closing = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service._next(self)

            def do_POST(self) -> None:
                service._take(self)

            def log_message(self, *_: object) -> None:
                """The tests look at outcomes."""

        server = ThreadingHTTPServer((host, 0), Handler)
        server.daemon_threads = True
        self._thread = ServerThread(server)
        self.address = f"{host}:{server.server_port}"

    def __enter__(self) -> LambdaService:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._thread.end()

    def invoke(self, event: object, *, limit_s: float = _ANSWER_LIMIT_S) -> Outcome:
        """One invocation and what came of it. Raises queue.Empty when nothing comes within the limit."""
        self._waiting.put((f"request-{time.monotonic_ns()}", json.dumps(event).encode()))
        return self.outcome(limit_s=limit_s)

    def outcome(self, *, limit_s: float = _ANSWER_LIMIT_S) -> Outcome:
        """The next thing the function says. Raises queue.Empty when nothing comes within the limit."""
        return self._outcomes.get(timeout=limit_s)

    def _next(self, request: BaseHTTPRequestHandler) -> None:
        """The function asks for work and is kept waiting until there is some, as Lambda freezes it."""
        work = self._work()
        if work is None:
            request.close_connection = True
            return
        invocation, event = work
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(event)))
        request.send_header("Lambda-Runtime-Aws-Request-Id", invocation)
        request.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
        request.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:1:function:f")
        request.end_headers()
        request.wfile.write(event)

    def _work(self) -> tuple[str, bytes] | None:
        """The next invocation; None at the end."""
        if self._waiting.empty():
            self._frozen(True)
        try:
            while not self.closing.is_set():
                with suppress(queue.Empty):
                    return self._waiting.get(timeout=_POLL_S)
            return None
        finally:
            self._frozen(False)

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        text = request.rfile.read(int(request.headers["Content-Length"]))
        body = json.loads(text)
        words = request.path.removeprefix(f"{_API}/").split("/")
        if words == ["init", "error"]:
            self._outcomes.put(Outcome("init-error", "", body))
        else:
            self._outcomes.put(Outcome(words[2], words[1], body))
        request.send_response(202)
        request.send_header("Content-Length", "0")
        request.end_headers()
