"""What EC2 tells of the cost of an instance: its own times, and Spot's price."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from control_plane.books import Lifetime
from control_plane.errors import Unavailable
from control_plane.nodes import NodeId

if TYPE_CHECKING:
    import aioboto3

_CONFIG = AioConfig(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
_ENDED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_UNKNOWN = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "UnauthorizedOperation")
"""EC2 knows no such instance, or will not tell us of any: then our own times must do."""


class Client(Protocol):
    """The two calls of EC2's client that are made."""

    async def describe_instances(self, *, InstanceIds: Sequence[str]) -> Mapping[str, Any]: ...

    async def describe_spot_price_history(self, **query: Any) -> Mapping[str, Any]: ...


@asynccontextmanager
async def open_ec2(session: aioboto3.Session) -> AsyncIterator[Ec2]:
    """The one EC2 client of a process."""
    async with session.client("ec2", config=_CONFIG) as client:
        yield Ec2(client)


class Ec2:
    """Half of a Cloud: what things cost. Raises Unavailable."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def lifetime(self, node_id: NodeId) -> Lifetime:
        """EC2 knows an instance for about an hour after its end."""
        try:
            answer = await self._client.describe_instances(InstanceIds=[node_id])
        except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            if _unknown(error):
                return Lifetime()
            raise _unanswered(error) from error
        told = [one for reservation in answer["Reservations"] for one in reservation["Instances"]]
        return _lifetime(told[0]) if told else Lifetime()

    async def spot_usd_per_hour(self, instance_type: str, zone: str) -> float | None:
        query: dict[str, Any] = {
            "InstanceTypes": [instance_type],
            "AvailabilityZone": zone,
            "ProductDescriptions": ["Linux/UNIX"],
            "StartTime": datetime.now(UTC),  # asks for the price that holds now
            "MaxResults": 1,
        }
        try:
            answer = await self._client.describe_spot_price_history(**query)
        except (ClientError, BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
            raise _unanswered(error) from error
        prices = [float(told["SpotPrice"]) for told in answer["SpotPriceHistory"]]
        return prices[0] if prices else None


def _lifetime(told: Mapping[str, Any]) -> Lifetime:
    """The end stands in words only, as in ``User initiated (2026-11-29 10:00:00 GMT)``."""
    ended = _ENDED.search(told.get("StateTransitionReason") or "")
    over = told["State"]["Name"] in ("shutting-down", "terminated")
    return Lifetime(
        told["LaunchTime"].timestamp(),
        datetime.fromisoformat(ended[1]).replace(tzinfo=UTC).timestamp() if over and ended else None,
    )


def _unknown(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"].get("Code") in _UNKNOWN


def _unanswered(error: Exception) -> Unavailable:
    if isinstance(error, ParamValidationError):
        raise error  # a mistake of ours, not AWS's
    if isinstance(error, ClientError):
        told = error.response["Error"]
        return Unavailable(f"EC2 refused a call: {told.get('Code')}: {told.get('Message')}")
    return Unavailable(f"EC2 did not answer: {type(error).__name__}")
