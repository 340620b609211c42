"""The whole program under every configuration: what holds for all of it, whichever component made it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
from pulumi.runtime import rpc

from control_plane import schema
from control_plane.cost import at_rest_usd
from control_plane.deployment import Deployment
from control_plane.geometry import Unread
from control_plane.infra import functions, policies, service
from rehearsal.program import run
from tests.infra.component import ACCOUNT, REGION, Registration
from tests.infra.whole import (
    CONFIGURATIONS,
    OFFLINE,
    TOKEN,
    Ran,
    configured,
    ran,
    recording,
    run_stack,
    stack_config,
    text,
)

ALL = pytest.mark.parametrize("name", sorted(CONFIGURATIONS))

# AWS's own limits: the most characters, and what the name must look like.
_PLAIN = r"[A-Za-z0-9-]+"
LIMITS: Mapping[tuple[str, str], tuple[int, str]] = {
    ("lb/loadBalancer:LoadBalancer", "name"): (32, r"(?!internal-)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"),
    ("lb/targetGroup:TargetGroup", "name"): (32, r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"),
    ("iam/role:Role", "name"): (64, r"[\w+=,.@-]+"),
    ("iam/rolePolicy:RolePolicy", "name"): (128, r"[\w+=,.@-]+"),
    ("iam/instanceProfile:InstanceProfile", "name"): (128, r"[\w+=,.@-]+"),
    ("dynamodb/table:Table", "name"): (255, r"[A-Za-z0-9_.-]{3,}"),
    ("ecs/cluster:Cluster", "name"): (255, r"[\w-]+"),
    ("ecs/service:Service", "name"): (255, r"[\w-]+"),
    ("ecs/taskDefinition:TaskDefinition", "family"): (255, r"[\w-]+"),
    ("lambda/function:Function", "name"): (64, r"[\w-]+"),
    ("ecr/repository:Repository", "name"): (256, r"[a-z0-9]+([._/-][a-z0-9]+)*"),
    ("cloudwatch/logGroup:LogGroup", "name"): (512, r"[\w./#-]+"),
    ("cloudwatch/eventRule:EventRule", "name"): (64, r"[\w.-]+"),
    ("ssm/parameter:Parameter", "name"): (1011, r"/(?!aws|ssm)[\w./-]+"),
    ("ec2/securityGroup:SecurityGroup", "name"): (255, r"(?!sg-)[A-Za-z0-9 ._:/()#,@\[\]+=&;{}!$*-]+"),
    ("ec2/launchTemplate:LaunchTemplate", "name"): (128, r"[\w()./-]{3,}"),
    ("autoscaling/group:Group", "name"): (255, r"[^:]+"),
    ("budgets/budget:Budget", "name"): (100, r"[^:\\]+"),
    ("sns/topic:Topic", "name"): (256, r"[\w-]+"),
    ("cloudfront/function:Function", "name"): (64, r"[\w-]+"),
    ("cloudfront/originAccessControl:OriginAccessControl", "name"): (64, r"[\w-]+"),
    ("cloudfront/responseHeadersPolicy:ResponseHeadersPolicy", "name"): (128, r"[\w-]+"),
}

IGNORED: Mapping[str, list[str]] = {
    "lb/listener:Listener": ["defaultActions"],
    "ecs/service:Service": ["desiredCount", "taskDefinition"],
    "autoscaling/group:Group": ["desiredCapacity"],
    "ssm/parameter:Parameter data-session-key": ["value"],
    "ssm/parameter:Parameter data-notification-key": ["value"],
}
"""What lives on without Pulumi; a list too long would let real changes get lost."""

WITHOUT_TAGS = {
    "aws:autoscaling/group:Group",  # has tags of another form, and a test of its own
    "aws:s3/bucketObjectv2:BucketObjectv2",  # in buckets that have one; no permission goes by an object's
    "aws:cloudfront/function:Function",  # the web app's rewrite; no permission goes by it
}


@ALL
def test_every_configuration_runs_to_its_end(name: str) -> None:
    exports = configured(name).exports
    assert set(exports) - {"bakeImage"} == {
        "webUrl",
        "apiBaseUrl",
        "googleRedirectUri",
        "firstKey",
        "snippet",
        "costAtRestPerMonth",
        "notes",
    }
    assert all(exports[key] for key in exports if key != "notes")


@ALL
def test_only_what_lives_on_without_pulumi_is_ignored(name: str) -> None:
    for each in configured(name).registrations:
        kind = each.type.removeprefix("aws:")
        assert each.ignore_changes == IGNORED.get(f"{kind} {each.name}", IGNORED.get(kind, [])), each.name


@ALL
def test_every_resource_is_a_component_s(name: str) -> None:
    registrations = configured(name).registrations
    top = [each.name for each in registrations if each.parent.endswith("::pulumi:pulumi:Stack::diogenes-desk")]
    assert sorted(top) == ["control-plane", "data", "network", "nodes", "web"]
    components = {each.urn for each in registrations if each.type.startswith("diogenes:")}
    assert all(each.parent in components for each in registrations if each.name not in top)


@ALL
def test_names_are_within_awss_limits(name: str) -> None:
    assert _bad_names(configured(name)) == []


def test_names_are_within_awss_limits_for_the_longest_namespace_and_models_of_any_name() -> None:
    models = [
        {
            "name": f"{owner}/{'Really-Long_Model.Name-' * 4}{owner}",
            "repository": "acme/model",
            "instanceTypes": ["g5.xlarge"],
            "market": market,
        }
        for owner, market in (("Acme", "spot-then-on-demand"), ("other", "on-demand"))
    ]
    config = stack_config("fifteen-letters", models=models)

    found = run_stack(config)
    assert found.registrations.one("ecs/cluster:Cluster").inputs["name"] == "diogenes-fifteen-letters"
    assert len("diogenes-fifteen-letters") == 24
    assert _bad_names(found) == []


def _bad_names(found: Ran) -> list[str]:
    bad = []
    for (kind, key), (limit, pattern) in LIMITS.items():
        for each in found.registrations.of(kind):
            name = each.inputs[key]
            if len(name) > limit or not re.fullmatch(pattern, name):
                bad.append(f"{kind} {name}")
    return bad


@ALL
def test_whatever_can_bear_a_tag_bears_ours(name: str) -> None:
    untagged = [
        f"{each.type} {each.name}"
        for each in configured(name).registrations
        if _takes_tags(each) and each.inputs.get("tags", {}).get(schema.TAG) != "diogenes-desk"
    ]
    assert untagged == []


def _takes_tags(each: Registration) -> bool:
    if not each.type.startswith("aws:") or each.type in WITHOUT_TAGS:
        return False
    _, module, kind = each.type.split(":")
    package = module.split("/")[0]
    resource = getattr(import_module(f"pulumi_aws.{package}{'_' if package == 'lambda' else ''}"), kind)
    return "tags" in inspect.signature(resource._internal_init).parameters


@ALL
def test_groups_and_their_instances_bear_what_permissions_go_by(name: str) -> None:
    for group in configured(name).registrations.of("autoscaling/group:Group"):
        tags = {tag["key"]: (tag["value"], tag["propagateAtLaunch"]) for tag in group.inputs["tags"]}
        assert tags[schema.TAG] == ("diogenes-desk", True)
        assert tags[schema.MODEL_TAG][1]
        assert tags[schema.MARKET_TAG][1]


@ALL
def test_there_is_one_group_for_every_model_and_market(name: str) -> None:
    found = configured(name)
    told = {
        tuple(tag["value"] for tag in group.inputs["tags"] if tag["key"] in (schema.MODEL_TAG, schema.MARKET_TAG))
        for group in found.registrations.of("autoscaling/group:Group")
    }
    rows = [json.loads(row.inputs["item"])["config"]["M"] for row in found.registrations.of(":TableItem")]
    market = CONFIGURATIONS[name].get("market", "on-demand")
    markets = ["spot", "on-demand"] if market == "spot-then-on-demand" else [market]
    assert {frozenset(pair) for pair in told} == {frozenset((row["name"]["S"], one)) for row in rows for one in markets}


def test_nothing_that_is_passed_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulumi sends a resource that is passed instead of its id, or an Output that holds nothing, as no value at all."""
    lost: list[str] = []
    real = rpc.serialize_properties

    async def watched(inputs: Any, *arguments: Any, **options: Any) -> Any:
        sent = await real(inputs, *arguments, **options)
        given = {key for key, value in inputs.items() if value is not None}
        if len(given) != len(sent.fields):
            lost.append(f"{sorted(given)} became {sorted(sent.fields)}")
        lost.extend(f"{key} holds nothing" for key, value in sent.fields.items() if _hollow(value))
        return sent

    monkeypatch.setattr(rpc, "serialize_properties", watched)
    for name in ("as published", "without a CDN", "with a token", "on Spot, else On-Demand"):
        ran(**CONFIGURATIONS[name])
    assert lost == []


def _hollow(value: Any) -> bool:
    match value.WhichOneof("kind"):
        case "null_value":
            return True
        case "struct_value":
            return any(_hollow(each) for each in value.struct_value.fields.values())
        case "list_value":
            return any(_hollow(each) for each in value.list_value.values)
    return False


def test_the_token_goes_into_one_parameter_and_nowhere_else() -> None:
    found = configured("with a token")
    holders = [each for each in found.registrations if TOKEN in text(each.inputs)]
    assert [each.name for each in holders] == ["data-hf-token"]
    assert holders[0].secrets == {"value"}
    assert holders[0].inputs["type"] == "SecureString"
    assert TOKEN not in json.dumps(found.exports)


def test_who_launches_nodes_reads_the_token_too_and_is_told_where_it_is() -> None:
    found = configured("with a token")
    parameter = "/diogenes-desk/hf-token"
    for name in ("night", "janitor"):
        variables = found.registrations.one("lambda/function:Function", name).inputs["environment"]["variables"]
        assert variables["DIOGENES_HF_TOKEN_PARAMETER"] == parameter
    readers = [
        each for each in found.registrations.of("iam/rolePolicy:RolePolicy") if "ReadHubToken" in text(each.inputs)
    ]
    assert len(readers) == 3
    for each in readers:
        (statement,) = [one for one in json.loads(each.inputs["policy"])["Statement"] if one["Sid"] == "ReadHubToken"]
        (arn,) = statement["Resource"]
        assert (statement["Action"], arn.endswith(f":parameter{parameter}")) == (["ssm:GetParameter"], True)


def test_without_a_token_there_is_no_parameter_and_no_right_to_read_one() -> None:
    found = configured("as published")
    assert "data-hf-token" not in [each.name for each in found.registrations]
    assert all("hf-token" not in text(each.inputs) for each in found.registrations)


@ALL
def test_secrets_are_marked_as_such(name: str) -> None:
    registrations = configured(name).registrations
    session_key = registrations.one("ssm/parameter:Parameter", "data-session-key")
    assert session_key.secrets == {"value"}
    assert session_key.inputs["type"] == "SecureString"
    assert registrations.one("docker-build:index:Image").secrets == {"registries"}


@ALL
def test_the_functions_that_the_program_asks_are_these(name: str) -> None:
    asked = {token.rpartition(":")[2] for token, _ in configured(name).recorder.asked}
    expected = {
        "getAvailabilityZones",
        "getManagedPrefixList",
        "getParameter",
        "getCallerIdentity",
        "getAuthorizationToken",
        "getRandomPassword",
    }
    if name == "without a CDN":
        expected.remove("getManagedPrefixList")
    if name == "a pinned image":
        expected.remove("getParameter")
    if name == "a baked image":
        expected.add("getAmiIds")
    assert asked == expected


def test_who_bakes_images_is_told_how_to_start_it() -> None:
    exports = configured("a baked image").exports
    assert exports["bakeImage"].startswith("aws imagebuilder start-image-pipeline-execution --region us-east-1 ")
    assert "bakeImage" not in configured("as published").exports


def test_the_exports_are_ready_to_paste() -> None:
    exports = configured("with a domain").exports
    assert exports["webUrl"] == "https://llm.example.org"
    assert exports["apiBaseUrl"] == "https://llm.example.org/v1"
    assert exports["googleRedirectUri"] == "https://llm.example.org/signin"
    assert "--email me@example.com" in exports["firstKey"]
    assert "DIOGENES_NAMESPACE=diogenes-desk" in exports["firstKey"]
    assert "https://llm.example.org/v1/chat/completions" in exports["snippet"]
    config = stack_config(**CONFIGURATIONS["with a domain"])
    values = {key.removeprefix("diogenes:"): value for key, value in config.values.items() if key != "aws:region"}
    deployment = Deployment.parse(
        values,
        project="diogenes",
        stack="desk",
        region=REGION,
        read_geometry=lambda *_: Unread("not asked", asked=False),
    )
    assert exports["costAtRestPerMonth"] == f"${at_rest_usd(deployment):.2f}"


def test_what_could_not_be_checked_is_told() -> None:
    unknown = {"name": "acme/unheard-of", "instanceTypes": ["g5.xlarge"]}
    notes = ran(models=[unknown]).exports["notes"]
    assert len(notes) == 1
    assert "acme/unheard-of" in notes[0]


def test_a_preview_needs_nothing_that_is_known_only_afterwards() -> None:

    recorder = recording()
    run(stack_config(), recorder, preview=True, environment=OFFLINE)
    assert recorder.registrations.one("ecs/service:Service")


def test_account_numbers_come_from_the_account_and_from_nowhere_else() -> None:
    for module in (functions, policies, service):
        assert not re.search(r"\b\d{12}\b", inspect.getsource(module))
    assert (
        ACCOUNT
        in configured("as published").registrations.one("iam/rolePolicy:RolePolicy", "night-role").inputs["policy"]
    )
