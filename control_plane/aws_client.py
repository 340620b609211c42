"""A client of one AWS service for who needs it now and then: made at the first call, closed with whoever made it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aioboto3
from aiobotocore.config import AioConfig
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane.errors import Unavailable

Opener = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes a client, which is whatever boto3 generates for its service."""


class AwsClient:
    """Enter it, and ask within ``asking``."""

    def __init__(
        self, service: str, *, connect_s: float, read_s: float, attempts: int, opener: Opener | None = None
    ) -> None:
        """``service`` as boto3 spells it; ``opener`` makes another client than boto3's."""
        self._service = service
        config = AioConfig(
            connect_timeout=connect_s,
            read_timeout=read_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        self._opener = opener or (lambda: aioboto3.Session().client(service, config=config))
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
            if self._client is None:
                self._client = await self._open.enter_async_context(self._opener())
            yield self._client
        except ParamValidationError:
            raise  # a mistake of ours, not AWS's
        except ClientError as error:
            raise Unavailable(f"{name} refused {what}: {error.response['Error']['Code']}") from error
        except (BotoCoreError, HttpError, TimeoutError) as error:
            raise Unavailable(f"{name} did not answer: {type(error).__name__}") from error
