"""The rehearsal's stack: the project's own program, applied to the emulated account.

There is no second description of what `pulumi up` makes. The program runs unmodified in this process, and each of its
registrations becomes the real thing over AWS's interface, so that what depends on it gets real ids and ARNs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import BotoCoreError, ClientError
from moto.events.models import EventPattern
from pulumi.runtime import mocks

from control_plane import schema
from rehearsal import identity_provider
from rehearsal.program import HOME, PROJECT, StackConfig, run
from rehearsal.resources.given import Api, Given, Unmade
from rehearsal.resources.kinds import MADE, answer, imagined

STACK = "desk"
NAMESPACE = f"{PROJECT}-{STACK}"
STACK_FILE = HOME / "Pulumi.prod.yaml"
OWNER = "me@example.com"
_ELSEWHERE = "https://desk.example.com"  # until it is known where the desk's own provider listens

_OFFLINE = {"HF_HUB_OFFLINE": "1"}
_EVENT_RULE = "aws:cloudwatch/eventRule:EventRule"
_EVENT_TARGET = "aws:cloudwatch/eventTarget:EventTarget"
_FUNCTION = "aws:lambda/function:Function"
_CLUSTER = "aws:ecs/cluster:Cluster"
_LOAD_BALANCER = "aws:lb/loadBalancer:LoadBalancer"
_SERVICE = "aws:ecs/service:Service"
_TARGET_GROUP = "aws:lb/targetGroup:TargetGroup"
_TASK_DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"


def models_of_stack(path: Path = STACK_FILE) -> Sequence[Mapping[str, Any]]:
    """The models as the stack's configuration has them. Raises KeyError when it has none."""
    config: Mapping[str, Any] = yaml.safe_load(path.read_text())["config"]
    models: Sequence[Mapping[str, Any]] = config[f"{PROJECT}:models"]
    return models


@dataclass(frozen=True)
class Function:
    """One Lambda function of the program."""

    name: str
    role: str  # ARN
    handler: str  # as in package.module.function
    environment: Mapping[str, str]
    timeout_s: float


@dataclass(frozen=True)
class Stack:
    """What the program made."""

    namespace: str
    exports: Mapping[str, Any]
    made: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)  # states, by type

    @property
    def task_role(self) -> str:
        """The ARN of the role of the control plane's task."""
        return str(self._task["taskRoleArn"])

    def task_environment(self) -> Mapping[str, str]:
        """The variables of the control plane's container."""
        (container,) = json.loads(self._task["containerDefinitions"])
        return {entry["name"]: entry["value"] for entry in container["environment"]}

    def functions(self) -> Sequence[Function]:
        return [
            Function(
                told["name"],
                told["role"],
                told["imageConfig"]["commands"][0],
                told["environment"]["variables"],
                float(told["timeout"]),
            )
            for told in self.made[_FUNCTION]
        ]

    def called_by(self, event: Any) -> Sequence[str]:
        """The handlers of the functions that a rule calls for an event of EventBridge."""
        heard = {
            rule["name"]
            for rule in self.made[_EVENT_RULE]
            if rule.get("eventPattern") and EventPattern.load(rule["eventPattern"]).matches_event(event)
        }
        called = {target["arn"] for target in self.made[_EVENT_TARGET] if target["rule"] in heard}
        arns = {told["arn"]: told["imageConfig"]["commands"][0] for told in self.made[_FUNCTION]}
        return sorted(arns[arn] for arn in called)

    def task_ended(self, status: str) -> Any:
        """What EventBridge is told when a task of the service has come so far in its end."""
        (cluster,) = self.made[_CLUSTER]
        detail = {
            "clusterArn": cluster["arn"],
            "group": f"service:{self.service['name']}",
            "desiredStatus": "STOPPED",
            "lastStatus": status,
        }
        return {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": detail}

    @property
    def load_balancer(self) -> Mapping[str, Any]:
        """What the program said of it."""
        (found,) = self.made[_LOAD_BALANCER]
        return found

    @property
    def service(self) -> Mapping[str, Any]:
        """What the program said of it."""
        (found,) = self.made[_SERVICE]
        return found

    def target_group(self, arn: str) -> Mapping[str, Any]:
        """What the program said of it."""
        (found,) = (group for group in self.made[_TARGET_GROUP] if group["arn"] == arn)
        return found

    @property
    def _task(self) -> Mapping[str, Any]:
        (found,) = self.made[_TASK_DEFINITION]
        return found


def apply(url: str, *, region: str, models: Sequence[Mapping[str, Any]] | None = None, stack: str = STACK) -> Stack:
    """Run the program against the empty account at ``url``; ``models`` instead of those of Pulumi.prod.yaml.

    Raises pulumi.RunError for a configuration that cannot be deployed, resources.given.Unmade for a registration that
    the rehearsal does not understand.
    """
    config = StackConfig.of_file(
        STACK_FILE,
        stack=stack,
        models=[dict(model) for model in models or models_of_stack()],
        oidcProviders=[{"name": identity_provider.NAME, "issuer": _ELSEWHERE, "clientId": identity_provider.CLIENT_ID}],
        allowedEmails=[OWNER],
    )
    api = Api(url, region=region)
    try:
        builder = Builder(api)
        exports = run(config, mocks.MockMonitor(builder), environment=_OFFLINE)
    finally:
        api.close()
    return Stack(f"{PROJECT}-{stack}", exports, builder.made)


def point_sign_in(url: str, *, region: str, namespace: str, issuer: str, web_url: str) -> None:
    """Tell the deployment where the desk's sign-in and its web app are: on loopback, without TLS.

    A stack's configuration takes no such issuer, and the program thinks that the web app is at its CDN.
    """
    name = partial(schema.parameter_name, namespace)
    api = Api(url, region=region)
    try:
        told = api.call("ssm", "GetParameter", name=name(schema.OIDC_CLIENTS))["Parameter"]["Value"]
        clients = [{**client, "issuer": issuer} for client in json.loads(told)]
        for parameter, value in ((schema.OIDC_CLIENTS, json.dumps(clients)), (schema.WEB_URL, web_url)):
            api.call("ssm", "PutParameter", name=name(parameter), value=value, type="String", overwrite=True)
    finally:
        api.close()


class Builder(mocks.Mocks):
    """Makes each registration in the account. Asked by several threads at a time."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.made: dict[str, list[Mapping[str, Any]]] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if not args.custom:
            return None, dict(args.inputs)
        given = Given(args.typ, args.name, args.inputs)
        try:
            made = MADE.get(args.typ, imagined)(given, self._api)
        except (ClientError, BotoCoreError) as error:
            raise Unmade(f"{args.typ} {args.name}: {error}") from error
        given.finish()
        state = {"name": args.name, **args.inputs, **made.outputs}
        self.made.setdefault(args.typ, []).append(state)
        return made.id, state

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return dict(answer(args.token, args.args, self._api)), []
