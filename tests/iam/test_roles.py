"""The program's own roles: each can do all that a rich story asks of it, and what it never does has a reason."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import httpx
import openai
import pytest

from gpu_node.protocol import from_attributes
from rehearsal.account import REGION
from rehearsal.desk import Desk, Options
from rehearsal.ec2 import HOME
from rehearsal.iam import Grant
from rehearsal.stack import OWNER
from tests.desk.story import Story, opened

pytestmark = pytest.mark.desk

ANSWERS, BROKEN, LOST = "roles/answers", "roles/broken", "roles/lost"
QUICK_LEASE = {"DIOGENES_LEASE_S": "4", "DIOGENES_NODE_HEARTBEAT_S": "0.5"}

FALLBACK = "for groups that cannot launch synchronously, as with a warm pool: see AwsCloud._launch_by_desire"
SNAPSHOT = "of the image; AWS knows them among what a fleet takes, and no template of ours names one"
FRONT = "nothing stands in front on a desk: the control plane neither wakes nor sleeps there"
LAMBDA = "Lambda itself writes a function's log, and no desk has Lambda"
FILES = "what a machine's first script fetches: an emulated machine has the agent on this one's disk"
ENGINE_FILES = "the engine's program brings weights and caches; a desk's engine is a stand-in that has none"
AGENT_LEAVES = "this one was taken down by the control plane; others of the story leave by themselves"

FLEET_GRANTS = {"ec2:CreateFleet snapshot": SNAPSHOT}
FALLBACK_GRANTS = {
    "autoscaling:DescribeScalingActivities *": FALLBACK,
    "autoscaling:SetDesiredCapacity autoScalingGroup": FALLBACK,
}
LATER = "a session's end is moved on when it has been used for ten minutes"
SIGNS_IN = "the task's story signs in: both functions answer with the same code"

TASK: Mapping[str, str] = {
    **FLEET_GRANTS,
    **FALLBACK_GRANTS,
    "dynamodb:UpdateItem sessions": LATER,
    "ec2:DescribeSpotPriceHistory *": "asked at a launch on Spot only",
    "ecs:DescribeServices service": FRONT,
    "ecs:DescribeTasks task": FRONT,
    "ecs:ListTasks *": FRONT,
    "ecs:UpdateService service": FRONT,
    "elasticloadbalancing:DescribeListeners *": FRONT,
    "elasticloadbalancing:DescribeTargetHealth *": FRONT,
    "elasticloadbalancing:ModifyListener listener": FRONT,
    "iam:PassRole role": FRONT,
}

TICK = "a reconciler's tick, as the task's: one round meets few of its cases, and the task's story all of them"
ROUND = "of the front's moves one round makes one; those with a load balancer that has targets come with its stand-in"
LEDGER = "usage is written by who relays answers, which a function never does"

WAKES = "asked while a wake takes long, for tasks that ended: in this story it takes no time"

NIGHT: Mapping[str, str] = {
    "ecs:DescribeTasks task": WAKES,
    "ecs:ListTasks *": WAKES,
    **FLEET_GRANTS,
    **FALLBACK_GRANTS,
    "autoscaling:CompleteLifecycleAction autoScalingGroup": TICK,
    "autoscaling:TerminateInstanceInAutoScalingGroup autoScalingGroup": TICK,
    "dynamodb:UpdateItem instances": TICK,
    **{f"dynamodb:{action}Item sessions": SIGNS_IN for action in ("Delete", "Get", "Put", "Update")},
    "dynamodb:Scan sessions": SIGNS_IN,
    "dynamodb:PutItem usage": TICK,
    "dynamodb:UpdateItem usage": LEDGER,
    "ec2:DescribeInstances *": TICK,
    "ec2:DescribeSpotPriceHistory *": TICK,
    "elasticloadbalancing:ModifyListener listener": ROUND,
    "logs:CreateLogStream log-group": LAMBDA,
    "logs:PutLogEvents log-group": LAMBDA,
}

JANITOR: Mapping[str, str] = {
    "ecs:DescribeTasks task": WAKES,
    "ecs:ListTasks *": WAKES,
    **FLEET_GRANTS,
    **FALLBACK_GRANTS,
    "autoscaling:CompleteLifecycleAction autoScalingGroup": TICK,
    "autoscaling:LaunchInstances autoScalingGroup": TICK,
    "autoscaling:TerminateInstanceInAutoScalingGroup autoScalingGroup": TICK,
    "dynamodb:DeleteItem control": TICK,
    "dynamodb:PutItem control": TICK,
    "dynamodb:PutItem usage": TICK,
    "dynamodb:UpdateItem instances": TICK,
    "dynamodb:UpdateItem models": TICK,
    "ec2:DescribeInstances *": TICK,
    "ec2:DescribeSpotPriceHistory *": TICK,
    **{
        f"ec2:CreateFleet {kind}": TICK
        for kind in (
            *("fleet", "image", "instance", "launch-template", "network-interface"),
            *("security-group", "subnet", "volume"),
        )
    },
    "ec2:DescribeLaunchTemplateVersions *": TICK,
    "elasticloadbalancing:ModifyListener listener": ROUND,
    "logs:CreateLogStream log-group": LAMBDA,
    "logs:PutLogEvents log-group": LAMBDA,
}

EXECUTION: Mapping[str, str] = dict.fromkeys(
    (
        *("ecr:BatchCheckLayerAvailability repository", "ecr:BatchGetImage repository"),
        *("ecr:GetAuthorizationToken *", "ecr:GetDownloadUrlForLayer repository"),
        *("logs:CreateLogStream log-group", "logs:PutLogEvents log-group"),
    ),
    "ECS itself fetches the image and opens the log: no desk has ECS",
)

NODE: Mapping[str, str] = {
    "s3:GetObject agent/*": FILES,
    **{
        f"s3:{action} {folder}/*": ENGINE_FILES
        for action in ("GetObject", "PutObject", "AbortMultipartUpload", "ListMultipartUploadParts")
        for folder in ("weights", "compile-cache")
    },
    "s3:DeleteObject weights/*": ENGINE_FILES,
    "s3:ListBucket bucket": ENGINE_FILES,
    "s3:ListBucketMultipartUploads bucket": ENGINE_FILES,
}

LEAVING: Mapping[str, str] = {
    "autoscaling:CompleteLifecycleAction autoScalingGroup": AGENT_LEAVES,
    "autoscaling:TerminateInstanceInAutoScalingGroup autoScalingGroup": AGENT_LEAVES,
}


def short(grant: Grant) -> str:
    """A grant without what differs from stack to stack."""
    resource = grant.resource.rpartition(":::")[2] if ":::" in grant.resource else grant.resource.split(":", 5)[-1]
    if grant.action.startswith("s3:"):
        resource = re.sub(r"^[^/]*/([\w-]+)/.*$", r"\1/*", resource) if "/" in resource else "bucket"
    elif resource.startswith("table/"):
        resource = resource.rpartition("/")[2].removeprefix("diogenes-desk-")
    else:
        resource = re.split("[/:]", resource)[0]
    return f"{grant.action} {resource}"


def unused(desk: Desk, role: str) -> set[str]:
    return {short(grant) for grant in desk.account.unused(role)}


async def every_route(story: Story) -> None:
    """What clients and the web app can ask for, once each."""
    async with story.http() as http:
        made = (await http.post("api/keys", json={"name": "second"})).raise_for_status().json()
        assert len((await http.get("api/keys")).json()["keys"]) == 2
        (await http.delete(f"api/keys/{made['key_id']}")).raise_for_status()
        (await http.patch(f"api/models/{ANSWERS}", json={"idleTimeout": 700})).raise_for_status()
        (await http.get("api/cluster")).raise_for_status()
        (await http.get("api/events")).raise_for_status()


async def sign_in(story: Story) -> None:
    """As a browser does, up to signing out everywhere; an owner lets somebody in on the way."""
    provider = story.desk.identity
    async with httpx.AsyncClient(base_url=story.desk.web_url, headers={"x-diogenes-csrf": "1"}, timeout=30) as http:
        begun = (await http.post("api/session/start", json={"provider": "desk"})).raise_for_status().json()
        asked = dict(parse_qsl(urlsplit(begun["authorize_url"]).query))
        back = dict(parse_qsl(urlsplit(provider.way_back(asked, {"email": OWNER})).fragment))
        (await http.post("api/session", json=back)).raise_for_status()
        assert (await http.get("api/session")).json()["email"] == OWNER
        (await http.put("api/allowlist/bob@example.com")).raise_for_status()
        (await http.delete("api/session?everywhere=true")).raise_for_status()
        assert (await http.get("api/session")).status_code == 401


async def test_a_rich_story_runs_under_the_roles_and_leaves_only_grants_that_have_a_reason() -> None:
    with opened(ANSWERS, BROKEN, LOST, idle_seconds=600, settles=False, environment=QUICK_LEASE) as story:
        desk = story.desk
        desk.add_fault(boot_failure="gated_model", model=BROKEN, times="always")
        assert (await story.ask(ANSWERS)).whole
        assert (await story.ask(BROKEN)).error == "gated_model"
        await every_route(story)
        await sign_in(story)
        await story.scale(ANSWERS, 0)
        await story.gone(ANSWERS)
        assert (await story.ask(LOST)).whole
        await asyncio.sleep(1)  # what was used is written twice a second
        await asyncio.to_thread(desk.kill_control_plane)
        await story.gone(LOST)
        assert set(desk.account.roles()) == {
            *(f"diogenes-desk-{name}" for name in ("task", "execution", "night", "janitor")),
            *(f"diogenes-desk-roles-{name}-node" for name in ("answers", "broken", "lost")),
        }
        assert unused(desk, "diogenes-desk-task") == set(TASK)
        assert unused(desk, "diogenes-desk-execution") == set(EXECUTION)
        assert unused(desk, "diogenes-desk-roles-lost-node") == set(NODE)
        assert unused(desk, "diogenes-desk-roles-broken-node") == set(NODE)
        assert unused(desk, "diogenes-desk-roles-answers-node") == {*NODE, *LEAVING}


async def test_without_the_permission_to_launch_the_client_is_told_which_one_is_missing() -> None:
    options = Options(boot_seconds=0.2, load_seconds=0.2, models=[{"name": ANSWERS, "instanceTypes": ["g5.xlarge"]}])
    told: list[str] = []
    with Desk(options, tell=told.append) as desk:
        desk.revoke("diogenes-desk-task", "autoscaling:LaunchInstances")
        with (
            openai.OpenAI(base_url=desk.base_url, api_key=desk.api_key) as client,
            pytest.raises(openai.APIStatusError) as refusal,
        ):
            client.chat.completions.create(model=ANSWERS, messages=[{"role": "user", "content": "Hello"}])
        assert refusal.value.status_code == 403
        assert "not allowed to launch" in refusal.value.message
        assert "autoscaling:LaunchInstances" in refusal.value.message
        assert {(denial.role, denial.action) for denial in desk.denied()} == {
            ("diogenes-desk-task", "autoscaling:LaunchInstances")
        }
        assert desk.instances() == {}
    assert any(line.startswith("denied: ") and "LaunchInstances" in line for line in told)


# -- the functions -------------------------------------------------------------------------------------------------

INVOKE = """
import importlib, json, sys
module, name = sys.argv[1].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)
for event in json.loads(sys.argv[2]):
    print("ANSWER " + json.dumps(handler(event, None)))
"""


def run(*words: str, env: Mapping[str, str]) -> str:
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(HOME), "HF_HUB_OFFLINE": "1"}
    made = subprocess.run(
        [sys.executable, *words], env={**base, **env}, cwd=HOME, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout


def invoke(desk: Desk, name: str, *events: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Calls of a function, in a process of its own, as its role, with the environment that the program gave it."""
    (function,) = (each for each in desk.stack.functions() if each.name == name)
    credentials = desk.account.assume(function.role, service="lambda.amazonaws.com", session=name)
    env = {**function.environment, **desk.aws_env(), **credentials.environment()}
    told = run("-c", INVOKE, function.handler, json.dumps(events), env=env)
    lines = (line.partition("ANSWER ") for line in told.splitlines())
    return [json.loads(answer) for before, mark, answer in lines if mark and not before]


def first_key(desk: Desk) -> str:
    """Made as the account's owner makes it."""
    owner = {"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "owner", "DIOGENES_NAMESPACE": desk.namespace}
    words = ("-m", "control_plane", "key", "create", "--email", OWNER, "--name", "first")
    return run(*words, env={**desk.aws_env(), **owner}).strip()


def stopped_by_hand(desk: Desk) -> None:
    """The account's owner sets the service's count to 0, as somebody may do in the console."""
    (janitor,) = (each for each in desk.stack.functions() if each.name == "diogenes-desk-janitor")
    ecs = boto3.client("ecs", **as_owner(desk))
    service, cluster = (janitor.environment[f"DIOGENES_{name}"] for name in ("SERVICE", "CLUSTER"))
    ecs.update_service(cluster=cluster, service=service, desiredCount=0)


def launched_by_hand(desk: Desk) -> str:
    """An instance of one of our groups that no row knows."""
    client = boto3.client("autoscaling", **as_owner(desk))
    name = client.describe_auto_scaling_groups()["AutoScalingGroups"][0]["AutoScalingGroupName"]
    client.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=2)
    known = {row["instance_id"] for row in rows_of(desk, "instances")}
    (found,) = {member.id for member in desk.account.members() if member.group == name} - known
    return str(found)


def reported(desk: Desk) -> Sequence[Mapping[str, Any]]:
    return rows_of(desk, "events")


def rows_of(desk: Desk, table: str) -> Sequence[Mapping[str, Any]]:
    rows = boto3.client("dynamodb", **as_owner(desk)).scan(TableName=f"{desk.namespace}-{table}")["Items"]
    return [from_attributes(row) for row in rows]


def as_owner(desk: Desk) -> Mapping[str, Any]:
    return {
        "endpoint_url": desk.aws_url,
        "region_name": REGION,
        "aws_access_key_id": "owner",
        "aws_secret_access_key": "owner",
    }


def asked(method: str, path: str, key: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """What the load balancer hands to a function."""
    return {
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:x"}},
        "httpMethod": method,
        "path": path,
        "multiValueQueryStringParameters": {},
        "multiValueHeaders": {"authorization": [f"Bearer {key}"], "content-type": ["application/json"]},
        "body": json.dumps(body) if body else "",
        "isBase64Encoded": False,
    }


def test_the_night_watch_wakes_the_service_and_the_janitor_looks_under_roles_of_their_own() -> None:
    models = [{"name": ANSWERS, "instanceTypes": ["g5.xlarge"]}]
    told: list[str] = []
    with Desk(Options(boot_seconds=600, models=models, control_plane=False), tell=told.append) as desk:
        key = first_key(desk)
        answers = invoke(
            desk,
            "diogenes-desk-night",
            asked("GET", "/v1/models", key),
            asked("POST", "/api/keys", key, {"name": "second"}),
            asked("GET", "/api/keys", key),
            asked("POST", "/api/cluster/scale", key, {"model": ANSWERS, "desired": 1}),
            asked("GET", "/api/events", key),
        )
        assert [answer["statusCode"] for answer in answers] == [200, 201, 200, 202, 200]
        kinds = {event["kind"] for event in json.loads(answers[-1]["body"])["events"]}
        assert kinds >= {"key-created", "model-woken", "node-launched", "front-moved", "tasks-set"}
        assert ANSWERS in answers[0]["body"]
        second = json.loads(answers[1]["body"])["key_id"]
        (revoked,) = invoke(desk, "diogenes-desk-night", asked("DELETE", f"/api/keys/{second}", key))
        assert revoked["statusCode"] == 204
        stopped_by_hand(desk)
        leaked = launched_by_hand(desk)
        (found,) = invoke(desk, "diogenes-desk-janitor", {})
        assert (found["state"], found["kinds"]) == ("waking", {"node-adopted": 1, "tasks-set": 1})
        kinds = {event["kind"] for event in reported(desk) if event.get("cause") == "janitor"}
        assert kinds == {"node-adopted", "tasks-set"}
        (mail,) = desk.account.mails()
        assert mail.subject == "[diogenes-desk] a leak was repaired"
        assert f"Instance {leaked} had no row, and was adopted." in mail.text
        limit = time.monotonic() + 60.0
        while f"mail: {mail.subject}" not in told:  # the desk says so to whoever sits there
            assert time.monotonic() < limit
            time.sleep(0.05)
        assert [str(denial) for denial in desk.denied()] == []
        assert unused(desk, "diogenes-desk-night") == set(NIGHT)
        assert unused(desk, "diogenes-desk-janitor") == set(JANITOR)
        assert desk.used("diogenes-desk-night") >= {"ecs:UpdateService", "iam:PassRole", "autoscaling:LaunchInstances"}
