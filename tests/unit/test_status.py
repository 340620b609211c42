"""A model in the words of the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from control_plane.plan import Policy
from control_plane.ports import ModelRow, Wish
from control_plane.status import Status, configuration, node_dict
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord

NOW = 1000.0
CONFIG = {"name": "m", "instanceTypes": ["g6.xlarge"], "idleTimeout": 300}
ROW = ModelRow("m", CONFIG)
FAILED = replace(ROW, failure=Failure("gated_model", "Gated.", "Ask.", permanent=True), failures=1, failed_at=NOW - 10)
WISH = Wish("m", desired=1, hold_until=NOW + 60, by="ann", asked_at=NOW - 5)


def node(state: NodeState, **changes: float) -> Node:
    made = Node(NodeId(f"i-{state}"), "m", state, "g", "a", "g6.xlarge", "spot", NOW - 100, NOW + 100)
    return replace(made, **changes)  # type: ignore[arg-type]  # times only


def status(nodes: Sequence[Node] = (), *, row: ModelRow = ROW, wish: Wish | None = None, waiters: int = 0) -> Status:
    return Status(Model.parse(row.config), row, wish, nodes, waiters, 0.0, NOW, Policy())


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (status(), "cold"),
        (status([node(NodeState.PENDING)]), "starting"),
        (status([node(NodeState.BOOTING)]), "starting"),
        (status([node(NodeState.READY), node(NodeState.BOOTING), node(NodeState.DRAINING)]), "ready"),
        (status([node(NodeState.DRAINING), node(NodeState.BOOTING)]), "starting"),
        (status([node(NodeState.DRAINING)]), "draining"),
        (status([node(NodeState.TERMINATED)]), "cold"),
        (status(wish=WISH), "starting"),
        (status(waiters=1), "starting"),
        (status(wish=replace(WISH, hold_until=NOW - 1)), "cold"),
        (status(wish=replace(WISH, desired=0)), "cold"),
        (status(row=FAILED), "failed"),
        (status(row=FAILED, wish=WISH, waiters=1), "failed"),
        (status([node(NodeState.READY)], row=FAILED), "ready"),
        (status([node(NodeState.BOOTING)], row=FAILED), "starting"),
        (status(row=replace(FAILED, failed_at=NOW - 3600)), "cold"),
    ],
)
def test_one_word_says_how_a_model_is(told: Status, word: str) -> None:
    assert told.to_dict()["status"] == word


def test_a_start_tells_phase_elapsed_and_what_is_left() -> None:
    booting = replace(node(NodeState.BOOTING), phases=(PhaseRecord(Phase.LOAD, NOW - 50),))
    history = replace(ROW, boot_seconds=(400.0, 130.0, 120.0))
    assert status([booting], row=history).to_dict()["start"] == {"phase": "load", "elapsed_s": 100.0, "eta_s": 30.0}
    assert status([booting]).to_dict()["start"]["eta_s"] is None
    late = replace(history, boot_seconds=(50.0,))
    assert status([booting], row=late).to_dict()["start"]["eta_s"] == 0.0


def test_a_start_without_an_instance_is_in_its_launch() -> None:
    start = status(wish=WISH, row=replace(ROW, boot_seconds=(80.0,))).to_dict()["start"]
    assert start == {"phase": "launch", "elapsed_s": 0.0, "eta_s": 80.0}
    assert status().to_dict()["start"] is None


def test_a_ready_model_tells_when_it_sleeps() -> None:
    used = node(NodeState.READY, ready_at=NOW - 90, last_request_at=NOW - 20)
    assert status([used]).to_dict()["sleeps_at"] == NOW + 280
    assert status([node(NodeState.READY, ready_at=NOW - 90)]).to_dict()["sleeps_at"] == NOW + 210
    kept = replace(WISH, keep_awake_until=NOW + 5000)
    told = status([used], wish=kept).to_dict()
    assert (told["sleeps_at"], told["keep_awake_until"]) == (NOW + 5000, NOW + 5000)
    assert status().to_dict()["sleeps_at"] is None


def test_a_node_tells_its_story_and_its_log_only_when_asked() -> None:
    failed = replace(node(NodeState.FAILED), error=Failure("x", "y"), reason="why", log_tail=("a", "b"))
    told = node_dict(failed, NOW)
    assert (told["status"], told["age_s"], told["reason"], told["error"]["code"]) == ("failed", 100.0, "why", "x")
    assert (told["ready_at"], "log_tail" in told) == (None, False)
    assert node_dict(failed, NOW, log_tail=True)["log_tail"] == ["a", "b"]


def test_what_holds_is_the_configuration_with_the_overrides_on_top() -> None:
    told = configuration(Model.parse(CONFIG, {"idleTimeout": 900}))
    assert told == {"config": CONFIG, "override": {"idleTimeout": 900}, "effective": {**CONFIG, "idleTimeout": 900}}
