"""A Spot node learns that AWS wants it back, and says so at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from gpu_node.imds import MetadataUnavailable, spot_notice
from gpu_node.protocol import NodeState
from gpu_node.spot import ASK_EVERY_S, NONE, Notice, SpotWatch, notice
from tests.gpu_node.world import IDENTITY, World

Service = Callable[[dict[str, str]], AbstractContextManager[str]]

ACTION = '{"action": "terminate", "time": "2026-11-29T09:02:00Z"}'
REBALANCE = '{"noticeTime": "2026-11-29T08:50:00Z"}'
AT, SAID = 1_795_942_920.0, 1_795_942_200.0


# -- what AWS says


def test_notices_are_read_as_times() -> None:
    assert notice(None, None) == NONE
    assert notice(ACTION, None) == Notice(interruption_at=AT)
    assert notice(None, REBALANCE) == Notice(rebalance_at=SAID)
    assert notice(ACTION, REBALANCE) == Notice(AT, SAID)


@pytest.mark.parametrize("odd", ["", "{}", "[]", '{"time": 7}', '{"time": "soon"}', "<html>"])
def test_a_notice_that_is_none_is_an_error(odd: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        notice(odd, None)


def test_the_metadata_service_tells_both(metadata_service: Service) -> None:
    with metadata_service({"spot/instance-action": ACTION, "events/recommendations/rebalance": REBALANCE}) as base:
        assert spot_notice(base) == Notice(AT, SAID)


def test_that_it_knows_none_means_that_there_is_none(metadata_service: Service) -> None:
    with metadata_service({}) as base:
        assert spot_notice(base) == NONE


def test_an_answer_that_cannot_be_read_is_an_error_of_ours(metadata_service: Service) -> None:
    with metadata_service({"spot/instance-action": "soon"}) as base, pytest.raises(MetadataUnavailable, match="Spot"):
        spot_notice(base)


def test_a_silent_service_is_an_error_of_ours(metadata_service: Service) -> None:
    with metadata_service({}) as base:
        pass
    with pytest.raises(MetadataUnavailable):
        spot_notice(base)


# -- when it is asked


class Asked:
    def __init__(self) -> None:
        self.now, self.count, self.answer = 0.0, 0, NONE
        self.watch = SpotWatch(self._ask, clock=lambda: self.now)

    def _ask(self) -> Notice:
        self.count += 1
        return self.answer

    def news_within(self, seconds: int) -> list[int]:
        """The seconds at which there was news."""
        told = []
        for second in range(seconds):
            self.now += 1
            if self.watch.look():
                told.append(second)
        return told


def test_it_is_asked_every_few_seconds_and_news_is_told_once() -> None:
    asked = Asked()
    assert asked.news_within(20) == []
    assert asked.count == 20 / ASK_EVERY_S
    asked.answer = Notice(rebalance_at=1.0)
    assert len(asked.news_within(20)) == 1


def test_an_interruption_is_final() -> None:
    asked = Asked()
    asked.answer = Notice(interruption_at=100.0)
    assert len(asked.news_within(20)) == 1
    assert asked.count == 1
    assert asked.watch.notice == Notice(interruption_at=100.0)


# -- the agent


def test_a_notice_is_in_the_row_within_seconds() -> None:
    world = World()
    world.renew_always()
    world.ready_after(3)
    world.clock.at(61, lambda: setattr(world, "spot", Notice(interruption_at=1181.0)))
    world.clock.at(80, world.agent.stop)
    world.live()
    first = next(report for report in world.table.reports if report.interruption_at)
    assert first.heartbeat_at <= 1061 + ASK_EVERY_S + 1
    assert (first.interruption_at, first.state) == (1181.0, NodeState.READY)
    assert world.table.reports[-1].interruption_at == 1181.0


def test_metadata_that_does_not_answer_is_asked_again() -> None:
    world = World()
    world.renew_always()
    world.ready_after(3)
    world.clock.at(5, lambda: setattr(world, "spot", None))
    world.clock.at(40, lambda: setattr(world, "spot", Notice(rebalance_at=1040.0)))
    world.clock.at(60, world.agent.stop)
    assert world.live() == 0
    assert world.table.reports[-1].rebalance_at == 1040.0


def test_only_a_spot_node_asks() -> None:
    world = World(market="on-demand")
    world.ready_after(3)
    world.clock.at(60, world.agent.stop)
    world.live()
    assert world.spot_asked == 0
    assert IDENTITY.market == "spot"  # as all the others here
