"""An account without machines, where the program was applied with two models; and its clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.loaders import Loader

from control_plane.aws_session import OVERLAY
from gpu_node.protocol import DRAIN_HOOK
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.faults import Fault, Faults
from rehearsal.groups import Member
from rehearsal.stack import NAMESPACE as NAMESPACE
from rehearsal.stack import apply
from tests.memory import FakeClock

MODELS = (
    {"name": "org/small", "instanceTypes": ["g5.xlarge"], "maxInstances": 2},
    {"name": "org/spotty", "instanceTypes": ["g5.12xlarge", "g6.12xlarge"], "market": "spot-then-on-demand"},
)
SMALL = f"{NAMESPACE}-org-small-on-demand"
SPOTTY = f"{NAMESPACE}-org-spotty-spot"
SPOTTY_ON_DEMAND = f"{NAMESPACE}-org-spotty-on-demand"


@dataclass
class Cloud:
    """A deployed account, with what a client of AWS needs to speak to it."""

    account: Account
    faults: Faults
    clock: FakeClock  # of the groups' hooks
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

    def drop_hook(self, name: str = SMALL) -> None:
        """What the group takes out goes at once, as in a group that nobody gave a hook."""
        self.client("autoscaling").delete_lifecycle_hook(AutoScalingGroupName=name, LifecycleHookName=DRAIN_HOOK)

    def terminate(self, instance_id: str) -> dict[str, Any]:
        """Out of its group, and the group's desired capacity lowered."""
        answer: dict[str, Any] = self.client("autoscaling").terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
        )
        return answer

    def complete(self, instance_id: str, *, group: str = SMALL, hook: str = DRAIN_HOOK) -> None:
        """The instance need not wait for the hook any more."""
        self.client("autoscaling").complete_lifecycle_action(
            AutoScalingGroupName=group,
            LifecycleHookName=hook,
            InstanceId=instance_id,
            LifecycleActionResult="CONTINUE",
        )

    def add_fault(self, **entry: Any) -> None:
        self.faults.add(Fault.parse(entry))

    def member(self, instance_id: str) -> Member:
        return next(member for member in self.account.members() if member.id == instance_id)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    faults = Faults()
    clock = FakeClock()
    account = Account(faults, clock=clock)
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

        apply(server.url, region=REGION, models=MODELS)
        yield Cloud(account, faults, clock, session, server.url, client)
        for opened in clients.values():
            opened.close()
