"""A launch needs a permission for every resource that it touches, each by its own ARN and tags."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from control_plane import schema
from control_plane.aws_session import add_overlay
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.authority import Credentials
from rehearsal.faults import Faults
from rehearsal.stack import NAMESPACE, Stack, apply

MODEL = {"name": "org/small", "instanceTypes": ["g5.xlarge"], "market": "spot-then-on-demand"}
ON_DEMAND, SPOT = (f"{NAMESPACE}-org-small-{market}" for market in ("on-demand", "spot"))
ZONE, OTHER_ZONE = f"{REGION}a", f"{REGION}b"
ROLE = f"{NAMESPACE}-task"
EC2 = f"arn:aws:ec2:{REGION}:123456789012"
SPOT_ROLE = "arn:aws:iam::123456789012:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"


@dataclass(frozen=True)
class House:
    """An account where the program was applied: as its owner sees it, and as the control plane's task."""

    account: Account
    owner: Callable[[str], Any]
    task: Any  # a client of Auto Scaling

    def launch(self, group: str = ON_DEMAND, *, zone: str = ZONE) -> None:
        """Raises ClientError where the task may not."""
        self.task.launch_instances(
            AutoScalingGroupName=group, RequestedCapacity=1, ClientToken="token", AvailabilityZones=[zone]
        )

    def is_denied(self, action: str, resource: str, *, group: str = ON_DEMAND) -> bool:
        """Whether a launch fails for the lack of this permission, and of this alone."""
        with pytest.raises(ClientError, match=f"is not authorized to perform: {action}"):
            self.launch(group)
        return [(each.action, each.resource) for each in self.account.denied()] == [(action, resource)]

    def subnet(self, zone: str) -> str:
        asked = [{"Name": "availability-zone", "Values": [zone]}, {"Name": f"tag:{schema.TAG}", "Values": ["*"]}]
        (found,) = self.owner("ec2").describe_subnets(Filters=asked)["Subnets"]
        return str(found["SubnetId"])

    def template(self) -> dict[str, Any]:
        """The On-Demand group's, in its newest version."""
        told = self.owner("ec2").describe_launch_template_versions(LaunchTemplateName=ON_DEMAND, Versions=["$Latest"])
        found: dict[str, Any] = told["LaunchTemplateVersions"][0]
        return found

    def untag(self, resource: str) -> None:
        self.owner("ec2").delete_tags(Resources=[resource], Tags=[{"Key": schema.TAG}])

    def take_away(self, resource: str) -> None:
        """Out of everything that the role is allowed: this resource, or pattern of resources."""
        iam = self.owner("iam")
        (name,) = iam.list_role_policies(RoleName=ROLE)["PolicyNames"]
        document = iam.get_role_policy(RoleName=ROLE, PolicyName=name)["PolicyDocument"]
        before = json.dumps(document)
        for statement in document["Statement"]:
            statement["Resource"] = [each for each in statement["Resource"] if each != resource]
        document["Statement"] = [statement for statement in document["Statement"] if statement["Resource"]]
        assert json.dumps(document) != before
        iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=json.dumps(document))


@pytest.fixture
def house() -> Iterator[House]:
    account = Account(Faults())
    opened: list[Any] = []
    with AccountServer(account) as server:

        def client(service: str, credentials: Credentials) -> Any:
            session = botocore.session.Session()
            add_overlay(session.get_component("data_loader"))
            made = session.create_client(
                service,
                endpoint_url=server.url,
                region_name=REGION,
                config=Config(retries={"total_max_attempts": 1}),
                aws_access_key_id=credentials.access_key_id,
                aws_secret_access_key=credentials.secret_access_key,
                aws_session_token=credentials.session_token or None,
            )
            opened.append(made)
            return made

        stack: Stack = apply(server.url, region=REGION, models=[MODEL])
        credentials = account.assume(stack.task_role, service="ecs-tasks.amazonaws.com", session="task")
        owner = Credentials("owner", "owner", "")
        yield House(account, lambda service: client(service, owner), client("autoscaling", credentials))
        for each in opened:
            each.close()


def test_the_programs_own_role_may_launch_on_both_markets(house: House) -> None:
    house.launch(ON_DEMAND)
    house.task.launch_instances(
        AutoScalingGroupName=SPOT, RequestedCapacity=1, ClientToken="other", AvailabilityZones=[ZONE]
    )
    assert house.account.denied() == []
    assert len(house.account.members()) == 2


def test_a_subnet_without_our_tag_denies_the_launch_there_and_in_no_other_zone(house: House) -> None:
    subnet = house.subnet(ZONE)
    house.untag(subnet)
    assert house.is_denied("ec2:CreateFleet", f"{EC2}:subnet/{subnet}")
    assert house.account.members() == []
    house.launch(zone=OTHER_ZONE)
    assert len(house.account.members()) == 1


def test_a_security_group_without_our_tag_denies_the_launch(house: House) -> None:
    (interface,) = house.template()["LaunchTemplateData"]["NetworkInterfaces"]
    (group,) = interface["Groups"]
    house.untag(group)
    assert house.is_denied("ec2:CreateFleet", f"{EC2}:security-group/{group}")


def test_a_launch_template_without_our_tag_denies_the_launch(house: House) -> None:
    template = house.template()["LaunchTemplateId"]
    house.untag(template)
    assert house.is_denied("ec2:CreateFleet", f"{EC2}:launch-template/{template}")


@pytest.mark.parametrize("kind", ["fleet", "instance", "network-interface", "volume"])
def test_what_a_launch_makes_must_be_allowed(house: House, kind: str) -> None:
    house.take_away(f"{EC2}:{kind}/*")
    assert house.is_denied("ec2:CreateFleet", f"{EC2}:{kind}/*")


def test_the_image_must_be_allowed_whoever_owns_it(house: House) -> None:
    image = house.template()["LaunchTemplateData"]["ImageId"]
    house.take_away(f"arn:aws:ec2:{REGION}::image/*")
    assert house.is_denied("ec2:CreateFleet", f"arn:aws:ec2:{REGION}::image/{image}")


@pytest.mark.parametrize(
    ("action", "resource", "asked"),
    [
        ("ec2:CreateFleet", f"{EC2}:spot-instances-request/*", f"{EC2}:spot-instances-request/*"),
        ("iam:CreateServiceLinkedRole", SPOT_ROLE, SPOT_ROLE),
    ],
)
def test_spot_needs_what_on_demand_does_not(house: House, action: str, resource: str, asked: str) -> None:
    house.take_away(resource)
    assert house.is_denied(action, asked, group=SPOT)
    house.launch(ON_DEMAND)
    assert len(house.account.members()) == 1
