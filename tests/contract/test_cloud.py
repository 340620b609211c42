"""The promises of Cloud."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from control_plane.errors import LaunchMisconfigured, LaunchRefused, NoCapacity, QuotaExceeded
from control_plane.nodes import NodeId
from control_plane.ports import Group, Launch
from tests.contract.groups import MODEL, ZONES, GroupsUnderTest


def launch(group: str, call: str = "call-1", zone: str = ZONES[0]) -> Launch:
    return Launch(f"{group}-{call}", MODEL, group, zone, "on-demand", 1_795_000_000.0)


async def only(groups: GroupsUnderTest) -> Group:
    (group,) = await groups.cloud.groups()
    return group


async def test_groups_are_ours_and_say_what_they_are_for(groups: GroupsUnderTest) -> None:
    groups.add_foreign()
    names = {groups.add(market="on-demand"), groups.add(market="spot")}
    found = await groups.cloud.groups()
    assert {group.name for group in found} == names
    assert {(group.model, group.market) for group in found} == {(MODEL, "on-demand"), (MODEL, "spot")}
    assert all((tuple(sorted(g.zones)), g.max_size, g.desired, g.instances) == (ZONES, 2, 0, ()) for g in found)


@pytest.mark.parametrize("zone", ZONES)
async def test_a_launch_is_one_instance_in_the_zone_that_was_asked(groups: GroupsUnderTest, zone: str) -> None:
    name = groups.add()
    instance = await groups.cloud.launch(launch(name, zone=zone))
    assert (instance.zone, instance.instance_type, instance.alive) == (zone, "g6.xlarge", True)
    group = await only(groups)
    assert (group.desired, list(group.instances)) == (1, [instance])


async def test_the_same_token_never_launches_twice(groups: GroupsUnderTest) -> None:
    name = groups.add()
    calls = [groups.cloud.launch(launch(name)) for _ in range(5)]
    assert len({instance.id for instance in await asyncio.gather(*calls)}) == 1
    assert (await only(groups)).desired == 1


async def test_another_token_is_another_instance(groups: GroupsUnderTest) -> None:
    name = groups.add()
    first = await groups.cloud.launch(launch(name))
    second = await groups.cloud.launch(launch(name, "call-2"))
    assert {told.id for told in (await only(groups)).instances} == {first.id, second.id}


@pytest.mark.parametrize(
    ("word", "kind"),
    [("capacity", NoCapacity), ("quota", QuotaExceeded), ("misconfigured", LaunchMisconfigured)],
)
async def test_a_refusal_says_why_and_leaves_nothing_behind(
    groups: GroupsUnderTest, word: str, kind: type[LaunchRefused]
) -> None:
    name = groups.add()
    groups.refuse(name, ZONES[0], word)
    with pytest.raises(kind) as refusal:
        await groups.cloud.launch(launch(name))
    assert refusal.value.code
    group = await only(groups)
    assert (group.desired, group.instances) == (0, ())


async def test_what_one_zone_refuses_another_may_give(groups: GroupsUnderTest) -> None:
    name = groups.add()
    groups.refuse(name, ZONES[0], "capacity")
    with pytest.raises(NoCapacity):
        await groups.cloud.launch(launch(name))
    assert (await groups.cloud.launch(launch(name, "call-2", ZONES[1]))).zone == ZONES[1]


async def test_a_full_group_is_a_mistake_of_configuration(groups: GroupsUnderTest) -> None:
    name = groups.add(max_size=1)
    await groups.cloud.launch(launch(name))
    with pytest.raises(LaunchMisconfigured):
        await groups.cloud.launch(launch(name, "call-2"))
    assert (await only(groups)).desired == 1


async def test_a_group_that_does_not_exist_is_a_mistake_of_configuration(groups: GroupsUnderTest) -> None:
    with pytest.raises(LaunchMisconfigured):
        await groups.cloud.launch(launch("nowhere"))


async def test_a_terminated_instance_is_not_replaced(groups: GroupsUnderTest) -> None:
    instance = await groups.cloud.launch(launch(groups.add()))
    await groups.cloud.terminate(instance.id)
    group = await only(groups)
    assert (group.desired, [told for told in group.instances if told.alive]) == (0, [])


async def test_terminating_what_is_gone_is_no_error(groups: GroupsUnderTest) -> None:
    name = groups.add()
    instance = await groups.cloud.launch(launch(name))
    await groups.cloud.launch(launch(name, "call-2"))
    for gone in (instance.id, instance.id, NodeId("i-00000000000000000")):
        await groups.cloud.terminate(gone)
    assert (await only(groups)).desired == 1


# -- groups that hold what they take out


async def test_a_group_with_the_hook_holds_a_terminated_instance_until_it_is_released(groups: GroupsUnderTest) -> None:
    name = groups.add(holds=True)
    instance = await groups.cloud.launch(launch(name))
    await groups.cloud.terminate(instance.id)
    group = await only(groups)
    assert (group.desired, group.instances) == (0, (replace(instance, alive=False, leaving=True, held=True),))
    await groups.cloud.release(instance.id, name)
    assert (await only(groups)).instances == ()


async def test_a_held_instance_counts_no_more(groups: GroupsUnderTest) -> None:
    name = groups.add(max_size=1, holds=True)
    old = await groups.cloud.launch(launch(name))
    await groups.cloud.terminate(old.id)
    new = await groups.cloud.launch(launch(name, "call-2"))
    await groups.cloud.release(old.id, name)
    group = await only(groups)
    assert (group.desired, group.instances) == (1, (new,))


async def test_a_group_that_shall_have_none_holds_those_it_has(groups: GroupsUnderTest) -> None:
    name = groups.add(holds=True)
    instances = [await groups.cloud.launch(launch(name, f"call-{number}")) for number in range(2)]
    groups.close(name)
    group = await only(groups)
    assert (group.max_size, group.desired) == (0, 0)
    assert [(told.alive, told.leaving, told.held) for told in group.instances] == [(False, True, True)] * 2
    for instance in instances:
        await groups.cloud.terminate(instance.id)  # AWS refuses: it has none to take away any more
        await groups.cloud.release(instance.id, name)
    assert (await only(groups)).instances == ()


async def test_a_group_that_shall_have_none_gives_none(groups: GroupsUnderTest) -> None:
    name = groups.add(holds=True)
    groups.close(name)
    with pytest.raises(LaunchMisconfigured):
        await groups.cloud.launch(launch(name))


async def test_releasing_what_is_not_held_changes_nothing(groups: GroupsUnderTest) -> None:
    name = groups.add(holds=True)
    instance = await groups.cloud.launch(launch(name))
    await groups.cloud.release(instance.id, name)
    await groups.cloud.release(NodeId("i-00000000000000000"), name)
    await groups.cloud.release(instance.id, "nowhere")
    assert (await only(groups)).instances == (instance,)


async def test_releasing_twice_is_no_error(groups: GroupsUnderTest) -> None:
    name = groups.add(holds=True)
    instance = await groups.cloud.launch(launch(name))
    await groups.cloud.terminate(instance.id)
    for _ in range(2):
        await groups.cloud.release(instance.id, name)
    assert (await only(groups)).instances == ()
