"""A Fargate stand-in on a clock that is stepped, with tasks that are told what to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rehearsal.ecs_records import End
from rehearsal.fargate import Checks, Rolling, Service

CHECKS = Checks(interval_s=5.0, healthy=2, unhealthy=3, deregistration_s=30.0, grace_s=60.0, removal_s=2.0)
EARLY = replace(CHECKS, early=True)
ROLLING = Rolling(healthy_percent=100, most_percent=200)


@dataclass
class Task:
    """Does what the test says."""

    address: str
    exited: bool = False
    healthy: bool = False
    launched: int = 0
    stopped: int = 0
    exit_code: int | None = None

    def launch(self) -> None:
        self.launched += 1

    def answers(self) -> bool:
        return self.healthy and not self.exited

    def last_words(self) -> str:
        return "famous last words"

    def kill(self) -> None:
        self.exited = True

    def stop(self) -> None:
        self.stopped += 1
        self.exit_code = 1 if self.exited else 0


@dataclass
class Bench:
    """A service, and all that it sees."""

    desired: int = 0
    now: float = 100.0
    open_requests: int = 0
    rolling: Rolling = ROLLING
    checks: Checks = CHECKS
    shown: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    began: int = 0
    ends: list[tuple[str, End, int | None]] = field(default_factory=list)
    made: list[Task] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.service = Service(
            self,
            self.make,
            address=lambda: f"task-{len(self.made) + 1}",
            checks=self.checks,
            rolling=self.rolling,
            carrier=self,
            clock=lambda: self.now,
            tell=self.told.append,
            ended=self.heard.append,
        )

    def carried(self, address: str) -> int:
        return self.open_requests

    def break_off(self, address: str) -> None:
        self.broken += [address] * self.open_requests
        self.open_requests = 0

    def make(self, address: str) -> Task:
        self.made.append(Task(address))
        return self.made[-1]

    def desired_tasks(self) -> int:
        return self.desired

    def begin_task(self) -> str:
        self.began += 1
        return f"arn-{self.began}"

    def end_task(self, task: str, end: End, exit_code: int | None) -> None:
        self.ends.append((task, end, exit_code))

    def show_target(self, address: str, state: str | None) -> None:
        self.shown.pop(address, None)
        if state:
            self.shown[address] = state

    @property
    def healthy(self) -> set[str]:
        return {address for address, state in self.shown.items() if state == "healthy"}

    def after(self, seconds: float = 0.0) -> None:
        self.now += seconds
        for running in self.service.tasks:
            if running.ending:
                running.ending.join()
        self.service.step()

    def up(self) -> Task:
        """A task that was found healthy."""
        self.desired = 1
        self.after()
        self.made[-1].healthy = True
        self.after(CHECKS.interval_s)
        self.after(CHECKS.interval_s)
        return self.made[-1]
