"""A whole deployment in an emulated account, and what a living control plane does to it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import yaml
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.types import Base64EncodedString
from moto.ec2.models import ec2_backends

from control_plane import schema
from control_plane.deployment import SECRETS
from control_plane.infra.names import cluster_name, service_name
from control_plane.model import slug
from gpu_node.protocol import DRAIN_HOOK
from rehearsal.account import REGION
from rehearsal.program import HOME, PROJECT, StackConfig
from rehearsal.stack import OWNER
from tests.provider.programs import whole
from tests.provider.stack import Stack
from tests.provider.state import Outcome
from tests.provider.surroundings import Clients, Machine

NAMESPACE = "diogenes-desk"
CLUSTER, SERVICE = cluster_name(NAMESPACE), service_name(NAMESPACE)
PUBLISHED = HOME / "Pulumi.prod.yaml"


@dataclass(frozen=True)
class Desk:
    """The stack "desk", its account, and the machine that Pulumi runs on."""

    stack: Stack
    ask: Clients
    machine: Machine
    before: Mapping[str, frozenset[str]]  # what the account held when it was empty

    def up(self, *, refresh: bool = False, **changes: Any) -> Outcome:
        """``changes`` are to the published configuration, as in ``models=[…]``."""
        return self.stack.up(whole(configured(**changes)), refresh=refresh)

    @contextmanager
    def changed(self, **changes: Any) -> Iterator[Outcome]:
        """As ``up`` with changes; then as published again, whatever happened."""
        try:
            yield self.up(**changes)
        finally:
            self.up()

    # -- what runs ------------------------------------------------------------------------------------------------

    def wake(self, model: str) -> None:
        """One node of the model, one task, all requests to the task."""
        _mend_launch_templates()
        self.ask("autoscaling").set_desired_capacity(AutoScalingGroupName=group(model), DesiredCapacity=1)
        self.ask("ecs").update_service(cluster=CLUSTER, service=SERVICE, desiredCount=1)
        self.weigh(night=0, control=1)

    def override(self, model: str, **settings: int) -> None:
        """The owner changes a model's settings in the UI."""
        values = {name: {"N": str(value)} for name, value in settings.items()}
        self.ask("dynamodb").update_item(
            TableName=schema.MODELS.full_name(NAMESPACE),
            Key={"name": {"S": model}},
            UpdateExpression="SET #override = :override",
            ExpressionAttributeNames={"#override": "override"},
            ExpressionAttributeValues={":override": {"M": values}},
        )

    def overridden(self, model: str) -> Mapping[str, Any]:
        item = self.ask("dynamodb").get_item(TableName=schema.MODELS.full_name(NAMESPACE), Key={"name": {"S": model}})[
            "Item"
        ]
        return {name: int(value["N"]) for name, value in item.get("override", {"M": {}})["M"].items()}

    def weigh(self, *, night: int, control: int) -> None:
        weights = {"night": night, "control": control}
        groups = [
            {"TargetGroupArn": arn, "Weight": weights[name.rpartition("-")[2]]}
            for name, arn in self._target_groups().items()
        ]
        forward = {"TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": False, "DurationSeconds": 3600}}
        self.ask("elbv2").modify_listener(
            ListenerArn=self.stack.state("aws_lb_listener front")["arn"],
            DefaultActions=[{"Type": "forward", "ForwardConfig": forward}],
        )

    def living(self, model: str) -> Mapping[str, Any]:
        """What ``wake`` changed, as it is now."""
        described = self.ask("ecs").describe_services(cluster=CLUSTER, services=[SERVICE])["services"]
        return {
            "nodes": self.group(model)["DesiredCapacity"],
            "tasks": described[0]["desiredCount"],
            "weights": self.weights(),
        }

    def weights(self) -> Mapping[str, int]:
        arn = self.stack.state("aws_lb_listener front")["arn"]
        listener = self.ask("elbv2").describe_listeners(ListenerArns=[arn])["Listeners"][0]
        names = {arn: name for name, arn in self._target_groups().items()}
        groups = listener["DefaultActions"][0]["ForwardConfig"]["TargetGroups"]
        return {names[each["TargetGroupArn"]].rpartition("-")[2]: each["Weight"] for each in groups}

    def group(self, model: str) -> Mapping[str, Any]:
        found = self.ask("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group(model)])
        described: Mapping[str, Any] = found["AutoScalingGroups"][0]
        return described

    def _target_groups(self) -> Mapping[str, str]:
        groups = self.ask("elbv2").describe_target_groups()["TargetGroups"]
        return {each["TargetGroupName"]: each["TargetGroupArn"] for each in groups}

    # -- who drains -----------------------------------------------------------------------------------------------

    @contextmanager
    def draining(self, model: str) -> Iterator[list[str]]:
        """A control plane that lets go of the model's nodes once they are held back; whom it let go."""
        let_go: list[str] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.2):
                for node in self._held(model):
                    self.ask("autoscaling").complete_lifecycle_action(
                        AutoScalingGroupName=group(model),
                        LifecycleHookName=DRAIN_HOOK,
                        InstanceId=node,
                        LifecycleActionResult="CONTINUE",
                    )
                    let_go.append(node)

        watcher = threading.Thread(target=watch, name="drainer")
        watcher.start()
        try:
            yield let_go
        finally:
            over.set()
            watcher.join()

    def _held(self, model: str) -> Sequence[str]:
        asked = self.ask("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group(model)])
        nodes = [node for each in asked["AutoScalingGroups"] for node in each["Instances"]]
        return [node["InstanceId"] for node in nodes if node["LifecycleState"] == "Terminating:Wait"]


def _mend_launch_templates() -> None:
    """moto knows the user data of a template's first version for what it is, and cannot launch from a later one."""
    for template in ec2_backends[DEFAULT_ACCOUNT_ID][REGION].launch_templates.values():
        for version in template.versions:
            if isinstance(told := version.data.get("UserData"), str):
                version.data["UserData"] = Base64EncodedString(told)


def group(model: str) -> str:
    return schema.group_name(NAMESPACE, slug(model), "on-demand")


def configured(**changes: Any) -> StackConfig:
    """The published stack file with an owner, changed; a token counts as a secret."""
    config = StackConfig.of_file(PUBLISHED, stack="desk", **{"allowedEmails": [OWNER], **changes})
    return replace(config, secrets=frozenset({f"{PROJECT}:{name}" for name in SECRETS} & set(config.values)))


def published_models() -> list[dict[str, Any]]:
    """The published stack file's models, to be changed."""
    models: list[dict[str, Any]] = yaml.safe_load(PUBLISHED.read_text())["config"]["diogenes:models"]
    return models
