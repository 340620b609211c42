"""What EC2 tells of the cost of an instance: its own times, and Spot's price."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from control_plane.aws_client import AwsClient, Session
from control_plane.books import Lifetime
from control_plane.nodes import NodeId

_ENDED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
_UNKNOWN = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "UnauthorizedOperation")
"""EC2 knows no such instance, or will not tell us of any: then our own times must do."""


class Ec2(AwsClient):
    """Half of a Cloud: what things cost. Raises Unavailable.

    EC2's description is the largest of all (19 MB and 0.17 s of CPU), and few wakes and rounds ask: its client is made
    at the first question.
    """

    def __init__(self, session: Session | None = None) -> None:
        super().__init__("ec2", connect_s=3, read_s=10, attempts=3, session=session)

    async def lifetime(self, node_id: NodeId) -> Lifetime:
        """EC2 knows an instance for about an hour after its end."""
        async with self.asking("an instance's times") as ec2:
            try:
                answer = await ec2.describe_instances(InstanceIds=[node_id])
            except ClientError as error:
                if error.response["Error"].get("Code") in _UNKNOWN:
                    return Lifetime()
                raise
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
        async with self.asking("Spot's price") as ec2:
            answer = await ec2.describe_spot_price_history(**query)
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
