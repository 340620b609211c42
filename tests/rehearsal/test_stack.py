"""The account is what the program says, down to what moto keeps; what the rehearsal does not understand stops it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks

from control_plane.schema import CONFIGURED, INSTANCES, MODELS, TABLES
from gpu_node.protocol import DRAIN_HOOK, DRAIN_HOOK_S
from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.birth import agent_environment, birth
from rehearsal.fargate import DEPROVISIONING, STOPPED
from rehearsal.faults import Faults
from rehearsal.resources.given import Api, Given, Unmade
from rehearsal.resources.kinds import MADE, answer
from rehearsal.stack import NAMESPACE, Builder, apply
from tests.rehearsal.conftest import SMALL, SPOTTY, Cloud

TABLE = "aws:dynamodb/table:Table"
ON_DEMAND = {"billingMode": "PAY_PER_REQUEST"}
GROUP = "aws:autoscaling/group:Group"
LISTENER = "aws:lb/listener:Listener"


@pytest.fixture
def api() -> Iterator[Api]:
    """Into an account where nothing is."""
    with AccountServer(Account(Faults())) as server:
        api = Api(server.url, region=REGION)
        yield api
        api.close()


def make(api: Api, kind: str, **inputs: Any) -> Any:
    given = Given(kind, "it", inputs)
    made = MADE[kind](given, api)
    given.finish()
    return made


def table(**changes: Any) -> dict[str, Any]:
    return {"name": "t", "hashKey": "id", "attributes": [{"name": "id", "type": "S"}], **ON_DEMAND, **changes}


# -- what the program makes ----------------------------------------------------------------------------------------


def test_a_group_has_its_template_markets_hook_and_suspended_processes(cloud: Cloud) -> None:
    group = cloud.group(SPOTTY)
    policy = group["MixedInstancesPolicy"]
    assert [each["InstanceType"] for each in policy["LaunchTemplate"]["Overrides"]] == ["g5.12xlarge", "g6.12xlarge"]
    assert policy["InstancesDistribution"]["OnDemandPercentageAboveBaseCapacity"] == 0
    assert sorted(each["ProcessName"] for each in group["SuspendedProcesses"]) == ["AZRebalance", "ReplaceUnhealthy"]
    hooks = cloud.client("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=SPOTTY)["LifecycleHooks"]
    assert [(hook["LifecycleHookName"], hook["HeartbeatTimeout"]) for hook in hooks] == [(DRAIN_HOOK, DRAIN_HOOK_S)]


def test_a_template_says_what_its_instances_are(cloud: Cloud) -> None:
    specification = cloud.group()["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    versions = cloud.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=specification["LaunchTemplateId"], Versions=[specification["Version"]]
    )
    data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert data["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert data["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is True
    assert data["NetworkInterfaces"][0]["Groups"][0].startswith("sg-")
    assert agent_environment(data["UserData"])["DIOGENES_NODE_GROUP"] == SMALL


def test_an_instance_is_born_with_the_role_of_its_model_and_what_its_user_data_says(cloud: Cloud) -> None:
    (instance_id,) = cloud.launch()["Instances"][0]["InstanceIds"]
    born = birth(cloud.account, cloud.member(instance_id))
    assert born.role is not None
    assert born.role.name == f"{NAMESPACE}-org-small-node"
    assert born.environment["DIOGENES_NODE_MODEL"] == "org/small"
    assert born.environment["DIOGENES_NODE_INSTANCES_TABLE"] == INSTANCES.full_name(NAMESPACE)


def test_tables_have_their_expiry_and_can_be_recovered(cloud: Cloud) -> None:
    dynamodb = cloud.client("dynamodb")
    for each in TABLES:
        name = each.full_name(NAMESPACE)
        told = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert told.get("AttributeName") == each.ttl
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_the_end_of_a_task_of_the_service_calls_the_janitor() -> None:
    with AccountServer(Account(Faults())) as server:
        made = apply(server.url, region=REGION)
    for status in (DEPROVISIONING, STOPPED):
        ended = made.task_ended(status)
        assert made.called_by(ended) == ["control_plane.janitor.handler"]
        assert made.called_by({**ended, "detail": {**ended["detail"], "group": "service:another"}}) == []
    assert made.called_by(made.task_ended("RUNNING")) == []


def test_the_front_begins_at_the_night_watch_with_no_task(cloud: Cloud) -> None:
    balancing, ecs = cloud.client("elbv2"), cloud.client("ecs")
    (balancer,) = balancing.describe_load_balancers()["LoadBalancers"]
    assert balancer["Scheme"] == "internal"
    (listener,) = balancing.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    groups = listener["DefaultActions"][0]["ForwardConfig"]["TargetGroups"]
    names = {
        told["TargetGroupArn"]: told["TargetGroupName"] for told in balancing.describe_target_groups()["TargetGroups"]
    }
    weights = {names[group["TargetGroupArn"]]: group["Weight"] for group in groups}
    assert weights == {f"{NAMESPACE}-night": 1, f"{NAMESPACE}-control": 0}
    (arn,) = ecs.list_services(cluster=NAMESPACE)["serviceArns"]
    (service,) = ecs.describe_services(cluster=NAMESPACE, services=[arn])["services"]
    assert service["desiredCount"] == 0
    assert service["loadBalancers"][0]["containerPort"] == 8080


def test_parameters_and_files_are_there(cloud: Cloud) -> None:
    told = cloud.client("ssm").get_parameters_by_path(Path=f"/{NAMESPACE}", WithDecryption=True)["Parameters"]
    assert {each["Name"].rpartition("/")[2]: each["Type"] for each in told} == {
        "allowed-emails": "StringList",
        "oidc-clients": "String",
        "session-key": "SecureString",
        "web-url": "String",
    }
    assert all(isinstance(each["Value"], str) and each["Value"] for each in told)
    s3 = cloud.client("s3")
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    keys = [each["Key"] for bucket in buckets for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert "config.json" not in keys, "the site is served from where it was built: edge.py"
    assert any(key.startswith("agent/") for key in keys)


def test_a_configuration_that_cannot_be_deployed_makes_nothing() -> None:
    account = Account(Faults())
    with AccountServer(account) as server, pytest.raises(pulumi.RunError, match="cannot be deployed"):
        apply(server.url, region=REGION, models=[{"name": "org/small", "instanceTypes": ["z9.huge"]}])
    assert account.calls() == {}


# -- what it does not understand -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "inputs", "says"),
    [
        (TABLE, table(streamViewType="NEW_IMAGE"), "CreateTableInput has no streamViewType"),
        (TABLE, table(ttl={"attributeName": "t", "enabled": "perhaps"}), "UpdateTimeToLive: 'perhaps'"),
        (TABLE, table(attributes=[{"name": "id", "type": "S"}], readCapacity=1), "has no readCapacity"),
        (TABLE, {"name": "t"}, "it lacks hashKey"),
        (GROUP, {"name": "g", "vpcZoneIdentifiers": [], "warmPool": {}}, "has no warmPool"),
        (LISTENER, {"defaultActions": [{"type": "forward", "forward": {"targetGroups": [], "x": 1}}]}, "with x"),
        ("aws:s3/bucket:Bucket", {"bucket": "files", "acl": "private"}, "Bucket it: acl: not understood"),
    ],
)
def test_an_input_that_is_not_understood_stops_the_rehearsal(
    api: Api, kind: str, inputs: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(Unmade, match=says):
        make(api, kind, **inputs)


def test_what_the_account_refuses_names_the_resource(api: Api) -> None:
    builder = Builder(api)
    subnet = mocks.MockResourceArgs("aws:ec2/subnet:Subnet", "lost", {"vpcId": "vpc-0", "cidrBlock": "10.0.0.0/24"})
    subnet.custom = True
    with pytest.raises(Unmade, match=r"Subnet lost: .*InvalidVpcID.NotFound"):
        builder.new_resource(subnet)


def test_a_function_of_the_provider_that_nobody_taught_is_not_guessed(api: Api) -> None:
    with pytest.raises(KeyError, match="getElasticIp"):
        answer("aws:ec2/getElasticIp:getElasticIp", {}, api)


def test_a_row_that_is_there_already_stays_as_it_is(api: Api) -> None:
    make(api, TABLE, **table())
    row = {"tableName": "t", "hashKey": "id", "item": json.dumps({"id": {"S": "a"}, "n": {"N": "1"}})}
    make(api, "aws:dynamodb/tableItem:TableItem", **row)
    args = mocks.MockResourceArgs("aws:dynamodb/tableItem:TableItem", "again", row)
    args.custom = True
    with pytest.raises(Unmade, match="ConditionalCheckFailed"):
        Builder(api).new_resource(args)


def test_user_data_without_the_agents_environment_is_an_error() -> None:
    assert agent_environment("") == {}
    with pytest.raises(ValueError, match=r"writes no /node.env"):
        agent_environment(base64.b64encode(b"#cloud-config\nruncmd: []\n").decode())


def test_the_models_rows_are_those_of_the_configuration(cloud: Cloud) -> None:
    row = cloud.account.row(MODELS.full_name(NAMESPACE), {MODELS.hash_key: {"S": CONFIGURED + "org/spotty"}})
    assert row is not None
    assert row["config"]["market"] == "spot-then-on-demand"
    assert row.keys() == {"name", "config", "place"}
