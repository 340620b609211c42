"""The janitor: on a schedule, one look at the front, and one reconciler's tick where no control plane is at work.

What it mended it reports as events: after it acted, all at once, and also when the round was cut short. At the end of
each round it sends notices of what anybody has told since: it is there whether or not a task is, and there is only one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from control_plane import logs
from control_plane.adapters import Adapters, FrontAdapters
from control_plane.app import ControlPlane
from control_plane.budget import BudgetState
from control_plane.endings import ending_of, last_lines
from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.front import Doorkeeper
from control_plane.metrics import Metric, embedded, of_nodes, overdue
from control_plane.model import DEFAULT_MAX_LIFETIME_S, Model
from control_plane.nodes import Node
from control_plane.notice import NoticeAdapters
from control_plane.notifier import Notifier
from control_plane.outside import adapters_and_notices
from control_plane.ports import Clock, EventStore, Front, FrontState
from control_plane.settings import InvalidSettings, Settings

CAUSE = "janitor"
EVERY_S = 120.0  # the schedule
LOOK_S = 10.0  # what the first look at the front may take: without it, nodes are looked after all the same
MEND_S = 30.0  # what looking and mending may take: what follows shall be told before the function is ended
EVENTS_S = 5.0  # what writing events may take, each of two times
NOTICES_S = 15.0  # what sending notices may take; what is cut off is sent again

_BUDGETS = {EventKind.BUDGET_WARNED, EventKind.BUDGET_REACHED, EventKind.BUDGET_EXCEEDED}
_NOT_MENDED = frozenset(
    {
        EventKind.LAUNCH_REFUSED,
        EventKind.START_FAILED,
        EventKind.WAKE_FAILED,
        EventKind.TASK_FAILED,
        EventKind.NOTICE_GIVEN_UP,
    }
    | _BUDGETS
)

log = logging.getLogger(__name__)

Opener = Callable[[Settings], AbstractAsyncContextManager[tuple[Adapters, NoticeAdapters]]]


@dataclass(frozen=True)
class Round:
    """What one round found, and did."""

    state: str  # of the front, afterwards
    acted: bool  # False: a control plane is at work, or was a moment ago
    mended: Mapping[str, int] = field(default_factory=dict)  # events by kind

    @property
    def told(self) -> Mapping[str, object]:
        """In plain values; ``mended`` is how many, ``kinds`` how many of each."""
        return {"state": self.state, "acted": self.acted, "mended": sum(self.mended.values()), "kinds": self.mended}


async def clean(
    settings: Settings,
    outside: Adapters,
    front: FrontAdapters,
    *,
    clock: Clock,
    notices: NoticeAdapters | None = None,
    ended: Mapping[str, Any] | None = None,
) -> Round:
    """One round. A wish that nobody serves wakes the control plane. Raises Unavailable: the next round tries again.

    ``ended`` is what ECS tells of the task whose end this round was called for, as in DescribeTasks.
    """
    control_plane = ControlPlane(settings, outside, clock=clock, cause=CAUSE, streams=False)
    try:
        async with asyncio.timeout(MEND_S):
            found = await _mend(control_plane, outside, front, clock=clock, linger_s=settings.linger_s)
            if ended:
                await _tell_ending(control_plane, ended, settings.namespace)
            await _measure(control_plane, settings, outside, found, clock=clock)
    except TimeoutError as error:
        raise Unavailable(f"the round was cut off after {MEND_S:.0f} s") from error
    finally:
        # What was mended stays mended, whether or not anybody hears of it.
        await control_plane.log.settle(EVENTS_S)
        if notices and outside.events:
            await _notify(control_plane, outside.events, notices, clock=clock, deployment=settings.namespace)
    mended = {kind: count for kind, count in control_plane.log.kinds.items() if kind not in _NOT_MENDED}
    found = replace(found, mended=mended)
    log.info("janitor's round", extra=found.told)
    return found


async def _mend(
    control_plane: ControlPlane, outside: Adapters, front: FrontAdapters, *, clock: Clock, linger_s: float
) -> Round:
    now = clock()
    wishes = await outside.stores.wishes.list()
    wanted = any(wish.desired and wish.hold_until > now for wish in wishes)
    keeper = _keeper(control_plane, outside, front, clock=clock, linger_s=linger_s)
    found = await _seen(keeper, wanted=wanted)
    spared = found.failure is not None  # no GPU for a control plane that does not come up
    acted = await control_plane.reconciler.once(launches=not spared)
    await _tell_budgets(control_plane, now)
    found = await _looked(keeper, wanted=wanted or control_plane.keeps_warm())
    return Round(str(found.state), acted)


def _keeper(
    control_plane: ControlPlane, outside: Adapters, front: FrontAdapters, *, clock: Clock, linger_s: float
) -> Doorkeeper:
    async def needed() -> bool:
        """The tables alone tell: a task that crashed a moment ago is still the one that acts."""
        stores = outside.stores
        return bool(await control_plane.wished() or await stores.nodes.list() or await stores.launches.list())

    return Doorkeeper(
        front.store,
        front.hands,
        clock=clock,
        linger_s=linger_s,
        told=control_plane.chronicle.stepped,
        needed=needed,
    )


async def _seen(keeper: Doorkeeper, *, wanted: bool) -> Front:
    """The front, mended before all else: what the nodes need may take long, and who asks meanwhile must find somebody.
    Where AWS does not show it in time, as the table has it. Raises Unavailable where that is not told either."""
    try:
        async with asyncio.timeout(LOOK_S):
            return await _looked(keeper, wanted=wanted)
    except (Unavailable, TimeoutError) as error:
        log.warning("front not seen", extra={"error": str(error) or "no answer in time"})
        return await keeper.read()


async def _looked(keeper: Doorkeeper, *, wanted: bool) -> Front:
    """After a look, and another where a move made more necessary."""
    before = await keeper.read()
    front = await keeper.look(wanted=wanted)
    return front if front.epoch == before.epoch else await keeper.look(wanted=wanted)


async def _tell_budgets(control_plane: ControlPlane, now: float) -> None:
    """A task does this by itself. The log is written to only where there is something to tell."""
    world = control_plane.observer.world
    if world is None or world.budgets is None:
        return
    if any(standing.state is not BudgetState.OK for standing in world.budgets.standings()):
        try:
            await control_plane.record.tell_spent(world.budgets, now)
        except Unavailable as error:
            log.warning("budgets not told", extra={"error": str(error)})


async def _tell_ending(control_plane: ControlPlane, ended: Mapping[str, Any], namespace: str) -> None:
    ending = ending_of(ended, log=last_lines(namespace))
    if ending is None:
        return
    try:
        await control_plane.chronicle.task_ended(str(ended.get("taskArn")), ending)
    except Unavailable as error:
        log.warning("a task's end not told", extra={"error": str(error)})


async def _notify(
    control_plane: ControlPlane, events: EventStore, notices: NoticeAdapters, *, clock: Clock, deployment: str
) -> None:
    try:
        async with asyncio.timeout(NOTICES_S):
            await Notifier(events, notices, control_plane.log, clock=clock, deployment=deployment).round()
    except TimeoutError:
        log.warning("notices cut off")
    await control_plane.log.settle(EVENTS_S)  # what was given up


async def _measure(
    control_plane: ControlPlane, settings: Settings, outside: Adapters, found: Round, *, clock: Clock
) -> None:
    """What should not be, as metrics, and what runs where no task is there to tell it; nothing where all is well."""
    now, values = clock(), dict[Metric, float]()
    try:
        nodes, wishes = await outside.stores.nodes.list(), await outside.stores.wishes.list()
        control_plane.catalogue.refresh(await outside.stores.models.list())
    except Unavailable as error:
        log.warning("not measured", extra={"error": str(error)})
        return
    if late := sum(_overdue(node, now, control_plane.catalogue.models, settings) for node in nodes):
        values[Metric.OVERDUE_NODES] = late
    wanted = any(wish.stands(now) for wish in wishes)
    if found.state == FrontState.AWAKE and not nodes and not wanted:
        values[Metric.IDLE_AWAKE] = 1
    if values:
        log.warning("something is amiss", extra=embedded(settings.namespace, values, now))
    if found.acted and nodes:
        log.info("measured", extra=embedded(settings.namespace, of_nodes(nodes, minutes=EVERY_S / 60), now))


def _overdue(node: Node, now: float, models: Mapping[str, Model], settings: Settings) -> bool:
    model = models.get(node.model)
    return overdue(
        node,
        now,
        boot_limit_s=settings.boot_limit_s,
        drain_timeout_s=settings.drain_timeout_s,
        max_lifetime_s=model.max_lifetime_s if model else DEFAULT_MAX_LIFETIME_S,
    )


class Rounds:
    """The function's process: its clients are made at the first round, and kept for as long as rounds end well."""

    def __init__(self, settings: Settings, opened: Opener = adapters_and_notices, *, clock: Clock = time.time) -> None:
        """Raises InvalidSettings."""
        if not settings.listener_arn:
            raise InvalidSettings("DIOGENES_LISTENER_ARN is missing: there is no front to look after")
        self._settings = settings
        self._opened = opened
        self._clock = clock
        self._runner = asyncio.Runner()  # one loop for all rounds, since the clients live on it
        self._open = AsyncExitStack()
        self._world: tuple[Adapters, NoticeAdapters] | None = None

    def __call__(self, ended: Mapping[str, Any] | None = None) -> Round:
        """One more; see ``clean``. Raises what went wrong; then the next one begins with new clients."""
        return self._runner.run(self._round(ended))

    def close(self) -> None:
        """No more rounds."""
        with self._runner:
            self._runner.run(self._open.aclose())

    async def _round(self, ended: Mapping[str, Any] | None) -> Round:
        try:
            if self._world is None:
                self._world = await self._open.enter_async_context(self._opened(self._settings))
            outside, notices = self._world
            assert outside.front is not None  # the listener is set
            front, clock = outside.front, self._clock
            return await clean(self._settings, outside, front, clock=clock, notices=notices, ended=ended)
        except BaseException:
            self._world = None
            await self._open.aclose()
            raise
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:  # nothing goes on while the process is frozen
                task.cancel()


_rounds: Rounds | None = None


def handler(event: Any, context: Any) -> Mapping[str, Any]:
    """What Lambda calls. Raises what went wrong: Lambda counts it, and the schedule calls again."""
    global _rounds  # noqa: PLW0603 - a function's process has one
    if _rounds is None:
        logs.configure()
        _rounds = Rounds(Settings.from_env(os.environ))
    return _rounds(_ended(event)).told


def _ended(event: Any) -> Mapping[str, Any] | None:
    """What an event of ECS's tells of a task; None of the schedule's, and where nothing is told of why."""
    detail = event.get("detail") if isinstance(event, Mapping) else None
    return detail if isinstance(detail, Mapping) and "taskArn" in detail and "stopCode" in detail else None
