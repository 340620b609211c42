"""The control plane's service on Fargate: as many tasks as are desired, each a process with an address of its own.

A task is asked for its health as by the load balancer's target group, and serves once it answered often enough. One
that shall end is taken out of the target group first: its requests may end within the deregistration delay, then the
load balancer breaks what is still open. Then it has SIGTERM, then SIGKILL. A deployment starts and ends tasks within
the bounds that the service has for it.

One that ends by itself is followed by the next, for ever: at once where it was healthy, after ever longer pauses where
one after another never is. Its target knows nothing of it: it stays as it was, and is sent requests, until its checks
failed often enough or ECS has taken it out, a moment later. One whose checks fail, or never pass, is replaced as soon
as the grace period after its start is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rehearsal.ecs_records import EXITED, SCALED, UNHEALTHY, End

PAUSE_S = 1.0  # before the third of tasks in a row that never were healthy; then doubled
MAX_PAUSE_S = 30.0

DEPROVISIONING = "DEPROVISIONING"  # nothing of a task runs any more
STOPPED = "STOPPED"  # its network interface, and its target, are gone as well


class Startable(Protocol):
    """What the service needs of a task's process."""

    @property
    def exited(self) -> bool: ...

    @property
    def exit_code(self) -> int | None:
        """Once ``stop`` returned; of who died of a signal 128 and its number."""

    def launch(self) -> None:
        """Begin its start; does not wait."""

    def answers(self) -> bool:
        """Is it healthy?"""

    def last_words(self) -> str: ...

    def kill(self) -> None:
        """SIGKILL: to the service it ended by itself."""

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when its time is over. Returns when it is gone, and at once where it is already."""


class Registry(Protocol):
    """Where the account shows what ECS does, and what the load balancer found."""

    def desired_tasks(self) -> int: ...

    def begin_task(self) -> str:
        """One more is shown; its ARN."""

    def end_task(self, task: str, end: End, exit_code: int | None) -> None:
        """It is shown as stopped."""

    def show_target(self, address: str, state: str | None) -> None:
        """In this of AWS's states; None: not there any more."""


class Carrier(Protocol):
    """The load balancer."""

    def carried(self, address: str) -> int:
        """How many requests to it are open."""

    def break_off(self, address: str) -> None:
        """All of them."""


@dataclass(frozen=True)
class Checks:
    """As target group and service have them. Seconds."""

    interval_s: float
    healthy: int  # in a row
    unhealthy: int
    deregistration_s: float
    grace_s: float  # from a task's start on: meanwhile it is not replaced, whatever they find
    removal_s: float  # from a task's end until it is STOPPED
    early: bool = False  # not as AWS: a target without open requests is gone at once, not when the delay is over


@dataclass(frozen=True)
class Rolling:
    """How a deployment goes, as the service has it; per cent of the desired count."""

    healthy_percent: int  # that stay healthy
    most_percent: int  # that live, ending ones too


@dataclass(eq=False)
class Running:
    """One task of the service."""

    address: str  # host of its own
    arn: str
    task: Startable
    started_at: float
    next_check_at: float
    row: int = 0  # checks in a row with the same outcome: above zero passed, below failed
    state: str = "initial"  # of its target, in AWS's word
    answered: bool = False  # it was healthy once
    outdated: bool = False  # a deployment replaces it
    leaving_at: float | None = None  # taken out of the target group then
    end: End = EXITED  # what is told of it when it is gone
    ending: threading.Thread | None = None
    gone_at: float | None = None  # nothing of it runs any more since

    @property
    def healthy(self) -> bool:
        return self.state == "healthy"

    @property
    def gone(self) -> bool:
        return self.gone_at is not None

    @property
    def leaving(self) -> bool:
        return self.leaving_at is not None


class Service:
    """``step`` it often, from one thread; everything else may be asked from any."""

    def __init__(
        self,
        registry: Registry,
        make: Callable[[str], Startable],
        *,
        address: Callable[[], str],
        checks: Checks,
        rolling: Rolling,
        carrier: Carrier,
        clock: Callable[[], float],
        tell: Callable[[str], None],
        ended: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``make`` makes a task for a new ``address``; ``ended`` hears how far each one's end has come."""
        self._registry = registry
        self._make = make
        self._address = address
        self._checks = checks
        self._rolling = rolling
        self._carrier = carrier
        self._on_end = ended
        self.capacity = True  # False: Fargate has none, and no task starts
        self._clock = clock
        self._tell = tell
        self._tasks: list[Running] = []
        self._lock = threading.Lock()
        self._failed = 0  # tasks in a row that ended before they were healthy
        self._next_at = 0.0  # is the next one started

    # -- what others see

    def targets(self) -> Sequence[str]:
        """The addresses that a load balancer sends requests to: the healthy ones, or all where none is.

        It does not know which of them are gone.
        """
        with self._lock:
            registered = [each for each in self._tasks if not each.leaving]
        healthy = [each.address for each in registered if each.healthy]
        return healthy or [each.address for each in registered]

    @property
    def tasks(self) -> Sequence[Running]:
        """Those that are not STOPPED, oldest first."""
        with self._lock:
            return list(self._tasks)

    def replace(self) -> None:
        """A forced deployment: others take the place of what runs now."""
        for running in self.tasks:
            running.outdated = True

    # -- its thread

    def step(self) -> None:
        """One look at all of it."""
        for running in self.tasks:
            if running.gone:
                self._take_out(running)
            elif running.ending:
                self._bury(running)
            elif running.task.exited:
                self._ended(running)
            elif running.leaving:
                self._end_when_drained(running)
            else:
                self._check(running)
        self._settle()

    def close(self) -> None:
        """Everything ends now, in the way of ECS but without waiting for requests."""
        for running in self.tasks:
            if not running.ending:
                running.task.stop()
            else:
                running.ending.join()
            if not running.gone:
                self._lay_down(running)
            self._remove(running)

    def _ended(self, running: Running) -> None:
        """By itself, or by somebody's kill."""
        running.task.stop()
        code = running.task.exit_code
        if running.leaving:
            self._tell(f"the control plane is gone before it was told to end (exit code {code})")
        elif running.answered:
            self._tell(f"the control plane ended by itself (exit code {code}); ECS starts the next one")
        else:
            self._did_not_start(running)
        self._lay_down(running)

    def _did_not_start(self, running: Running) -> None:
        """Whoever looks on is shown the end of its log: once a wake, for the next ones say the same."""
        self._failed += 1
        pause_s = min(PAUSE_S * 2 ** (self._failed - 2), MAX_PAUSE_S) if self._failed > 1 else 0.0
        self._next_at = self._clock() + pause_s
        told = f"the control plane ended before it was healthy (exit code {running.task.exit_code})"
        words = f". Its log ends so:\n{running.task.last_words()}" if self._failed == 1 else ""
        self._tell(f"{told}; ECS starts the next one {f'in {pause_s:.0f} s' if pause_s else 'at once'}{words}")

    def _settle(self) -> None:
        """As many as desired, of the newest deployment; the older ones go as soon as enough others are healthy."""
        desired = self._registry.desired_tasks()
        if not desired:
            self._failed, self._next_at = 0, 0.0
        alive = [each for each in self.tasks if not each.gone]
        staying = [each for each in alive if not each.leaving]
        current = [each for each in staying if not each.outdated]
        for running in current[desired:]:
            self._leave(running, SCALED)
        for running in staying:
            healthy = sum(each.healthy and not each.leaving for each in staying if each is not running)
            if running.outdated and healthy * 100 >= desired * self._rolling.healthy_percent:
                self._leave(running, SCALED)
        room = len(current) < desired and len(alive) * 100 < desired * self._rolling.most_percent
        if room and self.capacity and self._clock() >= self._next_at:
            self._start()

    def _start(self) -> None:
        address = self._address()
        arn = self._registry.begin_task()
        now = self._clock()
        running = Running(address, arn, self._make(address), now, now + self._checks.interval_s)
        with self._lock:
            self._tasks.append(running)
        self._show(running, "initial")
        running.task.launch()
        self._tell("the control plane starts")

    def _check(self, running: Running) -> None:
        if self._clock() < running.next_check_at:
            return
        running.next_check_at = self._clock() + self._checks.interval_s
        passed = running.task.answers()
        running.row = max(running.row, 0) + 1 if passed else min(running.row, 0) - 1
        if running.row >= self._checks.healthy and not running.healthy:
            running.answered = True
            self._failed = 0
            self._show(running, "healthy")
            self._tell("the control plane is healthy")
        elif running.row <= -self._checks.unhealthy:
            self._show(running, "unhealthy")
            self._replace_unhealthy(running)

    def _replace_unhealthy(self, running: Running) -> None:
        """Once its grace period is over. Of one that is gone, the next was begun at its end."""
        if not running.gone and self._clock() >= running.started_at + self._checks.grace_s:
            self._tell("the control plane is not healthy: another takes its place")
            self._leave(running, UNHEALTHY)

    def _leave(self, running: Running, end: End) -> None:
        if not running.leaving:
            running.leaving_at = self._clock()
            running.end = end
            self._show(running, "draining")

    def _show(self, running: Running, state: str) -> None:
        running.state = state
        self._registry.show_target(running.address, state)

    def _end_when_drained(self, running: Running) -> None:
        assert running.leaving_at is not None
        over = self._clock() >= running.leaving_at + self._checks.deregistration_s
        if over or (self._checks.early and not self._carrier.carried(running.address)):
            self._carrier.break_off(running.address)
            self._registry.show_target(running.address, None)
            self._tell("the control plane is told to end")
            running.ending = threading.Thread(target=running.task.stop, name="ending", daemon=True)
            running.ending.start()

    def _bury(self, running: Running) -> None:
        if running.ending and not running.ending.is_alive():
            self._tell("the control plane is gone")
            self._lay_down(running)

    def _lay_down(self, running: Running) -> None:
        """Its process is no more; where that was its own doing, the load balancer has yet to find out."""
        running.gone_at = self._clock()
        self._registry.end_task(running.arn, running.end, running.task.exit_code)
        self._on_end(DEPROVISIONING)

    def _take_out(self, running: Running) -> None:
        assert running.gone_at is not None
        if self._clock() >= running.gone_at + self._checks.removal_s:
            self._remove(running)
        elif not running.leaving:
            self._check(running)

    def _remove(self, running: Running) -> None:
        self._registry.show_target(running.address, None)
        with self._lock:
            self._tasks.remove(running)
        self._on_end(STOPPED)
