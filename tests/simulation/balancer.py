"""The load balancer: sends each request to where its listener pointed a moment ago."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from control_plane.exchange import Application
from tests.simulation.call import Call
from tests.simulation.service import Service
from tests.simulation.settings import FUNCTION_LIMIT_S, PROPAGATION_S
from tests.simulation.timeline import Process

SLOW = 0.8  # of the longest time: so old are all weights where the listener turns slowly


@dataclass
class Night:
    """One process of the function: serves one request at a time, and stands still between two."""

    process: Process
    app: Application
    busy: bool = False


@dataclass
class Balancer:
    """``propagation_s``: how old the weights may be that a request is routed by."""

    aws: Process
    rng: random.Random
    service: Service
    propagation_s: float
    make_night: Callable[[], tuple[Process, Application]]
    nights: list[Night] = field(default_factory=list)
    night_crashes: int = 0

    def route(self, call: Call) -> None:
        """To a task at once, to the function when the whole body is there: it is handed that in one piece."""
        least = SLOW if self.propagation_s > PROPAGATION_S else 0.0
        at = self.aws.timeline.now - self.rng.uniform(least * self.propagation_s, self.propagation_s)
        if self.service.faced(at):
            self._to_task(call)
        elif call.upload_s:
            self.aws.loop.call_later(call.upload_s, lambda: None if call.hung_up else self._to_night(call))
        else:
            self._to_night(call)

    def _to_task(self, call: Call) -> None:
        targets = [task for task in self.service.tasks if task.healthy]
        targets = targets or [task for task in self.service.tasks if task.registered]  # as AWS: any is better than none
        if not targets:
            call.fail(503)
            return
        try:
            self.rng.choice(targets).serve(call)
        except ConnectionRefusedError:
            call.fail(502)

    def _to_night(self, call: Call) -> None:
        night = self._free()
        night.busy = True
        call.by = "night"

        def done() -> None:
            night.busy = False
            call.broken()
            if night.process.alive:
                night.process.loop.paused = True

        def expire() -> None:
            if night.busy and not call.answer.done():
                call.overdue = True
                night.process.crash()

        call.answered_by(night.process, night.app, done=done)
        self.aws.loop.call_later(FUNCTION_LIMIT_S, expire)

    def _free(self) -> Night:
        night = next((night for night in self.nights if not night.busy and night.process.alive), None)
        if night is None:
            night = Night(*self.make_night())
            night.process.when_dead.append(self._died)
            self.nights.append(night)
        night.process.loop.resume()
        return night

    def _died(self) -> None:
        self.night_crashes += 1
