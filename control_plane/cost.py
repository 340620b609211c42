"""What a deployment costs, item by item: a month at rest, an hour awake. List prices of us-east-1, US dollars. Pure.

What depends on use is an assumption, written beside it; free tiers are not taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.deployment import Deployment, Edge
from control_plane.instance_types import instance_type
from control_plane.model import Model
from control_plane.prices import HOURS_PER_MONTH, Services, prices
from control_plane.rates import gp3_usd_per_hour
from control_plane.schema import FRONT_ZONES

# What happens in a month in which nobody asks anything; estimates, but for the janitor's time.
_JANITOR_RUNS = HOURS_PER_MONTH * 30  # every 2 minutes
_JANITOR_S = 2.6  # a run: 0.75 s of CPU (median of seven), of which 512 MB have 0.29
_JANITOR_GB_SECONDS = 0.5 * _JANITOR_S
_JANITOR_READS = 15  # a run: a look at every table that it needs, and at whom to tell
_LOG_GB = 0.05
_TABLE_GB = 0.05
_IMAGES_GB = 1.0  # some versions of the control plane's image
_BUCKETS_GB = 1.0  # web app, the agent's package, what engines compiled: some hundred MB a model


@dataclass(frozen=True)
class Item:
    """One thing that is paid for."""

    name: str
    usd: float  # a month in lists of what rest costs, an hour in those of what is awake
    why: str = ""


def at_rest(deployment: Deployment) -> Sequence[Item]:
    """US dollars a month while nobody asks anything; the load balancer comes first."""
    asked = prices().services
    items = [Item("load balancer (ALB)", HOURS_PER_MONTH * asked.alb_usd_per_hour, f"{asked.alb_usd_per_hour} an hour")]
    if deployment.edge is Edge.PUBLIC:
        addresses = FRONT_ZONES * HOURS_PER_MONTH * asked.public_ipv4_usd_per_hour
        items.append(Item("its public addresses", addresses, f"one in each of its {FRONT_ZONES} zones"))
    return [*items, *_small(deployment, asked)]


def at_rest_usd(deployment: Deployment) -> float:
    """US dollars a month, all items together."""
    return sum(item.usd for item in at_rest(deployment))


def control_plane_awake(deployment: Deployment) -> Sequence[Item]:
    """US dollars an hour while the control plane runs, without any GPU."""
    asked = prices().services
    arm = deployment.architecture == "arm64"
    vcpu = asked.fargate_arm_vcpu_usd_per_hour if arm else asked.fargate_x86_vcpu_usd_per_hour
    gb = asked.fargate_arm_gb_usd_per_hour if arm else asked.fargate_x86_gb_usd_per_hour
    vcpus, memory = deployment.cpu / 1024, deployment.memory / 1024
    return [
        Item("Fargate task", vcpus * vcpu + memory * gb, f"{vcpus:g} vCPU, {memory:g} GB, {deployment.architecture}"),
        Item("its public address", asked.public_ipv4_usd_per_hour),
        Item("use of the load balancer", asked.alb_lcu_usd_per_hour, "at most, for one user: 1 LCU"),
    ]


def node_awake(deployment: Deployment, instance: str) -> Sequence[Item]:
    """US dollars an hour for one node of this type, On-Demand. Raises UnknownInstanceType."""
    asked, kind = prices().services, instance_type(instance)
    volume = gp3_usd_per_hour(deployment.root_volume_gb, deployment.root_volume_mib_s)
    return [
        Item(kind.name, kind.usd_per_hour, f"{kind.gpus} x {kind.gpu.name}"),
        Item("its root volume", volume, f"{deployment.root_volume_gb} GB, {deployment.root_volume_mib_s} MiB/s"),
        Item("its public address", asked.public_ipv4_usd_per_hour),
    ]


def markdown(deployment: Deployment) -> str:
    """The tables of the README."""
    told = prices()
    total, balancer = at_rest_usd(deployment), at_rest(deployment)[0].usd
    awake = sum(item.usd for item in control_plane_awake(deployment))
    initialization = deployment.root_volume_gb * told.services.ebs_initialization_usd_per_gb
    return "\n".join(
        [
            f"List prices of {told.region}, before free tiers and taxes; the price file is of {told.date}.",
            "",
            "| at rest | $ a month | |",
            "|---|---|---|",
            *(f"| {item.name} | {item.usd:.2f} | {item.why} |" for item in at_rest(deployment)),
            f"| **together** | **{total:.2f}** | {balancer:.2f} of it, {balancer / total:.0%}, is the load balancer |",
            "",
            "| awake, besides | $ an hour | |",
            "|---|---|---|",
            *(f"| {item.name} | {item.usd:.3f} | {item.why} |" for item in control_plane_awake(deployment)),
            f"| **control plane together** | **{awake:.3f}** | while it is awake, with or without a GPU |",
            *(_model_row(deployment, model, kind) for model in deployment.models for kind in model.instance_types),
            "",
            "A node is paid by the second; its root volume and public address are in its figure. Spot costs less, by",
            f"changing amounts. Each start costs up to {initialization:.2f} $ more, for a root volume that is fast at"
            " once.",
        ]
    )


def _small(deployment: Deployment, asked: Services) -> Sequence[Item]:
    """Everything that is far below the load balancer."""
    arm = deployment.architecture == "arm64"
    second = asked.lambda_arm_usd_per_gb_second if arm else asked.lambda_x86_usd_per_gb_second
    janitor = _JANITOR_RUNS * (_JANITOR_GB_SECONDS * second + asked.lambda_usd_per_million_requests / 1e6)
    tables = _JANITOR_RUNS * _JANITOR_READS * asked.dynamodb_usd_per_million_reads / 1e6
    tables += _TABLE_GB * (asked.dynamodb_usd_per_gb_month + asked.dynamodb_backup_usd_per_gb_month)
    logs = _LOG_GB * (asked.logs_usd_per_gb_ingested + asked.logs_usd_per_gb_month)
    return [
        Item("janitor (Lambda)", janitor, f"{_JANITOR_RUNS:,} runs of {_JANITOR_S:g} s at 512 MB"),
        Item("image (ECR)", _IMAGES_GB * asked.ecr_usd_per_gb_month, f"{_IMAGES_GB:g} GB of versions"),
        Item("tables (DynamoDB)", tables, f"the janitor's reads, {_TABLE_GB:g} GB with backup"),
        Item("logs (CloudWatch)", logs, f"{_LOG_GB:g} GB"),
        Item(
            "buckets (S3)",
            _BUCKETS_GB * asked.s3_usd_per_gb_month,
            "web app, the nodes' agent, compile caches; mirrored weights come on top",
        ),
        Item("everything else", 0.0, "network, groups, roles, parameters, schedule, budget; CloudFront is paid by use"),
    ]


def _model_row(deployment: Deployment, model: Model, instance: str) -> str:
    items = node_awake(deployment, instance)
    return f"| {model.name} | {sum(item.usd for item in items):.3f} | {instance}, {items[0].why} |"
