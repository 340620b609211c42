"""What the hub says of a repository decides a launch; what it does not say decides none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from control_plane.hub import Access, Hub, Reading
from control_plane.hub_access import HubAccess
from control_plane.model import Model
from control_plane.repositories import READABLE_S, REFUSED_S, SILENT_S, Repositories, unasked
from tests.memory import FakeClock

MODEL = Model.parse({"name": "tiny", "repository": "org/tiny", "revision": "v2", "instanceTypes": ["g5.xlarge"]})
OTHER = Model.parse({"name": "org/other", "instanceTypes": ["g5.xlarge"]})


class Asked:
    """A hub that says what a test told it, and counts."""

    def __init__(self, **access: Access) -> None:
        self.access: Mapping[str, Access] = access
        self.questions: list[tuple[str, str | None]] = []

    async def __call__(self, repository: str, revision: str | None) -> Reading:
        self.questions.append((repository, revision))
        return Reading(self.access.get(repository.rpartition("/")[2], Access.READ), "told")


@pytest.mark.parametrize(
    ("access", "code", "fix"),
    [
        (Access.GATED, "gated_model", "Accept its terms on https://huggingface.co/org/tiny"),
        (Access.MISSING, "model_not_found_on_hub", "Correct the model's `repository`"),
    ],
)
async def test_a_repository_that_cannot_be_read_is_told_apart_with_what_to_do(
    access: Access, code: str, fix: str
) -> None:
    asked = Asked(tiny=access)
    failure = await Repositories(asked, clock=FakeClock()).trouble(MODEL)
    assert failure is not None
    assert (failure.code, failure.permanent) == (code, True)
    assert "org/tiny at revision v2" in failure.message
    assert failure.fix.startswith(fix)
    assert asked.questions == [("org/tiny", "v2")]


async def test_an_answer_is_kept_for_as_long_as_it_is_likely_to_hold() -> None:
    clock, asked = FakeClock(), Asked(tiny=Access.GATED)
    repositories = Repositories(asked, clock=clock)
    first = await repositories.trouble(MODEL)
    assert await repositories.trouble(MODEL) is first
    assert len(asked.questions) == 1
    clock.now += REFUSED_S + 1
    asked.access = {}
    assert await repositories.trouble(MODEL) is None
    clock.now += READABLE_S - 1
    assert await repositories.trouble(MODEL) is None
    assert len(asked.questions) == 2
    clock.now += 2
    await repositories.trouble(MODEL)
    assert len(asked.questions) == 3


async def test_a_hub_that_cannot_be_reached_stops_nothing_and_is_left_alone_for_a_while() -> None:
    clock, asked = FakeClock(), Asked(tiny=Access.UNREACHABLE, other=Access.GATED)
    repositories = Repositories(asked, clock=clock)
    assert await repositories.trouble(MODEL) is None
    assert await repositories.trouble(OTHER) is None
    assert asked.questions == [("org/tiny", "v2")]
    clock.now += SILENT_S + 1
    failure = await repositories.trouble(OTHER)
    assert failure is not None
    assert failure.code == "gated_model"


async def test_a_hub_that_does_not_answer_is_not_waited_for() -> None:
    async def silent(repository: str, revision: str | None) -> Reading:
        await asyncio.Event().wait()
        raise AssertionError

    repositories = Repositories(silent, clock=FakeClock(), deadline_s=0.01)
    assert await repositories.trouble(MODEL) is None
    assert await unasked(MODEL) is None


# -- with the token of the nodes ---------------------------------------------------------------------------------------


class Parameters:
    """A session, and its client of SSM, as far as they are asked."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.opened = 0
        self.asked = 0

    def client(self, service_name: str, **_: object) -> Parameters:
        assert service_name == "ssm"
        self.opened += 1
        return self

    async def __aenter__(self) -> Parameters:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def get_parameter(self, **_: Any) -> Mapping[str, Any]:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"Parameter": {"Value": self.answer}}


class _Seen(Hub):
    """Says with which token it was asked."""

    def access(self, repository: str, revision: str | None = None) -> Reading:
        return Reading(Access.READ, str(self.token))

    def read(self, repository: str, revision: str | None = None) -> Reading:
        return Reading(Access.READ, f"{repository}@{revision} with {self.token}")


async def test_the_hub_is_asked_with_the_nodes_token_which_is_read_once() -> None:
    parameters = Parameters("hf_secret")
    access = HubAccess(_Seen(), token_parameter="/p/hf-token", session=parameters)
    async with access:
        for _ in range(2):
            assert (await access("org/tiny", None)).told == "hf_secret"
    assert parameters.asked == 1


async def test_what_is_in_a_repository_is_read_with_the_same_token() -> None:
    parameters = Parameters("hf_secret")
    async with HubAccess(_Seen(), token_parameter="/p/t", session=parameters) as access:
        assert (await access.read("org/tiny", "v1")).told == "org/tiny@v1 with hf_secret"
        assert (await access("org/tiny", None)).told == "hf_secret"
    assert parameters.asked == 1
    async with HubAccess(_Seen(offline=True), token_parameter="") as access:
        assert (await access.read("org/tiny", None)).access is Access.UNREACHABLE


async def test_a_token_that_cannot_be_read_makes_no_repository_gated() -> None:
    parameters = Parameters(TimeoutError())
    async with HubAccess(_Seen(), token_parameter="/p/t", session=parameters) as access:
        assert (await access("org/tiny", None)).access is Access.UNREACHABLE
        parameters.answer = "hf_later"
        assert (await access("org/tiny", None)).told == "hf_later"


async def test_however_often_the_token_cannot_be_read_one_client_asks() -> None:
    parameters = Parameters(TimeoutError())
    async with HubAccess(_Seen(), token_parameter="/p/t", session=parameters) as access:
        for _ in range(3):
            assert (await access("org/tiny", None)).access is Access.UNREACHABLE
    assert (parameters.asked, parameters.opened) == (3, 1)


async def test_without_a_configured_token_none_is_asked_for() -> None:
    async with HubAccess(_Seen(), token_parameter="") as access:
        assert (await access("org/tiny", None)).told == "None"
    async with HubAccess(_Seen(offline=True), token_parameter="") as access:
        assert (await access("org/tiny", None)).access is Access.UNREACHABLE
