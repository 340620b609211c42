"""An event loop whose clock jumps: real sockets, real clients, no waiting.

While anything can be read or written the loop behaves as ever; when nothing can, its time jumps to the next timer.
Everything of a story runs on this one loop, so a cold start of nine minutes takes as long as its events do.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

P = ParamSpec("P")

_SETTLE_S = 0.0005  # real time given to the kernel's loopback before the clock jumps


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for sockets a moment only, then lets the clock jump instead."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None and timeout <= 0 else _SETTLE_S)
        if not ready and timeout is not None and timeout > 0:
            self.jump(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` is virtual and starts at 0."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.jump = self._jump
        self._virtual_now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_now

    def _jump(self, seconds: float) -> None:
        self._virtual_now += seconds


def story(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that runs on virtual time."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
