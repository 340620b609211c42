"""One client, made when it is first needed and closed with its owner; whatever is wrong with it is Unavailable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiobotocore.config import AioConfig
from aiohttp import ClientConnectionError
from botocore.exceptions import ClientError, NoCredentialsError, ParamValidationError

from control_plane.aws_client import AwsClient
from control_plane.errors import Unavailable

REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "arn:aws:secret"}}, "GetParameter")


class Opened:
    """Clients that were made, and those that were closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.made = 0
        self.closed = 0

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[str]:
        if self.error:
            raise self.error
        self.made += 1
        try:
            yield f"client {self.made}"
        finally:
            self.closed += 1

    def client(self, service_name: str, *, config: AioConfig) -> AbstractAsyncContextManager[str]:
        assert service_name == "ssm"
        assert config
        return self._client()


def of(opened: Opened) -> AwsClient:
    return AwsClient("ssm", connect_s=1, read_s=1, attempts=1, session=opened)


async def test_who_asks_nothing_makes_no_client_and_who_asks_again_makes_no_other() -> None:
    opened = Opened()
    async with of(opened) as asked:
        assert opened.made == 0
        for _ in range(2):
            async with asked.asking("the token") as client:
                assert client == "client 1"
        assert (opened.made, opened.closed) == (1, 0)
    assert opened.closed == 1


async def test_once_closed_it_can_be_entered_again() -> None:
    opened = Opened()
    asked = of(opened)
    for number in (1, 2):
        async with asked, asked.asking("the token") as client:
            assert client == f"client {number}"
    assert (opened.made, opened.closed) == (2, 2)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (REFUSED, "SSM refused the token: AccessDenied"),
        (NoCredentialsError(), "SSM did not answer: NoCredentialsError"),
        (ClientConnectionError("10.0.0.1"), "SSM did not answer: ClientConnectionError"),
        (TimeoutError(), "SSM did not answer: TimeoutError"),
    ],
)
async def test_what_goes_wrong_is_told_without_what_aws_said_and_the_client_stays(error: Exception, told: str) -> None:
    opened = Opened()
    async with of(opened) as asked:
        with pytest.raises(Unavailable) as caught:
            async with asked.asking("the token"):
                raise error
        assert str(caught.value) == told
        async with asked.asking("the token") as client:
            assert client == "client 1"


async def test_a_client_that_cannot_be_made_is_made_another_time() -> None:
    opened = Opened(NoCredentialsError())
    async with of(opened) as asked:
        with pytest.raises(Unavailable, match="SSM did not answer"):
            async with asked.asking("the token"):
                raise AssertionError("there is none")
        opened.error = None
        async with asked.asking("the token") as client:
            assert client == "client 1"


async def test_a_mistake_of_ours_is_not_taken_for_one_of_aws() -> None:
    async with of(Opened()) as asked:
        with pytest.raises(ParamValidationError):
            async with asked.asking("the token"):
                raise ParamValidationError(report="Name is missing")
