"""An event loop whose clock jumps: real sockets, real clients, no waiting.

While anything can be read or written the loop behaves as ever; when nothing can, its time jumps to the next timer.
Everything of a story runs on this one loop, so a cold start of nine minutes takes as long as its events do.

Before a jump the loop makes sure that nothing is under way, however slow the machine is: no thread works for it, and
what was sent has arrived, or is held up by a reader that does not read.
"""

from __future__ import annotations

import asyncio
import fcntl
import selectors
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter

P = ParamSpec("P")

_SIOCOUTQNSD = 0x894B  # Linux: how much of what a socket was given is not sent yet
_POLL_S = 0.001
_STUCK_S = 0.06  # beyond the kernel's longest wait for an acknowledgement (40 ms): what is still there, stays


class _Echo:
    """A datagram through loopback: it arrives after all that was sent before it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(self._socket.getsockname())
        self._socket.settimeout(5.0)

    def wait(self) -> None:
        self._socket.send(b".")
        self._socket.recv(1)

    def close(self) -> None:
        self._socket.close()


class _JumpingSelector(selectors.DefaultSelector):
    """Lets the clock jump when no socket has anything to tell, and none will."""

    jump: Callable[[float], None]
    threads: Callable[[], int]  # how many work for the loop; when one is done, it wakes it

    def __init__(self) -> None:
        super().__init__()
        self._echo = _Echo()
        self._stuck: dict[int, int] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(_POLL_S)
        if timeout <= 0:
            return super().select(0)
        if self.threads():
            return super().select(_POLL_S)
        ready = self._settle()
        if not ready:
            self.jump(timeout)
        return ready

    def close(self) -> None:
        self._echo.close()
        super().close()

    def _settle(self) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready once everything sent has arrived, or is stuck."""
        self._echo.wait()
        seen, since = self._unsent(), time.monotonic()
        while True:
            ready = super().select(0)
            sent = self._unsent()
            if ready or not sent or sent == self._stuck:
                return ready
            if sent != seen:
                seen, since = sent, time.monotonic()
            elif time.monotonic() - since > _STUCK_S:
                self._stuck = sent
            time.sleep(_POLL_S)

    def _unsent(self) -> dict[int, int]:
        """Bytes that the kernel has yet to send, by socket; what it sent has arrived with the echo."""
        counts = {key.fd: _unsent(key.fd) for key in self.get_map().values()}
        return {fd: count for fd, count in counts.items() if count}


def _unsent(fd: int) -> int:
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(fd, _SIOCOUTQNSD, b"\0" * 4))
    except OSError:  # one that listens, or no socket
        return 0
    return int(count)


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` is virtual and starts at 0."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.jump = self._jump
        selector.threads = self._threads
        self._virtual_now = 0.0
        self._calls = 0
        self._limiter: CapacityLimiter | None = None
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual_now

    def run_in_executor(  # type: ignore[override]  # the stubs have type variables here that nothing outside can name
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._calls += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._called)
        return future

    def watch_threads(self) -> None:
        """Those of anyio too. To be called on the loop."""
        self._limiter = current_default_thread_limiter()

    def _called(self, _: asyncio.Future[Any]) -> None:
        self._calls -= 1

    def _threads(self) -> int:
        return self._calls + (int(self._limiter.borrowed_tokens) if self._limiter else 0)

    def _jump(self, seconds: float) -> None:
        self._virtual_now += seconds


def story(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that runs on virtual time."""

    async def watched(*args: P.args, **kwargs: P.kwargs) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.watch_threads()
        await test(*args, **kwargs)

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(watched(*args, **kwargs))

    return run
