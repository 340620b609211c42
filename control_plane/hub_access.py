"""The hub, asked whether a repository can be read, with the token that the nodes will use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError

from control_plane.hub import Access, Hub, Reading

_CONFIG = AioConfig(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})

log = logging.getLogger(__name__)


class HubAccess:
    """AskHub over HTTP. The token is read from SSM at the first question, and kept."""

    def __init__(self, hub: Hub, *, token_parameter: str, parameters: Callable[[], Any] | None = None) -> None:
        """``token_parameter``: its name in SSM; empty where no token is configured. ``parameters`` opens a client."""
        self._hub = hub
        self._parameter = token_parameter
        self._parameters = parameters or (lambda: aioboto3.Session().client("ssm", config=_CONFIG))
        self._open = AsyncExitStack()
        self._with_token: Hub | None = None

    async def __aenter__(self) -> HubAccess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def __call__(self, repository: str, revision: str | None) -> Reading:
        hub = await self._ready()
        return await asyncio.to_thread(hub.access, repository, revision) if isinstance(hub, Hub) else hub

    async def read(self, repository: str, revision: str | None) -> Reading:
        """What its ``config.json`` and its index of weights say."""
        hub = await self._ready()
        return await asyncio.to_thread(hub.read, repository, revision) if isinstance(hub, Hub) else hub

    async def _ready(self) -> Hub | Reading:
        """The hub with its token, or why it cannot be asked."""
        if self._hub.offline:
            return Reading(Access.UNREACHABLE, "the hub is not asked")
        if self._with_token is None:
            self._with_token = await self._told()
        # Without the token a gated repository looks closed that is not.
        return self._with_token or Reading(Access.UNREACHABLE, "the token cannot be read")

    async def _told(self) -> Hub | None:
        if not self._parameter:
            return self._hub
        try:
            client: Any = await self._open.enter_async_context(self._parameters())
            told = await client.get_parameter(Name=self._parameter, WithDecryption=True)
        except ClientError as error:
            log.warning("no hub token", extra={"code": error.response["Error"]["Code"]})
            return None
        except (BotoCoreError, HttpError, TimeoutError) as error:
            log.warning("no hub token", extra={"code": type(error).__name__})
            return None
        return replace(self._hub, token=told["Parameter"]["Value"])
