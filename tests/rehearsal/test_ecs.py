"""One control plane on one port: nobody else is taken for it, and it is started again unless that is in vain."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from rehearsal.desk import Desk, DeskFailure, Options
from rehearsal.ecs import Scheduler, reserve


class Task:
    """Ends when the test says so; may end, or hang, in its start."""

    def __init__(self) -> None:
        self.exited = False
        self.starts = 0
        self.start_fails = ""

    def start(self) -> None:
        self.starts += 1
        self.exited = self.start_fails == "ends"
        if self.start_fails:
            raise DeskFailure("it did not start")

    def last_words(self) -> str:
        return "famous last words"


class Bench:
    """A scheduler with its task, by a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.task = Task()
        self.told: list[str] = []
        self.scheduler = Scheduler(self.task, clock=lambda: self.now, tell=self.told.append)

    def end_after(self, seconds: float) -> None:
        self.now += seconds
        self.task.exited = True
        self.scheduler.step()


def test_a_task_that_ended_is_started_again_and_one_line_says_so() -> None:
    bench = Bench()
    bench.scheduler.step()
    assert (bench.task.starts, bench.told) == (0, [])
    bench.end_after(60)
    bench.scheduler.step()
    assert bench.task.starts == 1
    assert bench.told == ["the control plane ended; starting it again, as ECS would"]


def test_the_third_short_life_in_a_row_is_the_last() -> None:
    bench = Bench()
    bench.end_after(2)
    bench.end_after(2)
    with pytest.raises(DeskFailure, match=r"3 times in a row.*\nfamous last words"):
        bench.end_after(2)
    assert bench.task.starts == 2


def test_a_long_life_in_between_forgives_the_short_ones() -> None:
    bench = Bench()
    for seconds in (2, 2, 60, 2, 2):
        bench.end_after(seconds)
    assert bench.task.starts == 5


def test_a_task_that_ends_in_its_start_is_tried_three_times_however_long_that_takes() -> None:
    bench = Bench()
    bench.task.start_fails = "ends"
    bench.end_after(60)
    bench.scheduler.step()
    bench.scheduler.step()
    with pytest.raises(DeskFailure, match="3 times in a row"):
        bench.scheduler.step()
    assert bench.task.starts == 3


def test_a_task_that_hangs_in_its_start_is_not_tried_again() -> None:
    bench = Bench()
    bench.task.start_fails = "hangs"
    with pytest.raises(DeskFailure, match="it did not start"):
        bench.end_after(60)


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
