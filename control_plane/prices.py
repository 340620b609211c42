"""What AWS asks: dated list prices in US dollars, from ``prices.json`` beside this file. Nothing is looked up."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("prices.json")
"""The price file of this version."""

HOURS_PER_MONTH = 730
"""AWS's own month."""


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    gib: float  # as torch sees it, so less than the nominal size
    nominal_gb: int
    large_batches: bool = False  # vLLM's defaults are larger on it (70 GiB or more, and no A100)


@dataclass(frozen=True)
class InstanceType:
    """One EC2 instance type with GPUs, and its On-Demand price."""

    name: str
    gpu: Gpu
    gpus: int
    vcpus: int
    memory_gib: int
    nvme_gb: int
    usd_per_hour: float


@dataclass(frozen=True)
class Services:
    """Everything but instances; each named after what it is counted by. List prices, free tiers not taken off."""

    alb_usd_per_hour: float
    alb_lcu_usd_per_hour: float
    public_ipv4_usd_per_hour: float
    fargate_arm_vcpu_usd_per_hour: float
    fargate_arm_gb_usd_per_hour: float
    fargate_x86_vcpu_usd_per_hour: float
    fargate_x86_gb_usd_per_hour: float
    lambda_arm_usd_per_gb_second: float
    lambda_x86_usd_per_gb_second: float
    lambda_usd_per_million_requests: float
    s3_usd_per_gb_month: float
    gp3_usd_per_gb_month: float
    gp3_usd_per_mib_s_month: float  # beyond the first 125
    ebs_initialization_usd_per_gb: float
    ebs_snapshot_usd_per_gb_month: float
    dynamodb_usd_per_million_writes: float
    dynamodb_usd_per_million_reads: float
    dynamodb_usd_per_gb_month: float
    dynamodb_backup_usd_per_gb_month: float
    ecr_usd_per_gb_month: float
    logs_usd_per_gb_ingested: float
    logs_usd_per_gb_month: float


@dataclass(frozen=True)
class Prices:
    """One price file."""

    region: str
    date: date
    instance_types: Mapping[str, InstanceType]
    services: Services

    @classmethod
    def of_json(cls, text: str) -> Prices:
        """Raises KeyError or TypeError for a file that lacks a price or has one that nobody reads."""
        told = json.loads(text)
        gpus = {name: _gpu(name, row) for name, row in told["gpus"]["models"].items()}
        types = told["instanceTypes"]["types"]
        services = {_snake(name): value for name, value in told["services"].items() if name != "source"}
        return cls(
            region=told["region"],
            date=date.fromisoformat(told["date"]),
            instance_types={name: _instance_type(name, row, gpus[row["gpu"]]) for name, row in types.items()},
            services=Services(**services),
        )


@cache
def prices() -> Prices:
    """The prices that came with this version."""
    return Prices.of_json(FILE.read_text())


def _gpu(name: str, row: Mapping[str, Any]) -> Gpu:
    return Gpu(name, row["gib"], row["nominalGb"], row.get("largeBatches", False))


def _instance_type(name: str, row: Mapping[str, Any], gpu: Gpu) -> InstanceType:
    numbers = {_snake(key): value for key, value in row.items() if key != "gpu"}
    return InstanceType(name=name, gpu=gpu, **numbers)


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)
