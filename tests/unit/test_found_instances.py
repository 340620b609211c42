"""Instances that no row knows: on whose account they are."""

from __future__ import annotations

from control_plane.actions import Abandon, Adopt
from control_plane.nodes import Cause
from control_plane.ports import Launch
from tests.unit.planning import NAME, NOW, actions, group, instance


def test_an_instance_that_is_found_is_on_the_account_of_the_launch_that_it_may_be_of() -> None:
    found, elsewhere = instance(), instance("i-2", zone="b")
    here = group(found, elsewhere)
    launch = Launch("t", NAME, here.name, "a", "on-demand", NOW - 700, cause=Cause("ann@example.com", "k"))
    assert actions(groups=[here], launches=[launch]) == [
        Abandon(launch),
        Adopt(here, found, launch.cause),
        Adopt(here, elsewhere),
    ]
