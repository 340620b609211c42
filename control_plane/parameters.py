"""What `pulumi up` configured of who may come in, and where notices go, read from SSM's parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from control_plane import schema
from control_plane.addresses import InvalidAddress, fold_entry
from control_plane.aws_client import AwsClient, Session
from control_plane.errors import Unavailable
from control_plane.notice import Target
from control_plane.people import Entrance, Flow, Provider


class _Parameters(AwsClient):
    """One call for all of them."""

    def __init__(self, namespace: str, names: Sequence[str], session: Session | None) -> None:
        super().__init__("ssm", connect_s=2, read_s=5, attempts=3, session=session)
        self._names = {schema.parameter_name(namespace, name): name for name in names}

    async def _values(self) -> Mapping[str, str]:
        """By their names in ``schema``, those that there are. Raises Unavailable."""
        async with self.asking("the parameters") as ssm:
            told = await ssm.get_parameters(Names=list(self._names), WithDecryption=True)
        return {self._names[one["Name"]]: one["Value"] for one in told["Parameters"]}


class SsmEntrance(_Parameters):
    """EntranceSource over SSM."""

    def __init__(self, namespace: str, *, session: Session | None = None) -> None:
        super().__init__(namespace, schema.ENTRANCE, session)

    async def __call__(self) -> Entrance:
        return entrance(await self._values())


class SsmWebhook(_Parameters):
    """Where the webhook is, and what signs its messages: kept once they are read."""

    def __init__(self, namespace: str, *, session: Session | None = None) -> None:
        super().__init__(namespace, (schema.NOTIFICATION_WEBHOOK, schema.NOTIFICATION_KEY), session)
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
