"""An account without machines, seeded with two models; and its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.loaders import Loader

from rehearsal.account import REGION, Account, AccountServer
from rehearsal.faults import Fault, Faults
from rehearsal.groups import Member
from rehearsal.seed import Seed

OVERLAY = Path(__file__).parents[2] / "control_plane" / "overlay"
NAMESPACE = "desk"
MODELS = (
    {"name": "org/small", "instanceTypes": ["g5.xlarge"], "maxInstances": 2},
    {"name": "org/spotty", "instanceTypes": ["g5.12xlarge", "g6.12xlarge"], "market": "spot-then-on-demand"},
)
SMALL = "desk-org-small-on-demand"
SPOTTY = "desk-org-spotty-spot"
SPOTTY_ON_DEMAND = "desk-org-spotty-on-demand"


@dataclass
class Cloud:
    """A seeded account, with what a client of AWS needs to speak to it."""

    account: Account
    faults: Faults
    session: boto3.Session
    url: str
    client: Callable[[str], Any]

    def launch(self, **changes: Any) -> dict[str, Any]:
        request = {
            "AutoScalingGroupName": SMALL,
            "RequestedCapacity": 1,
            "ClientToken": "token-1",
            "AvailabilityZones": ["us-east-1a"],
        } | changes
        answer: dict[str, Any] = self.client("autoscaling").launch_instances(
            **{name: value for name, value in request.items() if value is not None}
        )
        return answer

    def group(self, name: str = SMALL) -> dict[str, Any]:
        groups = self.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        found: dict[str, Any] = groups["AutoScalingGroups"][0]
        return found

    def add_fault(self, **entry: Any) -> None:
        self.faults.add(Fault.parse(entry))

    def member(self, instance_id: str) -> Member:
        return next(member for member in self.account.members() if member.id == instance_id)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    faults = Faults()
    account = Account(faults)
    core = botocore.session.Session()
    core.register_component("data_loader", Loader(extra_search_paths=[str(OVERLAY)]))
    session = boto3.Session(
        aws_access_key_id="desk", aws_secret_access_key="desk", region_name=REGION, botocore_session=core
    )
    clients: dict[str, Any] = {}
    with AccountServer(account) as server:

        def client(service: str) -> Any:
            if service not in clients:
                # One try: the tests want to see each answer.
                config = Config(retries={"total_max_attempts": 1}, max_pool_connections=32)
                clients[service] = session.client(service, endpoint_url=server.url, config=config)
            return clients[service]

        Seed(NAMESPACE, session, server.url).sow(MODELS)
        yield Cloud(account, faults, session, server.url, client)
        for opened in clients.values():
            opened.close()
