"""The control plane on Fargate: a cluster, one task definition, and a service that wants no task until it is woken."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from control_plane.deployment import Deployment
from control_plane.infra import policies
from control_plane.infra.front import Front
from control_plane.infra.names import cluster_name, service_name
from control_plane.infra.network import Network
from control_plane.infra.policies import Place
from control_plane.infra.roles import Role
from control_plane.schema import TAG
from control_plane.settings import Settings

CONTAINER = "control-plane"

STOP_TIMEOUT_S = 120
"""From SIGTERM until ECS kills: the longest that Fargate allows, and above ``Settings.stop_timeout_s``."""

GRACE_S = 60
"""A task that starts is not judged by its health checks for so long."""

ARCHITECTURES: Mapping[str, str] = {"arm64": "ARM64", "amd64": "X86_64"}


class Service(pulumi.ComponentResource):
    """One task, or none; and a second one for as long as it takes the place of the first, which acts no more then.

    A new image makes a new task definition, and touches nothing that runs: the next wake takes the newest one. The
    count of tasks is moved by what runs, and ignored here.
    """

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        place: pulumi.Output[Place],
        network: Network,
        front: Front,
        image_uri: pulumi.Input[str],
        repository_arn: pulumi.Input[str],
        environment: pulumi.Input[Mapping[str, str]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:Service", name, {}, opts)
        self._name = name
        self._deployment = deployment
        self._tags = {TAG: deployment.namespace}
        self._child = pulumi.ResourceOptions(parent=self)
        self._logs = aws.cloudwatch.LogGroup(
            name,
            name=f"/{deployment.namespace}/control-plane",
            retention_in_days=deployment.log_retention_days,
            tags=self._tags,
            opts=self._child,
        )
        trust = place.apply(lambda place: policies.trust("ecs-tasks.amazonaws.com", place=place))
        self.role = self._role("task", trust)
        self.execution_role = self._role("execution", trust)
        allowed = self.execution_role.allow(
            pulumi.Output.all(repository_arn, self._logs.arn).apply(
                lambda arns: [*policies.pull_image(arns[0]), *policies.write_logs(arns[1])]
            )
        )
        task = self._make_task(image_uri, environment)
        cluster = aws.ecs.Cluster(
            name,
            name=cluster_name(deployment.namespace),
            settings=[aws.ecs.ClusterSettingArgs(name="containerInsights", value="disabled")],  # costs at rest
            tags=self._tags,
            opts=self._child,
        )
        # Without a listener ECS refuses the target group; without its permissions the task cannot start.
        self._service = self._make_service(
            cluster, task, network, front, after=[front.listener, allowed, *network.ready]
        )
        self.arn = self._service.id  # ECS's id of a service is its ARN
        self.cluster_arn = cluster.arn
        self.register_outputs({"arn": self.arn})

    def _role(self, kind: str, trust: pulumi.Input[str]) -> Role:
        namespace = self._deployment.namespace
        return Role(
            f"{self._name}-{kind}",
            namespace=namespace,
            physical_name=f"{namespace}-{kind}",
            trust=trust,
            opts=self._child,
        )

    def _make_task(
        self, image_uri: pulumi.Input[str], environment: pulumi.Input[Mapping[str, str]]
    ) -> aws.ecs.TaskDefinition:
        deployment = self._deployment
        containers = pulumi.Output.all(image_uri, environment, self._logs.name).apply(
            lambda told: container_definitions(told[0], told[1], log_group=told[2], region=deployment.region)
        )
        return aws.ecs.TaskDefinition(
            self._name,
            family=service_name(deployment.namespace),
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=str(deployment.cpu),
            memory=str(deployment.memory),
            runtime_platform=aws.ecs.TaskDefinitionRuntimePlatformArgs(
                cpu_architecture=ARCHITECTURES[deployment.architecture], operating_system_family="LINUX"
            ),
            execution_role_arn=self.execution_role.arn,
            task_role_arn=self.role.arn,
            container_definitions=containers,
            tags=self._tags,
            opts=self._child,
        )

    def _make_service(
        self,
        cluster: aws.ecs.Cluster,
        task: aws.ecs.TaskDefinition,
        network: Network,
        front: Front,
        *,
        after: Sequence[pulumi.Resource],
    ) -> aws.ecs.Service:
        return aws.ecs.Service(
            self._name,
            name=service_name(self._deployment.namespace),
            cluster=cluster.arn,
            task_definition=task.arn,
            desired_count=0,
            launch_type="FARGATE",
            # No circuit breaker: it would leave the service failed for good after trouble that passes.
            # A deployment, and AWS's own maintenance, begin with a second task: the first one leaves the load balancer
            # when the second is healthy, so nobody finds it without a target. Only one of them acts: see reconciler.py.
            deployment_minimum_healthy_percent=100,
            deployment_maximum_percent=200,
            availability_zone_rebalancing="DISABLED",  # it moves a task by starting a second one
            health_check_grace_period_seconds=GRACE_S,
            wait_for_steady_state=False,
            propagate_tags="SERVICE",
            network_configuration=aws.ecs.ServiceNetworkConfigurationArgs(
                subnets=list(network.front_subnet_ids),  # the load balancer reaches its own zones only
                security_groups=[network.control_plane_security_group_id],
                assign_public_ip=True,  # instead of a NAT gateway; its group admits the load balancer only
            ),
            load_balancers=[
                aws.ecs.ServiceLoadBalancerArgs(
                    target_group_arn=front.control_plane_group.arn,
                    container_name=CONTAINER,
                    container_port=Settings().port,
                )
            ],
            tags=self._tags,
            opts=pulumi.ResourceOptions(
                parent=self, ignore_changes=["desired_count", "task_definition"], depends_on=list(after)
            ),
        )


def container_definitions(image_uri: str, environment: Mapping[str, str], *, log_group: str, region: str) -> str:
    """The one container, as ECS's JSON."""
    port = Settings().port
    return json.dumps(
        [
            {
                "name": CONTAINER,
                "image": image_uri,
                "essential": True,
                "portMappings": [{"containerPort": port, "hostPort": port, "protocol": "tcp"}],
                "environment": [
                    {"name": key, "value": value}
                    for key, value in sorted({**environment, "AWS_DEFAULT_REGION": region}.items())
                ],
                "readonlyRootFilesystem": True,
                "stopTimeout": STOP_TIMEOUT_S,
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {
                        "awslogs-group": log_group,
                        "awslogs-region": region,
                        "awslogs-stream-prefix": CONTAINER,
                    },
                },
            }
        ]
    )
