"""What the hub says of a model's shape: asked once, kept for a while, and never waited for in vain."""

from __future__ import annotations

import asyncio
from typing import Any

from control_plane.geometry import Geometry, Unread
from control_plane.hub import Access, Reading
from control_plane.model import Model
from control_plane.shapes import MAX_KNOWN, READ_S, SILENT_S, Shapes
from tests.unit.test_geometry import LLAMA_8B, NUMBERS

MODEL = Model.parse({"name": "org/model", "instanceTypes": ["g6.xlarge"]})
BY_HAND = Model.parse({"name": "org/model", "instanceTypes": ["g6.xlarge"], "geometry": NUMBERS})


class Asked:
    """A hub, and its clock."""

    def __init__(self, *answers: Reading) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.shapes = Shapes(self, clock=lambda: self.now)

    async def __call__(self, repository: str, revision: str | None) -> Reading:
        return self.answers.pop(0)


def read(**config: Any) -> Reading:
    return Reading(Access.READ, "", config=config)


async def test_a_shape_is_asked_for_once_an_hour() -> None:
    hub = Asked(read(**LLAMA_8B), read(**LLAMA_8B, extra=1))
    for hub.now in (0.0, READ_S - 1, READ_S + 1):
        assert isinstance(await hub.shapes.of(MODEL), Geometry)
    assert hub.answers == []


async def test_a_silent_hub_is_asked_again_soon_and_what_was_given_by_hand_holds() -> None:
    silent = Reading(Access.UNREACHABLE, "the hub could not be reached")
    hub = Asked(silent, read(**LLAMA_8B))
    assert await hub.shapes.of(MODEL) == Unread("the hub could not be reached", asked=True)
    assert await hub.shapes.of(BY_HAND) == Geometry.of_numbers(NUMBERS)
    hub.now = SILENT_S + 1
    assert isinstance(await hub.shapes.of(MODEL), Geometry)


async def test_whoever_names_one_repository_after_another_fills_no_memory() -> None:
    hub = Asked(*[read(**LLAMA_8B)] * (2 * MAX_KNOWN))
    for number in range(2 * MAX_KNOWN):
        await hub.shapes.of(Model.parse({"name": f"org/model-{number}", "instanceTypes": ["g6.xlarge"]}))
        assert len(hub.shapes._known) <= MAX_KNOWN


async def test_a_family_that_nobody_knows_is_named() -> None:
    told = await Asked(read(model_type="mamba")).shapes.of(MODEL)
    assert isinstance(told, Unread)
    assert "(mamba)" in told.reason


async def test_a_hub_that_never_answers_is_given_up() -> None:
    async def never(repository: str, revision: str | None) -> Reading:
        await asyncio.sleep(3600)
        raise AssertionError

    shapes = Shapes(never, clock=lambda: 0.0, deadline_s=0.01)
    assert await shapes.of(MODEL) == Unread("the hub does not answer", asked=True)


async def test_where_nobody_asks_the_hub_the_numbers_by_hand_hold() -> None:
    shapes = Shapes(None, clock=lambda: 0.0)
    assert await shapes.of(MODEL) == Unread("the hub is not asked here", asked=False)
    assert isinstance(await shapes.of(BY_HAND), Geometry)
