"""What stands between clients and the control plane while it may sleep: the edge with the site, load balancer, night
watch, service, schedule.

Everything begins asleep. Names, limits and roles are those that the program gave them.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from control_plane.quotas import NEW_EXECUTIONS
from control_plane.settings import Settings
from rehearsal.account import Account
from rehearsal.balancer import Balancer, Behind, Turns
from rehearsal.ecs import Task, accepted
from rehearsal.ecs_records import End
from rehearsal.edge import Edge
from rehearsal.event_queue import EventQueue
from rehearsal.fargate import Checks, Rolling, Service
from rehearsal.functions import Executions, Function
from rehearsal.stack import Stack

PORT = 8080  # of every task, on an address of its own
_NIGHT, _JANITOR = "control_plane.night.handler", "control_plane.janitor.handler"
_STEP_S = 0.1


@dataclass(frozen=True)
class FrontOptions:
    """Seconds; but ``executions`` are a number."""

    propagation_s: float = 2.0  # until the last request takes the listener's new way
    check_interval_s: float = 1.0  # of the target group; the program says 5
    deregistration_s: float | None = None  # that a task's requests have before it is told to end; None: the program's
    removal_s: float = 2.0  # from a task's end until ECS has taken out its target and is done with it
    early: bool = False  # not as AWS: a task without open requests is told to end at once
    executions: int = NEW_EXECUTIONS  # that Lambda runs at a time, of both functions together
    janitor_every_s: float = 120.0


@dataclass(frozen=True)
class Environments:
    """What each part is started with; each has credentials of its own role."""

    task: Callable[[Mapping[str, str]], Mapping[str, str]]  # given the variables of its task definition
    functions: Mapping[str, Mapping[str, str]]  # by handler


class Front(AbstractContextManager["Front"]):
    """Between entering and leaving. ``service`` may be asked what runs."""

    def __init__(
        self,
        port: int,
        account: Account,
        stack: Stack,
        *,
        environments: Environments,
        options: FrontOptions,
        run_dir: Path,
        tell: Callable[[str], None],
    ) -> None:
        self._tell = tell
        self._options = options
        self._closing = threading.Event()
        self._stack = stack
        self._open = ExitStack()
        settings = accepted(environments.task(stack.task_environment()))
        registry = _Registry(account, settings)
        self.executions = Executions(options.executions)
        functions = _functions(stack, environments, run_dir, self.executions)
        self.night_watch, self.janitor = functions[_NIGHT], functions[_JANITOR]
        self._calls = EventQueue("janitor", self.janitor, wait=self._closing.wait, tell=tell)
        self.service = Service(
            registry,
            lambda host: Task(
                PORT,
                env=environments.task(registry.environment()),
                log=run_dir / "control-plane.log",
                stop_timeout_s=settings.stop_timeout_s,
                host=host,
            ),
            address=_free_address,
            checks=_checks(stack.target_group(settings.control_plane_group_arn), stack.service, options),
            rolling=_rolling(stack.service),
            carrier=self,
            clock=time.monotonic,
            tell=tell,
            ended=self._task_ended,
        )
        self.balancer = Balancer(
            port,
            Turns(
                partial(account.weights, settings.listener_arn),
                clock=time.monotonic,
                propagation_s=options.propagation_s,
                rng=random.Random(),
            ),
            Behind(
                settings.night_watch_group_arn,
                self.night_watch,
                lambda: [_url(address) for address in self.service.targets()],
            ),
            idle_timeout_s=float(stack.load_balancer["idleTimeout"]),
            edge=Edge.of(stack),
        )

    def __enter__(self) -> Front:
        """Raises OSError where the port cannot be listened on."""
        self._open.enter_context(self.night_watch)
        self._open.enter_context(self.janitor)
        self._open.enter_context(self.balancer)
        self._open.callback(self.service.close)  # its streams end while the balancer still carries them
        self._open.enter_context(self._calls)
        for name, work in (("service", self._serve), ("schedule", self._schedule)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._open.callback(thread.join)
        self._open.callback(self._closing.set)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def carried(self, address: str) -> int:
        return self.balancer.in_flight[_url(address)]

    def break_off(self, address: str) -> None:
        self.balancer.break_off(_url(address))

    def _task_ended(self, status: str) -> None:
        event = self._stack.task_ended(status)
        if _JANITOR in self._stack.called_by(event) and not self._closing.is_set():
            self._tell(f"a task is {status}: the janitor is called")
            self._calls.send(event)

    def _serve(self) -> None:
        while not self._closing.wait(_STEP_S):
            self.service.step()

    def _schedule(self) -> None:
        """A desk's schedule may be so dense that it would overtake itself on a busy machine: it does not."""
        while not self._closing.wait(self._options.janitor_every_s):
            if not self.janitor.running:
                self._calls.send({})


@dataclass(frozen=True)
class _Registry:
    """The account as the service needs it."""

    account: Account
    settings: Settings

    def desired_tasks(self) -> int:
        return self.account.tasks(self.settings.cluster, self.settings.service)

    def environment(self) -> Mapping[str, str]:
        return self.account.task_environment(self.settings.cluster, self.settings.service)

    def begin_task(self) -> str:
        return self.account.begin_task(self.settings.cluster, self.settings.service)

    def end_task(self, task: str, end: End, exit_code: int | None) -> None:
        self.account.end_task(task, end, exit_code)

    def show_target(self, address: str, state: str | None) -> None:
        self.account.show_target(self.settings.control_plane_group_arn, address, state)


def _functions(
    stack: Stack, environments: Environments, run_dir: Path, executions: Executions
) -> Mapping[str, Function]:
    """By handler."""
    return {
        function.handler: Function(
            function.handler,
            env=environments.functions[function.handler],
            limit_s=function.timeout_s,
            log=run_dir / f"{function.handler}.log",
            executions=executions,
        )
        for function in stack.functions()
    }


def _checks(group: Mapping[str, Any], service: Mapping[str, Any], options: FrontOptions) -> Checks:
    check = group["healthCheck"]
    assert isinstance(check, Mapping)
    delay_s = options.deregistration_s
    return Checks(
        interval_s=options.check_interval_s,
        healthy=int(check["healthyThreshold"]),
        unhealthy=int(check["unhealthyThreshold"]),
        deregistration_s=float(str(group["deregistrationDelay"])) if delay_s is None else delay_s,
        grace_s=float(service["healthCheckGracePeriodSeconds"]),
        removal_s=options.removal_s,
        early=options.early,
    )


def _rolling(service: Mapping[str, Any]) -> Rolling:
    return Rolling(int(service["deploymentMinimumHealthyPercent"]), int(service["deploymentMaximumPercent"]))


def _free_address() -> str:
    """A loopback address on whose port nobody listens: another desk on this machine has tasks too."""
    while True:
        address = f"127.21.{random.randint(0, 255)}.{random.randint(1, 254)}"
        with socket.socket() as probe, suppress(OSError):
            probe.bind((address, PORT))
            return address


def _url(address: str) -> str:
    return f"http://{address}:{PORT}"
