"""A node's bill: kept before its row says that it is gone, at the price and by the times that are known best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.actions import Bury
from control_plane.books import Lifetime
from control_plane.errors import Unavailable
from control_plane.nodes import Cause
from control_plane.rates import Sizes, node_rate
from gpu_node.protocol import NodeState
from tests.unit.test_effects import READY, Bench


@pytest.fixture
async def bench() -> Bench:
    return await Bench().prepare()


async def test_a_node_that_is_gone_leaves_its_bill_before_its_row_says_so(bench: Bench) -> None:
    leaving = replace(
        READY, state=NodeState.DRAINING, micro_usd_per_hour=3_600_000, cause=Cause("ann@example.com", "k")
    )
    bench.put(leaving)
    bench.cloud.lifetimes[READY.id] = Lifetime(90.0, 200.0)
    bench.nodes.broken.fail("move")
    with pytest.raises(Unavailable):
        await bench.apply(Bury(leaving))
    bench.clock.step(100.0)
    bench.cloud.lifetimes.clear()  # it does not know any more
    await bench.apply(Bury(leaving))
    (bill,) = bench.usage.closed.values()
    assert (bill.started_at, bill.ended_at, bill.verified, bill.cause) == (90.0, 200.0, True, leaving.cause)
    assert bench.row.state is NodeState.TERMINATED


@pytest.mark.parametrize("call", ["close", "lifetime"])
async def test_a_node_whose_bill_cannot_be_kept_is_not_buried(bench: Bench, call: str) -> None:
    leaving = replace(READY, state=NodeState.DRAINING)
    bench.put(leaving)
    (bench.usage if call == "close" else bench.cloud).broken.fail(call)
    with pytest.raises(Unavailable):
        await bench.apply(Bury(leaving))
    assert bench.row.state is NodeState.DRAINING


async def test_a_row_without_a_price_is_billed_by_the_list(bench: Bench) -> None:
    leaving = replace(READY, state=NodeState.DRAINING)
    bench.put(leaving)
    await bench.apply(Bury(leaving))
    (bill,) = bench.usage.closed.values()
    assert bill.micro_usd_per_hour == node_rate("g6.xlarge", Sizes()).per_hour
    assert (bill.ended_at, bill.verified) == (bench.clock.now, False)
