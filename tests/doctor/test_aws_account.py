"""The doctor's questions, asked of an account that the project's own program was applied to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from control_plane.doctor.aws_account import AwsAccount, open_account
from control_plane.doctor.ports import CannotLook, Denied, NoCredentials
from control_plane.ports import FrontState
from control_plane.schema import TABLES, TAG
from rehearsal.account import REGION
from rehearsal.program import HOME
from rehearsal.stack import models_of_stack
from tests.doctor.conftest import NAMESPACE, Deployed

ON_DEMAND = "L-DB2E81BA"


@pytest.fixture
async def account(deployed: Deployed) -> AsyncIterator[AwsAccount]:
    async with open_account(NAMESPACE, REGION) as found:
        yield found


@pytest.fixture
async def elsewhere(deployed: Deployed) -> AsyncIterator[AwsAccount]:
    async with open_account("diogenes-other", "eu-west-1") as found:
        yield found


async def test_it_knows_who_asks(account: AwsAccount) -> None:
    assert (await account.identity()).startswith("arn:aws:sts::123456789012:")


async def test_a_region_is_enabled_or_not_or_not_there_at_all(account: AwsAccount) -> None:
    assert await account.region_enabled()
    async with open_account(NAMESPACE, "mars-north-1") as nowhere:
        assert not await nowhere.region_enabled()


async def test_a_quota_is_the_owners_or_else_the_default(deployed: Deployed, account: AwsAccount) -> None:
    deployed.account.defaults[ON_DEMAND] = 0
    assert await account.quota(ON_DEMAND) == 0
    deployed.account.quotas[ON_DEMAND] = 96
    assert await account.quota(ON_DEMAND) == 96


async def test_zones_and_what_they_offer(account: AwsAccount) -> None:
    zones = await account.zones()
    assert zones["us-east-1a"].startswith("use1-az")
    offered = await account.offerings(["g5.xlarge", "g9.none"])
    assert set(offered["g5.xlarge"]) <= set(zones)
    assert offered["g5.xlarge"]
    assert offered["g9.none"] == []


async def test_all_tables_are_there(account: AwsAccount, elsewhere: AwsAccount) -> None:
    assert await account.tables() == {table.name for table in TABLES}
    assert await elsewhere.tables() == frozenset()


async def test_the_deployed_token_is_read_where_there_is_one(deployed: Deployed, account: AwsAccount) -> None:
    assert await account.hub_token() is None
    ssm = deployed.client("ssm")
    ssm.put_parameter(Name=f"/{NAMESPACE}/hf-token", Value="hf_deployed", Type="SecureString")
    assert await account.hub_token() == "hf_deployed"
    ssm.delete_parameter(Name=f"/{NAMESPACE}/hf-token")
    ssm.close()


async def test_the_house_is_asleep_after_the_first_deployment(account: AwsAccount, elsewhere: AwsAccount) -> None:
    house = await account.house()
    assert house is not None
    assert (house.front.state, house.running) == (FrontState.ASLEEP, 0)
    assert (house.stage.desired, house.stage.facing_control_plane) == (0, False)
    assert await elsewhere.house() is None


async def test_the_fleet_has_a_row_and_a_group_for_each_model(account: AwsAccount) -> None:
    fleet = await account.fleet()
    names = {model["name"] for model in models_of_stack(HOME / "Pulumi.prod.yaml")}
    assert {row.name for row in fleet.rows} == {group.model for group in fleet.groups} == names
    assert (fleet.machines, fleet.nodes, fleet.wishes) == ([], [], [])


async def test_a_machine_with_our_tag_is_found_and_no_other(deployed: Deployed, account: AwsAccount) -> None:
    ec2 = deployed.client("ec2")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": TAG, "Value": NAMESPACE}]}]
    ec2.run_instances(ImageId="ami-1", InstanceType="g5.xlarge", MinCount=1, MaxCount=1)  # somebody else's
    [told] = ec2.run_instances(
        ImageId="ami-1", InstanceType="g5.xlarge", MinCount=1, MaxCount=1, TagSpecifications=tags
    )["Instances"]
    [machine] = (await account.fleet()).machines
    assert (machine.id, machine.instance_type) == (told["InstanceId"], "g5.xlarge")
    assert machine.launched_at == told["LaunchTime"].timestamp()
    ec2.stop_instances(InstanceIds=[machine.id])
    assert [found.id for found in (await account.fleet()).machines] == [machine.id], "a stopped one is not gone"
    ec2.close()


async def test_the_distribution_is_found_by_its_tag(
    deployed: Deployed, account: AwsAccount, elsewhere: AwsAccount
) -> None:
    assert await account.site_domain() is None  # the rehearsal has no CDN, and only imagines the program's
    cloudfront = deployed.client("cloudfront")
    domain = distribution(cloudfront)
    cloudfront.close()
    assert await account.site_domain() == domain
    assert await elsewhere.site_domain() is None


@pytest.mark.parametrize(
    ("denied", "question", "permission"),
    [
        ("servicequotas:GetServiceQuota", "quota", "servicequotas:GetServiceQuota"),
        ("ec2:DescribeRegions", "region_enabled", "ec2:DescribeRegions"),
        ("ec2:DescribeAvailabilityZones", "zones", "ec2:DescribeAvailabilityZones"),
        ("ec2:DescribeInstances", "fleet", "ec2:DescribeInstances"),
        ("autoscaling:DescribeAutoScalingGroups", "fleet", "autoscaling:DescribeAutoScalingGroups"),
        ("dynamodb:Scan", "fleet", "dynamodb:Scan"),
        ("dynamodb:DescribeTable", "tables", "dynamodb:DescribeTable"),
        ("ssm:GetParameter", "hub_token", "ssm:GetParameter"),
        ("tagging:GetResources", "house", "tag:GetResources"),
        ("ecs:DescribeServices", "house", "ecs:DescribeServices"),
        ("elasticloadbalancing:DescribeListeners", "house", "elasticloadbalancing:DescribeListeners"),
        ("elasticloadbalancing:DescribeTargetHealth", "house", "elasticloadbalancing:DescribeTargetHealth"),
        ("dynamodb:GetItem", "house", "dynamodb:GetItem"),
    ],
)
async def test_a_missing_permission_is_named_as_iam_has_it(
    deployed: Deployed, account: AwsAccount, denied: str, question: str, permission: str
) -> None:
    deployed.account.forbidden.add(denied)
    with pytest.raises(Denied) as raised:
        await (account.quota(ON_DEMAND) if question == "quota" else getattr(account, question)())
    assert raised.value.permission == permission


async def test_credentials_that_aws_does_not_take_are_told_from_a_missing_permission(
    deployed: Deployed, account: AwsAccount
) -> None:
    deployed.account.expired = True
    with pytest.raises(NoCredentials, match="ExpiredToken"):
        await account.identity()


async def test_a_machine_without_credentials_is_told_what_to_do(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with open_account(NAMESPACE, REGION) as account:
        with pytest.raises(NoCredentials) as raised:
            await account.identity()
    assert raised.value.fix is not None
    assert "aws sso login" in raised.value.fix


async def test_a_profile_that_does_not_exist_counts_as_no_credentials(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    async with open_account(NAMESPACE, REGION) as account:
        with pytest.raises(NoCredentials, match="nobody"):
            await account.identity()


async def test_an_aws_that_cannot_be_reached_is_no_answer(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with open_account(NAMESPACE, REGION) as account:
        with pytest.raises(CannotLook, match="did not answer") as raised:
            await account.identity()
    assert not isinstance(raised.value, NoCredentials)


def distribution(cloudfront: Any) -> str:
    """The domain of a new one that carries our tag."""
    origin = {"Id": "site", "DomainName": "site.s3.amazonaws.com", "S3OriginConfig": {"OriginAccessIdentity": ""}}
    made = cloudfront.create_distribution_with_tags(
        DistributionConfigWithTags={
            "DistributionConfig": {
                "CallerReference": "test",
                "Comment": "",
                "Enabled": True,
                "Origins": {"Quantity": 1, "Items": [origin]},
                "DefaultCacheBehavior": {"TargetOriginId": "site", "ViewerProtocolPolicy": "redirect-to-https"},
            },
            "Tags": {"Items": [{"Key": TAG, "Value": NAMESPACE}]},
        }
    )
    return str(made["Distribution"]["DomainName"])
