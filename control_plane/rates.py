"""What a machine costs an hour, in whole micro-dollars: from the price file, or from Spot's price of the moment. Pure.

A rate is fixed when a machine is launched and stands in its row: the price file may change, its bill does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.prices import HOURS_PER_MONTH, prices

GP3_FREE_MIB_S = 125
"""What a gp3 volume carries without a surcharge."""

MICRO = 1_000_000
"""Micro-dollars of a dollar."""


@dataclass(frozen=True)
class Rate:
    """Micro-dollars."""

    per_hour: int
    at_launch: int = 0  # once


@dataclass(frozen=True)
class Sizes:
    """What the price of a machine depends on, besides its type."""

    root_volume_gb: int = 100
    root_volume_mib_s: int = 125
    cpu: int = 512  # of the task, in 1/1024 vCPU
    memory: int = 1024  # MiB
    architecture: str = "arm64"


def micro(usd: float) -> int:
    """A price in whole micro-dollars."""
    return round(usd * MICRO)


def node_rate(instance_type: str, sizes: Sizes, *, spot_usd_per_hour: float | None = None) -> Rate:
    """Instance, root volume and public address. Without a Spot price, the On-Demand price, which is never less.

    A type that the price file does not know counts as the dearest that it knows: a budget must not overlook it.
    """
    services, types = prices().services, prices().instance_types
    known = types.get(instance_type)
    listed = known.usd_per_hour if known else max(kind.usd_per_hour for kind in types.values())
    machine = listed if spot_usd_per_hour is None else spot_usd_per_hour
    volume = gp3_usd_per_hour(sizes.root_volume_gb, sizes.root_volume_mib_s)
    return Rate(
        micro(machine) + micro(volume) + micro(services.public_ipv4_usd_per_hour),
        micro(sizes.root_volume_gb * services.ebs_initialization_usd_per_gb),
    )


def gp3_usd_per_hour(size_gb: int, mib_s: int) -> float:
    """A volume's size, and what it carries beyond what its size pays for. Operations are not counted: the 3,000 a
    second that every volume has carry all that a deployment may ask for."""
    services = prices().services
    size = size_gb * services.gp3_usd_per_gb_month
    surcharge = max(0, mib_s - GP3_FREE_MIB_S) * services.gp3_usd_per_mib_s_month
    return (size + surcharge) / HOURS_PER_MONTH


def task_rate(sizes: Sizes) -> Rate:
    """The control plane on Fargate, and its public address."""
    services = prices().services
    arm = sizes.architecture == "arm64"
    vcpu = services.fargate_arm_vcpu_usd_per_hour if arm else services.fargate_x86_vcpu_usd_per_hour
    gb = services.fargate_arm_gb_usd_per_hour if arm else services.fargate_x86_gb_usd_per_hour
    return Rate(micro(sizes.cpu / 1024 * vcpu + sizes.memory / 1024 * gb) + micro(services.public_ipv4_usd_per_hour))
