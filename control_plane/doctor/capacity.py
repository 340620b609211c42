"""May the account start what the models need, and hold who waits for it: vCPU quotas, who offers which instance type
where, and how much Lambda runs at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.configuration import set_value
from control_plane.doctor.finding import Finding, failure, ok, warning
from control_plane.doctor.ports import Account
from control_plane.instance_types import UnknownInstanceType, instance_type
from control_plane.model import Market, Model
from control_plane.quotas import GPU_QUOTAS, LAMBDA_EXECUTIONS, NEW_EXECUTIONS, Quota, most_holds
from control_plane.schema import EXCLUDED_ZONE_IDS

_FAMILIES = ("g", "vt")
QUOTAS = tuple(quota for quota in GPU_QUOTAS if quota.families == _FAMILIES)
"""Those that are looked at."""

EXECUTIONS = 50
"""Of Lambda, that are enough: some clients that wait, each for 45 s, the web app's requests, and the janitor."""

ASKED_EXECUTIONS = 1000
"""What to ask for: AWS's default, which new accounts do not have yet; it costs nothing."""

MAX_ZONES = 6
"""That a deployment may take."""


async def check_quota(account: Account, quota: Quota, models: Sequence[Model], region: str) -> list[Finding]:
    """Against one node of each model, and against all that may run at once."""
    check = f"quota.{quota.market}"
    needs = [need for model in models if quota.market in model.market.ladder and (need := Need.of(model))]
    if not needs:
        return [ok(check, f"no model needs {quota.name}")]
    return [_judged(check, quota, needs, has=int(await account.quota(quota.code)), region=region)]


async def check_functions(account: Account, region: str, *, counted: int) -> list[Finding]:
    """Each client that is held takes one of Lambda's concurrent executions, of which the stack counts on so many."""
    check, has = "quota.lambda", int(await account.quota(LAMBDA_EXECUTIONS, "lambda"))
    told = f"Lambda runs {has} requests of this account at the same time"
    counts = set_value("lambdaConcurrency", max(has, NEW_EXECUTIONS))
    if has < counted:
        why = f"{told}, and lambdaConcurrency is {counted}: a crowd that waits for a wake would get bare 502s"
        return [failure(check, why, counts)]
    held = f"{told}; while it wakes, {most_holds(counted)} clients are held, and the others told to come back"
    if has < EXECUTIONS:
        return [warning(check, held, _increase(region, "lambda", LAMBDA_EXECUTIONS, ASKED_EXECUTIONS))]
    return [ok(check, held, counts if counted < EXECUTIONS else None)]


def _increase(region: str, service: str, code: str, value: int) -> str:
    """The command that asks AWS for more."""
    return (
        f"aws service-quotas request-service-quota-increase --region {region} --service-code {service} "
        f"--quota-code {code} --desired-value {value}"
    )


@dataclass(frozen=True)
class Need:
    """What a model needs of a quota, in vCPUs."""

    model: Model
    least: int  # one node of its smallest type
    most: int  # one node of its largest type

    @classmethod
    def of(cls, model: Model) -> Need | None:
        """None where none of its types is counted by the quotas of G and VT."""
        counts = [count for name in model.instance_types if (count := _vcpus(name))]
        return cls(model, min(counts), max(counts)) if counts else None

    @property
    def altogether(self) -> int:
        return self.most * self.model.max_instances

    @property
    def has_another_market(self) -> bool:
        return self.model.market is Market.SPOT_THEN_ON_DEMAND


def _judged(check: str, quota: Quota, needs: Sequence[Need], *, has: int, region: str) -> Finding:
    altogether = sum(need.altogether for need in needs)
    fix = _increase(region, "ec2", quota.code, altogether)
    told = f"{quota.name} ({quota.code}) is {has} vCPUs"
    short = [need for need in needs if need.least > has]
    if short:
        names = ", ".join(f"{need.model.name} ({need.least})" for need in short)
        if all(need.has_another_market for need in short) and quota.market == "spot":
            return warning(check, f"{told}, less than one node takes: {names} will always be bought on demand", fix)
        return failure(check, f"{told}, less than one node takes: {names} cannot start", fix)
    if large := [need for need in needs if need.most > has]:
        names = ", ".join(f"{need.model.name} ({need.most})" for need in large)
        return warning(check, f"{told}: the larger instance types cannot start of {names}", fix)
    if altogether > has:
        return warning(check, f"{told}: each model can start, all at the same time take {altogether}", fix)
    return ok(check, f"{told}; all models at the same time take {altogether}")


def check_other_families(models: Sequence[Model]) -> list[Finding]:
    """Types that other quotas count, which are not looked at."""
    found = []
    for model in models:
        if foreign := [name for name in model.instance_types if not name.startswith(_FAMILIES)]:
            told = f"the quota of {', '.join(foreign)} is not checked: it is of another family than G and VT"
            fix = "console: Service Quotas > AWS services > Amazon EC2"
            found.append(warning(f"quota.other:{model.name}", told, fix))
    return found


def _vcpus(name: str) -> int | None:
    try:
        return instance_type(name).vcpus if name.startswith(_FAMILIES) else None
    except UnknownInstanceType:
        return None  # the configuration's check says so


async def check_offerings(account: Account, models: Sequence[Model], *, zones: int) -> list[Finding]:
    """Where each model's types are offered, among the zones that the program takes."""
    types = sorted({name for model in models for name in model.instance_types})
    offered = await account.offerings(types)
    there = await account.zones()
    order = sorted(name for name, zone_id in there.items() if zone_id not in EXCLUDED_ZONE_IDS)
    return [_offered(model, offered, order, zones) for model in models]


def _offered(model: Model, offered: Mapping[str, Sequence[str]], order: Sequence[str], zones: int) -> Finding:
    check, used = f"instance-types:{model.name}", order[:zones]
    within = {name: [zone for zone in offered.get(name, ()) if zone in used] for name in model.instance_types}
    nowhere = [name for name, zones in within.items() if not zones]
    told = "; ".join(f"{name}: {', '.join(zones) or 'nowhere'}" for name, zones in within.items())
    # The program takes zones by name, so a zone more is the next of them.
    enough = [order.index(zone) + 1 for name in nowhere for zone in offered.get(name, ()) if zone in order]
    fix = (
        f"pulumi config set zones {min(enough)}"
        if enough and min(enough) <= MAX_ZONES
        else f"choose another type for {model.name}, or another region: pulumi config set aws:region …"
    )
    if len(nowhere) == len(within):
        return failure(check, f"{told} (of the zones {', '.join(used)})", fix)
    if nowhere:
        return warning(check, told, fix)
    if max(map(len, within.values())) == 1:
        return warning(check, f"{told}: one zone only, so it will often be sold out", "list a second instance type")
    return ok(check, told)
