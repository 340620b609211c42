"""A hard cap of a person, a key or of speculation ends what nobody else wants, and nothing of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.actions import Drain, Fulfil, Start
from control_plane.books import Limit
from control_plane.budget import Budgets
from control_plane.caps import ALL, OF_ITS_USERS, Caps
from control_plane.nodes import UNASKED, Cause, NodeId
from control_plane.usage import Meter, Use
from control_plane.warm_hours import WarmHours
from control_plane.world import World
from gpu_node.protocol import NodeState
from tests.memory import FakeClock
from tests.memory_books import MemoryUsage
from tests.unit.planning import MODEL, NAME, NOW, actions, node, wish

ANN, BOB = Cause("ann@example.com", "k1"), Cause("bob@example.com", "k2")
ID = NodeId("i-1")
SCOPES = ["user:ann@example.com", "key:k1"]


def spent(micro_usd: int, scope: str) -> Budgets:
    return Budgets(limits={scope: Limit(scope, 10_000_000, 12_000_000)}, spent={scope: micro_usd})


KEPT_AWAKE = wish(by=BOB.owner, hold_until=0.0, keep_awake_until=NOW + 60)
WARM = replace(MODEL, warm_hours=(WarmHours("* * * * *", 5),))


def drained(*, cause: Cause = ANN, scope: str = SCOPES[0], micro_usd: int = 12_000_000, **world: Any) -> str:
    """Why a node that was used a moment ago drains; empty where it does not."""
    changes = {name: world.pop(name) for name in ("running", "last_request_at") if name in world}
    one = node(world.pop("state", NodeState.READY), cause=cause, **{"last_request_at": NOW - 10, **changes})
    found = actions(one, budgets=spent(micro_usd, scope), **world)
    return next((action.reason for action in found if isinstance(action, Drain)), "")


def used(*causes: Cause) -> Mapping[str, Any]:
    return {"in_flight": {ID: len(causes)}, "users": {ID: frozenset(causes)}}


@pytest.mark.parametrize("scope", SCOPES)
def test_what_a_person_or_a_key_beyond_its_cap_wants_alone_drains(scope: str) -> None:
    assert drained(scope=scope) == OF_ITS_USERS  # idle, at its cost
    assert drained(scope=scope, cause=BOB, **used(ANN)) == OF_ITS_USERS
    asked = {NAME: wish(by=ANN.owner, key=ANN.key)}
    assert drained(scope=scope, cause=BOB, wishes=asked) == OF_ITS_USERS
    assert drained(scope=scope, state=NodeState.BOOTING, wishes=asked) == OF_ITS_USERS


@pytest.mark.parametrize("micro_usd", [8_000_000, 10_000_000, 11_999_999])
def test_below_the_cap_what_runs_is_used_on(micro_usd: int) -> None:
    assert drained(micro_usd=micro_usd) == drained(micro_usd=micro_usd, **used(ANN)) == ""


@pytest.mark.parametrize(
    "wanted",
    [
        {"cause": BOB},
        {"cause": UNASKED},
        used(BOB),
        used(ANN, BOB),
        {"wishes": {NAME: wish(by=BOB.owner, key=BOB.key)}},
        {"wishes": {NAME: KEPT_AWAKE}, "cause": BOB},
        {"models": {NAME: WARM}, "cause": UNASKED},
        {"models": {NAME: WARM}, **used(BOB)},
        {"waiters": {NAME: 1}},
    ],
    ids=["caused", "nobody's", "used", "shared", "wished", "kept awake", "warm hours", "warm and used", "waited for"],
)
def test_what_somebody_else_wants_stays(wanted: Mapping[str, Any]) -> None:
    assert drained(**wanted) == ""


def test_nobodys_keep_awake_is_paid_by_another_beyond_that_ones_cap() -> None:
    assert drained(wishes={NAME: KEPT_AWAKE}) == OF_ITS_USERS
    assert drained(wishes={NAME: KEPT_AWAKE}, micro_usd=11_999_999) == ""


def test_warm_hours_are_on_nobodys_account_beyond_the_cap_of_who_woke_the_model_before_them() -> None:
    warm = {NAME: WARM}
    assert drained(models=warm) == OF_ITS_USERS
    leaving = node(NodeState.DRAINING, cause=ANN, draining_since=NOW)
    found = actions(leaving, models=warm, budgets=spent(12_000_000, SCOPES[0]))
    assert [action for action in found if isinstance(action, Start)] == [Start(NAME, UNASKED)]


def test_where_another_task_serves_somebody_whom_we_do_not_know_it_stays() -> None:
    assert drained(running=1) == ""
    assert drained(running=2, **used(ANN)) == ""
    assert drained(in_flight={ID: 1}) == ""


def test_another_model_s_node_is_none_of_it() -> None:
    other = replace(MODEL, name="org/other")
    mine, others = node(cause=ANN), replace(node(name="i-2", cause=BOB), model=other.name)
    found = actions(mine, others, models={NAME: MODEL, other.name: other}, budgets=spent(12_000_000, SCOPES[0]))
    assert found == [Drain(mine, OF_ITS_USERS)]


def test_nothing_is_started_in_its_place() -> None:
    found = actions(
        node(cause=ANN), wishes={NAME: wish(by=ANN.owner, key=ANN.key)}, budgets=spent(12_000_000, SCOPES[0])
    )
    assert [type(action) for action in found] == [Drain, Fulfil]
    draining = node(NodeState.DRAINING, cause=ANN)
    again = actions(
        draining, wishes={NAME: wish(by=ANN.owner, key=ANN.key)}, budgets=spent(12_000_000, SCOPES[0]), **used(ANN)
    )
    assert [type(action) for action in again] == [Fulfil]


def test_a_start_on_speculation_beyond_its_cap_drains_unless_somebody_used_it() -> None:
    picked = replace(ANN, speculative=True)
    assert drained(cause=picked, scope="speculative", last_request_at=0.0) == OF_ITS_USERS
    assert drained(cause=picked, scope="speculative") == ""


def test_the_deployments_cap_ends_everything_whoever_wants_it() -> None:
    assert drained(scope="deployment", cause=BOB, waiters={NAME: 1}, **used(BOB)) == ALL


def test_while_nobody_knows_what_was_spent_no_cap_is_reached() -> None:
    assert Caps(World({NAME: MODEL}, budgets=None), NOW).reason(node(cause=ANN)) == ""


_PEOPLE = st.sets(st.sampled_from([ANN, BOB, Cause("cy@example.com", "k3"), Cause("ann@example.com", "k9")]))


@given(_PEOPLE, st.sampled_from([ANN, BOB, UNASKED]), st.sets(st.sampled_from([*SCOPES, "user:bob@example.com"])))
def test_no_cap_ends_what_somebody_below_all_caps_uses(users: set[Cause], cause: Cause, capped: set[str]) -> None:
    budgets = Budgets(limits={scope: Limit(scope, 1, 1) for scope in capped}, spent=dict.fromkeys(capped, 1))
    world = World({NAME: MODEL}, budgets=budgets, in_flight={ID: len(users)}, users={ID: frozenset(users)})
    wanting = users or {cause}
    ended = Caps(world, NOW).reason(node(cause=cause, last_request_at=NOW)) != ""
    assert ended == all({f"user:{one.owner}", f"key:{one.key}"} & capped for one in wanting)


async def test_the_meter_knows_who_uses_what_right_now() -> None:
    meter = Meter(MemoryUsage(), clock=FakeClock(), writer="w")
    uses = [Use(one.owner, one.key, NAME, "i-1") for one in (ANN, BOB)]
    with meter.timed(uses[0]), meter.timed(uses[0]):
        with meter.timed(uses[1]):
            assert meter.users() == {ID: frozenset({ANN, BOB})}
        await meter.flush()
        assert meter.users() == {ID: frozenset({ANN})}
    assert meter.users() == {}
