"""One look at the world: the tables, the cloud, the engines under suspicion, and what requests are doing here."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence

from control_plane.catalogue import Catalogue
from control_plane.demand import Demand
from control_plane.effects import Stores
from control_plane.errors import Unavailable
from control_plane.fleet import Fleet
from control_plane.nodes import LEAVING, STARTING, Node, NodeId
from control_plane.policy import Policy, standing_failure
from control_plane.ports import Clock, Cloud, Group, ModelRow, Probe
from control_plane.spending import Spending
from control_plane.world import World
from gpu_node.protocol import NodeState

log = logging.getLogger(__name__)


class Observer:
    """Reads everything, writes nothing but what the fleet and the catalogue know."""

    def __init__(
        self,
        stores: Stores,
        cloud: Cloud,
        probe: Probe,
        fleet: Fleet,
        catalogue: Catalogue,
        spending: Spending,
        *,
        clock: Clock,
        policy: Policy,
        cloud_watch_s: float,
        saw: Callable[[Sequence[Node]], None] = lambda _: None,
    ) -> None:
        """``saw`` hears of the nodes at every look."""
        self._stores = stores
        self._cloud = cloud
        self._probe = probe
        self._fleet = fleet
        self._catalogue = catalogue
        self._spending = spending
        self._clock = clock
        self._policy = policy
        self._cloud_watch_s = cloud_watch_s
        self._saw = saw
        self._demand = Demand(out_s=policy.scale_out_s, in_s=policy.scale_in_s)
        self._cloud_looked_at = float("-inf")
        self.looked_at = float("-inf")  # the nodes: when the last look began
        self._noticed: frozenset[NodeId] = frozenset()  # nodes that AWS wants back
        self.groups: Sequence[Group] | None = None  # as last seen; None: not yet
        self.starting: frozenset[NodeId] = frozenset()  # at the last observation
        self.world: World | None = None  # the last one, for those who only look

    async def look(self) -> Sequence[Node]:
        """Read the nodes and tell the fleet. Raises Unavailable."""
        began = self._clock()
        nodes = await self._stores.nodes.list()
        self.looked_at = began
        self._fleet.update(nodes)
        self._saw(nodes)
        arrived = {node.id for node in nodes if node.state in (NodeState.READY, NodeState.FAILED)}
        noticed = frozenset(node.id for node in nodes if node.at_risk)
        if self.starting & arrived or noticed - self._noticed:
            self._fleet.disturbed.set()
        self._noticed = noticed
        return nodes

    async def observe(self, *, launching: frozenset[str], since: float, ousted_at: float) -> World:
        """``launching`` names the models whose launch goes on right now. Raises Unavailable.

        The order matters: who waits and what is launched is noted before the tables are read. A wish, a row or a
        settled launch that comes later is then at worst seen twice, never missed between two looks.
        """
        waiters = self._fleet.waiters
        rows, wishes, launches = await asyncio.gather(
            self._stores.models.list(), self._stores.wishes.list(), self._stores.launches.list()
        )
        # Before anything is launched: a node reads only what was adopted.
        await asyncio.gather(*(self._stores.models.adopt(row.name, row.config) for row in rows if not row.adopted))
        self._catalogue.refresh(rows)
        lost = await self.question()
        nodes = await self.look()
        groups = await self._look_at_cloud(nodes)
        self._tell(rows)
        self.world = World(
            models=self._catalogue.models,
            history={row.name: row for row in rows},
            wishes={wish.model: wish for wish in wishes},
            nodes=nodes,
            launches=launches,
            launching=launching,
            groups=groups,
            waiters=waiters,
            in_flight=self._fleet.in_flight,
            users=self._spending.users(),
            last_request=self._fleet.last_request,
            load=self._demand.note(self._catalogue.models, nodes, self._clock()),
            lost=lost,
            was_starting=self.starting,
            since=since,
            ousted_at=ousted_at,
            budgets=self._spending.standing(nodes),
        )
        self.starting = frozenset(node.id for node in nodes if node.state in STARTING)
        return self.world

    async def prepare(self) -> None:
        """What may be known a while before it is needed: the month's spend. Without it nothing is begun."""
        try:
            await self._spending.refresh()
        except Unavailable as error:
            log.warning("spend not known", extra={"error": str(error)})

    async def question(self) -> frozenset[NodeId]:
        """Suspects whose engine does not answer and whose agent had time to tell why. Those that answer are cleared.

        Raises Unavailable.
        """
        suspects = self._fleet.suspects
        if not suspects:
            return frozenset()
        there = await self._stores.nodes.list()
        self._fleet.forget(node.id for node in there)
        nodes = [node for node in there if node.id in suspects]
        well = await asyncio.gather(*(self._probe(node) for node in nodes))
        for node, answers in zip(nodes, well, strict=True):
            if answers:
                self._fleet.cleared(node.id)
        silent = [node.id for node, answers in zip(nodes, well, strict=True) if not answers]
        return frozenset(node_id for node_id in silent if self._left_s(suspects[node_id]) <= 0)

    @property
    def next_verdict_s(self) -> float:
        """Until the next suspect has had its time to tell why; infinite where none has any left."""
        left = map(self._left_s, self._fleet.suspects.values())
        return min((seconds for seconds in left if seconds > 0), default=math.inf)

    def _left_s(self, suspected_at: float) -> float:
        return suspected_at + self._policy.last_words_s - self._clock()

    async def _look_at_cloud(self, nodes: Sequence[Node]) -> Sequence[Group] | None:
        """The groups, when it is time: often enough to see what died, rarely enough to stay under AWS' limits."""
        now = self._clock()
        leaving = any(node.state in LEAVING for node in nodes)
        unknown = set(self._catalogue.models) - {group.model for group in self.groups or ()}
        if now < self._cloud_looked_at + self._cloud_watch_s and not leaving and not unknown:
            return None
        try:
            self.groups = await self._cloud.groups()
        except Unavailable as error:  # leases must be renewed all the same
            log.warning("cloud not seen", extra={"error": str(error)})
            return None
        self._cloud_looked_at = now
        return self.groups

    def _tell(self, rows: Iterable[ModelRow]) -> None:
        now = self._clock()
        failures = {row.name: standing_failure(row, now, self._policy) for row in rows}
        usual = {row.name: usual_s for row in rows if (usual_s := row.usual_start_s) is not None}
        self._fleet.learn(failures={name: f for name, f in failures.items() if f}, usual_s=usual)
