"""All of Diogenes in one AWS account. What is made, and what each part costs: README.md."""

import pulumi

from control_plane import schema
from control_plane.cost import at_rest_usd
from control_plane.deployment import Edge
from control_plane.infra import exports, stack
from control_plane.infra.control_plane import ControlPlane
from control_plane.infra.data import Data, sign_ins
from control_plane.infra.groups import node_groups
from control_plane.infra.network import Network
from control_plane.settings import Settings
from gpu_node.engine_settings import VLLM_IMAGE, EngineKind, EngineSettings
from gpu_node.infra import GpuNodes, RootVolume
from gpu_node.protocol import ENGINE_PORT
from web.infra import Web

deployment = stack.deployment()

network = Network(
    "network",
    namespace=deployment.namespace,
    region=deployment.region,
    zones=deployment.zones,
    internet_facing=deployment.edge is Edge.PUBLIC,
    control_plane_port=Settings().port,
    engine_port=ENGINE_PORT,
    metrics_port=Settings().metrics_port,
    metrics_from=deployment.telemetry.metrics_from,
)
data = Data(
    "data",
    deployment=deployment,
    hf_token=stack.hf_token(),
    github_secret=stack.github_secret(),
    webhook=stack.webhook(),
    traces_headers=stack.traces_headers(),
)
nodes = GpuNodes(
    "nodes",
    namespace=deployment.namespace,
    region=deployment.region,
    groups=node_groups(deployment),
    max_size=schema.GROUP_MAX_SIZE,
    subnet_ids=network.subnet_ids,
    security_group_id=network.node_security_group_id,
    instances_table_arn=data.tables[schema.INSTANCES.name].arn,
    instances_table_name=data.tables[schema.INSTANCES.name].name,
    models_table_arn=data.tables[schema.MODELS.name].arn,
    models_table_name=data.tables[schema.MODELS.name].name,
    hf_token_parameter_arn=data.hf_token_parameter_arn,
    hf_token_parameter_name=data.hf_token_parameter_name,
    ami_id=deployment.ami_id,
    root_volume=RootVolume(deployment.root_volume_gb, deployment.root_volume_mib_s),
    engine=EngineSettings(kind=EngineKind(deployment.engine), image=deployment.engine_image or VLLM_IMAGE),
    bake_image=deployment.bake_image,
    tags={schema.TAG: deployment.namespace},
    after=network.ready,
)
control_plane = ControlPlane("control-plane", deployment=deployment, network=network, data=data)
web = Web(
    "web",
    namespace=deployment.namespace,
    load_balancer_arn=control_plane.load_balancer_arn,
    load_balancer_dns_name=control_plane.load_balancer_dns_name,
    load_balancer_zone_id=control_plane.load_balancer_zone_id,
    edge=deployment.edge,
    domain=deployment.domain,
    certificate_arn=deployment.certificate_arn,
    hosted_zone_id=deployment.hosted_zone_id,
    site_config=exports.site_config(sign_ins(deployment)),
)
data.keep_web_url(web.url)

pulumi.export("webUrl", web.url)
pulumi.export("apiBaseUrl", web.api_base_url)
pulumi.export("googleRedirectUri", pulumi.Output.concat(web.url, schema.CALLBACK_PATH))
pulumi.export("firstKey", exports.first_key(deployment))
pulumi.export("snippet", web.api_base_url.apply(lambda url: exports.snippet(deployment, url)))
pulumi.export("costAtRestPerMonth", f"${at_rest_usd(deployment):.2f}")
if nodes.bake_command:
    pulumi.export("bakeImage", nodes.bake_command)
pulumi.export("notes", list(deployment.notes))
