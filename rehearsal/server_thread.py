"""A server of the standard library's kind, on a thread of its own."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from socketserver import BaseServer
from types import TracebackType

_POLL_S = 0.05  # how soon it sees that it shall end


class ServerThread(AbstractContextManager["ServerThread"]):
    """Answers from ``start`` or entering on, and is gone with its socket after ``end`` or leaving.

    The process does not wait for it.
    """

    def __init__(self, server: BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)

    def __enter__(self) -> ServerThread:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
