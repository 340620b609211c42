"""The time on a node: the wall's, as it was when the agent began, carried on by the monotonic clock.

A lease is a time of the wall, and a wall clock can be set. Were it set back by a day, a node whose control plane is
gone would live on for that day; so nothing here is ever measured by a clock that jumps.
"""

from __future__ import annotations

from collections.abc import Callable


class SteadyClock:
    """Now, in Unix seconds. Never jumps, whatever happens to the wall clock; ``drift_s`` tells what did."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def __call__(self) -> float:
        return self._offset + self._monotonic()

    @property
    def drift_s(self) -> float:
        """How far the wall clock is from where it should be: above zero when it was set forward."""
        return self._wall() - self()
