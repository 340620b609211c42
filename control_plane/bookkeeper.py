"""What a machine costs, asked of the cloud: its price when it is launched, its own times when it is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from control_plane.books import UsageStore
from control_plane.errors import Unavailable
from control_plane.ledger import running
from control_plane.nodes import Node
from control_plane.ports import Clock, Cloud
from control_plane.rates import Rate, Sizes, node_rate

log = logging.getLogger(__name__)


class Bookkeeper:
    """Prices and bills of nodes."""

    def __init__(
        self, usage: UsageStore, cloud: Cloud, *, clock: Clock, sizes: Sizes, closed: Callable[[], None] = lambda: None
    ) -> None:
        """``closed`` hears of every bill that is."""
        self._closed = closed
        self._usage = usage
        self._cloud = cloud
        self._clock = clock
        self._sizes = sizes

    async def rate(self, instance_type: str, market: str, zone: str) -> Rate:
        """Of a machine that is launched now. A Spot price that cannot be had is no reason to launch nothing."""
        spot = None
        if market == "spot":
            try:
                spot = await self._cloud.spot_usd_per_hour(instance_type, zone)
            except Unavailable as error:
                log.warning("no Spot price; On-Demand's is taken", extra={"type": instance_type, "error": str(error)})
        return node_rate(instance_type, self._sizes, spot_usd_per_hour=spot)

    async def close(self, node: Node) -> None:
        """Keep the bill of a node that is gone. Doing it twice is doing it once. Raises Unavailable."""
        life = await self._cloud.lifetime(node.id)
        bill = running(await self._priced(node), self._clock())
        if life.launched_at is not None and life.ended_at is not None:
            bill = replace(bill, started_at=life.launched_at, ended_at=life.ended_at, verified=True)
        await self._usage.close(bill)
        self._closed()

    async def _priced(self, node: Node) -> Node:
        """Where its agent was faster than whoever launched it, and that one died, its row has no price."""
        if node.micro_usd_per_hour:
            return node
        rate = await self.rate(node.instance_type, node.market, node.zone)
        return replace(node, micro_usd_per_hour=rate.per_hour, launch_micro_usd=rate.at_launch)
