"""Waits that cost a step each: what asyncio, and our own ``either``, do with timers, futures and tasks, done with naps.

The code under test calls them as it always does; what becomes of it, and when, is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import events
from collections.abc import Awaitable, Callable, Iterator
from types import CodeType
from typing import Any

from control_plane import loops, reconciler, record, slumber
from tests.simulation.timeline import ProcessLoop

_WAITING = (reconciler, record, slumber)  # modules that wait for either of two


@contextlib.contextmanager
def short_ways() -> Iterator[None]:
    """In here, a sleep is a nap on a process's loop, and so is a wait that an event may end; few tasks are gathered."""
    asyncio.sleep, asyncio.gather = _sleep, _gather  # type: ignore[assignment]
    for module in _WAITING:
        module.either = _either  # type: ignore[attr-defined]
    try:
        yield
    finally:
        asyncio.sleep, asyncio.gather = _asyncio_sleep, _asyncio_gather
        for module in _WAITING:
            module.either = loops.either  # type: ignore[attr-defined]


_asyncio_sleep = asyncio.sleep


def _sleep(delay: float, result: Any = None) -> Any:
    loop = events._get_running_loop()
    if delay <= 0 or result is not None or not isinstance(loop, ProcessLoop):
        return _asyncio_sleep(delay, result)
    return loop.nap_until(loop.timeline.now + delay)


async def _either(happened: asyncio.Event, limit_s: float) -> None:
    loop = events._get_running_loop()
    assert isinstance(loop, ProcessLoop)
    if not happened.is_set():
        nap = loop.nap_until(loop.timeline.now + limit_s)
        waiting: Any = happened._waiters
        waiting.append(nap)
        try:
            await nap
        finally:
            waiting.remove(nap)
    happened.clear()


_asyncio_gather = asyncio.gather


async def _gather(*works: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
    """Calls to ports need no tasks: most are at their end without a wait, and the others are carried on by strands."""
    if not works:
        return []
    if return_exceptions or not all(getattr(work, "cr_code", None) in WITHOUT_A_TASK for work in works):
        return await _asyncio_gather(*works, return_exceptions=return_exceptions)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ProcessLoop)
    strands = [_Strand(work) for work in works]
    for strand in strands:
        if loop.paused:  # it died in there
            strand.work.close()
        else:
            strand.step()
    for strand in strands:
        if strand.failure is not None:
            raise strand.failure  # the others go on, as asyncio's do
    waiting = [strand for strand in strands if strand.pause is not None]
    if waiting:
        await _joined(loop, waiting)
    return [strand.result for strand in strands]


async def _joined(loop: ProcessLoop, waiting: list[_Strand]) -> None:
    """Return when all have ended; raise what the first of them raises that fails."""
    over, left = loop.create_future(), len(waiting)

    def ended(strand: _Strand) -> None:
        nonlocal left
        left -= 1
        if over.done():
            return
        if strand.failure is not None:
            over.set_exception(strand.failure)
        elif not left:
            over.set_result(None)

    for strand in waiting:
        strand.ended = ended
    try:
        await over
    except asyncio.CancelledError:
        for strand in waiting:
            strand.cancel()
        raise


class _Strand:
    """A coroutine that is carried on as a task would, without what a task costs."""

    __slots__ = ("ended", "failure", "pause", "result", "work")

    def __init__(self, work: Any) -> None:
        self.work = work
        self.pause: Any = None  # what it waits for
        self.result: Any = None
        self.failure: BaseException | None = None
        self.ended: Callable[[_Strand], None] | None = None  # hears of its end, where that did not come at once

    def step(self, pause: Any = None) -> None:
        """Go on, after the pause if there was one."""
        self.pause = None
        try:
            self.pause = self.work.send(None) if pause is None else self._next(pause)
        except StopIteration as done:
            self.result = done.value
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whoever gathers is told
            self.failure = error
        else:
            self.pause._asyncio_future_blocking = False
            self.pause.add_done_callback(self.step)
            return
        if self.ended is not None:
            self.ended(self)

    def _next(self, pause: Any) -> Any:
        try:
            pause.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the work's
            return self.work.throw(error)
        return self.work.send(None)

    def cancel(self) -> None:
        if self.pause is not None:
            self.pause.cancel()


WITHOUT_A_TASK: set[CodeType] = set()
"""Coroutines that never ask for the task that they are in."""
