"""One control plane on one port: nobody else is taken for it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from rehearsal.desk import Desk, DeskFailure, Options
from rehearsal.ecs import Task, reserve
from rehearsal.server_thread import ServerThread


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

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    with ServerThread(server):
        yield server.server_port


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


def task_with(log: Path, **environment: str) -> Task:
    env = {**os.environ, "DIOGENES_NAMESPACE": "desk", **environment}
    return Task(8080, env=env, log=log, stop_timeout_s=1.0, host="127.21.0.1")


def gone(task: Task, limit_s: float = 60.0) -> int | None:
    """The exit code, once it ended by itself and was buried."""
    limit = time.monotonic() + limit_s
    while not task.exited:
        assert time.monotonic() < limit, "it did not end"
        time.sleep(0.02)
    task.stop()
    return task.exit_code


def test_a_task_that_ends_by_itself_leaves_its_exit_code_and_its_words_and_nothing_open(tmp_path: Path) -> None:
    """Nothing open: an unclosed socket or an unread process would be a ResourceWarning, which fails here."""
    task = task_with(tmp_path / "log", DIOGENES_PORT_OF_CALL="Corinth")
    task.launch()
    assert gone(task) == 2
    assert task.last_words() == "diogenes: DIOGENES_PORT_OF_CALL is not a setting"
    assert not task.exited


def test_a_killed_task_has_the_exit_code_that_containers_have(tmp_path: Path) -> None:
    task = task_with(tmp_path / "log")
    task.launch()
    task.kill()
    assert gone(task) == 137
