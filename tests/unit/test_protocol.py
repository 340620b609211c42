"""What a node writes is what the control plane reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node.protocol import (
    Failure,
    NodeState,
    Orders,
    Phase,
    PhaseRecord,
    Report,
    from_attribute,
    from_attributes,
    to_attribute,
    to_attributes,
)

NUMBERS = st.integers(-(10**15), 10**15) | st.floats(-1e9, 1e9).map(lambda number: round(number, 6))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), VALUES))
def test_plain_values_survive_the_way_to_the_table_and_back(item: dict[str, Any]) -> None:
    assert from_attributes(to_attributes(item)) == item


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_time_read_is_written_as_it_stood(microseconds: int) -> None:
    stored = to_attribute(microseconds / 1_000_000)
    assert to_attribute(from_attribute(stored)) == stored


@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        (None, {"NULL": True}),
        (True, {"BOOL": True}),
        (0, {"N": "0"}),
        (0.0, {"N": "0"}),
        (10.0, {"N": "10"}),
        (1_795_000_000.25, {"N": "1795000000.25"}),
        (NodeState.READY, {"S": "ready"}),
        ((1, "a"), {"L": [{"N": "1"}, {"S": "a"}]}),
        ({"a": {}}, {"M": {"a": {"M": {}}}}),
        (frozenset({"b", "a"}), {"SS": ["a", "b"]}),
    ],
)
def test_each_kind_of_value_has_its_attribute(value: object, attribute: dict[str, Any]) -> None:
    assert to_attribute(value) == attribute
    assert to_attribute(from_attribute(attribute)) == attribute


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object()])
def test_what_the_tables_never_hold_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        to_attribute(value)


def test_an_attribute_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError):
        from_attribute({"NS": ["1"]})


@pytest.mark.parametrize(
    "record",
    [PhaseRecord(Phase.LOAD, 5.5), PhaseRecord(Phase.WEIGHTS, 5.5, done_bytes=0, total_bytes=9)],
)
def test_a_phase_survives_its_row(record: PhaseRecord) -> None:
    assert PhaseRecord.from_dict(from_attributes(to_attributes(record.to_dict()))) == record


def test_a_failure_survives_its_row() -> None:
    failure = Failure("gated_model", "The weights are gated.", "Accept the licence.", permanent=True)
    assert Failure.from_dict(from_attributes(to_attributes(failure.to_dict()))) == failure
    assert failure.sentence == "The weights are gated. Accept the licence."


def test_a_failure_without_advice_is_one_sentence() -> None:
    assert Failure("crash", "It ended.").sentence == "It ended."


def test_a_report_carries_everything_but_its_key_and_its_state() -> None:
    failure = Failure("crash", "It ended.")
    report = Report(
        instance_id="i-1",
        model="small",
        state=NodeState.FAILED,
        heartbeat_at=9.5,
        ip="10.0.0.7",
        instance_type="g6.xlarge",
        zone="us-east-1a",
        market="spot",
        phases=(PhaseRecord(Phase.DRIVER, 1.0),),
        running=2,
        waiting=1,
        interruption_at=120.0,
        rebalance_at=9.0,
        log_tail=("a", "b"),
        error=failure,
    )
    assert report.to_item() == {
        "model": "small",
        "heartbeat_at": 9.5,
        "ip": "10.0.0.7",
        "instance_type": "g6.xlarge",
        "zone": "us-east-1a",
        "market": "spot",
        "phases": [{"phase": "driver", "started_at": 1.0}],
        "running": 2,
        "waiting": 1,
        "interruption_at": 120.0,
        "rebalance_at": 9.0,
        "log_tail": ["a", "b"],
        "error": failure.to_dict(),
    }


def test_orders_are_read_from_the_row_that_was_written() -> None:
    assert Orders.from_item({"status": "draining", "lease_until": 12}) == Orders(NodeState.DRAINING, 12.0)


def test_a_row_without_a_lease_gives_none() -> None:
    assert Orders.from_item({"status": "booting"}) == Orders(NodeState.BOOTING, 0.0)
