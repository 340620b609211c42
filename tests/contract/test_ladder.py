"""The ladder against the account: what AWS refuses a launch with, as the client of the control plane is told it."""

from __future__ import annotations

import httpx
import pytest

from control_plane.adapters import Adapters
from control_plane.app import ControlPlane
from control_plane.effects import Stores
from control_plane.settings import Settings
from tests.contract.groups import MODEL, ZONES, AwsGroups
from tests.memory import (
    FakeClock,
    MemoryFence,
    MemoryKeys,
    MemoryLaunches,
    MemoryModels,
    MemoryNodes,
    MemoryProbe,
    MemoryWishes,
)
from tests.memory_books import MemoryUsage
from tests.memory_people import MemoryPeople

LIMIT_S = 10.0
PAGE = "https://us-east-1.console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


class Bench:
    """A control plane over the account's groups; everything else of it in memory, on a clock that stands still."""

    def __init__(self, groups: AwsGroups, clock: FakeClock) -> None:
        self.nodes, self.models, self.launches = MemoryNodes(), MemoryModels(), MemoryLaunches()
        stores = Stores(self.nodes, MemoryWishes(), self.launches, self.models, MemoryFence())
        adapters = Adapters(
            stores, MemoryKeys(), MemoryUsage(), groups.cloud, MemoryProbe(), people=MemoryPeople().adapters
        )
        self.plane = ControlPlane(Settings(), adapters, clock=clock)

    async def refusal(self, market: str) -> httpx.Response:
        config = {"name": MODEL, "instanceTypes": ["g6.xlarge"], "idleTimeout": 300, "market": market}
        await self.models.seed(MODEL, config)
        key, _ = await self.plane.keys.create(email="ann@example.com", name="ladder")
        transport = httpx.ASGITransport(self.plane.app)
        async with self.plane.running(), httpx.AsyncClient(transport=transport, base_url="http://plane") as http:
            return await http.post("/v1/chat/completions", json=ASK, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize(
    ("words", "market", "status", "code", "told"),
    [
        ({"on-demand": "capacity"}, "on-demand", 503, "no_gpu_capacity", "add instance types"),
        ({"on-demand": "quota"}, "on-demand", 403, "gpu_quota_exceeded", f"{PAGE}/L-DB2E81BA"),
        ({"spot": "quota"}, "spot", 403, "gpu_quota_exceeded", f"{PAGE}/L-3819A6DF"),
        ({"on-demand": "misconfigured"}, "on-demand", 403, "launch_misconfigured", "Run `pulumi up`"),
        ({"spot": "capacity", "on-demand": "capacity"}, "spot-then-on-demand", 503, "no_gpu_capacity",
         "tried spot in us-east-1a: InsufficientInstanceCapacity; spot in us-east-1b"),
    ],
)  # fmt: skip
async def test_the_client_is_told_the_code_and_the_fix(
    aws_groups: AwsGroups, clock: FakeClock, words: dict[str, str], market: str, status: int, code: str, told: str
) -> None:
    for kind in words:
        aws_groups.add(market=kind)
    for zone in ZONES:
        for word in words.values():  # as many as are asked, in the order of the ladder
            aws_groups.refuse("", zone, word)
    bench, began = Bench(aws_groups, clock), clock.now
    try:
        reply = await bench.refusal(market)
    finally:
        aws_groups.use_up_refusals()
    assert clock.now - began < LIMIT_S
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert told in error["message"]
    assert bench.launches.rows == {}
    assert bench.nodes.rows == {}
