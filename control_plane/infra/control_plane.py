"""The control plane, composed: image, front, service, night watch, janitor, and what each of them may do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_aws as aws

from control_plane.deployment import Deployment, Edge
from control_plane.infra import policies
from control_plane.infra.data import Data
from control_plane.infra.environment import environment
from control_plane.infra.front import Front
from control_plane.infra.functions import Janitor, NightWatch, Program
from control_plane.infra.image import Image
from control_plane.infra.names import service_name
from control_plane.infra.network import Network
from control_plane.infra.policies import Place, Statement
from control_plane.infra.service import Service
from control_plane.infra.watch import Watch
from control_plane.settings import Settings


class ControlPlane(pulumi.ComponentResource):
    """Everything that answers requests and looks after the nodes; at rest, a load balancer and two functions."""

    def __init__(
        self,
        name: str,
        *,
        deployment: Deployment,
        network: Network,
        data: Data,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("diogenes:control_plane:ControlPlane", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        place = aws.get_caller_identity_output().account_id.apply(
            lambda account: Place(account, deployment.region, deployment.namespace)
        )
        image = Image(
            "image",
            place=place,
            namespace=deployment.namespace,
            architecture=deployment.architecture,
            opts=child,
        )
        front = _front(deployment, network, opts=child)
        watch = Watch("watch", deployment=deployment, opts=child)
        program = Program(image.uri, _environment(deployment, front, data, watch))
        service = Service(
            "service",
            deployment=deployment,
            place=place,
            network=network,
            front=front,
            image_uri=program.image_uri,
            repository_arn=image.repository_arn,
            environment=program.environment,
            opts=child,
        )
        spot = any("spot" in model.market.ladder for model in deployment.models)
        acting = _statements(place, data, front, service, tables=policies.SERVING_TABLES, spot=spot)
        serving = pulumi.Output.all(acting, place).apply(lambda told: [*told[0], *policies.entrance(told[1])])
        service.role.allow(_with_traces(serving, data))
        NightWatch("night", deployment=deployment, front=front, program=program, statements=serving, opts=child)
        looking_after = _statements(place, data, front, service, tables=policies.JANITOR_TABLES, spot=spot)
        cleaning = _with_notices(looking_after, watch, data)
        Janitor(
            "janitor",
            deployment=deployment,
            program=program,
            statements=cleaning,
            cluster_arn=service.cluster_arn,
            service=service_name(deployment.namespace),
            opts=child,
        )

        self.image_uri = image.uri
        self.load_balancer_arn = front.load_balancer_arn
        self.load_balancer_dns_name = front.load_balancer_dns_name
        self.load_balancer_zone_id = front.load_balancer_zone_id
        self.register_outputs({"imageUri": self.image_uri})


def _front(deployment: Deployment, network: Network, *, opts: pulumi.ResourceOptions) -> Front:
    return Front(
        "front",
        namespace=deployment.namespace,
        vpc_id=network.vpc_id,
        subnet_ids=network.front_subnet_ids,
        security_group_id=network.load_balancer_security_group_id,
        gateway=network.gateway,
        port=Settings().port,
        certificate_arn=deployment.certificate_arn if deployment.edge is Edge.PUBLIC else None,
        opts=opts,
    )


def _environment(deployment: Deployment, front: Front, data: Data, watch: Watch) -> pulumi.Output[Mapping[str, str]]:
    arns = pulumi.Output.all(
        listener_arn=front.listener.arn,
        control_plane_group_arn=front.control_plane_group.arn,
        night_watch_group_arn=front.night_watch_group.arn,
        hf_token_parameter=data.hf_token_parameter_name or "",
        notification_topic_arn=watch.topic_arn,
        notification_webhook_parameter=data.webhook_parameters[0].name if data.webhook_parameters else "",
        traces_headers_parameter=data.traces_headers_parameter.name if data.traces_headers_parameter else "",
    )
    return arns.apply(lambda arns: environment(deployment, **arns))


def _with_notices(
    cleaning: pulumi.Output[Sequence[Statement]], watch: Watch, data: Data
) -> pulumi.Output[Sequence[Statement]]:
    """What the janitor alone may: it is the only one that sends notices."""
    parameters = [parameter.arn for parameter in data.webhook_parameters]
    return pulumi.Output.all(cleaning, watch.topic_arn, parameters).apply(
        lambda told: [*told[0], *policies.notices(told[1], told[2])]
    )


def _with_traces(serving: pulumi.Output[Sequence[Statement]], data: Data) -> pulumi.Output[Sequence[Statement]]:
    """What the task alone may: it is the only one that traces."""
    parameter = data.traces_headers_parameter
    if parameter is None:
        return serving
    return pulumi.Output.all(serving, parameter.arn).apply(lambda told: [*told[0], *policies.traces_headers(told[1])])


def _statements(
    place: pulumi.Output[Place],
    data: Data,
    front: Front,
    service: Service,
    *,
    tables: Mapping[str, Sequence[str]],
    spot: bool,
) -> pulumi.Output[Sequence[Statement]]:
    told = pulumi.Output.all(
        place=place,
        tables={name: data.tables[name].arn for name in tables},
        listener=front.listener.arn,
        service=service.arn,
        cluster=service.cluster_arn,
        roles=[service.role.arn, service.execution_role.arn],
        token=data.hf_token_parameter_arn,
    )

    def allowed(told: Mapping[str, Any]) -> Sequence[Statement]:
        return [
            *policies.tables(told["tables"], tables),
            *policies.fleet(told["place"], spot=spot),
            *policies.front(policies.Front(told["service"], told["cluster"], told["listener"], told["roles"])),
            *(policies.hub_token(told["token"]) if told["token"] else []),
        ]

    return told.apply(allowed)
