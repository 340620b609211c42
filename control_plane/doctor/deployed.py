"""What was deployed, and whether it is as it should be: tables, control plane, models, machines, the site."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from control_plane.doctor.finding import Finding, failure, ok, warning
from control_plane.doctor.ports import Fleet, House, Machine, Page, Web
from control_plane.doctor.stack import Remedies
from control_plane.front import correction
from control_plane.model import InvalidModel, Model
from control_plane.policy import Policy
from control_plane.ports import FrontState, ModelRow
from control_plane.schema import TABLES
from control_plane.status import Status

SETTLE_S = 300.0
"""Within this time the janitor mends what disagrees; it looks every two minutes."""


def check_tables(there: frozenset[str], remedies: Remedies) -> Finding:
    namespace = remedies.namespace
    missing = [table.full_name(namespace) for table in TABLES if table.name not in there]
    if not there:
        return ok("deployment", f"{namespace} is not deployed yet", remedies.up)
    if missing:
        return failure("deployment", f"tables are missing: {', '.join(missing)}", remedies.up)
    return ok("deployment", f"all {len(TABLES)} tables of {namespace} are there")


# -- the control plane -------------------------------------------------------------------------------------------------


def check_house(house: House | None, remedies: Remedies, *, now: float) -> Finding:
    check = "control-plane"
    if house is None:
        return failure(check, "its service or its load balancer is not there", remedies.up)
    front, age = house.front, now - house.front.since
    since = f" for {_age(age)}" if front.since else ""
    if front.state is FrontState.WAKING and age > SETTLE_S:
        last = f"; the service says: {house.last_word}" if house.last_word else ""
        return failure(check, f"it has been waking{since} and does not get healthy{last}", remedies.task_log)
    if front.failure:
        told = f"its last wake failed {_age(now - front.failed_at)} ago: {front.failure.message}"
        return failure(check, told, front.failure.fix or remedies.task_log)
    if correction(front, house.stage, wanted=False, now=now, linger_s=0.0) and age > SETTLE_S:
        return warning(
            check,
            f"it should be {front.state}, but {_seen(house)}",
            f"the janitor mends this within two minutes; if not: {remedies.function_log('janitor')}",
        )
    return ok(check, f"{front.state}{since}; {_seen(house)}")


def _seen(house: House) -> str:
    facing = "control plane" if house.stage.facing_control_plane else "night watch"
    return f"tasks wanted {house.stage.desired}, running {house.running}; requests go to the {facing}"


# -- the models --------------------------------------------------------------------------------------------------------


def check_models(fleet: Fleet, configured: Sequence[Model], remedies: Remedies, *, now: float) -> list[Finding]:
    """The state of each model that is deployed, and where deployment and configuration differ."""
    rows = {row.name: row for row in fleet.rows}
    found = [_model(row, fleet, now=now) for row in fleet.rows]
    for model in configured:
        check = f"configuration:{model.name}"
        if model.name not in rows:
            found.append(warning(check, "configured, but not deployed", remedies.up))
        elif dict(rows[model.name].config) != dict(model.config):
            found.append(warning(check, "its configuration was changed since it was deployed", remedies.up))
    if configured:
        removed = sorted(rows.keys() - {model.name for model in configured})
        found += [
            warning(f"configuration:{name}", "deployed, but no longer configured", remedies.up) for name in removed
        ]
    return found


def _model(row: ModelRow, fleet: Fleet, *, now: float) -> Finding:
    check = f"model:{row.name}"
    try:
        model = Model.parse(row.config, row.override)
    except InvalidModel as error:
        fix = "take back what was changed by hand (PATCH /api/models/… with null), or configure it anew: pulumi up"
        return failure(check, f"its row cannot be used, so it is left out: {error}", fix)
    nodes = [node for node in fleet.nodes if node.model == row.name]
    status = Status(
        model=model,
        row=row,
        wish=next((wish for wish in fleet.wishes if wish.model == row.name), None),
        nodes=nodes,
        waiters=0,
        last_request_at=0.0,
        now=now,
        policy=Policy(),
    )
    if stands := status.failure:
        fix = stands.fix or f"ask for it again, or look at GET /api/models/{row.name}"
        return failure(check, f"failed: {stands.message}", fix)
    machines = ", ".join(f"{node.id} ({node.instance_type}, {node.zone})" for node in nodes)
    return ok(check, f"{status.word}{f': {machines}' if machines else ''}")


# -- what nobody looks after -------------------------------------------------------------------------------------------


def check_orphans(fleet: Fleet, remedies: Remedies, *, now: float) -> list[Finding]:
    """Machines without a row, rows without a machine, groups without a model, models without a group."""
    found = [*_machines(fleet, remedies, now=now), *_rows(fleet, remedies, now=now), *_groups(fleet, remedies.up)]
    return found or [ok("orphans", f"none; machines that run: {len(fleet.machines)}")]


def _machines(fleet: Fleet, remedies: Remedies, *, now: float) -> Iterator[Finding]:
    known = {str(node.id) for node in fleet.nodes}
    for machine in fleet.machines:
        age = now - machine.launched_at
        if machine.id in known or age < SETTLE_S:
            continue
        yield failure(
            f"orphans:{machine.id}",
            f"{_kind(machine)} has run for {_age(age)} without a row, and costs money",
            f"the janitor should have taken it down by now; by hand: {remedies.terminate(machine.id)}",
        )


def _rows(fleet: Fleet, remedies: Remedies, *, now: float) -> Iterator[Finding]:
    running = {machine.id for machine in fleet.machines}
    for node in fleet.nodes:
        if str(node.id) not in running and now - node.launched_at >= SETTLE_S:
            yield warning(
                f"orphans:{node.id}",
                f"its row says {node.state}, but there is no such instance (it costs nothing)",
                f"the janitor buries it within two minutes; if not: {remedies.function_log('janitor')}",
            )


def _groups(fleet: Fleet, up: str) -> Iterator[Finding]:
    rows = {row.name for row in fleet.rows}
    for group in fleet.groups:
        if group.model not in rows:
            alive = sum(instance.alive for instance in group.instances)
            message = f"a group for {group.model}, which is no model any more, with {alive} instances"
            yield (
                failure(f"orphans:{group.name}", message, up)
                if alive
                else warning(f"orphans:{group.name}", message, up)
            )
    grouped = {group.model for group in fleet.groups}
    for name in sorted(rows - grouped):
        yield failure(f"orphans:{name}", "the model has no Auto Scaling group, so it cannot start", up)


def _kind(machine: Machine) -> str:
    return f"an instance {machine.instance_type}"


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else _hours(seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h"


# -- the site ----------------------------------------------------------------------------------------------------------


async def check_site(web: Web, site: str, api: str, *, remedies: Remedies) -> list[Finding]:
    """The page, and the API without a key: that starts nothing, whoever answers."""
    page_url, api_url = f"https://{site}/", f"https://{api}/v1/models"
    page, refusal = await asyncio.gather(web.get(page_url), web.get(api_url))
    return [
        ok("site", f"{page_url} answers")
        if page.status == 200 and page.kind == "text/html"
        else _trouble("site", page_url, page, remedies.up),
        ok("api", f"{api_url} answers, and asks for a key")
        if refusal.status == 401 and refusal.kind == "application/json"
        else _trouble("api", api_url, refusal, remedies.function_log("night")),
    ]


def _trouble(check: str, url: str, page: Page, fix: str) -> Finding:
    if not page.status:
        wait = f"after a first deployment wait some minutes for DNS and CloudFront, then: curl -v {url}"
        return failure(check, f"{url} does not answer: {page.trouble}", wait)
    return failure(check, f"{url} answers {page.status} {page.kind}", fix)
