"""What it cost, by whom and for what; and what a month may cost."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from control_plane.addresses import InvalidAddress, fold
from control_plane.books import Limit
from control_plane.budget import DEPLOYMENT, SPECULATIVE, StandingEntry
from control_plane.door import Principal
from control_plane.errors import Forbidden, InvalidRequest, NotFound
from control_plane.event import EventKind
from control_plane.ledger import Entry
from control_plane.rates import micro
from control_plane.report import BreakEven, By, Figures, RowEntry, Span, as_csv, break_even, counts, rows, total
from control_plane.routes.caller import Caller
from control_plane.services import Services

MAX_DAYS = 400
MAX_DAYS_BY_HOUR = 31

router = APIRouter()

_Usd = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]


class NewBudget(BaseModel, extra="forbid"):
    """US dollars a month; null takes back what was set, and what is configured holds again."""

    monthly_usd: _Usd | None
    hard_cap_usd: _Usd | None = None  # null: as many per cent of the budget as configured


Days = TypedDict("Days", {"from": str, "to": str, "zone": str})
"""The first and the last day, both included, of a time zone."""


class UsageReport(Days):
    """Rows that add up to the total; the budget is of this month, whatever the days."""

    by: By
    rows: list[RowEntry]
    total: Figures
    budget: StandingEntry | None


class BreakEvenReport(Days, BreakEven):
    """The days, and what was used in them beside closed APIs."""


class BudgetList(TypedDict):
    budgets: list[StandingEntry]


class BudgetSet(TypedDict):
    budget: StandingEntry | None  # null: nothing limits it


@router.get("/api/usage", response_model=UsageReport)
async def usage(
    request: Request,
    caller: Caller,
    first: Annotated[str | None, Query(alias="from")] = None,
    last: Annotated[str | None, Query(alias="to")] = None,
    zone: str = "UTC",
    by: By = By.DAY,
    model: str | None = None,
    owner: str | None = None,
    format: str = "json",
) -> Any:
    """Rows and their total over some days of a time zone, both ends included; this month's where none are named.

    The deployment's owner sees everybody, or one ``owner``; others see themselves.
    """
    services: Services = request.app.state.services
    span = _span(first, last, zone, services.clock())
    if by is By.HOUR and (span.last - span.first).days >= MAX_DAYS_BY_HOUR:
        raise InvalidRequest(f"By the hour, {MAX_DAYS_BY_HOUR} days at most.", param="from")
    found = await _entries(services, caller, span, model=model, owner=owner)
    told, whole = rows(found, by, span.zone), total(found)
    if format == "csv":
        name = f"usage-{by}-{span.first}-{span.last}.csv"
        return Response(
            as_csv(told, whole, by),
            media_type="text/csv",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )
    if format != "json":
        raise InvalidRequest("format must be json or csv.", param="format")
    budgets = await services.spending.budgets()
    scope = DEPLOYMENT if caller.owner and owner is None else f"user:{owner or caller.email}"
    standing = budgets.standing(scope)
    return {
        "from": span.first.isoformat(),
        "to": span.last.isoformat(),
        "zone": zone,
        "by": by,
        "rows": [row.to_dict(by) for row in told],
        "total": counts(whole),
        "budget": standing.to_dict() if standing else None,
    }


@router.get("/api/usage/break-even")
async def compare(
    request: Request,
    caller: Caller,
    first: Annotated[str | None, Query(alias="from")] = None,
    last: Annotated[str | None, Query(alias="to")] = None,
    zone: str = "UTC",
    model: str | None = None,
    owner: str | None = None,
) -> BreakEvenReport:
    """What the same tokens would have cost at closed APIs, by a dated list of prices."""
    services: Services = request.app.state.services
    span = _span(first, last, zone, services.clock())
    found = await _entries(services, caller, span, model=model, owner=owner)
    return {"from": span.first.isoformat(), "to": span.last.isoformat(), "zone": zone, **break_even(total(found))}


@router.get("/api/budgets")
async def list_budgets(request: Request, caller: Caller) -> BudgetList:
    """This month of every scope that concerns the caller; of all, for the owner. Micro-dollars."""
    services: Services = request.app.state.services
    budgets = await services.spending.budgets()
    mine = {DEPLOYMENT, SPECULATIVE, f"user:{caller.email}"}
    for row in await services.keys.list(None if caller.owner else caller.email):
        mine.add(f"key:{row.id}")
        budgets = budgets.with_key(row.id, row.monthly_budget_usd)
    standings = budgets.standings(f"user:{caller.email}")
    told = [standing.to_dict() for standing in standings if caller.owner or standing.limit.scope in mine]
    return {"budgets": told}


@router.put("/api/budgets/{scope:path}")
async def set_budget(scope: str, new: NewBudget, request: Request, caller: Caller) -> BudgetSet:
    """The owner's to set: ``deployment``, ``speculative``, ``user:<email>`` or ``key:<id>``. Holds within 30 s."""
    services: Services = request.app.state.services
    scope = _scope(scope)
    assert services.limits, "this deployment keeps no limits"
    if new.monthly_usd is None:
        await services.limits.clear(scope)
    else:
        await _check_key(services, scope)
        limit = services.spending.allowance.of(scope, new.monthly_usd)
        cap = limit.cap_micro_usd if new.hard_cap_usd is None else micro(new.hard_cap_usd)
        if cap < limit.micro_usd:
            raise InvalidRequest("hard_cap_usd must not be below monthly_usd.", param="hard_cap_usd")
        await services.limits.set(Limit(scope, limit.micro_usd, cap))
    services.spending.forget()
    told = f"{caller.email} changed the budget of {scope}."
    data = {"scope": scope, "monthly_usd": new.monthly_usd, "hard_cap_usd": new.hard_cap_usd}
    services.log.tell(EventKind.BUDGET_CHANGED, told, cause=caller.email, data=data)
    services.fleet.disturbed.set()
    standing = (await services.spending.budgets()).standing(scope)
    return {"budget": standing.to_dict() if standing else None}


async def _entries(
    services: Services, caller: Principal, span: Span, *, model: str | None, owner: str | None
) -> list[Entry]:
    if not caller.owner:
        if owner not in (None, caller.email):
            raise Forbidden("Only the deployment's owner sees what others used.")
        owner = caller.email
    found = await services.spending.entries(span.since, span.until)
    return [
        entry
        for entry in found
        if (owner is None or entry.account.owner == owner) and (model is None or entry.account.model == model)
    ]


def _span(first: str | None, last: str | None, zone: str, now: float) -> Span:
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(f"{zone!r} is no time zone, as in Europe/Berlin.", param="zone") from error
    today = datetime.fromtimestamp(now, where).date()
    end = _date(last, "to") if last else today
    begin = _date(first, "from") if first else end.replace(day=1)
    if not begin <= end < begin + timedelta(days=MAX_DAYS):
        raise InvalidRequest(f"from must not lie behind to, nor {MAX_DAYS} days before it.", param="from")
    return Span(begin, end, where)


def _date(text: str, name: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a day, as in 2026-11-30.", param=name) from error
    if not 2000 <= found.year <= 9000:
        raise InvalidRequest(f"{name} must be a day of this age.", param=name)
    return found


def _scope(told: str) -> str:
    """As accounts are named, or it would bind nobody."""
    kind, _, name = told.partition(":")
    if told in (DEPLOYMENT, SPECULATIVE) or (kind == "key" and 0 < len(name) <= 256):
        return told
    try:
        return f"user:{fold(name if kind == 'user' else '')}"
    except InvalidAddress:
        raise InvalidRequest(
            "A budget is for deployment, speculative, user:<email> or key:<id>.", param="scope", code="unknown_scope"
        ) from None


async def _check_key(services: Services, scope: str) -> None:
    kind, _, name = scope.partition(":")
    if kind == "key" and all(row.id != name for row in await services.keys.list(None)):
        raise NotFound(f"There is no key {name}.", param="scope")
