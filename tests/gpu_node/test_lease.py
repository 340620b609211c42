"""When a node ends itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node.agent import STOP_GRACE_S
from gpu_node.lease import Departure, Drain, Halt, Lease, LeasePolicy, Situation, Stay, decide
from gpu_node.protocol import DRAIN_HOOK_S, LONGEST_LEASE_S, NodeState, Orders

POLICY = LeasePolicy(grace_s=5, busy_limit_s=600, blind_limit_s=600, notice_s=60, drain_limit_s=840, max_lifetime_s=9e8)
START = 1000.0


def situation(
    *,
    state: NodeState = NodeState.READY,
    lease_until: float = 2000.0,
    read_at: float = START,
    busy: bool = False,
    departure: Departure | None = None,
) -> Situation:
    orders = Orders(state, lease_until)
    return Situation(START, START, busy, orders=orders, lease_ends_at=lease_until, read_at=read_at, departure=departure)


def departing(*, busy: bool = False) -> Situation:
    """With a lease that runs and a table that answers: something else alone wants the node gone."""
    return situation(lease_until=9e9, read_at=1700, busy=busy, departure=Departure("why", 1100))


@pytest.mark.parametrize(
    ("case", "now", "halts"),
    [
        pytest.param(situation(), 1500, False, id="a lease that runs keeps an idle node"),
        pytest.param(situation(state=NodeState.TERMINATED), 1001, True, id="terminated by orders"),
        pytest.param(situation(state=NodeState.FAILED, busy=True), 1001, True, id="given up by orders, even busy"),
        pytest.param(situation(state=NodeState.DRAINING), 1500, False, id="draining alone is no reason"),
        pytest.param(situation(state=NodeState.DRAINING, read_at=2004), 2005, True, id="draining without a lease"),
        pytest.param(situation(read_at=2004), 2004.9, False, id="idle within the grace after the lease"),
        pytest.param(situation(read_at=2004), 2005, True, id="idle past the grace"),
        pytest.param(situation(read_at=2600, busy=True), 2604.9, False, id="busy past the lease"),
        pytest.param(situation(read_at=2600, busy=True), 2605, True, id="busy long past the lease"),
        pytest.param(Situation(START, START, busy=False), 1599, False, id="never read anything, for a while"),
        pytest.param(Situation(START, START, busy=False), 1600, True, id="never read anything, for long"),
        pytest.param(situation(lease_until=9e9, read_at=1100), 1699, False, id="blind for a while"),
        pytest.param(situation(lease_until=9e9, read_at=1100), 1700, True, id="blind for long"),
        pytest.param(situation(lease_until=9e9, read_at=1100, busy=True), 2299, False, id="blind for long, but busy"),
        pytest.param(situation(lease_until=9e9, read_at=1100, busy=True), 2300, True, id="blind twice as long, busy"),
        pytest.param(departing(), 1159, False, id="departing, within the notice"),
        pytest.param(departing(), 1160, True, id="departing and idle"),
        pytest.param(departing(busy=True), 1939, False, id="departing, busy"),
        pytest.param(departing(busy=True), 1940, True, id="departing, busy until the last minute"),
        pytest.param(situation(lease_until=9e9, read_at=9e8, busy=True), START + 9e8, True, id="its lifetime is over"),
    ],
)
def test_a_node_ends_itself_exactly_when_a_rule_says_so(case: Situation, now: float, halts: bool) -> None:
    assert isinstance(decide(case, now, POLICY), Halt) is halts


@pytest.mark.parametrize(
    ("case", "now", "verdict"),
    [
        pytest.param(situation(lease_until=9e9), 1500, Stay(), id="nothing is the matter"),
        pytest.param(departing(), 1101, Drain("why"), id="as soon as it is known"),
        pytest.param(departing(busy=True), 1800, Drain("why"), id="as long as requests run"),
        pytest.param(
            situation(lease_until=9e9, read_at=9e8),
            START + 9e8 - 840,
            Drain("its lifetime is nearly over"),
            id="before its lifetime ends",
        ),
        pytest.param(situation(lease_until=9e9, read_at=9e8), START + 9e8 - 1000, Stay(), id="not long before"),
    ],
)
def test_a_node_drains_before_it_goes(case: Situation, now: float, verdict: Stay | Drain) -> None:
    assert decide(case, now, POLICY) == verdict


def test_a_short_life_is_not_spent_draining() -> None:
    assert LeasePolicy(max_lifetime_s=400).last_drain_s == 100


# -- the lease -----------------------------------------------------------------------------------------------------


def test_only_a_lease_that_is_news_moves_the_end() -> None:
    lease = Lease()
    assert lease.ends_at is None
    lease.read(1300, 1000)
    lease.read(1300, 1250)
    assert lease.ends_at == 1300
    lease.read(1500, 1250)
    assert lease.ends_at == 1500


@given(st.floats(0, 1e10), st.floats(0, 1e6), st.lists(st.floats(0, 1e4)))
def test_a_lease_that_is_not_renewed_ends_however_far_it_reaches(until: float, now: float, later: list[float]) -> None:
    lease = Lease()
    lease.read(until, now)
    for seconds in later:
        lease.read(until, now + seconds)
    assert lease.ends_at is not None
    assert lease.ends_at <= now + LONGEST_LEASE_S


@pytest.mark.parametrize("busy", [False, True])
def test_a_halt_says_why(busy: bool) -> None:
    verdicts = [
        decide(situation(busy=busy), 2000 + 600 + 5, POLICY),
        decide(Situation(START, START, busy), 9e8, POLICY),
    ]
    assert all(isinstance(verdict, Halt) and verdict.reason for verdict in verdicts)


times = st.floats(min_value=0, max_value=1e6)
policies = st.builds(
    LeasePolicy,
    grace_s=st.floats(0, 60),
    busy_limit_s=st.floats(1, 3600),
    blind_limit_s=st.floats(1, 3600),
    notice_s=st.floats(0, 120),
    drain_limit_s=st.floats(120, 3600),
    max_lifetime_s=st.floats(60, 1e6),
)
departures = st.builds(Departure, st.just("why"), times)
orders = st.none() | st.builds(Orders, state=st.sampled_from(NodeState), lease_until=times)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    known, launched_at = draw(orders), draw(times)
    return Situation(
        launched_at + draw(st.floats(0, 1800)),
        launched_at,
        draw(st.booleans()),
        orders=known,
        lease_ends_at=None if known is None else known.lease_until,
        read_at=None if known is None else draw(times),
        departure=draw(st.none() | departures),
    )


@given(situations(), policies, times, st.floats(0, 1e6))
def test_a_halt_never_turns_into_a_stay_as_time_goes_by(
    case: Situation, policy: LeasePolicy, now: float, later: float
) -> None:
    if isinstance(decide(case, now, policy), Halt):
        assert isinstance(decide(case, now + later, policy), Halt)


@given(situations(), policies, times)
def test_what_ends_a_busy_node_ends_an_idle_one(case: Situation, policy: LeasePolicy, now: float) -> None:
    if isinstance(decide(replace(case, busy=True), now, policy), Halt):
        assert isinstance(decide(replace(case, busy=False), now, policy), Halt)


@given(situations(), policies, st.floats(0, 1e6))
def test_no_node_outlives_both_its_lease_and_the_limits(case: Situation, policy: LeasePolicy, extra: float) -> None:
    lease_end = case.orders.lease_until if case.orders else 0.0
    last_sight = case.started_at if case.read_at is None else case.read_at
    end = max(lease_end + policy.grace_s + policy.busy_limit_s, last_sight + 2 * policy.blind_limit_s)
    assert isinstance(decide(case, end + extra + 1, policy), Halt)


@given(situations(), policies, times, st.floats(0, 1e6))
def test_no_node_outlives_what_its_group_grants(
    case: Situation, policy: LeasePolicy, since: float, extra: float
) -> None:
    told = replace(case, departure=Departure("why", since))
    assert isinstance(decide(told, since + policy.drain_limit_s + extra + 1, policy), Halt)


@given(situations(), policies, st.floats(0, 1e6))
def test_no_node_outlives_its_lifetime(case: Situation, policy: LeasePolicy, extra: float) -> None:
    assert isinstance(decide(case, case.launched_at + policy.max_lifetime_s + extra + 1, policy), Halt)


def test_the_machine_is_not_cut_off_by_aws_before_its_own_limit() -> None:
    assert LeasePolicy().notice_s < LeasePolicy().drain_limit_s < DRAIN_HOOK_S - STOP_GRACE_S


@given(situations(), policies, times)
def test_an_idle_node_never_outlives_its_lease_by_more_than_the_grace(
    case: Situation, policy: LeasePolicy, extra: float
) -> None:
    if case.orders is not None:
        end = case.orders.lease_until + policy.grace_s
        assert isinstance(decide(replace(case, busy=False), end + extra + 1, policy), Halt)
