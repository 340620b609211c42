"""The hub, asked whether a repository can be read, with the token that the nodes will use."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from control_plane.aws_client import AwsClient, Session
from control_plane.errors import Unavailable
from control_plane.hub import Access, Hub, Reading

log = logging.getLogger(__name__)


class HubAccess(AwsClient):
    """AskHub over HTTP; of AWS, a client for the token alone, which is read at the first question, and kept."""

    def __init__(self, hub: Hub, *, token_parameter: str, session: Session | None = None) -> None:
        """``token_parameter``: its name in SSM; empty where no token is configured. ``session`` as for AwsClient."""
        super().__init__("ssm", connect_s=1, read_s=2, attempts=2, session=session)
        self._hub = hub
        self._parameter = token_parameter
        self._with_token: Hub | None = None

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
            async with self.asking("the hub's token") as ssm:
                told = await ssm.get_parameter(Name=self._parameter, WithDecryption=True)
        except Unavailable as error:
            log.warning("no hub token", extra={"error": str(error)})
            return None
        return replace(self._hub, token=told["Parameter"]["Value"])
