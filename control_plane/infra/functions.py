"""The two Lambda functions: the night watch behind the load balancer, and the janitor with its two rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from control_plane.deployment import Deployment
from control_plane.infra import policies
from control_plane.infra.front import Front
from control_plane.infra.policies import Statement
from control_plane.infra.roles import Role
from control_plane.schema import TAG

ENTRY_POINT = ("/venv/bin/python", "-m", "awslambdaric")

ARCHITECTURES: Mapping[str, str] = {"arm64": "arm64", "amd64": "x86_64"}

MEMORY_MB = 512
"""Processor time comes with memory: half as much would start half as fast."""

TIMEOUT_S = 60
"""Above the 45 s for which the night watch holds a request, and within what the edge waits for an answer."""

JANITOR_SCHEDULE = "rate(2 minutes)"

GONE = ("DEPROVISIONING", "STOPPED")
"""How far a task's end has come when the janitor looks: nothing of it runs any more; and again at the very end, when
its target is gone for sure."""


@dataclass(frozen=True)
class Program:
    """What both functions run: the image and its environment."""

    image_uri: pulumi.Input[str]
    environment: pulumi.Input[Mapping[str, str]]


class Function(pulumi.ComponentResource):
    """One function of the image: its role, its logs, itself.

    No reserved concurrency, although one janitor at a time would do, and a place kept for it would be welcome: new
    accounts have ten executions in all, and AWS lets none of them be reserved, since ten must stay for everybody. So
    the night watch leaves some free by itself, by holding so many clients and no more; and two janitors at once are
    fenced off by the tables.
    """

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        handler: str,
        program: Program,
        statements: pulumi.Input[Sequence[Statement]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``handler`` is that of the image's module; ``name`` becomes the function's, after the namespace."""
        super().__init__("diogenes:control_plane:Function", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        physical_name = f"{deployment.namespace}-{name}"
        tags = {TAG: deployment.namespace}
        logs = aws.cloudwatch.LogGroup(
            name,
            name=f"/aws/lambda/{physical_name}",
            retention_in_days=deployment.log_retention_days,
            tags=tags,
            opts=child,
        )
        role = Role(
            f"{name}-role",
            namespace=deployment.namespace,
            physical_name=physical_name,
            trust=policies.trust("lambda.amazonaws.com"),
            opts=child,
        )
        allowed = role.allow(
            pulumi.Output.all(statements, logs.arn).apply(lambda told: [*told[0], *policies.write_logs(told[1])])
        )
        self.resource = aws.lambda_.Function(
            name,
            name=physical_name,
            package_type="Image",
            image_uri=program.image_uri,
            image_config=aws.lambda_.FunctionImageConfigArgs(entry_points=list(ENTRY_POINT), commands=[handler]),
            architectures=[ARCHITECTURES[deployment.architecture]],
            role=role.arn,
            memory_size=MEMORY_MB,
            timeout=TIMEOUT_S,
            environment=aws.lambda_.FunctionEnvironmentArgs(variables=program.environment),
            tags=tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs, allowed]),
        )
        self.register_outputs({"arn": self.resource.arn})


class NightWatch(pulumi.ComponentResource):
    """The function that answers while no task runs, as the load balancer's target."""

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        front: Front,
        program: Program,
        statements: pulumi.Input[Sequence[Statement]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:NightWatch", name, {}, opts)
        function = Function(
            name,
            deployment=deployment,
            handler="control_plane.night.handler",
            program=program,
            statements=statements,
            opts=pulumi.ResourceOptions(parent=self),
        ).resource
        permission = aws.lambda_.Permission(
            name,
            action="lambda:InvokeFunction",
            function=function.name,
            principal="elasticloadbalancing.amazonaws.com",
            source_arn=front.night_watch_group.arn,
            opts=pulumi.ResourceOptions(parent=self),
        )
        aws.lb.TargetGroupAttachment(
            name,
            target_group_arn=front.night_watch_group.arn,
            target_id=function.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission]),
        )
        self.register_outputs({"arn": function.arn})


class Janitor(pulumi.ComponentResource):
    """The function that looks after everything every two minutes, whoever else is alive; and as soon as a task is gone:
    who asks then would otherwise find a load balancer with nobody behind it."""

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        program: Program,
        statements: pulumi.Input[Sequence[Statement]],
        cluster_arn: pulumi.Input[str],
        service: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """``service``: the name of the one whose tasks' ends are heard."""
        super().__init__("diogenes:control_plane:Janitor", name, {}, opts)
        self._namespace = deployment.namespace
        child = pulumi.ResourceOptions(parent=self)
        function = Function(
            name,
            deployment=deployment,
            handler="control_plane.janitor.handler",
            program=program,
            statements=statements,
            opts=child,
        ).resource
        self._call(
            function,
            name,
            "Leaked nodes, forgotten wishes, a front that disagrees with its state",
            schedule=JANITOR_SCHEDULE,
        )
        self._call(
            function,
            f"{name}-task-ended",
            "A control plane that is gone, whatever ended it",
            pattern=pulumi.Output.from_input(cluster_arn).apply(lambda arn: task_ended(arn, service)),
        )
        self.register_outputs({"arn": function.arn})

    def _call(
        self,
        function: aws.lambda_.Function,
        name: str,
        why: str,
        *,
        schedule: str | None = None,
        pattern: pulumi.Input[str] | None = None,
    ) -> None:
        """A rule that calls the function, and may."""
        child = pulumi.ResourceOptions(parent=self)
        rule = aws.cloudwatch.EventRule(
            name,
            name=f"{self._namespace}-{name}",
            description=why,
            tags={TAG: self._namespace},
            schedule_expression=schedule,
            event_pattern=pattern,
            opts=child,
        )
        permission = aws.lambda_.Permission(
            name,
            action="lambda:InvokeFunction",
            function=function.name,
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=child,
        )
        aws.cloudwatch.EventTarget(
            name,
            rule=rule.name,
            arn=function.arn,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission]),
        )


def task_ended(cluster_arn: str, service: str) -> str:
    """EventBridge's pattern of such an end, as JSON. Events of AWS's own services cost nothing."""
    detail = {"clusterArn": [cluster_arn], "group": [f"service:{service}"], "lastStatus": list(GONE)}
    return json.dumps({"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"], "detail": detail})
