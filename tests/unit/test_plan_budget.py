"""Budgets in the plan: what is begun fits below the limit, however many ask at once; what runs ends at the cap."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.actions import Drain, Fulfil, Refuse, Start
from control_plane.books import Limit
from control_plane.budget import BOOT_GUESS_S, DEPLOYMENT, Budgets, BudgetState, Standing, start_cost
from control_plane.ledger import cost, running
from control_plane.model import Model
from control_plane.nodes import Cause, Node, NodeId
from control_plane.plan import plan
from control_plane.policy import Policy
from control_plane.ports import ModelRow, Wish
from control_plane.rates import Sizes, node_rate
from control_plane.warm_hours import WarmHours
from control_plane.world import World
from gpu_node.protocol import NodeState
from tests.unit.planning import MODEL, NAME, NOW, actions, kinds, node, wish

SIZES = Sizes()
RATE = node_rate("g5.xlarge", SIZES)
START = start_cost(MODEL, None, SIZES)
TICK_S = 5.0


def budgets(spent: int = 0, limit: int = 10_000_000, cap: int = 12_000_000, scope: str = DEPLOYMENT) -> Budgets:
    return Budgets(limits={scope: Limit(scope, limit, cap)}, spent={scope: spent})


def test_a_start_counts_its_boot_and_its_idle_time() -> None:
    seconds = BOOT_GUESS_S + MODEL.idle_timeout_s
    assert RATE.at_launch + RATE.per_hour * round(seconds) // 3600 == START
    assert kinds(wishes={NAME: wish()}, budgets=budgets(10_000_000 - START)) == [Start]
    assert kinds(wishes={NAME: wish()}, budgets=budgets(10_000_001 - START)) == [Fulfil]


def test_a_start_that_is_slower_than_believed_is_counted_until_it_has_idled_out_from_now_on() -> None:
    slow = node(NodeState.BOOTING, launched_at=NOW - 1100, heartbeat_at=NOW, micro_usd_per_hour=RATE.per_hour)
    ahead = round(MODEL.idle_timeout_s * RATE.per_hour / 3600)
    model = {NAME: replace(MODEL, max_instances=2)}
    for left, begun in ((START + ahead, [Start]), (START + ahead - 1, [Fulfil])):
        found = kinds(slow, models=model, wishes={NAME: wish(desired=2)}, budgets=budgets(10_000_000 - left))
        assert [kind for kind in found if kind in (Start, Fulfil)] == begun


def test_who_waits_for_what_the_budget_forbids_is_told_so() -> None:
    (refuse,) = actions(wishes={NAME: wish()}, waiters={NAME: 1}, budgets=budgets(9_999_999))
    assert isinstance(refuse, Refuse)
    assert refuse.failure.code == "budget_exceeded"
    assert refuse.failure.permanent


def test_nothing_is_begun_while_nobody_knows_what_was_spent() -> None:
    assert kinds(wishes={NAME: wish()}, waiters={NAME: 1}, budgets=None) == []


@pytest.mark.parametrize("scope", ["user:ann@example.com", "key:k1", "speculative"])
def test_the_budget_of_who_asks_counts_as_well(scope: str) -> None:
    asked = wish(key="k1", speculative=True)
    assert kinds(wishes={NAME: asked}, budgets=budgets(9_999_999, scope=scope)) == [Fulfil]
    others = replace(asked, by="bob@example.com", key="k2", speculative=False)
    assert kinds(wishes={NAME: others}, budgets=budgets(9_999_999, scope=scope)) == [Start]


def test_beyond_the_cap_everything_drains() -> None:
    for state in (NodeState.BOOTING, NodeState.READY):
        (drain,) = actions(node(state), wishes={NAME: wish(desired=2)}, budgets=budgets(12_000_000))
        assert isinstance(drain, Drain)
        assert "hard cap" in drain.reason


def test_beyond_the_limit_what_runs_is_used_on_and_kept_awake_no_longer() -> None:
    kept = wish(hold_until=0.0, keep_awake_until=NOW + 3600)
    idle = node(NodeState.READY, ready_at=NOW - 400, last_request_at=NOW - 400)
    assert kinds(idle, wishes={NAME: kept}, budgets=budgets()) == []
    assert kinds(idle, wishes={NAME: kept}, budgets=budgets(10_000_000)) == [Drain, Fulfil]
    assert kinds(node(NodeState.READY), in_flight={NodeId("i-1"): 1}, budgets=budgets(10_000_000)) == []


def test_warm_hours_want_a_node_and_keep_it() -> None:
    warm = replace(MODEL, warm_hours=(WarmHours("* * * * *", 5),))
    idle = node(NodeState.READY, ready_at=NOW - 4000, last_request_at=NOW - 4000)
    (start,) = actions(models={NAME: warm})
    assert start == Start(NAME, Cause())
    assert kinds(idle, models={NAME: warm}) == []
    assert kinds(models={NAME: warm}, budgets=budgets(9_999_999)) == []


@pytest.mark.parametrize(
    ("spent", "state"),
    [(0, "ok"), (7_999_999, "ok"), (8_000_000, "warn"), (10_000_000, "exhausted"), (12_000_000, "capped")],
)
def test_a_budget_warns_ends_starts_and_ends_everything(spent: int, state: str) -> None:
    assert Standing(Limit(DEPLOYMENT, 10_000_000, 12_000_000), spent).state is BudgetState(state)


@settings(max_examples=40)
@given(
    st.integers(1, 8),
    st.integers(0, 5_000_000),
    st.lists(st.floats(0, 600), min_size=8, max_size=8),
    st.lists(st.floats(60, BOOT_GUESS_S), min_size=8, max_size=8),
)
def test_wakes_at_the_same_time_overshoot_by_a_minute_of_the_fleet_at_most(
    count: int, limit: int, asked_at: list[float], boots: list[float]
) -> None:
    """Everybody wakes a model of their own; each asks nothing more, and idles out."""
    names = [f"org/m{number}" for number in range(count)]
    models = {name: Model.parse({"name": name, "instanceTypes": ["g5.xlarge"], "idleTimeout": 60}) for name in names}
    nodes: dict[NodeId, Node] = {}
    gone, most, now = 0, 0, NOW
    while now < NOW + 1500:
        for name, boot_s in zip(names, boots, strict=False):
            for one in [one for one in nodes.values() if one.model == name and one.state is NodeState.BOOTING]:
                if now >= one.launched_at + boot_s:
                    nodes[one.id] = replace(one, state=NodeState.READY, ready_at=now)
        spent = gone + sum(cost(running(one, now)) for one in nodes.values())
        wishes = {
            name: Wish(name, 1, NOW + since + 120, f"{name}@example.com", NOW + since, version=1)
            for name, since in zip(names, asked_at, strict=False)
            if since <= now - NOW < since + 20 or any(one.model == name for one in nodes.values())
        }
        wishes = {name: each for name, each in wishes.items() if each.hold_until > now}
        nodes = {id_: replace(one, heartbeat_at=now) for id_, one in nodes.items()}
        world = World(
            models=models, history={name: ModelRow(name, {}) for name in names}, wishes=wishes,
            nodes=list(nodes.values()), waiters={name: 1 for name in wishes if not _ready(nodes, name)},
            budgets=Budgets(limits={DEPLOYMENT: Limit(DEPLOYMENT, limit, limit * 2)}, spent={DEPLOYMENT: spent}),
        )  # fmt: skip
        for action in plan(world, now, Policy()):
            if isinstance(action, Start):
                id_ = NodeId(f"i-{len(nodes)}-{now}")
                nodes[id_] = Node(
                    id_, action.model, NodeState.BOOTING, "g", "a", "g5.xlarge", "on-demand",
                    now, now + 300, heartbeat_at=now, cause=action.cause,
                    micro_usd_per_hour=RATE.per_hour, launch_micro_usd=RATE.at_launch,
                )  # fmt: skip
            elif isinstance(action, Drain):
                gone += cost(running(nodes.pop(action.node.id), now))
        most = max(most, len(nodes))
        now += TICK_S
    whole = gone + sum(cost(running(one, now)) for one in nodes.values())
    assert whole <= limit + most * RATE.per_hour // 60


def _ready(nodes: dict[NodeId, Node], name: str) -> bool:
    return any(one.model == name and one.state is NodeState.READY for one in nodes.values())
