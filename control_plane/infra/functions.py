"""The two Lambda functions: the night watch behind the load balancer, and the janitor on its schedule."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Program:
    """What both functions run: the image and its environment."""

    image_uri: pulumi.Input[str]
    environment: pulumi.Input[Mapping[str, str]]


class Function(pulumi.ComponentResource):
    """One function of the image: its role, its logs, itself.

    No reserved concurrency, although one janitor at a time would do: new accounts have ten executions in all, and AWS
    lets none of them be reserved. Two at once are fenced off by the tables.
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
    """The function that looks after everything every two minutes, whoever else is alive."""

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        program: Program,
        statements: pulumi.Input[Sequence[Statement]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:Janitor", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        function = Function(
            name,
            deployment=deployment,
            handler="control_plane.janitor.handler",
            program=program,
            statements=statements,
            opts=child,
        ).resource
        rule = aws.cloudwatch.EventRule(
            name,
            name=f"{deployment.namespace}-{name}",
            description="Leaked nodes, forgotten wishes, a front that disagrees with its state",
            schedule_expression=JANITOR_SCHEDULE,
            tags={TAG: deployment.namespace},
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
        self.register_outputs({"arn": function.arn})
