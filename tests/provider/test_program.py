"""The whole program through the real provider: what `pulumi up` makes, changes, leaves alone and takes away.

One deployment for all tests, in their order: a cold `up` is more than a minute of the provider's own waiting. Each test
leaves the stack as it was published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from control_plane import schema
from rehearsal.account_server import AccountServer
from tests.provider.desk import NAMESPACE, Desk, configured, group, published_models
from tests.provider.gaps import DROPPED, FAKED, forgotten
from tests.provider.inventory import inventory
from tests.provider.plugin import Provider
from tests.provider.programs import whole
from tests.provider.stack import Stack
from tests.provider.state import Kind, Outcome
from tests.provider.surroundings import AMI, NEWER_AMI, Clients, Machine

pytestmark = pytest.mark.timeout(420)

CODER, GENERAL = "Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-14B-AWQ"
ROW = "aws_dynamodb_table_item data-model-qwen-qwen3-14b-awq"
AWAKE = {"nodes": 1, "tasks": 1, "weights": {"night": 0, "control": 1}}
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"


@pytest.fixture(scope="module")
def desk(provider: Provider, account: AccountServer, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """An account with nothing in it yet."""
    ask, machine = Clients(account.url), Machine()
    stack = Stack(provider, assets=tmp_path_factory.mktemp("assets"), foreign=machine.foreign())
    return Desk(stack, ask, machine, before=inventory(ask))


@pytest.fixture(scope="module")
def first(desk: Desk) -> Outcome:
    """The first `up`."""
    return desk.up()


@pytest.fixture(scope="module")
def second(desk: Desk, first: Outcome) -> Outcome:
    """Another one at once, which also tells the emulator again what it forgot of the first."""
    return desk.up()


@pytest.fixture(scope="module")
def awake(desk: Desk, second: Outcome) -> Desk:
    """A model with a node, a task, and all requests to that."""
    desk.wake(GENERAL)
    return desk


def told(outcome: Outcome) -> Mapping[str, Kind]:
    """What the program changed: everything but what the emulator forgets."""
    return {label: each.kind for label, each in outcome.changes.items() if not forgotten(each)}


# -- before there is anything --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="as published"),
        pytest.param(
            {"domain": "llm.example.org", "certificateArn": CERTIFICATE, "hostedZoneId": "Z0123456789ABC"},
            id="a domain",
        ),
        pytest.param(
            {
                "edge": "public",
                "domain": "llm.example.org",
                "certificateArn": CERTIFICATE,
                "hostedZoneId": "Z0123456789ABC",
            },
            id="without a CDN",
        ),
        pytest.param(
            {"models": [{**each, "market": "spot-then-on-demand"} for each in published_models()]}, id="two markets"
        ),
        pytest.param({"hfToken": "hf_" + "x" * 34}, id="a token"),
        pytest.param(
            {"notificationEmails": ["ann@example.org"], "notificationWebhook": "https://hooks.example.org/x"},
            id="notices",
        ),
        pytest.param({"architecture": "amd64", "amiId": NEWER_AMI, "zones": 2}, id="other machines"),
    ],
)
def test_a_preview_of_a_fresh_stack_plans_everything_with_what_is_not_known_yet(
    desk: Desk, changes: Mapping[str, Any]
) -> None:
    outcome = desk.stack.preview(whole(configured(**changes)))
    assert len(outcome.labels(Kind.CREATE)) == len(outcome.operations) > 80
    assert outcome.dropped == set(DROPPED)
    assert inventory(desk.ask) == desk.before


# -- from nothing to everything ------------------------------------------------------------------------------------


def test_an_up_makes_everything_and_only_what_is_listed_is_not_for_real(desk: Desk, first: Outcome) -> None:
    assert len(first.labels(Kind.CREATE)) == len(first.operations) > 80
    assert first.dropped == set(DROPPED)
    assert first.faked == set(FAKED)
    assert first.exports["apiBaseUrl"] == f"{first.exports['webUrl']}/v1"
    made = inventory(desk.ask)
    assert made["dynamodb.list_tables"] == {table.full_name(NAMESPACE) for table in schema.TABLES}
    assert made["autoscaling.describe_auto_scaling_groups"] == {group(each["name"]) for each in published_models()}
    assert desk.weights() == {"night": 1, "control": 0}


def test_groups_come_as_the_control_plane_expects_them(desk: Desk, first: Outcome) -> None:
    described = desk.group(GENERAL)
    assert (described["MinSize"], described["DesiredCapacity"]) == (0, 0)
    assert described["MaxSize"] == schema.GROUP_MAX_SIZE
    assert {each["ProcessName"] for each in described["SuspendedProcesses"]} == {"AZRebalance", "ReplaceUnhealthy"}
    assert {each["Key"]: each["Value"] for each in described["Tags"]}[schema.TAG] == NAMESPACE
    hooks = desk.ask("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=group(GENERAL))["LifecycleHooks"]
    assert [hook["LifecycleTransition"] for hook in hooks] == ["autoscaling:EC2_INSTANCE_TERMINATING"]
    versions = desk.ask("ec2").describe_launch_template_versions(LaunchTemplateName=group(GENERAL))
    template = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert template["ImageId"] == AMI
    assert template["NetworkInterfaces"][0]["DeleteOnTermination"]


def test_a_second_up_changes_nothing_but_what_the_emulator_forgot(second: Outcome) -> None:
    assert told(second) == {}
    assert len(second.labels(Kind.SAME)) > 80


# -- while it lives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refresh", [False, True], ids=["up", "up --refresh"])
def test_what_lives_is_not_reset(awake: Desk, refresh: bool) -> None:
    assert awake.living(GENERAL) == AWAKE
    assert told(awake.up(refresh=refresh)) == {}
    assert awake.living(GENERAL) == AWAKE


def test_what_the_owner_overrode_outlives_changes_of_the_configuration(awake: Desk) -> None:
    awake.override(GENERAL, idleTimeout=42)
    models = published_models()
    for idle_timeout in (600, 700):
        models[1]["idleTimeout"] = idle_timeout
        with awake.changed(models=models):
            assert awake.overridden(GENERAL) == {"idleTimeout": 42}
    awake.up(refresh=True)
    assert awake.overridden(GENERAL) == {"idleTimeout": 42}


def test_a_model_changes_in_its_row_and_its_group_only(awake: Desk) -> None:
    models = published_models()
    models[1] |= {"idleTimeout": 777, "instanceTypes": ["g5.xlarge", "g5.2xlarge"]}
    with awake.changed(models=models) as outcome:
        assert told(outcome) == {ROW: Kind.UPDATE, f"aws_autoscaling_group {group(GENERAL)}": Kind.UPDATE}
        overrides = awake.group(GENERAL)["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
        assert [each["InstanceType"] for each in overrides] == ["g5.xlarge", "g5.2xlarge"]
        assert json.loads(awake.stack.state(ROW)["item"])["config"]["M"]["idleTimeout"] == {"N": "777"}
        assert awake.living(GENERAL) == AWAKE


def test_a_new_machine_image_is_for_the_next_node(awake: Desk) -> None:
    node = awake.group(GENERAL)["Instances"][0]["InstanceId"]
    templates = [f"aws_launch_template {group(each['name'])}" for each in published_models()]
    with awake.changed(amiId=NEWER_AMI) as outcome:
        assert told(outcome) == dict.fromkeys(templates, Kind.UPDATE)
        assert awake.group(GENERAL)["Instances"][0]["InstanceId"] == node
        assert awake.living(GENERAL) == AWAKE


def test_a_new_version_of_the_control_plane_is_for_the_next_task(awake: Desk) -> None:
    running = awake.stack.state("aws_ecs_service service")["task_definition"]
    awake.machine.sources = "changed"
    assert told(awake.up()) == {
        "aws_ecs_task_definition service": Kind.REPLACE,
        "aws_lambda_function night": Kind.UPDATE,
        "aws_lambda_function janitor": Kind.UPDATE,
    }
    assert awake.stack.state("aws_ecs_service service")["task_definition"] == running
    assert awake.living(GENERAL) == AWAKE


def test_a_model_comes_and_goes_beside_the_others(awake: Desk) -> None:
    another = {**published_models()[1], "name": "another/model"}
    with awake.changed(models=[*published_models(), another]) as outcome:
        added = told(outcome)
    new = {
        "aws_autoscaling_group": group("another/model"),
        "aws_dynamodb_table_item": "data-model-another-model",
        "aws_iam_instance_profile": f"{NAMESPACE}-another-model-node",
        "aws_iam_role": f"{NAMESPACE}-another-model-node",
        "aws_iam_role_policy": f"{NAMESPACE}-another-model-node",
        "aws_launch_template": group("another/model"),
    }
    assert added == {f"{type_} {name}": Kind.CREATE for type_, name in new.items()}
    assert not [each.label for each in awake.stack.resources.values() if "another-model" in each.label]
    assert awake.living(GENERAL) == AWAKE


def test_without_ignore_changes_everything_alive_would_be_reset(awake: Desk) -> None:
    awake.stack.refresh()
    outcome = awake.stack.preview(whole(configured()), obey_ignore_changes=False)
    lines = {label: "; ".join(each.differences) for label, each in outcome.changes.items()}
    assert f"aws_autoscaling_group {group(GENERAL)}" not in lines  # the program does not say a group's size at all
    assert "desired_count: 1 -> 0" in lines["aws_ecs_service service"]
    assert "weight" in lines["aws_lb_listener front"]
    assert "value" in lines["aws_ssm_parameter data-session-key"]
    assert awake.living(GENERAL) == AWAKE


def test_a_model_that_is_removed_goes_once_its_nodes_are_drained(awake: Desk) -> None:
    node = awake.group(GENERAL)["Instances"][0]["InstanceId"]
    others = [each for each in published_models() if each["name"] != GENERAL]
    with awake.draining(GENERAL) as let_go:
        outcome = awake.up(models=others)
    assert set(let_go) == {node}
    assert f"aws_autoscaling_group {group(GENERAL)}" in outcome.labels(Kind.DELETE)
    assert all("qwen-qwen3-14b-awq" in label for label in outcome.labels(Kind.DELETE))
    assert Kind.REPLACE not in told(outcome).values()
    assert group(GENERAL) not in inventory(awake.ask)["autoscaling.describe_auto_scaling_groups"]
    assert awake.weights() == AWAKE["weights"]


# -- and back to nothing -------------------------------------------------------------------------------------------


def test_a_destroy_leaves_what_was_there_before(desk: Desk, second: Outcome) -> None:
    with desk.draining(GENERAL):
        outcome = desk.stack.destroy()
    assert set(outcome.changes) == outcome.labels(Kind.DELETE)
    assert not desk.stack.resources
    assert inventory(desk.ask) == desk.before


@pytest.fixture(scope="module", autouse=True)
def _no_files_of_ours_are_left(provider: Provider) -> Iterator[None]:
    yield
    assert provider.process.poll() is None, "the provider died on the way"
    assert not list(Path(".").glob("terraform*"))
