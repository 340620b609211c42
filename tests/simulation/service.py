"""The ECS service, its tasks, and the listener in front of them, as AWS behaves."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from control_plane.adapters import Adapters
from control_plane.app import BEAT_S, ControlPlane
from control_plane.exchange import Application
from control_plane.ports import Ending, Stage
from control_plane.settings import Settings
from tests.simulation.call import Call
from tests.simulation.scaling import scaling, services_of
from tests.simulation.settings import KILL_S
from tests.simulation.starts import STUCK, UNWELL_S, Starts
from tests.simulation.timeline import Process, ProcessLoop

BEATS = 5  # of which one is made: what a beat says is due every ten seconds
DRAINED_S = 1.0  # between two looks whether anything is open
CLOSE_S = 5.0  # that the server takes to end what is cut


class _Open(set[Any]):
    """The exchanges that a relay has open; ``some`` is set while there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.some = asyncio.Event()

    def add(self, exchange: Any) -> None:
        super().add(exchange)
        self.some.set()

    def discard(self, exchange: Any) -> None:
        super().discard(exchange)
        if not self:
            self.some.clear()


class Plane(ControlPlane):
    """The real one, without what does nothing here: beats that would find no exchange open, which most are; and the
    loop that writes events, which nobody keeps."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._open = self.relay._open = _Open()
        self._beat_at = asyncio.get_running_loop().time()
        async with super().running():
            yield

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ProcessLoop)
        self._beat_at += BEATS * BEAT_S
        if not self._open:
            await self._open.some.wait()
            while self._beat_at < loop.time():
                self._beat_at += BEATS * BEAT_S
        await loop.nap_until(self._beat_at)
        self.relay.beat()

    async def _write_events(self) -> None:
        assert self.record.store is None
        await asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class Task:
    """One Fargate task: starts, is found healthy, serves, ends."""

    process: Process
    settings: Settings
    adapters: Adapters
    token: Callable[[], str]
    registered: bool = True
    healthy: bool = False
    leaving: bool = False  # it was told to end, and its target is out
    stopping: bool = False  # SIGTERM came
    ended: bool = False
    killed: bool = False  # it did not end in time
    asleep: bool = False  # it ends because the service shall have none
    fate: str = ""  # what becomes of its start; empty: it comes up
    definition: int = 0  # the number of the one that it was begun by
    began_at: float = 0.0
    calls: dict[Call, None] = field(default_factory=dict)  # in their order
    plane: ControlPlane | None = None
    _sigterm: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped_at: float = 0.0

    @property
    def up(self) -> bool:
        return self.plane is not None and self.process.alive and not self.stopping

    async def live(self) -> None:
        self.plane = Plane(self.settings, self.adapters, clock=self.process.clock, token=self.token)
        async with self.plane.running():
            await self._sigterm.wait()
            self.plane.send_away()
            await self._drained()
        self.ended = True

    async def _drained(self) -> None:
        until = self.process.timeline.now + self.settings.stop_timeout_s
        while self.calls and self.process.timeline.now < until:  # noqa: ASYNC110 - the server looks now and then too
            await asyncio.sleep(0.5)
        for call in list(self.calls):
            if call.task:
                call.task.cancel()
        if self.calls:
            await asyncio.sleep(CLOSE_S)

    def take_out(self) -> None:
        """The load balancer sends it nobody any more."""
        self.registered = self.healthy = False
        self.leaving = True
        for call in () if self.asleep else self.calls:
            call.let_go_at = self.process.timeline.now

    def terminate(self) -> None:
        """SIGTERM."""
        self.stopping = True
        self._sigterm.set()

    @property
    def address(self) -> str:
        assert self.adapters.front
        return self.adapters.front.address

    def serve(self, call: Call) -> None:
        """Raises ConnectionRefusedError where nothing listens."""
        if not self.up:
            raise ConnectionRefusedError
        assert self.plane
        call.by = "task"
        self.calls[call] = None
        call.answered_by(self.process, self._app(self.plane), done=lambda: self.calls.pop(call, None))

    def _app(self, plane: ControlPlane) -> Application:
        return scaling(plane.app, lambda: services_of(plane, self.adapters), _nothing)


@dataclass
class Service:
    """StageHands in memory: what ``stage.AwsStage`` reads and writes."""

    timeline_process: Process  # AWS's own
    rng: random.Random
    make_task: Callable[[], Task]
    start_s: float
    changed: Callable[[], None]
    stopping: Callable[[Task, bool], None]  # and whether another is there
    fell: Callable[[], None]  # a task, by itself
    desired: int = 0
    broken: bool = False  # no task can be started any more
    delay_s: float | None = None  # of deregistration, which comes before SIGTERM; None: SIGTERM comes at once
    tasks: list[Task] = field(default_factory=list)
    facings: list[tuple[float, bool]] = field(default_factory=lambda: [(0.0, False)])

    def __post_init__(self) -> None:
        self.starts = Starts(self.rng)

    # -- StageHands

    async def look(self) -> Stage:
        if self.delay_s is None:
            return Stage(self.desired, self.healthy, self.facing)
        draining = frozenset(task.address for task in self.tasks if task.leaving and not task.stopping)
        standing = frozenset(task.address for task in self.tasks if task.registered and not task.leaving)
        return Stage(self.desired, self.healthy, self.facing, draining=draining, standing=standing)

    async def endings(self, since: float) -> Sequence[Ending]:
        return self.starts.endings(since)

    async def want(self, tasks: int) -> None:
        self.desired = tasks
        if tasks:
            self.starts.name()
        self._later(self.rng.uniform(0.5, 3.0), self.settle)
        self.changed()

    async def face(self, *, control_plane: bool) -> None:
        if control_plane != self.facing:
            self.facings.append((self._now, control_plane))
        self.changed()

    # -- what others see of it

    @property
    def healthy(self) -> bool:
        return any([task.healthy for task in self.tasks])  # a generator that is left half-way costs an exception

    @property
    def facing(self) -> bool:
        return self.facings[-1][1]

    def faced(self, at: float) -> bool:
        """Where the listener sent requests at that time."""
        return next((facing for since, facing in reversed(self.facings) if since <= at), False)

    # -- AWS's side

    def settle(self) -> None:
        """As many tasks as desired, and none that has yet to begin by a definition that is no longer the one."""
        self.tasks = [task for task in self.tasks if not task.ended and task.process.alive]
        for task in self.tasks:
            if task.plane is None and task.definition != self.starts.named[0]:
                self.stop(task)
        kept = [task for task in self.tasks if not task.leaving]
        for task in kept[: max(0, len(kept) - self.desired)]:
            task.asleep = not self.desired
            self.stop(task)
        for _ in range(0 if self.broken else self.desired - len(kept)):
            self.start()

    def start(self) -> Task:
        task = self.make_task()
        task.definition, task.began_at = self.starts.named[0], self._now
        task.fate = self.starts.fate()
        self.tasks.append(task)
        task.process.when_dead.append(lambda: self._died(task))
        self._later(self.start_s, lambda: self._begin(task))
        return task

    def stop(self, task: Task, why: str = "order") -> None:
        """It is told to end, if it was not yet."""
        if task.leaving:
            return
        self.changed()
        self.starts.ended(why, began_at=task.began_at)
        if task.plane is None:
            task.take_out()
            task.ended = True
            if task.fate:
                self.starts.fails(task.definition, self._now)
            return
        if task.process.alive:
            self.stopping(task, any(other.healthy for other in self.tasks if other is not task))
        task.take_out()
        self._deregister(task, self._now + (self.delay_s or 0.0))

    def _deregister(self, task: Task, until: float) -> None:
        """What is open when the delay is over is broken, and then SIGTERM comes: not before, though nothing is open."""
        if task.process.alive and self._now < until:
            self._later(DRAINED_S, lambda: self._deregister(task, until))
            return
        for call in list(task.calls) if self.delay_s else ():
            call.tear()
        task.terminate()
        self._later(KILL_S, lambda: self._kill(task))

    def _kill(self, task: Task) -> None:
        if not task.asleep:
            self.fell()  # with whoever was told to end for another reason than sleep; earlier where it ended earlier
        if not task.ended:
            task.killed = task.process.killed = True
            task.process.crash()

    def retire(self, *, rolling: bool, overlap_s: float) -> None:
        """The task has to go, and another takes its place; ``rolling``: so long before, once that is healthy."""
        old = [task for task in self.tasks if not task.leaving and task.process.alive]
        if not old:
            return
        if not rolling:
            self.stop(old[0], "person")
            self.settle()
            return
        new = self.start()

        def follow() -> None:
            if new.healthy:
                self._later(overlap_s, lambda: self.stop(old[0]))
                self._later(overlap_s + 1.0, self.settle)
            elif new.process.alive and not new.leaving and not new.ended:
                self._later(2.0, follow)

        follow()

    def _begin(self, task: Task) -> None:
        if task.leaving or not task.process.alive or task.fate == STUCK:
            return
        if task.fate:
            self._later(UNWELL_S if task.fate == "unwell" else 0.0, lambda: self._fail(task))
            return
        task.process.spawn(task.live())
        self._later(self.rng.uniform(6.0, 12.0), lambda: self._check(task))

    def _fail(self, task: Task) -> None:
        """It ended at its start, and nobody had told it to."""
        if not task.ended:
            task.registered, task.ended = False, True
            self.starts.fails(task.definition, self._now)
            pause_s = self.starts.failed(task.fate, began_at=task.began_at, now=self._now)
            self.fell()
            self._later(pause_s, self.settle)

    def _check(self, task: Task) -> None:
        if task.up and not task.leaving:
            task.healthy = True
            self.changed()

    def _died(self, task: Task) -> None:
        if task.fate:
            self.starts.fails(task.definition, self._now)
        self._later(self.rng.uniform(3.0, 12.0), lambda: self._noticed(task))

    def _noticed(self, task: Task) -> None:
        """It died some time ago."""
        if not task.leaving:
            self.starts.ended("crash", began_at=task.began_at)
        task.registered = task.healthy = False
        task.ended = True
        self.changed()
        self.settle()
        self.fell()

    def _later(self, seconds: float, do: Callable[[], Any]) -> None:
        self.timeline_process.loop.call_later(seconds, do)

    @property
    def _now(self) -> float:
        return self.timeline_process.timeline.now


async def _nothing() -> None:
    """The reconciler of the task sees the wish by itself."""
