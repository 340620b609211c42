"""Virtual time: one heap of timers for all processes of a schedule, and an event loop for each of them.

The code under test is plain asyncio. Every process (a task, a function, a machine) has a loop of its own that only
hands its callbacks to the common timeline; so a process can die between any two awaits, and nothing of it runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any

EPOCH = 1_795_000_000.0
TASKS_KEPT = 64


class Handle:
    """One callback; what asyncio calls a handle and a timer handle."""

    __slots__ = ("args", "at", "callback", "cancelled_", "context", "loop")

    def __init__(self, loop: ProcessLoop, callback: Callable[..., object], args: tuple[Any, ...], at: float) -> None:
        self.loop = loop
        self.callback = callback
        self.args = args
        self.at = at
        self.cancelled_ = False
        self.context: Context | None = None

    def cancel(self) -> None:
        self.cancelled_ = True

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self.at


class Timeline:
    """Seconds from 0. ``run`` goes on until ``stop`` says so or a time is reached."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.ready: deque[Handle] = deque()
        self.timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()

    def push(self, handle: Handle) -> None:
        heapq.heappush(self.timers, (handle.at, next(self._numbers), handle))

    def run(self, until: float, *, stop: Callable[[], bool] | None = None) -> None:
        """Raises what a callback raises that is no task's step."""
        try:
            self._run(until, stop)
        finally:
            events._set_running_loop(None)

    def _run(self, until: float, stop: Callable[[], bool] | None) -> None:
        ready, timers, step = self.ready, self.timers, self._step
        while True:
            while ready:
                step(ready.popleft())
            if stop is not None and stop():
                return
            if not timers or timers[0][0] > until:
                self.now = max(self.now, until)
                return
            at, _, handle = heapq.heappop(timers)
            if not handle.cancelled_:
                if at > self.now:
                    self.now = at
                step(handle)

    def _step(self, handle: Handle) -> None:
        if handle.cancelled_:
            return
        loop = handle.loop
        if loop.paused:
            loop.kept.append(handle)
            return
        self.steps += 1
        events._set_running_loop(loop)
        if handle.context is None:
            handle.callback(*handle.args)
        else:
            handle.context.run(handle.callback, *handle.args)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The loop of one process. ``paused``: what comes due is kept, for ever when the process is dead."""

    def __init__(self, timeline: Timeline, *, complaints: Callable[[str], None]) -> None:
        self.timeline = timeline
        self.paused = False
        self.kept: list[Handle] = []
        self.connect: Callable[..., Any] | None = None
        self._complaints = complaints
        self._tasks: list[asyncio.Task[Any]] = []  # also of a dead process: the collector must not end them

    def resume(self) -> None:
        self.paused = False
        self.timeline.ready.extend(self.kept)
        self.kept.clear()

    # -- what asyncio asks of a loop

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(self, callback, args, self.timeline.now)
        handle.context = context
        self.timeline.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(self, callback, args, when)
        handle.context = context
        self.timeline.push(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self.timeline.now + delay, callback, *args, context=context)

    def time(self) -> float:
        return self.timeline.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task = asyncio.Task(coro, loop=self, **options)
        self._tasks.append(task)
        if len(self._tasks) > TASKS_KEPT:
            self._tasks = self.tasks
        return task

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that have not ended."""
        return [task for task in self._tasks if not task.done()]

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._complaints(f"{context.get('message')}: {context.get('exception')!r}")

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int) -> Any:  # type: ignore[override]
        assert self.connect, "this process has no network"
        return await self.connect(self, factory, host)


class Process:
    """One process with a clock of its own; ``crash`` drops whatever it was doing."""

    def __init__(self, timeline: Timeline, kind: str, *, skew_s: float, complaints: Callable[[str], None]) -> None:
        self.kind = kind
        self.timeline = timeline
        self.loop = ProcessLoop(timeline, complaints=complaints)  # type: ignore[abstract]  # nobody asks it for more
        self.alive = True
        self.when_dead: list[Callable[[], None]] = []
        self._skew_s = skew_s

    def clock(self) -> float:
        return EPOCH + self.timeline.now + self._skew_s

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """What is made here is made on its loop."""
        before = events._get_running_loop()
        events._set_running_loop(self.loop)
        try:
            yield
        finally:
            events._set_running_loop(before)

    def crash(self) -> None:
        """Nothing of it runs on; what it asked for and is under way still arrives."""
        if self.alive:
            self.alive = False
            self.loop.paused = True
            for tell in self.when_dead:
                tell()

    def bury(self) -> None:
        """After the schedule: let its coroutines end, so that nothing of them is left to the collector."""
        self.loop.resume()
        for task in self.loop.tasks:
            task.cancel()
