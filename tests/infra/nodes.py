"""The component of all GPU nodes, run alone: two models, one of them on both markets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import pulumi

from control_plane import schema
from gpu_node.engine_settings import EngineSettings
from gpu_node.infra import GpuNodes, NodeGroup, RootVolume
from tests.infra.component import ACCOUNT, REGION, Answer, Registration, Registrations, run_component

NAMESPACE = "diogenes-prod"
LONG = "casperhansen-deepseek-r1-distill-llama-70b-awq"
AMI = "ami-0123456789abcdef0"  # what the harness says is AWS's newest
DYNAMO = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table"


def node_group(model: str, slug: str, *, market: str = "on-demand", types: Sequence[str] = ("g5.xlarge",)) -> NodeGroup:
    tags = {schema.TAG: NAMESPACE, schema.MODEL_TAG: model, schema.MARKET_TAG: market}
    return NodeGroup(schema.group_name(NAMESPACE, slug, market), model, market, types, tags)


SPOT = node_group("Qwen/Qwen3-14B-AWQ", "qwen-qwen3-14b-awq", market="spot", types=("g6.xlarge", "g5.xlarge"))
ON_DEMAND = replace(
    SPOT,
    name=SPOT.name.replace("spot", "on-demand"),
    market="on-demand",
    tags={**SPOT.tags, schema.MARKET_TAG: "on-demand"},
)
BIG = node_group("casperhansen/deepseek-r1-distill-llama-70b-awq", LONG, types=("g5.12xlarge",))
GROUPS = (SPOT, ON_DEMAND, BIG)


def built(
    groups: Sequence[NodeGroup] = GROUPS,
    *,
    ami_id: str | None = None,
    token: bool = True,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    bake_image: bool = False,
    answers: Mapping[str, Answer] | None = None,
) -> Registrations:
    """What the component registers; ``answers`` are AWS's to what it asks."""

    def build() -> None:
        nodes = GpuNodes(
            "nodes",
            namespace=NAMESPACE,
            region=REGION,
            groups=groups,
            max_size=schema.GROUP_MAX_SIZE,
            subnet_ids=[pulumi.Output.from_input("subnet-a"), "subnet-b"],
            security_group_id=pulumi.Output.from_input("sg-nodes"),
            instances_table_arn=f"{DYNAMO}/{NAMESPACE}-instances",
            instances_table_name=f"{NAMESPACE}-instances",
            models_table_arn=f"{DYNAMO}/{NAMESPACE}-models",
            models_table_name=f"{NAMESPACE}-models",
            hf_token_parameter_arn=f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{NAMESPACE}/hf-token" if token else None,
            hf_token_parameter_name=f"/{NAMESPACE}/hf-token" if token else None,
            ami_id=ami_id,
            root_volume=RootVolume(120, 250),
            engine=engine,
            bake_image=bake_image,
            tags={schema.TAG: NAMESPACE},
        )
        assert len(nodes.group_arns) == len(groups)
        assert len(nodes.role_arns) == len({group.model for group in groups})

    return run_component(build, calls=answers)


@cache
def default() -> Registrations:
    """What is registered where nothing is asked for; run once."""
    return built()


def templates(registrations: Registrations) -> Mapping[str, Registration]:
    """The launch templates by name."""
    return {each.inputs["name"]: each for each in registrations.of(":LaunchTemplate")}


def groups_of(registrations: Registrations) -> Mapping[str, Registration]:
    """The Auto Scaling groups by name."""
    return {each.inputs["name"]: each for each in registrations.of("autoscaling/group:Group")}
