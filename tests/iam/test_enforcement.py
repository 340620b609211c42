"""In the account: calls of a role are judged, refused in each protocol's own words, and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from rehearsal.account import REGION, Account
from rehearsal.account_server import AccountServer
from rehearsal.authority import Credentials, NotTrusted
from rehearsal.faults import Faults
from rehearsal.iam import Grant

ROLE = "worker"
SERVICE = "ec2.amazonaws.com"
TABLE = f"arn:aws:dynamodb:{REGION}:123456789012:table/rows"
KEY = {"id": {"S": "mine"}}

OWNER = Credentials("owner", "owner", "")


@dataclass
class House:
    """An account with one role, as its owner and as the role see it."""

    account: Account
    url: str
    opened: list[Any] = field(default_factory=list)

    def client(self, service: str, credentials: Credentials = OWNER) -> Any:
        client: Any = boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            config=Config(retries={"total_max_attempts": 1}),
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token or None,
        )
        self.opened.append(client)
        return client

    def allow(self, *statements: Mapping[str, Any]) -> None:
        """This, and nothing else."""
        document = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **s} for s in statements]})
        self.client("iam").put_role_policy(RoleName=ROLE, PolicyName="all", PolicyDocument=document)

    def worker(self, service: str) -> Any:
        """A client with the credentials of the role."""
        role = f"arn:aws:iam::123456789012:role/{ROLE}"
        return self.client(service, self.account.assume(role, service=SERVICE, session="i-1"))

    def denied(self) -> Sequence[tuple[str, str]]:
        return [(denial.action, denial.resource) for denial in self.account.denied()]


def a_role(house: House) -> None:
    """The role, without any permission yet."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": SERVICE}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    house.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)


@pytest.fixture
def house() -> Iterator[House]:
    account = Account(Faults())
    with AccountServer(account) as server:
        house = House(account, server.url)
        a_role(house)
        house.client("dynamodb").create_table(
            TableName="rows",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        yield house
        for client in house.opened:
            client.close()


def test_the_owner_may_do_everything_and_a_role_only_what_it_was_given(house: House) -> None:
    house.client("dynamodb").put_item(TableName="rows", Item=KEY)
    house.allow({"Action": ["dynamodb:GetItem", "dynamodb:PutItem"], "Resource": TABLE})
    dynamodb = house.worker("dynamodb")
    assert dynamodb.get_item(TableName="rows", Key=KEY)["Item"] == KEY
    with pytest.raises(ClientError) as refusal:
        dynamodb.delete_item(TableName="rows", Key=KEY)
    error = refusal.value.response["Error"]
    assert error["Code"] == "AccessDeniedException"
    assert (
        f"assumed-role/{ROLE}/i-1 is not authorized to perform: dynamodb:DeleteItem on resource: {TABLE}"
        in (error["Message"])
    )
    assert "Item" in dynamodb.get_item(TableName="rows", Key=KEY)
    assert house.denied() == [("dynamodb:DeleteItem", TABLE)]
    assert house.account.used(ROLE) == {"dynamodb:GetItem"}
    assert house.account.unused(ROLE) == {Grant("dynamodb:PutItem", TABLE)}


REFUSALS: Sequence[tuple[str, Callable[[Any], Any], str, int]] = [
    ("ssm", lambda ssm: ssm.get_parameter(Name="/a/b"), "AccessDeniedException", 400),
    ("ecs", lambda ecs: ecs.describe_services(cluster="c", services=["s"]), "AccessDeniedException", 400),
    ("autoscaling", lambda scaling: scaling.describe_auto_scaling_groups(), "AccessDenied", 403),
    ("elbv2", lambda balancing: balancing.describe_target_health(TargetGroupArn="arn:x"), "AccessDenied", 403),
    ("ec2", lambda ec2: ec2.describe_volumes(), "UnauthorizedOperation", 403),
    ("s3", lambda s3: s3.get_object(Bucket="files", Key="x/y"), "AccessDenied", 403),
    ("lambda", lambda function: function.invoke(FunctionName="f"), "AccessDeniedException", 403),
]


@pytest.mark.parametrize(("service", "call", "code", "status"), REFUSALS)
def test_each_service_refuses_in_its_own_words(
    house: House, service: str, call: Callable[[Any], Any], code: str, status: int
) -> None:
    with pytest.raises(ClientError) as refusal:
        call(house.worker(service))
    assert refusal.value.response["Error"]["Code"] == code
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert len(house.denied()) == 1


def test_a_role_that_is_bound_to_its_own_row_reaches_no_other(house: House) -> None:
    own = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["mine"]}}
    house.allow({"Action": ["dynamodb:*Item", "dynamodb:Query"], "Resource": TABLE, "Condition": own})
    dynamodb = house.worker("dynamodb")
    other = {"id": {"S": "other"}}
    dynamodb.put_item(TableName="rows", Item=KEY)
    dynamodb.get_item(TableName="rows", Key=KEY)
    query = {"KeyConditionExpression": "#k = :k", "ExpressionAttributeNames": {"#k": "id"}}
    dynamodb.query(TableName="rows", **query, ExpressionAttributeValues={":k": {"S": "mine"}})
    dynamodb.batch_write_item(RequestItems={"rows": [{"PutRequest": {"Item": KEY}}]})
    dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": "rows", "Item": KEY}}])
    assert house.denied() == []
    forbidden: Sequence[Callable[[], object]] = (
        lambda: dynamodb.put_item(TableName="rows", Item=other),
        lambda: dynamodb.get_item(TableName="rows", Key=other),
        lambda: dynamodb.query(TableName="rows", **query, ExpressionAttributeValues={":k": {"S": "other"}}),
        lambda: dynamodb.batch_write_item(RequestItems={"rows": [{"PutRequest": {"Item": other}}]}),
        lambda: dynamodb.transact_write_items(TransactItems=[{"Delete": {"TableName": "rows", "Key": other}}]),
    )
    for wrong in forbidden:
        with pytest.raises(ClientError, match="AccessDenied"):
            wrong()
    actions = ["PutItem", "GetItem", "Query", "BatchWriteItem", "DeleteItem"]
    assert [action for action, _ in house.denied()] == [f"dynamodb:{action}" for action in actions]


def test_an_object_is_reached_by_its_prefix_only(house: House) -> None:
    house.client("s3").create_bucket(Bucket="files")
    house.allow({"Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::files/own/*"})
    s3 = house.worker("s3")
    s3.put_object(Bucket="files", Key="own/a", Body=b"1")
    assert s3.get_object(Bucket="files", Key="own/a")["Body"].read() == b"1"
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.get_object(Bucket="files", Key="other/a")
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket="files")
    assert house.denied() == [
        ("s3:GetObject", "arn:aws:s3:::files/other/a"),
        ("s3:ListBucket", "arn:aws:s3:::files"),
    ]


def test_a_parameter_is_reached_by_its_path_only(house: House) -> None:
    house.client("ssm").put_parameter(Name="/desk/token", Value="x", Type="SecureString")
    house.allow({"Action": "ssm:GetParameter", "Resource": f"arn:aws:ssm:{REGION}:123456789012:parameter/desk/*"})
    ssm = house.worker("ssm")
    assert ssm.get_parameter(Name="/desk/token", WithDecryption=True)["Parameter"]["Value"] == "x"
    with pytest.raises(ClientError, match="AccessDenied"):
        ssm.get_parameter(Name="/prod/token")


def test_what_nobody_can_judge_is_refused_and_says_so(house: House) -> None:
    house.allow({"Action": "*", "Resource": "*"})
    with pytest.raises(ClientError, match="nobody can judge: calls to sqs"):
        house.worker("sqs").list_queues()
    with pytest.raises(ClientError, match="nobody can judge: dynamodb:UpdateTimeToLive"):
        house.worker("dynamodb").update_time_to_live(
            TableName="rows", TimeToLiveSpecification={"Enabled": True, "AttributeName": "t"}
        )
    assert len(house.denied()) == 2


def test_a_key_of_no_session_is_refused(house: House) -> None:
    stranger = Credentials("ASIAXXXXXXXXXXXXXXXX", "x", "x")
    with pytest.raises(ClientError, match="the access key is nobody's"):
        house.client("dynamodb", stranger).list_tables()


def test_everybody_may_ask_who_they_are(house: House) -> None:
    assert house.worker("sts").get_caller_identity()["Arn"].endswith(f"assumed-role/{ROLE}/i-1")
    assert house.denied() == []


def test_a_service_that_the_role_does_not_trust_cannot_assume_it(house: House) -> None:
    with pytest.raises(NotTrusted, match=ROLE):
        house.account.assume(f"arn:aws:iam::123456789012:role/{ROLE}", service="ecs-tasks.amazonaws.com", session="x")


def test_naming_a_task_definition_passes_its_roles(house: House) -> None:
    ecs = house.client("ecs")
    ecs.create_cluster(clusterName="desk")
    ecs.register_task_definition(
        family="task",
        taskRoleArn="arn:aws:iam::123456789012:role/task",
        containerDefinitions=[{"name": "c", "image": "i", "memory": 64}],
    )
    ecs.create_service(cluster="desk", serviceName="service", taskDefinition="task", desiredCount=0)
    service = f"arn:aws:ecs:{REGION}:123456789012:service/desk/service"
    house.allow({"Action": "ecs:UpdateService", "Resource": service})
    worker = house.worker("ecs")
    worker.update_service(cluster="desk", service="service", desiredCount=1)
    with pytest.raises(ClientError, match="iam:PassRole"):
        worker.update_service(cluster="desk", service="service", desiredCount=1, taskDefinition="task")
    passing = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    house.allow(
        {"Action": "ecs:UpdateService", "Resource": service},
        {"Action": "iam:PassRole", "Resource": "arn:aws:iam::123456789012:role/task", "Condition": passing},
    )
    worker.update_service(cluster="desk", service="service", desiredCount=1, taskDefinition="task")
    assert house.denied() == [("iam:PassRole", "arn:aws:iam::123456789012:role/task")]
