"""Observe, plan, apply: one tick. A loop calls it here; a schedule or a simulation may call it as well.

At most one reconciler acts: each holds an epoch, and stops as soon as somebody holds a newer one. What a tick does
may be done twice, and what it did not get to do is seen again by the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from control_plane.actions import Action, Repeat, Start
from control_plane.catalogue import Catalogue
from control_plane.effects import Effects, Stores
from control_plane.errors import Stale, Unavailable
from control_plane.fleet import Fleet
from control_plane.nodes import LEAVING, STARTING, Node, NodeId
from control_plane.plan import Policy, World, plan, standing_failure
from control_plane.ports import Clock, Cloud, Group, ModelRow, Probe
from gpu_node.protocol import NodeState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cadence:
    """How often to look; seconds."""

    tick_s: float = 5.0
    watch_s: float = 0.25
    cloud_watch_s: float = 15.0


class Reconciler:
    """The one that acts."""

    def __init__(
        self,
        stores: Stores,
        cloud: Cloud,
        probe: Probe,
        fleet: Fleet,
        effects: Effects,
        catalogue: Catalogue,
        *,
        clock: Clock,
        policy: Policy,
        cadence: Cadence,
        holder: str,
    ) -> None:
        self._stores = stores
        self._cloud = cloud
        self._probe = probe
        self._fleet = fleet
        self._effects = effects
        self._catalogue = catalogue
        self._clock = clock
        self._policy = policy
        self._cadence = cadence
        self._holder = holder
        self._epoch: int | None = None
        self._since = 0.0
        self._groups: Sequence[Group] = ()
        self._looked_at = float("-inf")
        self._starting: frozenset[NodeId] = frozenset()
        self.world: World | None = None  # what the last tick saw, for those who only look

    # -- the loops

    async def run(self) -> None:
        """Tick until cancelled: at once when something happens, else every ``tick_s``."""
        while True:
            try:
                await self.tick()
            except Stale:
                log.warning("a newer reconciler has taken over; this one only watches")
                return
            except Unavailable as error:
                log.warning("tick skipped", extra={"error": str(error)})
            except Exception:
                log.exception("tick failed")
            await _either(self._fleet.disturbed, self._cadence.tick_s)

    async def watch(self) -> None:
        """Tell the fleet what runs, often while somebody waits or something starts; until cancelled."""
        while True:
            if self._fleet.waiters or self._starting:
                await asyncio.sleep(self._cadence.watch_s)
            else:
                await _either(self._fleet.waited_for, self._cadence.tick_s)
            try:
                await self.look()
            except Unavailable as error:
                log.warning("look skipped", extra={"error": str(error)})

    async def look(self) -> Sequence[Node]:
        """Read the nodes and tell the fleet. Raises Unavailable."""
        nodes = await self._stores.nodes.list()
        self._fleet.update(nodes)
        if self._starting & {node.id for node in nodes if node.state is NodeState.READY}:
            self._fleet.disturbed.set()
        return nodes

    async def tick(self) -> None:
        """One round. Raises Stale when somebody else reconciles now, Unavailable when the tables cannot be read."""
        if self._epoch is None:
            self._epoch = await self._stores.fence.take(self._holder)
            self._since = self._clock()
        else:
            await self._stores.fence.hold(self._epoch)
        world = await self._observe()
        await self._note_starts(world)
        for action in _launches_last(plan(world, self._clock(), self._policy)):
            await self._try(action)

    # -- observe

    async def _observe(self) -> World:
        rows, wishes, launches = await asyncio.gather(
            self._stores.models.list(), self._stores.wishes.list(), self._stores.launches.list()
        )
        lost = await self._probed()
        nodes = await self.look()
        groups = await self._look_at_cloud(nodes)
        self._catalogue.refresh(rows)
        self._tell(rows)
        self._fleet.forget(node.id for node in nodes)
        self.world = World(
            models=self._catalogue.models,
            history={row.name: row for row in rows},
            wishes={wish.model: wish for wish in wishes},
            nodes=nodes,
            launches=launches,
            groups=groups,
            waiters=self._fleet.waiters,
            in_flight=self._fleet.in_flight,
            last_request=self._fleet.last_request,
            lost=lost,
            since=self._since,
        )
        return self.world

    async def _probed(self) -> frozenset[NodeId]:
        """Suspects whose engine does not answer; the others are cleared."""
        suspects = self._fleet.suspects
        if not suspects:
            return frozenset()
        nodes = [node for node in await self._stores.nodes.list() if node.id in suspects]
        well = await asyncio.gather(*(self._probe(node) for node in nodes))
        for node, answers in zip(nodes, well, strict=True):
            if answers:
                self._fleet.cleared(node.id)
        return frozenset(node.id for node, answers in zip(nodes, well, strict=True) if not answers)

    async def _look_at_cloud(self, nodes: Sequence[Node]) -> Sequence[Group] | None:
        """The groups, when it is time: often enough to see what died, rarely enough to stay under AWS' limits."""
        now = self._clock()
        due = self._looked_at + self._cadence.cloud_watch_s
        leaving = any(node.state in LEAVING for node in nodes)
        if self._groups and now < due and not leaving:
            return None
        try:
            self._groups = await self._cloud.groups()
        except Unavailable as error:  # leases must be renewed all the same
            log.warning("cloud not seen", extra={"error": str(error)})
            return None
        self._looked_at = now
        return self._groups

    def _tell(self, rows: Iterable[ModelRow]) -> None:
        now = self._clock()
        failures = {row.name: standing_failure(row, now, self._policy) for row in rows}
        usual = {row.name: sorted(row.boot_seconds)[len(row.boot_seconds) // 2] for row in rows if row.boot_seconds}
        self._fleet.learn(failures={name: f for name, f in failures.items() if f}, usual_s=usual)

    async def _note_starts(self, world: World) -> None:
        """Starts that this reconciler saw come to an end go into the history."""
        for node in world.nodes:
            if node.id in self._starting and node.state is NodeState.READY:
                seconds = round(node.ready_at - node.launched_at, 1)
                log.info("node ready", extra={"node": node.id, "model": node.model, "seconds": seconds})
                await self._stores.models.started(node.model, seconds)
        self._starting = frozenset(node.id for node in world.nodes if node.state in STARTING)

    # -- apply

    async def _try(self, action: Action) -> None:
        """One action; a lost race or a silent AWS leaves it to the next tick, unhurried: no loop gets hot."""
        try:
            await self._effects.apply(action, self._groups)
        except Stale as error:
            log.info("race lost", extra={"action": type(action).__name__, "error": str(error)})
        except Unavailable as error:
            log.warning("action failed", extra={"action": type(action).__name__, "error": str(error)})


async def _either(happened: asyncio.Event, limit_s: float) -> None:
    """Return when it happens, or after the limit; what happened before the call counts."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await happened.wait()
    happened.clear()


def _launches_last(actions: Sequence[Action]) -> list[Action]:
    """A launch may take seconds of trying: everything else goes first."""
    return sorted(actions, key=lambda action: isinstance(action, Start | Repeat))
