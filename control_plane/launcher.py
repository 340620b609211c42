"""One more node of a model: down the ladder of markets and zones until one has it, or all have refused.

Each rung is an intent in the ``control`` table, a launch call with the intent's token, and a row: whatever breaks in
between, the next tick finds the intent and repeats the call with the same token, or finds the instance and adopts it.
A ladder ends at its deadline with everything that it tried; an instance that comes later all the same is found as
nobody's, and taken down. In a function, which has less time than a ladder may take, the deadline ends nothing: whoever
ticks next goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from control_plane.bookkeeper import Bookkeeper
from control_plane.errors import LaunchRefused, NoCapacity, Stale, Unavailable
from control_plane.model import Model
from control_plane.nodes import UNASKED, Cause, Node
from control_plane.ports import Clock, Cloud, Group, Instance, Launch, LaunchStore, NodeStore
from control_plane.refusals import Refusal, RefusalMemory, Rung, ends_group, explain
from gpu_node.protocol import Failure, NodeState

TAKEN_BACK = NoCapacity("SpotInterruption", "AWS took a Spot instance back here.")

log = logging.getLogger(__name__)


Tenure = Callable[[], Awaitable[None]]
"""Shows that whoever ordered a launch still may. Raises Stale when another has taken over."""


async def unfenced() -> None:
    """Nobody else acts."""


class CannotLaunch(Exception):
    """Nothing was launched, and nothing more is tried."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


class _Patience:
    """What is left of the time that AWS has for the answers of one ladder: entered around each of its calls. Tables may
    be as slow as they are: that is no lack of instances."""

    def __init__(self, left_s: float, *, clock: Clock) -> None:
        self.left_s = left_s
        self._clock = clock

    async def __aenter__(self) -> None:
        self._began_at = self._clock()
        self._limit = asyncio.timeout(self.left_s)
        await self._limit.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        self.left_s -= self._clock() - self._began_at
        await self._limit.__aexit__(*error)


class Launcher:
    """Launches, and puts what came of it into the tables.

    A rung that refused is passed over for ``memory_s`` while another is left; when all have refused, all are asked
    again: whether that is worth it was decided before. ``limit_s`` bounds a ladder, and how long AWS may be silent.
    With ``hands_on``, another goes on where that is over: it is told of to nobody, for nobody knows yet.
    """

    def __init__(
        self,
        cloud: Cloud,
        nodes: NodeStore,
        launches: LaunchStore,
        books: Bookkeeper,
        *,
        clock: Clock,
        token: Callable[[], str],
        lease_s: float,
        limit_s: float = 60.0,
        memory_s: float = 90.0,
        hands_on: bool = False,
    ) -> None:
        self._cloud = cloud
        self._nodes = nodes
        self._launches = launches
        self._books = books
        self._clock = clock
        self._token = token
        self._lease_s = lease_s
        self._limit_s = limit_s
        self._hands_on = hands_on
        self._memory = RefusalMemory(clock=clock, keep_s=memory_s)
        self._silent_since: dict[str, float] = {}  # by token: launches that AWS has not answered

    async def start(self, model: Model, groups: Sequence[Group], cause: Cause, *, hold: Tenure = unfenced) -> Instance:
        """One node, launched on somebody's account. Raises CannotLaunch when every rung refused or the deadline came
        first, Unavailable when AWS did not answer, or another goes on: the same launch can be repeated. Stale when
        ``hold``, asked before each rung, says so: whoever acts now goes on from the tables."""
        refusals: list[Refusal] = []
        patience = _Patience(self._limit_s, clock=self._clock)
        ended: set[str] = set()  # groups that no other zone can help
        for rung in self._rungs(model, groups, refusals):
            if rung.group.name in ended:
                continue
            if patience.left_s <= 0:
                refusals.append(Refusal(rung, None, asked=False))
                continue
            await hold()
            try:
                return await self._try(rung, model, cause, patience)
            except TimeoutError:
                refusals.append(Refusal(rung, None))
                patience.left_s = 0.0  # whatever the clock says: what this rung comes to is not known
            except LaunchRefused as error:
                refusals.append(Refusal(rung, error))
                if ends_group(error):
                    ended.add(rung.group.name)
        raise self._unlaunched(model, refusals)

    async def repeat(self, model: Model, launch: Launch) -> Instance:
        """The call of a launch whose end nobody knows, again. Raises LaunchRefused, Unavailable; CannotLaunch when AWS
        has been silent for too long, and no other goes on."""
        try:
            async with asyncio.timeout(self._limit_s):
                return await self.settle(launch)
        except (Unavailable, TimeoutError) as error:
            given_up_at = self._silent_since.get(launch.token, self._clock()) + self._limit_s
            if self._hands_on or self._clock() < given_up_at:
                raise Unavailable(str(error)) from error
            group = Group(launch.group, launch.model, launch.market, (launch.zone,), max_size=0, desired=0)
            raise CannotLaunch(explain(model, [Refusal(Rung(group, launch.zone), None)])) from error

    async def settle(self, launch: Launch, *, patience: _Patience | None = None) -> Instance:
        """Make the launch's call, again or for the first time, and write its row. Raises LaunchRefused; TimeoutError
        where the ``patience`` with AWS is over: what becomes of the launch is not known, and its intent stands."""
        try:
            async with patience or nullcontext():
                instance = await self._called(launch)
        except LaunchRefused:
            await self._settled(launch)
            raise
        await self.adopt(instance, model=launch.model, group=launch.group, market=launch.market, cause=launch.cause)
        await self._settled(launch)
        return instance

    async def claim(self, launch: Launch, node: Node) -> None:
        """A row that the node's agent wrote alone: the rest of it, and the end of the launch. Without a call: AWS made
        it long ago."""
        made = Instance(node.id, node.zone, node.instance_type, alive=True)
        known = {"model": launch.model, "group": launch.group, "market": launch.market}
        await self.adopt(made, **known, cause=launch.cause, at=node.launched_at)
        await self._settled(launch)

    def shun(self, node: Node) -> None:
        """AWS takes this node back: where it was, there is none to be had for a while."""
        self._memory.note(node.group, node.zone, TAKEN_BACK)

    async def adopt(
        self,
        instance: Instance,
        *,
        model: str,
        group: str,
        market: str,
        cause: Cause = UNASKED,
        at: float | None = None,
    ) -> bool:
        """A row for an instance that exists (since ``at``, else now). False: its row says that it is terminated
        already, and so it is again."""
        rate = await self._books.rate(instance.instance_type, market, instance.zone)
        now = self._clock()
        node = Node(
            id=instance.id,
            model=model,
            state=NodeState.PENDING,
            group=group,
            zone=instance.zone,
            instance_type=instance.instance_type,
            market=market,
            launched_at=now if at is None else at,
            lease_until=now + self._lease_s,
            cause=cause,
            micro_usd_per_hour=rate.per_hour,
            launch_micro_usd=rate.at_launch,
        )
        try:
            await self._nodes.add(node)
        except Stale:
            return await self._claim(node)
        return True

    def _unlaunched(self, model: Model, refusals: Sequence[Refusal]) -> CannotLaunch | Unavailable:
        """What a ladder came to that launched nothing."""
        failure = explain(model, refusals)
        if self._hands_on and any(refusal.error is None for refusal in refusals):
            return Unavailable(f"not at the end of the ladder: {failure.message}")
        return CannotLaunch(failure)

    def _rungs(self, model: Model, groups: Sequence[Group], refusals: list[Refusal]) -> Sequence[Rung]:
        """What to try, in order. What refused lately is told of without being asked, as long as something is left."""
        rungs = list(_ladder(model, groups))
        known = [Refusal(rung, error, remembered=True) for rung in rungs if (error := self._memory.lately(rung))]
        if len(known) == len(rungs):
            return rungs
        refusals += known
        passed_over = {refusal.rung for refusal in known}
        return [rung for rung in rungs if rung not in passed_over]

    async def _try(self, rung: Rung, model: Model, cause: Cause, patience: _Patience) -> Instance:
        """Raises as ``settle``."""
        group = rung.group
        launch = Launch(self._token(), model.name, group.name, rung.zone, group.market, self._clock(), cause)
        await self._launches.intend(launch)
        return await self.settle(launch, patience=patience)

    async def _called(self, launch: Launch) -> Instance:
        self._silent_since.setdefault(launch.token, self._clock())
        try:
            return await self._cloud.launch(launch)
        except LaunchRefused as error:
            self._memory.note(launch.group, launch.zone, error)
            raise

    async def _settled(self, launch: Launch) -> None:
        await self._launches.settle(launch.token)
        self._silent_since.pop(launch.token, None)

    async def _claim(self, node: Node) -> bool:
        try:
            await self._nodes.claim(node)
        except Stale:
            log.warning("terminating an instance that was believed gone", extra={"node": node.id})
            await self._cloud.terminate(node.id)
            return False
        return True


def _ladder(model: Model, groups: Sequence[Group]) -> Iterator[Rung]:
    """Markets in the model's order; in each, the group's zones."""
    for market in model.market.ladder:
        for group in groups:
            if group.model == model.name and group.market == market:
                for zone in group.zones:
                    yield Rung(group, zone)
