"""A model in the words of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from control_plane.boots import Boot
from control_plane.model import CONFIG_KEYS, OVERRIDABLE, Model
from control_plane.nodes import Node, NodeId
from control_plane.policy import Policy
from control_plane.ports import ModelRow, Wish
from control_plane.status import ModelConfig, Overrides, Status, configuration, node_dict
from gpu_node.protocol import Failure, NodeState, Phase, PhaseRecord

NOW = 1000.0
CONFIG = {"name": "m", "instanceTypes": ["g6.xlarge"], "idleTimeout": 300}
ROW = ModelRow("m", CONFIG)
FAILED = replace(ROW, failure=Failure("gated_model", "Gated.", "Ask.", permanent=True), failures=1, failed_at=NOW - 10)
REFUSED = replace(ROW, refusal=Failure("no_gpu_capacity", "None."), refused_at=NOW - 10)
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
        (status(row=REFUSED), "failed"),
        (status(row=replace(REFUSED, refused_at=NOW - 3600)), "cold"),
    ],
)
def test_one_word_says_how_a_model_is(told: Status, word: str) -> None:
    assert told.to_dict()["status"] == word


def test_what_stands_says_since_when_and_until_when() -> None:
    after_it = replace(REFUSED, failures=1, failure=Failure("node_lost", "Lost."), failed_at=NOW - 70)
    for row, at, until in (
        (REFUSED, NOW - 10, NOW + 80),
        (after_it, NOW - 10, NOW + 80),
        (FAILED, NOW - 10, NOW + 80),
        (replace(FAILED, failures=2), NOW - 10, None),
    ):
        failure = status(row=row).to_dict()["failure"]
        assert failure
        assert (failure["at"], failure["next_try_at"]) == (at, until)


BOOTS = [
    Boot(130.0 + extra, "g6.xlarge", "m@main", phases={"instance": 50.0, "load": 60.0 + extra, "warmup": 20.0})
    for extra in (0.0, 10.0, 270.0)
]
STARTED = replace(ROW, boots=BOOTS)
BOOTING = replace(
    node(NodeState.BOOTING),
    phases=(PhaseRecord(Phase.INSTANCE, NOW - 60), PhaseRecord(Phase.LOAD, NOW - 50)),
)


def start_of(told: Status) -> Mapping[str, Any]:
    start = told.to_dict()["start"]
    assert isinstance(start, dict)
    return start


def test_a_start_tells_phase_elapsed_and_what_is_left() -> None:
    start = start_of(status([BOOTING], row=STARTED))
    assert (start["phase"], start["elapsed_s"], start["eta_s"]) == ("load", 100.0, 40.0)
    assert start["eta"] == {"low": 40.0, "high": 300.0, "samples": 3}
    assert start["phases"] == [
        {"phase": "instance", "started_at": NOW - 100, "p50_s": 50.0, "p90_s": 50.0},
        {"phase": "load", "started_at": NOW - 50, "p50_s": 70.0, "p90_s": 330.0},
        {"phase": "warmup", "started_at": 0.0, "p50_s": 20.0, "p90_s": 20.0},
    ]


def test_the_first_start_of_all_tells_no_estimate() -> None:
    start = start_of(status([BOOTING]))
    assert (start["eta_s"], start["eta"]) == (None, None)
    assert [entry["p50_s"] for entry in start["phases"]] == [None, None]


def test_a_phase_tells_its_bytes() -> None:
    loading = replace(BOOTING, phases=(PhaseRecord(Phase.LOAD, NOW - 50, 10, 40),))
    told = start_of(status([loading], row=STARTED))["phases"][1]
    assert (told["done_bytes"], told["total_bytes"]) == (10, 40)


def test_a_start_without_an_instance_is_in_its_launch() -> None:
    start = start_of(status(wish=WISH, row=STARTED))
    assert (start["phase"], start["elapsed_s"], start["eta"]) == (
        "launch",
        0.0,
        {"low": 140.0, "high": 400.0, "samples": 3},
    )
    assert [entry["phase"] for entry in start["phases"]] == ["instance", "load", "warmup"]
    assert status().to_dict()["start"] is None


def test_a_failure_tells_when_and_what_to_do() -> None:
    told = status(row=FAILED).to_dict()["failure"]
    assert told
    assert (told["code"], told["at"]) == ("gated_model", NOW - 10)
    assert told["fixes"][0] == {
        "text": "Accept the model's terms on its page.",
        "command": None,
        "url": "https://huggingface.co/m",
    }


def test_a_ready_model_tells_when_it_sleeps() -> None:
    used = node(NodeState.READY, ready_at=NOW - 90, last_request_at=NOW - 20)
    assert status([used]).to_dict()["sleeps_at"] == NOW + 280
    assert status([node(NodeState.READY, ready_at=NOW - 90)]).to_dict()["sleeps_at"] == NOW + 210
    kept = replace(WISH, keep_awake_until=NOW + 5000)
    told = status([used], wish=kept).to_dict()
    assert (told["sleeps_at"], told["keep_awake_until"]) == (NOW + 5000, NOW + 5000)
    assert status().to_dict()["sleeps_at"] is None


def test_in_its_warm_hours_it_sleeps_when_the_last_of_them_end_or_later_if_it_was_just_used() -> None:
    hours = [{"cron": "0 0 1 1 *", "minutes": 60}, {"cron": "10 0 1 1 *", "minutes": 120}]  # 1970 began with both
    warm = replace(ROW, config={**CONFIG, "warmHours": hours})
    used = node(NodeState.READY, ready_at=NOW - 90, last_request_at=NOW - 20)
    assert status([used], row=warm).to_dict()["sleeps_at"] == 7800
    kept = replace(WISH, keep_awake_until=9000)
    assert status([used], row=warm, wish=kept).to_dict()["sleeps_at"] == 9000
    long_idle = replace(warm, config={**warm.config, "idleTimeout": 20000})
    assert status([used], row=long_idle).to_dict()["sleeps_at"] == NOW - 20 + 20000


def test_a_node_tells_its_story_and_its_log_only_when_asked() -> None:
    failed = replace(node(NodeState.FAILED), error=Failure("x", "y"), reason="why", log_tail=("a", "b"))
    told = node_dict(failed, NOW)
    assert told["error"]
    assert (told["status"], told["age_s"], told["reason"], told["error"]["code"]) == ("failed", 100.0, "why", "x")
    assert (told["ready_at"], "log_tail" in told) == (None, False)
    assert node_dict(failed, NOW, log_tail=True)["log_tail"] == ["a", "b"]


def test_what_holds_is_the_configuration_with_the_overrides_on_top() -> None:
    told = configuration(Model.parse(CONFIG, {"idleTimeout": 900}))
    assert told == {"config": CONFIG, "override": {"idleTimeout": 900}, "effective": {**CONFIG, "idleTimeout": 900}}


def test_the_api_knows_every_key_of_a_configuration() -> None:
    assert set(ModelConfig.__annotations__) == CONFIG_KEYS
    assert set(Overrides.__annotations__) == OVERRIDABLE
