"""Calls of a function that nobody waits for, as EventBridge makes them: Lambda keeps each event until it was taken.

One for which there is no execution left is tried again after a second, then after twice as long each time, for up to
six hours. One at which the function failed is tried twice more, after one minute and after two, and is lost then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol

from rehearsal.functions import FunctionFailed, Throttled

FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 300.0  # of one that is throttled
KEPT_S = 6 * 3600.0
AGAIN_S = (60.0, 120.0)  # after it failed


class Invocable(Protocol):
    def invoke(self, event: object) -> Any:
        """Raises FunctionFailed."""


class EventQueue(AbstractContextManager["EventQueue"]):
    """``send`` from any thread; leaving waits for what runs, and drops what is still to be tried again."""

    def __init__(
        self, name: str, function: Invocable, *, wait: Callable[[float], bool], tell: Callable[[str], None]
    ) -> None:
        """``wait`` so many seconds; True as soon as all is over. What comes of each try is told under ``name``."""
        self._name = name
        self._function = function
        self._wait = wait
        self._tell = tell
        self._lock = threading.Lock()
        self._calls: list[threading.Thread] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.join()

    def send(self, event: object) -> None:
        """Returns at once. Nothing is sent any more when all is over."""
        if self._wait(0.0):
            return
        call = threading.Thread(target=self._deliver, args=(event,), name=f"{self._name}'s event", daemon=True)
        with self._lock:
            self._calls = [*(each for each in self._calls if each.is_alive()), call]
            call.start()

    def _deliver(self, event: object) -> None:
        throttled, failed = _ever_longer(), iter(AGAIN_S)
        told: FunctionFailed
        while True:
            try:
                self._tell(f"{self._name}: {self._function.invoke(event)}")
                return
            except Throttled as error:
                told, pause_s = error, next(throttled, None)
            except FunctionFailed as error:
                told, pause_s = error, next(failed, None)
            if self._wait(0.0):
                return
            self._tell(f"{self._name}: {told}")
            if pause_s is None or self._wait(pause_s):
                return


def _ever_longer() -> Iterator[float]:
    waited_s, pause_s = 0.0, FIRST_PAUSE_S
    while waited_s < KEPT_S:
        yield pause_s
        waited_s += pause_s
        pause_s = min(pause_s * 2, MAX_PAUSE_S)
