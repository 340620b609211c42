"""A Lambda function as AWS runs it: the real runtime client, one request a process, frozen between two."""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from rehearsal.ec2 import HOME
from rehearsal.lambda_service import LambdaService
from rehearsal.tree import ProcessTree

_CLOSE_LIMIT_S = 10.0


class FunctionFailed(Exception):
    """It raised, did not start or took too long; or it is Throttled."""


class Throttled(FunctionFailed):
    """Nothing of it ran: the account runs as much as it may."""


class Executions:
    """How many functions may run at a time, whichever: an account has one limit for all of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._refused = 0

    @property
    def refused(self) -> int:
        """How often there was none left."""
        with self._lock:
            return self._refused

    @contextmanager
    def one(self, handler: str) -> Iterator[None]:
        """For the time within. Raises Throttled at once: nobody queues for one."""
        if not self._free.acquire(blocking=False):
            with self._lock:
                self._refused += 1
            raise Throttled(f"{handler} is not run: {self._limit} executions go on already")
        try:
            yield
        finally:
            self._free.release()


class Function(AbstractContextManager["Function"]):
    """``invoke`` from any thread. Output of all its processes goes to ``log``."""

    def __init__(
        self, handler: str, *, env: Mapping[str, str], limit_s: float, log: Path, executions: Executions
    ) -> None:
        """``executions`` are shared with whatever else the account runs."""
        self.log = log
        self._handler = handler
        self._env = env
        self._limit_s = limit_s
        self._executions = executions
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.close()

    @property
    def workers(self) -> int:
        """Processes that exist, frozen ones too."""
        with self._lock:
            return len(self._idle) + len(self._busy)

    @property
    def running(self) -> int:
        """Invocations at this moment."""
        with self._lock:
            return len(self._busy)

    @property
    def resident_bytes(self) -> int:
        """Memory of the largest of its processes."""
        with self._lock:
            workers = [*self._idle, *self._busy]
        return max((worker.resident_bytes for worker in workers), default=0)

    def invoke(self, event: object) -> Any:
        """What the handler returns. Raises FunctionFailed."""
        with self._executions.one(self._handler):
            return self._invoke(event)

    def _invoke(self, event: object) -> Any:
        worker = self._take()
        alive = False
        try:
            outcome = worker.service.invoke(event, limit_s=self._limit_s)
            alive = outcome.kind != "init-error"
        except queue.Empty:
            raise FunctionFailed(f"{self._handler} took longer than {self._limit_s:.0f} s") from None
        finally:
            self._give_back(worker, alive=alive)
        if outcome.kind != "response":
            raise FunctionFailed(f"{self._handler} failed: {outcome.body}")
        return outcome.body

    def _take(self) -> _Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else _Worker(self._handler, env=self._env, log=self.log)
            self._busy.add(worker)
            return worker

    def _give_back(self, worker: _Worker, *, alive: bool) -> None:
        with self._lock:
            self._busy.discard(worker)
            if alive and not worker.service.closing.is_set():
                self._idle.append(worker)
                return
        worker.close()


class _Worker:
    """One process of the function with the service that it asks for work."""

    def __init__(self, handler: str, *, env: Mapping[str, str], log: Path) -> None:
        self._closing = threading.Lock()
        self.service = LambdaService("127.0.0.1", frozen=self._freeze)
        self.service.__enter__()
        self._tree = ProcessTree(
            [sys.executable, "-m", "awslambdaric", handler],
            env={**env, "AWS_LAMBDA_RUNTIME_API": self.service.address},
            cwd=HOME,
            log=log,
        )

    def _freeze(self, frozen: bool) -> None:
        """Nothing of it goes on between two invocations: no timer, no connection that is kept alive."""
        self._tree.signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    @property
    def resident_bytes(self) -> int:
        with suppress(psutil.NoSuchProcess):
            return int(psutil.Process(self._tree.leader).memory_info().rss)
        return 0

    def close(self) -> None:
        """Twice is once."""
        with self._closing:
            self._tree.kill()
            self._tree.wait(_CLOSE_LIMIT_S)
            if not self.service.closing.is_set():
                self.service.__exit__(None, None, None)
