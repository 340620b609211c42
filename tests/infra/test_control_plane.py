"""The control plane's resources: load balancer, service, functions, image."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from moto.events.models import EventPattern

from control_plane.cli import Server
from control_plane.deployment import Deployment
from control_plane.holds import LASTS_S
from control_plane.infra.environment import environment
from control_plane.infra.front import DEREGISTRATION_DELAY_S, idle_timeout_s
from control_plane.infra.functions import TIMEOUT_S
from control_plane.infra.service import STOP_TIMEOUT_S
from control_plane.settings import PREFIX, Settings
from tests.infra.component import Registrations
from tests.infra.whole import DIGEST, configured
from web.distribution import READ_TIMEOUT_S

NAMESPACE = "diogenes-desk"
HOLD_S = 45  # of the night watch, see design of the cold start: below what the edge waits


@pytest.fixture(scope="module")
def registrations() -> Registrations:
    return configured("as published").registrations


def container(registrations: Registrations) -> dict[str, Any]:
    (one,) = json.loads(registrations.one(":TaskDefinition").inputs["containerDefinitions"])
    return dict(one)


# -- the front ------------------------------------------------------------------------------------------------------


def test_the_listener_faces_the_night_watch_at_first(registrations: Registrations) -> None:
    (action,) = registrations.one("lb/listener:Listener").inputs["defaultActions"]
    weights = {group["arn"].split("/")[1]: group["weight"] for group in action["forward"]["targetGroups"]}
    assert weights == {f"{NAMESPACE}-night": 1, f"{NAMESPACE}-control": 0}
    assert action["forward"]["stickiness"] == {"enabled": False, "duration": 3600}


def test_the_load_balancer_is_internal_and_speaks_plain_http_behind_a_cdn(registrations: Registrations) -> None:
    assert registrations.one(":LoadBalancer").inputs["internal"] is True
    listener = registrations.one("lb/listener:Listener").inputs
    assert (listener["port"], listener["protocol"]) == (80, "HTTP")


def test_without_a_cdn_it_faces_the_internet_on_https_only() -> None:
    registrations = configured("without a CDN").registrations
    assert registrations.one(":LoadBalancer").inputs["internal"] is False
    listener = registrations.one("lb/listener:Listener").inputs
    assert (listener["port"], listener["protocol"]) == (443, "HTTPS")
    assert "TLS13" in listener["sslPolicy"]
    assert listener["certificateArn"].startswith("arn:aws:acm:")


def test_the_load_balancer_waits_longer_than_we_are_silent_and_closes_before_the_server_does() -> None:
    application: Any = SimpleNamespace(app=None)
    server = Server(application, Settings())
    assert max(Settings().edge_read_timeout_s, READ_TIMEOUT_S) < idle_timeout_s() < server.config.timeout_keep_alive
    assert configured("as published").registrations.one(":LoadBalancer").inputs["idleTimeout"] == idle_timeout_s()


def test_the_load_balancer_waits_for_the_internet_gateway(registrations: Registrations) -> None:
    gateway = registrations.one(":InternetGateway")
    assert gateway.urn in registrations.one(":LoadBalancer").explicit_dependencies


def test_the_load_balancer_has_two_zones_however_many_the_nodes_have(registrations: Registrations) -> None:
    assert len(registrations.one(":LoadBalancer").inputs["subnets"]) == 2
    assert len(registrations.of(":Subnet")) == 3


def test_the_control_plane_is_judged_by_its_health_check(registrations: Registrations) -> None:
    group = registrations.one(":TargetGroup", "front-control").inputs
    assert (group["targetType"], group["port"]) == ("ip", Settings().port)
    assert group["healthCheck"]["path"] == "/healthz"
    assert group["healthCheck"]["interval"] == 5
    assert group["healthCheck"]["healthyThreshold"] == 2
    assert group["deregistrationDelay"] == DEREGISTRATION_DELAY_S


def test_the_night_watch_gets_every_cookie_and_no_health_checks(registrations: Registrations) -> None:
    group = registrations.one(":TargetGroup", "front-night").inputs
    assert group["targetType"] == "lambda"
    assert group["lambdaMultiValueHeadersEnabled"] is True
    assert "healthCheck" not in group


# -- the service ----------------------------------------------------------------------------------------------------


def test_there_is_no_task_at_first_and_a_deployment_starts_the_next_one_before_it_ends_one(
    registrations: Registrations,
) -> None:
    service = registrations.one("ecs/service:Service").inputs
    assert service["desiredCount"] == 0
    assert (service["deploymentMinimumHealthyPercent"], service["deploymentMaximumPercent"]) == (100, 200)
    assert service["availabilityZoneRebalancing"] == "DISABLED"


def test_the_service_waits_for_its_listener_and_its_permissions(registrations: Registrations) -> None:
    needed = {
        registrations.one("lb/listener:Listener").urn,
        registrations.one(":RolePolicy", "service-execution").urn,
    }
    assert needed <= registrations.one("ecs/service:Service").explicit_dependencies


def test_the_task_runs_where_the_load_balancer_reaches_it(registrations: Registrations) -> None:
    network = registrations.one("ecs/service:Service").inputs["networkConfiguration"]
    assert network["subnets"] == registrations.one(":LoadBalancer").inputs["subnets"]
    assert network["assignPublicIp"] is True
    (group,) = network["securityGroups"]
    assert group == _id_of(registrations, "network-control-plane")


def test_the_wake_finds_the_task_definition_by_the_services_name(registrations: Registrations) -> None:
    family = registrations.one(":TaskDefinition").inputs["family"]
    assert family == registrations.one("ecs/service:Service").inputs["name"] == f"{NAMESPACE}-control"


def test_so_many_clients_are_held_as_the_account_leaves_room_for() -> None:
    def held(executions: int) -> int:
        deployment = Deployment(NAMESPACE, "us-east-1", (), (), lambda_concurrency=executions)
        names = dict.fromkeys(("listener_arn", "control_plane_group_arn", "night_watch_group_arn"), "arn")
        return Settings.from_env(environment(deployment, **names)).max_holds

    assert (held(Deployment.lambda_concurrency), held(1000)) == (6, 900)


def test_the_container_is_told_what_its_settings_read(registrations: Registrations) -> None:
    told = {pair["name"]: pair["value"] for pair in container(registrations)["environment"]}
    assert told.pop("AWS_DEFAULT_REGION") == "us-east-1"
    assert all(name.startswith(PREFIX) for name in told)
    settings = Settings.from_env(told)
    assert settings.namespace == NAMESPACE
    assert settings.control_plane_idle_timeout_s == 600
    assert settings.cluster == registrations.one(":Cluster").inputs["name"]
    assert settings.service == registrations.one("ecs/service:Service").inputs["name"]
    groups = registrations.one("lb/listener:Listener").inputs["defaultActions"][0]["forward"]["targetGroups"]
    assert [settings.night_watch_group_arn, settings.control_plane_group_arn] == [group["arn"] for group in groups]
    assert ":listener/" in settings.listener_arn


def test_the_functions_are_told_the_same_as_the_container(registrations: Registrations) -> None:
    told = {pair["name"]: pair["value"] for pair in container(registrations)["environment"]}
    del told["AWS_DEFAULT_REGION"]  # Lambda sets it, and lets nobody else
    for name in ("night", "janitor"):
        assert registrations.one("lambda/function:Function", name).inputs["environment"] == {"variables": told}


def test_a_task_that_stops_has_time_for_its_streams(registrations: Registrations) -> None:
    assert container(registrations)["stopTimeout"] == STOP_TIMEOUT_S
    assert Settings().stop_timeout_s < STOP_TIMEOUT_S <= 120
    assert Settings().stop_timeout_s <= DEREGISTRATION_DELAY_S


def test_the_container_writes_nothing_but_its_log(registrations: Registrations) -> None:
    assert container(registrations)["readonlyRootFilesystem"] is True
    options = container(registrations)["logConfiguration"]["options"]
    group = registrations.one(":LogGroup", "service").inputs
    assert options["awslogs-group"] == group["name"]


def test_all_logs_end(registrations: Registrations) -> None:
    retention = {each.inputs["name"]: each.inputs.get("retentionInDays") for each in registrations.of(":LogGroup")}
    assert set(retention.values()) == {14}
    assert {"/diogenes-desk/control-plane", "/aws/lambda/diogenes-desk-night", "/aws/lambda/diogenes-desk-janitor"} <= (
        retention.keys()
    )


# -- the functions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["night", "janitor"])
def test_a_function_is_the_image_with_another_command(registrations: Registrations, name: str) -> None:
    function = registrations.one("lambda/function:Function", name)
    assert function.inputs["packageType"] == "Image"
    assert function.inputs["imageConfig"]["commands"] == [f"control_plane.{name}.handler"]
    assert function.inputs["imageConfig"]["entryPoints"][1:] == ["-m", "awslambdaric"]
    assert function.inputs["timeout"] == TIMEOUT_S
    assert HOLD_S < TIMEOUT_S <= READ_TIMEOUT_S
    assert TIMEOUT_S <= LASTS_S, "a slot would run out while its client is held"
    assert "reservedConcurrentExecutions" not in function.inputs
    policy = registrations.one(":RolePolicy", f"{name}-role")
    assert policy.urn in function.explicit_dependencies


def test_the_load_balancer_may_call_the_night_watch_before_it_is_its_target(registrations: Registrations) -> None:
    permission = registrations.one("lambda/permission:Permission", "night")
    assert permission.inputs["principal"] == "elasticloadbalancing.amazonaws.com"
    assert f"targetgroup/{NAMESPACE}-night/" in permission.inputs["sourceArn"]
    assert permission.urn in registrations.one(":TargetGroupAttachment").explicit_dependencies


def test_the_janitor_comes_every_two_minutes(registrations: Registrations) -> None:
    rule = registrations.one(":EventRule", "janitor")
    assert rule.inputs["scheduleExpression"] == "rate(2 minutes)"
    assert "eventPattern" not in rule.inputs


def test_the_janitor_comes_when_a_task_of_the_service_is_gone(registrations: Registrations) -> None:
    rule = registrations.one(":EventRule", "janitor-task-ended")
    assert "scheduleExpression" not in rule.inputs
    pattern = EventPattern.load(rule.inputs["eventPattern"])
    cluster, service = registrations.one(":Cluster"), registrations.one("ecs/service:Service")
    detail = {
        "clusterArn": cluster.state["arn"],
        "group": f"service:{service.inputs['name']}",
        "desiredStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
    }
    event = {"source": "aws.ecs", "detail-type": "ECS Task State Change"}

    def heard(**changes: str) -> bool:
        told: Any = {**event, "detail": {**detail, **changes}}
        return bool(pattern.matches_event(told))

    assert [heard(lastStatus=status) for status in ("DEPROVISIONING", "STOPPED")] == [True, True]
    assert not any(heard(lastStatus=status) for status in ("PENDING", "RUNNING", "DEACTIVATING", "STOPPING"))
    assert not heard(lastStatus="STOPPED", group="service:another")
    assert not heard(lastStatus="STOPPED", clusterArn="arn:aws:ecs:us-east-1:111122223333:cluster/another")


def test_each_rule_calls_the_janitor_and_may(registrations: Registrations) -> None:
    rules = registrations.of(":EventRule")
    assert len(rules) == 2
    function = registrations.one("lambda/function:Function", "janitor")
    for rule in rules:
        permission = registrations.one("lambda/permission:Permission", rule.name)
        assert permission.inputs["principal"] == "events.amazonaws.com"
        assert rule.urn in permission.input_dependencies["sourceArn"]
        target = registrations.one(":EventTarget", rule.name)
        assert (target.inputs["rule"], target.inputs["arn"]) == (rule.inputs["name"], function.state["arn"])
        assert permission.urn in target.explicit_dependencies


# -- the image ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configuration", "platform", "lambdas", "tasks"),
    [("as published", "linux/arm64", "arm64", "ARM64"), ("for Intel", "linux/amd64", "x86_64", "X86_64")],
)
def test_the_image_is_built_for_where_it_runs(configuration: str, platform: str, lambdas: str, tasks: str) -> None:
    registrations = configured(configuration).registrations
    assert registrations.one("docker-build:index:Image").inputs["platforms"] == [platform]
    assert registrations.one(":TaskDefinition").inputs["runtimePlatform"]["cpuArchitecture"] == tasks
    for function in registrations.of("lambda/function:Function"):
        assert function.inputs["architectures"] == [lambdas]


def test_what_runs_is_named_by_its_digest_and_not_by_a_tag_as_well(registrations: Registrations) -> None:
    """Lambda refuses a reference that has both, which is what the image's own ``ref`` is."""
    uri = f"111122223333.dkr.ecr.us-east-1.amazonaws.com/{NAMESPACE}@{DIGEST}"
    assert container(registrations)["image"] == uri
    assert {each.inputs["imageUri"] for each in registrations.of("lambda/function:Function")} == {uri}


def test_the_image_is_pushed_by_an_update_and_not_built_by_a_preview(registrations: Registrations) -> None:
    image = registrations.one("docker-build:index:Image").inputs
    assert image["push"] is True
    assert image["buildOnPreview"] is False
    assert image["context"]["location"] == "."
    assert image["dockerfile"]["location"] == "control_plane/Dockerfile"
    assert image["registries"][0]["address"] == f"111122223333.dkr.ecr.us-east-1.amazonaws.com/{NAMESPACE}"


def test_few_old_images_are_kept_and_none_outlives_the_stack(registrations: Registrations) -> None:
    assert registrations.one(":Repository").inputs["forceDelete"] is True
    (rule,) = json.loads(registrations.one(":LifecyclePolicy").inputs["policy"])["rules"]
    assert rule["action"] == {"type": "expire"}
    assert rule["selection"]["tagStatus"] == "untagged"


def _id_of(registrations: Registrations, name: str) -> str:
    """Of a security group, as a rule that belongs to it tells."""
    urn = registrations.one(":SecurityGroup", name).urn
    for rule in registrations.of(":SecurityGroupIngressRule"):
        if urn in rule.input_dependencies["securityGroupId"]:
            return str(rule.inputs["securityGroupId"])
    raise AssertionError(f"no rule belongs to {name}")
