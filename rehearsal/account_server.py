"""The account on a port, for who speaks HTTP to it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from types import TracebackType

from werkzeug.serving import WSGIRequestHandler, make_server

from rehearsal.account import Account
from rehearsal.server_thread import ServerThread


class AccountServer(AbstractContextManager["AccountServer"]):
    """The account on a free port of this machine; of an address that containers reach, where one is named."""

    def __init__(self, account: Account, *, host: str = "127.0.0.1") -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server(host, 0, account, threaded=True, request_handler=_Handler)
        self._thread = ServerThread(server)
        self.url = f"http://{host}:{server.server_port}"

    def __enter__(self) -> AccountServer:
        self._thread.start()
        Account.opened = self.url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.end()
        Account.opened = ""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # keep connections
    disable_nagle_algorithm = True  # headers and body leave apart: with Nagle, each answer waits 40 ms for an ACK
    wbufsize = -1

    def handle_expect_100(self) -> bool:
        """At once: S3's clients wait a second for it before they send an object."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Thousands of lines that nobody reads; the account counts calls."""
