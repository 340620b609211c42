"""What `pulumi up` configured of who may come in, and where notices go, read from SSM's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import aioboto3
from aiobotocore.config import AioConfig
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane import schema
from control_plane.addresses import InvalidAddress, fold_entry
from control_plane.errors import Unavailable
from control_plane.notice import Target
from control_plane.people import Entrance, Flow, Provider

_CONFIG = AioConfig(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})


class _Parameters:
    """One call for all of them. Its client is made at the first one."""

    def __init__(self, namespace: str, names: Sequence[str]) -> None:
        self._names = {schema.parameter_name(namespace, name): name for name in names}
        self._open = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def _values(self) -> Mapping[str, str]:
        """By their names in ``schema``, those that there are. Raises Unavailable."""
        try:
            if self._client is None:
                client = aioboto3.Session().client("ssm", config=_CONFIG)
                self._client = await self._open.enter_async_context(client)
            told = await self._client.get_parameters(Names=list(self._names), WithDecryption=True)
        except ParamValidationError:
            raise  # a mistake of ours, not AWS's
        except ClientError as error:
            raise Unavailable(f"SSM refused the parameters: {error.response['Error']['Code']}") from error
        except (BotoCoreError, HttpError, TimeoutError) as error:
            raise Unavailable(f"SSM did not answer: {type(error).__name__}") from error
        return {self._names[one["Name"]]: one["Value"] for one in told["Parameters"]}


class SsmEntrance(_Parameters):
    """EntranceSource over SSM."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace, schema.ENTRANCE)

    async def __call__(self) -> Entrance:
        return entrance(await self._values())


class SsmWebhook(_Parameters):
    """Where the webhook is, and what signs its messages: kept once they are read."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace, (schema.NOTIFICATION_WEBHOOK, schema.NOTIFICATION_KEY))
        self._target: Target | None = None

    async def __call__(self) -> Target:
        """Raises Unavailable."""
        if self._target is None:
            values = await self._values()
            if not values.keys() >= {schema.NOTIFICATION_WEBHOOK, schema.NOTIFICATION_KEY}:
                raise Unavailable("the parameters of the webhook are not there")
            self._target = Target(values[schema.NOTIFICATION_WEBHOOK], values[schema.NOTIFICATION_KEY])
        return self._target


def entrance(values: Mapping[str, str]) -> Entrance:
    """From the parameters by their names in ``schema``. Raises Unavailable for what is missing or cannot be read."""
    try:
        secret = values[schema.SESSION_KEY]
        allowed = _entries(values[schema.ALLOWED_EMAILS])
        clients = json.loads(values[schema.OIDC_CLIENTS])
        providers = [_provider(client, values.get(schema.GITHUB_SECRET, "")) for client in clients]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Unavailable(f"the parameters of this deployment cannot be read: {type(error).__name__}") from error
    return Entrance(allowed, providers, secret, values.get(schema.WEB_URL, "").rstrip("/"))


def _entries(text: str) -> Sequence[str]:
    found = []
    for entry in text.split(","):
        try:
            found.append(fold_entry(entry.strip()))
        except InvalidAddress:
            found.append("")  # nobody's; the place stays, so that the second never becomes the owner
    return found


def _provider(client: Mapping[str, Any], github_secret: str) -> Provider:
    flow = Flow(client.get("flow", Flow.OIDC))
    return Provider(
        id=client["id"],
        name=client["name"],
        flow=flow,
        client_id=client["clientId"],
        issuer=client.get("issuer", ""),
        authorize_url=client.get("authorizeUrl", ""),
        token_url=client.get("tokenUrl", ""),
        emails_url=client.get("emailsUrl", ""),
        client_secret=github_secret if flow is Flow.GITHUB else "",
    )
