"""Which reasons for a refusal the schedule gives: what has happened by then, and not long ago."""

from __future__ import annotations

from typing import Any

from tests.simulation.people import Client
from tests.simulation.schedule import (
    CrashTask,
    Interrupt,
    KillAgent,
    KillMachine,
    Outage,
    Retire,
    Scale,
    Scarcity,
    Trouble,
)

REMEMBERED_S = 240.0  # a failure stands for a while, and some take long to be found out
_NODES: tuple[type, ...] = (KillMachine, KillAgent, Outage)
REASONS: dict[str, tuple[type, ...]] = {
    "no_gpu_capacity": (Scarcity,),
    "launch_unanswered": (Trouble, Outage),
    "start_cancelled": (Scale,),
    "engine_lost": (KillMachine, KillAgent),
    "node_lost": (KillMachine, KillAgent),
    "node_silent": _NODES,
    "node_never_spoke": _NODES,
    "boot_too_slow": _NODES,
    "start_timeout": (*_NODES, Trouble, CrashTask, Retire, Interrupt),
    "aws_unavailable": (Trouble, Outage),
    "restarting": (Retire,),
}


class Reasons:
    """Those that have a cause in the schedule."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def given(self, client: Client, code: str) -> bool:
        """Did something happen that this client may be told this for?"""
        causes = REASONS.get(code, ())
        if Trouble in causes and any(isinstance(event, Trouble) for event in self._world.schedule.all):
            return True  # at the call that it names, whenever that comes
        return any(
            isinstance(event, causes) and self._counts(event, client)
            for at, event in self._world.history
            if client.began_at < at + getattr(event, "seconds", 0.0) + REMEMBERED_S
        )

    def _counts(self, event: object, client: Client) -> bool:
        match event:
            case Scale(model=model, desired=desired):
                return model == client.ask.model and not desired
            case Scarcity(market=market):
                return not market  # where only Spot is scarce there is another
        return True
