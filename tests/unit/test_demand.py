"""How many nodes a model's load asks for, over time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.demand import Demand
from control_plane.model import Model
from control_plane.nodes import Node
from gpu_node.protocol import NodeState
from tests.unit.planning import CONFIG, NAME, node

TICK_S = 5.0


class Bench:
    """A model with up to four nodes, whose load a test writes down."""

    def __init__(self, *, most: int = 4) -> None:
        self.models = {NAME: Model.parse({**CONFIG, "maxInstances": most})}
        self.demand = Demand(out_s=30.0, in_s=300.0)
        self.nodes: list[Node] = [node(NodeState.READY, "i-1")]
        self.now = 0.0

    def load(self, *loads: tuple[int, int]) -> None:
        """Running and waiting, of so many nodes."""
        self.nodes = [
            replace(node(NodeState.READY, f"i-{number}"), running=running, waiting=waiting)
            for number, (running, waiting) in enumerate(loads)
        ]

    def after(self, seconds: float) -> int:
        """What is wanted when it was looked at every tick for so long."""
        until = self.now + seconds
        while self.now < until:
            self.now += TICK_S
            wanted = self.demand.note(self.models, self.nodes, self.now)[NAME]
        return wanted


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_queue_that_stays_asks_for_one_more(bench: Bench) -> None:
    bench.load((8, 3))
    assert bench.after(30) == 1
    assert bench.after(10) == 2


def test_a_queue_that_comes_and_goes_asks_for_nothing(bench: Bench) -> None:
    for _ in range(10):
        bench.load((8, 3))
        assert bench.after(25) == 1
        bench.load((8, 0))
        assert bench.after(5) == 1


def test_the_next_is_asked_for_only_when_that_one_is_there_and_the_queue_stays(bench: Bench) -> None:
    bench.load((8, 9))
    assert bench.after(600) == 2
    bench.load((8, 4), (8, 1))
    assert bench.after(25) == 2
    assert bench.after(15) == 3


@pytest.mark.parametrize("most", [1, 2, 4])
def test_never_more_than_the_model_may_have(most: int) -> None:
    bench = Bench(most=most)
    for count in range(1, 8):
        bench.load(*[(8, 9)] * min(count, most))
        assert bench.after(100) <= most
    assert bench.after(100) == most


def test_load_that_would_fit_fewer_for_long_takes_one_away_at_a_time(bench: Bench) -> None:
    bench.load((8, 2), (8, 2), (8, 2))
    assert bench.after(5) == 3
    bench.load((1, 0), (1, 0), (1, 0))
    assert bench.after(300) == 3
    assert bench.after(5) == 2
    bench.load((1, 0), (1, 0))
    assert bench.after(295) == 2
    assert bench.after(5) == 1


def test_load_that_would_fill_the_nodes_left_takes_none_away(bench: Bench) -> None:
    bench.load((8, 2), (8, 2))
    bench.after(5)
    bench.load((3, 0), (3, 0))  # 6 of the 8 that one can do: more than it should
    assert bench.after(2000) == 2


def test_a_busy_moment_begins_the_wait_anew(bench: Bench) -> None:
    bench.load((8, 2), (8, 2))
    bench.after(5)
    for _ in range(5):
        bench.load((1, 0), (1, 0))
        assert bench.after(250) == 2
        bench.load((8, 0), (8, 0))
        assert bench.after(5) == 2


def test_what_serves_already_is_what_a_new_process_begins_with(bench: Bench) -> None:
    bench.load((1, 0), (1, 0), (1, 0))
    assert bench.after(5) == 3


def test_a_node_that_is_taken_away_is_not_asked_for_again(bench: Bench) -> None:
    bench.load((8, 2), (8, 2))
    bench.after(5)
    bench.load((0, 0), (0, 0))
    assert bench.after(305) == 1
    bench.nodes.pop()
    assert bench.after(20) == 1


def test_a_node_that_somebody_else_took_away_is_not_asked_for_again(bench: Bench) -> None:
    bench.load((1, 0), (1, 0), (1, 0))
    assert bench.after(5) == 3
    bench.nodes.pop()
    assert bench.after(5) == 2


def test_a_node_that_aws_took_back_is(bench: Bench) -> None:
    bench.load((8, 1), (8, 1))
    assert bench.after(5) == 2
    gone = replace(bench.nodes[1], state=NodeState.DRAINING, interruption_at=100.0)
    bench.nodes = [bench.nodes[0], gone]
    assert bench.after(5) == 2
    bench.nodes.pop()
    assert bench.after(5) == 2


def test_without_a_node_one_is_what_is_wanted(bench: Bench) -> None:
    bench.load((8, 2), (8, 2))
    bench.after(5)
    bench.nodes = []
    assert bench.after(5) == 1


def test_a_model_that_is_gone_is_forgotten(bench: Bench) -> None:
    bench.load((8, 2), (8, 2))
    bench.after(5)
    assert bench.demand.note({}, bench.nodes, bench.now) == {}
