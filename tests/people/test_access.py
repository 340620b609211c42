"""The table of who may call what is whole, and it is obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from control_plane.app import ControlPlane
from control_plane.dialect import DIALECTS
from control_plane.routes.access import ACCESS, PUBLIC, Who
from tests.people.doors import Browser, Front, opened

EXAMPLES = {"name:path": "org/model", "email": "bob@example.com", "key_id": "0123456789abcdef"}


def walked(router: Any) -> Iterator[Any]:
    """All routes below, through routers that were included."""
    for route in router.routes:
        if hasattr(route, "path"):
            yield route
        else:
            yield from walked(route.original_router)


def served() -> set[str]:
    """Every route that is reachable, as method and path."""
    with opened("task") as front:

        async def routes() -> set[str]:
            plane = ControlPlane(front.deployment.settings, front.deployment.outside, clock=front.clock)
            app: Any = plane.management._app
            return {f"{method} {route.path}" for route in walked(app) for method in route.methods if method != "HEAD"}

        return {*front.run(routes()), *(f"POST {path}" for path in DIALECTS)}


def test_every_route_is_in_the_table_and_none_but_those() -> None:
    assert served() == set(ACCESS)


def test_what_anybody_may_call_has_no_parameters() -> None:
    assert not [route for route in PUBLIC if "{" in route]


def concrete(route: str) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    return method, re.sub(r"\{([^}]*)\}", lambda found: EXAMPLES.get(found[1], "any"), path)


@pytest.mark.parametrize("route", sorted(set(ACCESS) - PUBLIC))
def test_a_stranger_is_turned_away_everywhere_else(front: Front, route: str) -> None:
    method, path = concrete(route)
    assert front.ask(method, path).status == 401
    assert front.nothing_happened


@pytest.mark.parametrize("route", sorted(route for route, who in ACCESS.items() if who is Who.OWNER))
def test_who_is_no_owner_is_turned_away_from_what_is_an_owners(front: Front, route: str) -> None:
    bob = Browser(front)
    bob.sign_in(email="bob@example.com")
    method, path = concrete(route)
    assert bob.ask(method, path, x_diogenes_csrf="1").error == (403, "owner_only")


@pytest.mark.parametrize("route", sorted(PUBLIC))
def test_anybody_may_call_what_is_for_anybody(front: Front, route: str) -> None:
    method, path = concrete(route)
    assert front.ask(method, path, body={} if method == "POST" else None).status in (200, 400)
    assert front.nothing_happened
