"""Virtual time: one heap of timers for all processes of a schedule, and an event loop for each of them.

The code under test is plain asyncio. Every process (a task, a function, a machine) has a loop of its own that only
hands its callbacks to the common timeline; so a process can die between any two awaits, and nothing of it runs on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from heapq import heappop, heappush
from typing import Any

EPOCH = 1_795_000_000.0
TASKS_KEPT = 64


class Handle:
    """One callback; what asyncio calls a handle and a timer handle. Without a callback it is cancelled, or was run."""

    __slots__ = ("args", "at", "callback", "context", "loop")

    def __init__(
        self,
        loop: ProcessLoop,
        callback: Callable[..., object] | None,
        args: tuple[Any, ...],
        at: float,
        context: Context | None,
    ) -> None:
        self.loop = loop
        self.callback = callback
        self.args = args
        self.at = at
        self.context = context

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.at


class Nap(Handle):
    """What ``asyncio.sleep`` waits for here: timer and future in one, so that a sleep costs one step and no call more.

    Half of all steps end a sleep. The task that waits is woken by the timer itself: nothing could come between a
    future's result and its callback anyway, as a timer's turn comes when nothing else is ready.
    """

    __slots__ = ("_asyncio_future_blocking", "_was_cancelled")

    def __init__(self, loop: ProcessLoop, at: float) -> None:
        self.loop = loop
        self.callback = None  # until a task waits
        self.args = ()
        self.at = at
        self._asyncio_future_blocking = True
        self._was_cancelled = False

    def __await__(self) -> Any:  # an iterator, which is all that await asks for
        return iter((self,))

    # -- what a task asks of a future that it waits for

    def get_loop(self) -> ProcessLoop:
        return self.loop

    def add_done_callback(self, callback: Callable[..., object], *, context: Context | None = None) -> None:
        self.callback = callback
        self.args = (self,)
        self.context = context

    # -- what an event does to the futures of those who wait for it

    def done(self) -> bool:
        return self.callback is None

    def set_result(self, _: object) -> None:
        """It ends now, before its time."""
        if self.callback is not None:
            self.loop.call_soon(self.callback, self, context=self.context)
        super().cancel()

    def result(self) -> None:
        self.args = ()  # no cycle is left behind
        if self._was_cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]
        if self._was_cancelled:
            return False
        self._was_cancelled = True
        if self.callback is not None:
            self.loop.call_soon(self.callback, self, context=self.context)
        super().cancel()
        return True


class Timeline:
    """Seconds from 0. ``run`` goes on until a time is reached, or ``stopped`` is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self.stopped = False
        self.ready: deque[Handle] = deque()
        self.timers: list[tuple[float, int, Handle]] = []
        self.number = itertools.count().__next__  # of a timer: of two at one time the first goes first
        self._current: ProcessLoop | None = None  # whose turn it is

    def run(self, until: float) -> None:
        """What a callback raises that is no task's step, its loop complains of."""
        try:
            self._run(until)
        finally:
            self._current = None
            events._set_running_loop(None)

    def _run(self, until: float) -> None:  # noqa: C901 - everything that happens comes by here, and a call has its price
        """The next timer's time comes when nothing is ready."""
        ready, timers, current = self.ready, self.timers, self._current
        while True:
            if ready:
                handle = ready.popleft()
            elif self.stopped:
                break
            elif timers and timers[0][0] <= until:
                at, _, handle = heappop(timers)
                if at > self.now and handle.callback is not None:
                    self.now = at
            else:
                self.now = max(self.now, until)
                break
            callback, loop = handle.callback, handle.loop
            if callback is None:
                continue
            if loop.paused:
                loop.kept.append(handle)
                continue
            self.steps += 1
            if loop is not current:
                events._set_running_loop(loop)
                self._current = current = loop
            try:
                if handle.context is None:
                    callback(*handle.args)
                else:
                    handle.context.run(callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - as asyncio: the loop goes on, and it is told
                loop.call_exception_handler({"message": f"in {callback!r}", "exception": error})


class ProcessLoop(asyncio.AbstractEventLoop):
    """The loop of one process. ``paused``: what comes due is kept, for ever when the process is dead."""

    def __init__(self, timeline: Timeline, *, complaints: Callable[[str], None]) -> None:
        self.timeline = timeline
        self._ready = timeline.ready
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
        handle = Handle(self, callback, args, 0.0, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(self, callback, args, when, context)
        heappush(self.timeline.timers, (when, self.timeline.number(), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self.timeline.now + delay, callback, *args, context=context)

    def time(self) -> float:
        return self.timeline.now

    def nap_until(self, at: float) -> Nap:
        nap = Nap(self, at)
        heappush(self.timeline.timers, (at, self.timeline.number(), nap))
        return nap

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

    get_debug: Any = bool  # "no", without a call of ours: every future that is made asks

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
        self.killed = False  # it did not end in time
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
