"""One control plane on one port: nobody else is taken for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from rehearsal.desk import Desk, DeskFailure, Options
from rehearsal.ecs import reserve


def test_a_reserved_port_is_left_to_the_server_that_listens_on_it() -> None:
    with closing(reserve(0)) as held:
        port = held.getsockname()[1]
        with socket.create_server(("127.0.0.1", port)) as server:
            assert server.getsockname()[1] == port
            with pytest.raises(DeskFailure, match=f"port {port} is taken"):
                reserve(port)


@contextmanager
def healthy_stranger(port: int = 0) -> Iterator[int]:
    """Another program's server, which answers everything with 200; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_taken_port_is_refused_before_anything_starts() -> None:
    children = set(psutil.Process().children())
    with healthy_stranger() as port:
        with (
            pytest.raises(DeskFailure, match=f"port {port} is taken; choose another with PORT="),
            Desk(Options(port=port)),
        ):
            pytest.fail("it started")
        assert set(psutil.Process().children()) <= children


def test_a_stranger_who_came_first_is_not_taken_for_the_control_plane() -> None:
    with (
        Desk(Options(control_plane=False)) as desk,
        healthy_stranger(desk.port),
        pytest.raises(DeskFailure, match="did not start"),
    ):
        desk.start_control_plane()
