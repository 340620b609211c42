"""EC2's vCPU quotas of the instance families with GPUs: which one counts what, and where it is raised; and Lambda's.
Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")  # a zone's name begins with its region's


@dataclass(frozen=True)
class Quota:
    """One of EC2's quotas, in vCPUs that run at the same time; per account and region."""

    market: str  # "on-demand" or "spot"
    families: tuple[str, ...]  # the letters with which the names of what it counts begin
    code: str
    name: str  # as the console has it


LAMBDA_EXECUTIONS = "L-B99A9384"
"""Lambda's quota of concurrent executions, of all functions of an account in a region together."""

NEW_EXECUTIONS = 10
"""Of which a new account has so many."""

SPARE_EXECUTIONS = 4
"""What is left, at least, when as many clients are held as may be: for the janitor, for the web app, which asks several
things at once, and for whoever is told to come back."""

GPU_QUOTAS = (
    Quota("on-demand", ("g", "vt"), "L-DB2E81BA", "Running On-Demand G and VT instances"),
    Quota("spot", ("g", "vt"), "L-3819A6DF", "All G and VT Spot Instance Requests"),
    Quota("on-demand", ("p",), "L-417A185B", "Running On-Demand P instances"),
)
"""Those whose codes we know for certain. P instances on Spot have one for each of several generations."""


def most_holds(executions: int) -> int:
    """How many clients may be held at a time, where Lambda runs so many requests at once; see holds.py."""
    return executions - max(SPARE_EXECUTIONS, executions // 10)


def quota_of(instance_type: str, market: str) -> Quota | None:
    """What counts an instance type on a market; None where we do not know its code."""
    family = re.match(r"[a-z]+", instance_type)
    letters = family[0] if family else ""
    return next((one for one in GPU_QUOTAS if one.market == market and letters in one.families), None)


def console(quota: Quota | None, zone: str) -> str:
    """Where in AWS's console it is raised; the list of all of EC2's where the quota is not known."""
    region = _REGION.match(zone)
    host = f"{region[0]}.console.aws.amazon.com" if region else "console.aws.amazon.com"
    return f"https://{host}/servicequotas/home/services/ec2/quotas{f'/{quota.code}' if quota else ''}"
