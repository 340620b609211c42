"""One more node of a model: down the ladder of markets and zones until one has it, or all have refused.

Each rung is an intent in the ``control`` table, a launch call with the intent's token, and a row: whatever breaks in
between, the next tick finds the intent and repeats the call with the same token, or finds the instance and adopts it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from control_plane.errors import LaunchMisconfigured, LaunchRefused, QuotaExceeded, Stale
from control_plane.model import Model
from control_plane.nodes import Node
from control_plane.ports import Clock, Cloud, Group, Instance, Launch, LaunchStore, NodeStore
from gpu_node.protocol import Failure, NodeState

QUOTAS = {"on-demand": "L-DB2E81BA", "spot": "L-3819A6DF"}
"""EC2's vCPU quotas for G and VT instances, per region."""

log = logging.getLogger(__name__)


class CannotLaunch(Exception):
    """Every rung refused; nothing was launched."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


@dataclass(frozen=True)
class _Refusal:
    group: Group
    zone: str
    error: LaunchRefused


class Launcher:
    """Launches, and puts what came of it into the tables."""

    def __init__(
        self,
        cloud: Cloud,
        nodes: NodeStore,
        launches: LaunchStore,
        *,
        clock: Clock,
        token: Callable[[], str],
        lease_s: float,
    ) -> None:
        self._cloud = cloud
        self._nodes = nodes
        self._launches = launches
        self._clock = clock
        self._token = token
        self._lease_s = lease_s

    async def start(self, model: Model, groups: Sequence[Group]) -> Instance:
        """One node, launched. Raises CannotLaunch when every rung refused, Unavailable when that is not known."""
        refusals: list[_Refusal] = []
        exhausted: set[str] = set()  # groups that no other zone can help
        for group, zone in _ladder(model, groups):
            if group.name in exhausted:
                continue
            launch = Launch(self._token(), model.name, group.name, zone, group.market, self._clock())
            await self._launches.intend(launch)
            try:
                return await self.settle(launch)
            except LaunchRefused as error:
                refusals.append(_Refusal(group, zone, error))
                if isinstance(error, QuotaExceeded | LaunchMisconfigured):
                    exhausted.add(group.name)
        raise CannotLaunch(_failure(model, refusals))

    async def settle(self, launch: Launch) -> Instance:
        """Make the launch's call, again or for the first time, and write its row. Raises LaunchRefused."""
        try:
            instance = await self._cloud.launch(launch)
        except LaunchRefused:
            await self._launches.settle(launch.token)
            raise
        await self.adopt(instance, model=launch.model, group=launch.group, market=launch.market)
        await self._launches.settle(launch.token)
        log.info("node launched", extra={"node": instance.id, "model": launch.model, "zone": instance.zone})
        return instance

    async def adopt(self, instance: Instance, *, model: str, group: str, market: str) -> bool:
        """A row for an instance that exists. False: its row says that it is terminated already; it is so again."""
        now = self._clock()
        node = Node(
            id=instance.id,
            model=model,
            state=NodeState.PENDING,
            group=group,
            zone=instance.zone,
            instance_type=instance.instance_type,
            market=market,
            launched_at=now,
            lease_until=now + self._lease_s,
        )
        try:
            await self._nodes.add(node)
        except Stale:
            return await self._claim(node)
        return True

    async def _claim(self, node: Node) -> bool:
        try:
            await self._nodes.claim(node)
        except Stale:
            log.warning("terminating an instance that was believed gone", extra={"node": node.id})
            await self._cloud.terminate(node.id)
            return False
        return True


def _ladder(model: Model, groups: Sequence[Group]) -> Iterator[tuple[Group, str]]:
    """Markets in the model's order; in each, the group's zones."""
    for market in model.market.ladder:
        for group in groups:
            if group.model == model.name and group.market == market:
                for zone in group.zones:
                    yield group, zone


def _failure(model: Model, refusals: Sequence[_Refusal]) -> Failure:
    """Why no rung worked, with everything that was tried."""
    if not refusals:
        return Failure(
            "no_group",
            f"There is no Auto Scaling group for {model.name} on market {model.market}.",
            "Run `pulumi up`.",
            permanent=True,
        )
    tried = "; ".join(f"{r.group.market} in {r.zone}: {r.error.code}" for r in refusals)
    kinds = " or ".join(model.instance_types)
    short = [refusal for refusal in refusals if isinstance(refusal.error, QuotaExceeded)]
    if {refusal.group.name for refusal in short} == {refusal.group.name for refusal in refusals}:
        markets = " and ".join(refusal.group.market for refusal in short)
        quotas = " or ".join(QUOTAS[refusal.group.market] for refusal in short)
        return Failure(
            "gpu_quota_exceeded",
            f"The account's vCPU quota for {markets} G instances is too small for {kinds}: {short[0].error.message}",
            f"Request an increase of quota {quotas} in the console: Service Quotas > Amazon EC2.",
            permanent=True,
        )
    misconfigured = [r.error for r in refusals if isinstance(r.error, LaunchMisconfigured)]
    if len(misconfigured) == len(refusals):
        return Failure(
            "launch_misconfigured",
            f"AWS refused to launch {kinds}: {misconfigured[0].message}",
            "Run `pulumi up`; `diogenes doctor` checks the account.",
            permanent=True,
        )
    return Failure(
        "no_gpu_capacity",
        f"AWS has no {kinds} to give now (tried {tried}).",
        "Try again in a few minutes, add instance types or allow spot for this model with `pulumi config set`.",
    )
