"""What earlier starts say of one that goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.boots import Boot, Eta, alike, boot_of, eta, percentile, usual
from control_plane.model import Model
from control_plane.nodes import Node, NodeId
from gpu_node.protocol import NodeState, Phase, PhaseRecord

MODEL = Model.parse({"name": "m", "repository": "org/m", "revision": "v1", "instanceTypes": ["g6.xlarge"]})
WEIGHTS = "org/m@v1"
READY = Node(
    NodeId("i-1"), "m", NodeState.READY, "g", "a", "g6.xlarge", "spot", launched_at=1000.0, lease_until=9e9,
    ready_at=1200.0,
    phases=(PhaseRecord(Phase.INSTANCE, 1040.0), PhaseRecord(Phase.WEIGHTS, 1050.0), PhaseRecord(Phase.LOAD, 1150.0)),
)  # fmt: skip


def boot(seconds: float = 100.0, kind: str = "g6.xlarge", *, first: bool = False, weights: str = WEIGHTS) -> Boot:
    return Boot(seconds, kind, weights, first, {"instance": 40.0, "load": seconds - 50.0, "warmup": 10.0})


def test_a_start_is_remembered_with_what_each_phase_took() -> None:
    assert boot_of(READY, MODEL, []) == Boot(
        200.0, "g6.xlarge", WEIGHTS, first=True, phases={"instance": 50.0, "weights": 100.0, "load": 50.0}
    )


@pytest.mark.parametrize(
    ("history", "first"),
    [
        ([boot()], False),
        ([boot(kind="g5.xlarge")], True),
        ([boot(weights="org/m@main")], True),
    ],
)
def test_the_first_start_is_that_of_the_same_weights_on_the_same_type(history: list[Boot], first: bool) -> None:
    assert boot_of(READY, MODEL, history).first is first


def test_a_node_that_told_no_phases_was_starting_all_along() -> None:
    assert boot_of(replace(READY, phases=()), MODEL, []).phases == {"instance": 200.0}


def test_a_start_is_compared_with_those_most_like_it() -> None:
    later, first = boot(90), boot(300, first=True)
    elsewhere, elsewhere_first = boot(200, "g5.xlarge"), boot(400, "g5.xlarge", first=True)
    other = boot(5, weights="org/other@main")
    here = {"weights": WEIGHTS, "instance_type": "g6.xlarge"}
    assert alike([later, first, elsewhere, other], **here) == [later]
    assert alike([first, elsewhere, other], **here) == [first]
    assert alike([elsewhere, elsewhere_first, other], **here) == [elsewhere_first]
    assert alike([elsewhere, other], **here) == [elsewhere]
    assert alike([other], **here) == []


def test_percentiles_are_values_that_were_seen() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.9, 1.0)] == [1.0, 2.0, 3.0, 3.0]
    assert percentile([7.0], 0.5) == 7.0


def test_a_phase_takes_what_it_usually_takes() -> None:
    boots = [boot(seconds) for seconds in range(60, 160, 10)]
    assert usual(boots, Phase.LOAD) == (50.0, 90.0)
    assert usual(boots, Phase.COMPILE) is None


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert eta([], [PhaseRecord(Phase.LOAD, 0.0)], 10.0) is None


def test_before_an_instance_is_granted_all_of_it_is_left() -> None:
    assert eta([boot(90), boot(110), boot(500)], [], 10.0) == Eta(110.0, 500.0, 3)


def test_what_is_left_is_the_rest_of_the_phase_and_those_after_it() -> None:
    assert eta([boot(100)], [PhaseRecord(Phase.INSTANCE, 0.0), PhaseRecord(Phase.LOAD, 45.0)], 75.0) == Eta(30, 30, 1)


def test_a_phase_that_takes_longer_than_usual_takes_nothing_from_the_next() -> None:
    assert eta([boot(100)], [PhaseRecord(Phase.LOAD, 0.0)], 1000.0) == Eta(10, 10, 1)


def test_bytes_tell_more_than_the_past() -> None:
    half = PhaseRecord(Phase.LOAD, 0.0, 50, 100)
    assert eta([boot(100)], [half], 200.0) == Eta(210, 210, 1)
    assert eta([boot(100)], [replace(half, done_bytes=0)], 20.0) == Eta(40, 40, 1)


seconds = st.floats(1, 1e4)
boots = st.builds(
    lambda phases: Boot(sum(phases.values()), phases=phases),
    st.dictionaries(st.sampled_from([str(phase) for phase in Phase]), seconds, min_size=1),
)


@given(st.lists(boots, min_size=1), st.sampled_from(Phase), st.floats(0, 1e5))
def test_an_estimate_is_never_negative_and_its_ends_are_in_order(history: list[Boot], phase: Phase, now: float) -> None:
    left = eta(history, [PhaseRecord(phase, 0.0)], now)
    assert left is not None
    assert 0 <= left.low <= left.high
    assert left.samples == len(history)


@given(st.lists(boots, min_size=1), st.sampled_from(Phase), st.floats(0, 1e4), st.floats(0, 1e4))
def test_within_a_phase_nothing_is_added_as_time_goes_by(
    history: list[Boot], phase: Phase, now: float, later: float
) -> None:
    records = [PhaseRecord(phase, 0.0)]
    before, after = eta(history, records, now), eta(history, records, now + later)
    assert before is not None
    assert after is not None
    assert after.low <= before.low
    assert after.high <= before.high
