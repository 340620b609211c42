"""A Lambda function with its real runtime client: one request a process, frozen in between, gone in the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rehearsal.functions import Executions, Function, FunctionFailed, Throttled

HANDLERS = """
import os, threading, time

beats = 0

def beat():
    global beats
    while True:
        time.sleep(0.01)
        beats += 1

threading.Thread(target=beat, daemon=True).start()

def handle(event, context):
    if event.get("fail"):
        raise ValueError("no such luck")
    time.sleep(event.get("s", 0))
    return {"pid": os.getpid(), "beats": beats}
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Function]]:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    made: list[Function] = []

    def function(
        handler: str = "handlers.handle", limit_s: float = 20.0, executions: Executions | None = None
    ) -> Function:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
        shared = executions or Executions(10)
        made.append(Function(handler, env=env, limit_s=limit_s, log=tmp_path / "log", executions=shared))
        return made[-1]

    yield function
    for each in made:
        each.__exit__(None, None, None)
    assert [
        process for process in psutil.Process().children(recursive=True) if "awslambdaric" in process.cmdline()
    ] == []


def test_one_process_serves_one_request_after_the_other(make: Callable[..., Function]) -> None:
    function = make()
    assert function.invoke({})["pid"] == function.invoke({})["pid"]
    assert function.workers == 1


def test_nothing_of_it_goes_on_between_two_requests(make: Callable[..., Function]) -> None:
    function = make()
    pid = function.invoke({})["pid"]
    for _ in range(500):
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            break
        threading.Event().wait(0.01)
    assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    assert function.invoke({"s": 0.1})["beats"] > 0


def test_two_requests_at_a_time_are_two_processes(make: Callable[..., Function]) -> None:
    function = make()
    found: list[int] = []
    asking = [threading.Thread(target=lambda: found.append(function.invoke({"s": 1.0})["pid"])) for _ in range(2)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(set(found)) == 2


def test_a_handler_that_raises_is_told_and_its_process_lives_on(make: Callable[..., Function]) -> None:
    function = make()
    pid = function.invoke({})["pid"]
    with pytest.raises(FunctionFailed, match="no such luck"):
        function.invoke({"fail": True})
    assert function.invoke({})["pid"] == pid


def test_one_that_takes_too_long_is_killed(make: Callable[..., Function]) -> None:
    function = make(limit_s=3.0)
    pid = function.invoke({})["pid"]
    with pytest.raises(FunctionFailed, match="longer than 3 s"):
        function.invoke({"s": 60})
    assert not psutil.pid_exists(pid)
    assert function.invoke({})["pid"] != pid


def test_a_function_that_cannot_be_imported_says_so(make: Callable[..., Function]) -> None:
    with pytest.raises(FunctionFailed, match="nobody"):
        make("nobody.handle").invoke({})


def test_functions_share_the_accounts_executions_and_one_too_many_is_refused_at_once(
    make: Callable[..., Function],
) -> None:
    executions = Executions(1)
    one, other = make(executions=executions), make(executions=executions)
    with executions.one("a third"), pytest.raises(Throttled, match="1 executions go on already"):
        one.invoke({})
    with pytest.raises(FunctionFailed, match="no such luck"):
        one.invoke({"fail": True})  # which gives its execution back
    first = threading.Thread(target=one.invoke, args=({"s": 1.0},))
    first.start()
    while not one.running:
        threading.Event().wait(0.01)
    with pytest.raises(Throttled):
        other.invoke({})
    first.join()
    assert other.invoke({})["pid"]
    assert (executions.refused, other.workers) == (2, 1)
