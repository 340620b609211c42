"""A task learns that the load balancer takes it out: its address, and since when."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from control_plane.departure import METADATA, TRIES, Departure, own_address
from control_plane.ports import Stage

OURS, THEIRS = "10.0.0.8", "10.0.0.9"


NOTHING = Stage(desired=1, healthy=False, facing_control_plane=True)
STANDS = replace(NOTHING, healthy=True, standing=frozenset({OURS}))
DRAINS = replace(NOTHING, draining=frozenset({OURS}))
TAKEN_BACK = 0.0


def seen(*looks: Stage, address: str = OURS) -> list[float]:
    """When it may have begun, by looks that are five seconds apart, and 0 where that was taken back."""
    heard = list[float]()
    departure = Departure(address, heard.append, lambda: heard.append(TAKEN_BACK))
    for number, look in enumerate(looks):
        departure.saw(look, 100.0 + 5 * number)
    return heard


def test_it_may_have_begun_right_after_the_last_look_that_found_it_in_its_place() -> None:
    assert seen(STANDS, STANDS, DRAINS) == [105.0]
    assert seen(STANDS, NOTHING, DRAINS) == [100.0]


def test_it_is_told_once() -> None:
    assert seen(STANDS, DRAINS, DRAINS, NOTHING, DRAINS) == [100.0]


def test_a_task_that_is_on_its_way_out_at_its_first_look_takes_that_for_the_beginning() -> None:
    assert seen(DRAINS, DRAINS) == [100.0]


def test_what_drained_before_a_task_stood_in_its_place_was_anothers_at_its_address() -> None:
    assert seen(DRAINS, NOTHING, STANDS, STANDS) == [100.0, TAKEN_BACK]
    assert seen(DRAINS, STANDS, DRAINS) == [100.0, TAKEN_BACK, 105.0]


def test_who_stands_again_does_not_go_and_may_go_another_time() -> None:
    assert seen(STANDS, DRAINS, DRAINS, STANDS, STANDS, DRAINS) == [100.0, TAKEN_BACK, 120.0]


def test_another_task_that_goes_is_not_this_one() -> None:
    theirs = replace(STANDS, draining=frozenset({THEIRS}))
    assert seen(theirs, theirs) == []


def test_who_does_not_know_its_address_never_finds_itself() -> None:
    unknown = frozenset({""})
    assert seen(replace(NOTHING, standing=unknown), replace(NOTHING, draining=unknown), address="") == []


# -- its address


class Metadata:
    """ECS's endpoint within a task: what it tells of the container."""

    def __init__(self, *answers: web.Response) -> None:
        self.answers = list(answers)
        self.asked = list[str]()

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request.path)
        return self.answers.pop(0)


def container() -> web.Response:
    network = {"NetworkMode": "awsvpc", "IPv4Addresses": [OURS], "IPv4SubnetCIDRBlock": "10.0.0.0/24"}
    return web.json_response(
        {"DockerId": "c1-2", "Name": "control-plane", "KnownStatus": "RUNNING", "Networks": [network]}
    )


async def told(metadata: Metadata, *, host: str = "0.0.0.0") -> str:  # noqa: S104
    async with RawTestServer(metadata) as server, aiohttp.ClientSession() as http:
        return await own_address(http, host, {METADATA: str(server.make_url("/v4/c1-2"))})


async def test_ecs_tells_a_task_its_address() -> None:
    metadata = Metadata(container())
    assert await told(metadata) == OURS
    assert metadata.asked == ["/v4/c1-2"]


async def test_who_listens_on_one_address_asks_nobody() -> None:
    metadata = Metadata()
    assert await told(metadata, host="127.21.1.2") == "127.21.1.2"
    assert metadata.asked == []


async def test_outside_of_ecs_nobody_is_asked() -> None:
    async with aiohttp.ClientSession() as http:
        assert await own_address(http, "0.0.0.0", {}) == ""  # noqa: S104


@pytest.mark.parametrize("answer", [{"Networks": []}, {"Networks": None}, {}, []])
async def test_what_is_not_understood_costs_no_start(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.departure.PAUSE_S", 0.0)
    metadata = Metadata(*(web.json_response(answer) for _ in range(TRIES)))
    assert await told(metadata) == ""
    assert len(metadata.asked) == TRIES


async def test_an_endpoint_that_comes_late_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.departure.PAUSE_S", 0.0)
    assert await told(Metadata(web.Response(status=500), web.Response(text="<html>"), container())) == OURS
