"""Auto Scaling in memory, telling of every instance that comes and goes; and the intents, none forgotten."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from control_plane.books import Lifetime
from control_plane.errors import LaunchRefused
from control_plane.nodes import NodeId
from control_plane.ports import Instance, Launch
from tests.memory import MemoryLaunches
from tests.memory_cloud import MemoryCloud
from tests.simulation.timeline import EPOCH, Process

OF_ITSELF = "of-itself-"  # a token of what a group bought without being told
HOOK_S = 900.0  # that a group holds an instance which nobody releases


class Cloud(MemoryCloud):
    """``booted`` and ``gone`` hear of instances as AWS starts and ends them."""

    def __init__(
        self, aws: Process, *, booted: Callable[[Instance, Launch], None], gone: Callable[[NodeId], None]
    ) -> None:
        super().__init__()
        self._aws = aws
        self._bought = 0
        self._booted = booted
        self._gone = gone

    def _launch(self, launch: Launch) -> Instance:
        instance = super()._launch(launch)
        self.lifetimes[instance.id] = Lifetime(self._now)
        self._booted(instance, launch)
        return instance

    def vanish(self, node_id: NodeId) -> None:
        super().vanish(node_id)
        known = self.lifetimes.get(node_id)
        if known and known.ended_at is None:
            self.lifetimes[node_id] = replace(known, ended_at=self._now)
        self._gone(node_id)

    def _take_out(self, name: str, instance: Instance) -> None:
        super()._take_out(name, instance)
        self._aws.loop.call_later(HOOK_S, self.vanish, instance.id)

    def replace(self, node_id: NodeId) -> bool:
        """AWS ends an instance; a group that counts it buys another by itself. Did it?"""
        for group in list(self._groups.values()):
            for one in group.instances:
                if one.id == node_id and not one.leaving:
                    self.vanish(node_id)
                    self._bought += 1
                    token = f"{OF_ITSELF}{self._bought}"
                    with contextlib.suppress(LaunchRefused):  # it would go on trying: nobody here waits for that
                        self._launch(Launch(token, group.model, group.name, one.zone, group.market, 0.0))
                    return True
        self.vanish(node_id)
        return False

    @property
    def _now(self) -> float:
        """AWS's own clock."""
        return EPOCH + self._aws.timeline.now

    @property
    def living(self) -> list[NodeId]:
        """All that the groups list."""
        return [one.id for group in self._groups.values() for one in group.instances]

    def leaving(self, node_id: NodeId) -> bool:
        """Does its group take it down?"""
        listed = (one for group in self._groups.values() for one in group.instances)
        return any(one.id == node_id and one.leaving for one in listed)

    @property
    def zones(self) -> list[tuple[str, str]]:
        """Every group with each of its zones."""
        return [(group.name, zone) for group in self._groups.values() for zone in group.zones]

    def zones_of(self, model: str) -> list[tuple[str, str]]:
        """The same of one model."""
        return [place for place in self.zones if self._groups[place[0]].model == model]


class Launches(MemoryLaunches):
    """Knows every token that was ever settled."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: set[str] = set()

    async def settle(self, token: str) -> None:
        self.settled.add(token)
        self.rows.pop(token, None)
