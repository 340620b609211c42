"""A client of one AWS service for who needs it now and then: made at the first call, closed with whoever made it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from aiobotocore.config import AioConfig
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane.aws_session import aws_session
from control_plane.errors import Unavailable


class Session(Protocol):
    """As much of boto3's as is needed: a client is whatever is generated for its service."""

    def client(self, service_name: str, *, config: AioConfig) -> AbstractAsyncContextManager[Any]: ...


class AwsClient:
    """Enter it, and ask within ``asking``."""

    def __init__(
        self, service: str, *, connect_s: float, read_s: float, attempts: int, session: Session | None = None
    ) -> None:
        """``service`` as boto3 spells it; without the process's ``session`` it makes one when it first asks."""
        self._service = service
        self._config = AioConfig(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        self._session = session
        self._open = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client = None
        await self._open.aclose()

    @asynccontextmanager
    async def asking(self, what: str) -> AsyncIterator[Any]:
        """The client; its errors, and those of making it, leave as Unavailable. ``what`` is asked, in words."""
        name = self._service.upper()
        try:
            await self.make()
            yield self._client
        except ParamValidationError:
            raise  # a mistake of ours, not AWS's
        except ClientError as error:
            raise Unavailable(f"{name} refused {what}: {error.response['Error']['Code']}") from error
        except (BotoCoreError, HttpError, TimeoutError) as error:
            raise Unavailable(f"{name} did not answer: {type(error).__name__}") from error

    async def make(self) -> None:
        """The client, if it is not there yet. Ahead of the first question where nobody may be held up by it."""
        if self._client is None:
            self._session = self._session or aws_session()
            self._client = await self._open.enter_async_context(
                self._session.client(self._service, config=self._config)
            )
