"""A process's way to the account: every call takes its time, and goes wrong where the schedule says so.

refused       nothing happened, and the caller is told
lost          it happened, and the caller is told that nothing is known
late          the caller is told that nothing is known; it happens seconds after that
twice         the SDK sent it again after a lost reply: the answer is the second one's
slow          it takes many seconds, and happens in the middle of them
crash-before  the caller dies before the call happens
crash-after   it happens, and the caller dies before it knows
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Container, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from control_plane.errors import DiogenesError, Unavailable
from tests.simulation.schedule import Outage, Trouble
from tests.simulation.short_ways import WITHOUT_A_TASK
from tests.simulation.timeline import Process
from tests.simulation.troubles import READS

Told = Callable[[Process, str, tuple[Any, ...], Any], None]

_SIDES = {"cloud": "cloud", "stage": "stage"}  # all other ports are tables
_LATENCY_S = {"tables": 0.05, "cloud": 1.5, "stage": 0.4}  # at most
_LAUNCH_S = 6.0
AT_ONCE = 0.8  # of the calls to a table: most ticks are not torn apart
SEEN_AT_ONCE = 0.5  # of the looks at anything else


class Reach:
    """Which calls go wrong, and what becomes of the others. ``told`` hears of effects of these names as they happen."""

    def __init__(
        self, *, rng: random.Random, troubles: list[Trouble], background: Process, told: Told, names: Container[str]
    ) -> None:
        self.rng = rng
        self.ways: Mapping[tuple[str, str], dict[int, str]] = {
            key: {t.nth: t.how for t in troubles if (t.kind, t.method) == key}
            for key in {(t.kind, t.method) for t in troubles}
        }
        self._counts: Counter[tuple[str, str]] = Counter()
        self._background = background
        self.told = told
        self.names = names
        self.outages: list[Outage] = []
        self.over = False
        self.belated = False  # what happens right now was sent long ago
        self.struck: list[str] = []  # what went wrong, for the trace

    def port(self, process: Process, name: str, inner: object, *, before: Callable[[], None] | None = None) -> Any:
        return _Port(self, process, name, inner, before)

    def down(self, side: str) -> bool:
        now = self._background.timeline.now
        return any(outage.what == side and outage.at <= now < outage.at + outage.seconds for outage in self.outages)

    def strike(self, kind: str, name: str) -> str | None:
        """What goes wrong with this call, which is counted."""
        ways = self.ways.get((kind, name), {})
        self._counts[kind, name] += 1
        how = ways.get(self._counts[kind, name])
        if how:
            self.struck.append(f"{kind} {name} {how}")
        return how

    async def wrong(self, process: Process, how: str, effect: Callable[[], Any]) -> Any:
        """The call as it goes wrong. Raises Unavailable, or whatever the effect does."""
        match how:
            case "refused":
                await asyncio.sleep(0.1)
            case "lost":
                self._quietly(effect)
                await asyncio.sleep(0.1)
            case "late":
                self._background.loop.call_later(self.rng.uniform(0.5, 4.0), self._belated, effect)
                await asyncio.sleep(0.1)
            case "twice":
                self._quietly(effect)
                await asyncio.sleep(self.rng.uniform(0.05, 2.0))
                return effect()
            case "slow":
                slow_s = self.rng.uniform(2.0, 12.0)
                await asyncio.sleep(slow_s / 2)
                answer = effect()
                await asyncio.sleep(slow_s / 2)
                return answer
            case "crash-before":
                await self._die(process)
            case "crash-after":
                self._quietly(effect)
                await self._die(process)
        raise Unavailable(how)

    def _quietly(self, effect: Callable[[], Any]) -> None:
        with contextlib.suppress(DiogenesError):  # nobody hears of it
            effect()

    def _belated(self, effect: Callable[[], Any]) -> None:
        self.belated = True
        self._quietly(effect)
        self.belated = False

    async def _die(self, process: Process) -> None:
        process.crash()
        await asyncio.get_running_loop().create_future()


class _Port:
    """Any port of ``control_plane.ports`` over the one in memory behind it."""

    def __init__(
        self, reach: Reach, process: Process, name: str, inner: object, before: Callable[[], None] | None
    ) -> None:
        self._reach = reach
        self._process = process
        self._name = name
        self._inner = inner
        self._before = before

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Made once a method, with all that can be known before the call: most of a schedule is spent here."""
        kind = _kind(self._name, method, type(self._inner))  # type: ignore[arg-type]
        way = _Way(self._reach, self._process, kind, self._inner, self._before)
        call = partial(_called, way)
        setattr(self, method, call)
        return call


class _Way:
    """One method of one port of one process."""

    __slots__ = ("before", "inner", "kind", "loop", "process", "random", "reach", "struck", "told")

    def __init__(
        self, reach: Reach, process: Process, kind: _Kind, inner: object, before: Callable[[], None] | None
    ) -> None:
        self.reach = reach
        self.process = process
        self.kind = kind
        self.inner = inner
        self.before = before
        self.loop = process.loop
        self.random = reach.rng.random
        self.struck = (process.kind, kind.name) in reach.ways  # does any call of it go wrong?
        self.told = reach.told if kind.name in reach.names else None


@dataclass(frozen=True)
class _Kind:
    """What is the same for a method in all processes and schedules."""

    name: str
    side: str
    most_s: float
    at_once: float
    at_its_end: float  # below: it happens at the end of the latency, above: at its beginning
    work: Callable[..., Coroutine[Any, Any, Any]]


@cache
def _kind(port: str, method: str, inner: Any) -> _Kind:
    name, side = f"{port}.{method}", _SIDES.get(port, "tables")
    at_once = AT_ONCE if side == "tables" else SEEN_AT_ONCE if name in READS else 0.0
    return _Kind(
        name,
        side,
        most_s=_LAUNCH_S if name == "cloud.launch" else _LATENCY_S[side],
        at_once=at_once,
        at_its_end=(1 + at_once) / 2,
        work=_work(inner, method),
    )


def _work(kind: Any, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The method, without what tests wrap around it to make it fail."""
    work = getattr(kind, method)
    return getattr(work, "__wrapped__", work)  # type: ignore[no-any-return]


async def _called(way: _Way, *args: Any, **kwargs: Any) -> Any:
    reach, kind = way.reach, way.kind
    if reach.over:
        raise Unavailable("the schedule is over")
    if way.struck and (how := reach.strike(way.process.kind, kind.name)):
        return await reach.wrong(way.process, how, lambda: _effect(way, args, kwargs))
    if reach.outages and reach.down(kind.side):
        await way.loop.nap_until(way.loop.timeline.now + way.random() * kind.most_s)
        raise Unavailable(f"{kind.side}: outage")
    when = way.random()
    if when < kind.at_once:
        return await _happening(way, args, kwargs)
    until = way.loop.timeline.now + way.random() * kind.most_s
    if when < kind.at_its_end:
        await way.loop.nap_until(until)
        return await _happening(way, args, kwargs)
    try:
        return await _happening(way, args, kwargs)
    finally:
        await way.loop.nap_until(until)


WITHOUT_A_TASK.add(_called.__code__)


async def _happening(way: _Way, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if way.before is not None:
        way.before()
    answer = await way.kind.work(way.inner, *args, **kwargs)
    if way.told is not None:
        way.told(way.process, way.kind.name, args, answer)
    return answer


def _effect(way: _Way, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Of a call that goes wrong, which may happen when its process is no longer there."""
    try:
        _happening(way, args, kwargs).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a port in memory waited")
