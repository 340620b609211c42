"""Everything of one process that is about money: who uses what, bills, the month's spend, the guard."""

from __future__ import annotations

from control_plane.api_keys import ApiKeys
from control_plane.bookkeeper import Bookkeeper
from control_plane.books import LimitStore, UsageStore
from control_plane.budget import Allowance
from control_plane.catalogue import Catalogue
from control_plane.door import Principal
from control_plane.effects import Stores
from control_plane.nodes import Cause
from control_plane.ports import Clock, Cloud
from control_plane.rates import Sizes, task_rate
from control_plane.spending import Spending
from control_plane.task_bill import TaskBill
from control_plane.usage import Meter


class Accounts:
    """``billed``: the process is a task of its own; a function's time is not billed by us."""

    def __init__(
        self,
        usage: UsageStore,
        stores: Stores,
        cloud: Cloud,
        limits: LimitStore | None,
        catalogue: Catalogue,
        keys: ApiKeys | None,
        *,
        clock: Clock,
        allowance: Allowance,
        sizes: Sizes,
        spend_fresh_s: float,
        holder: str,
        billed: bool,
    ) -> None:
        """Without ``keys``, the limits that they carry are known at the door only."""
        self._catalogue = catalogue
        self.meter = Meter(usage, clock=clock, writer=holder)
        self.limits = limits
        self.spending = Spending(
            usage,
            stores.nodes,
            limits,
            clock=clock,
            allowance=allowance,
            sizes=sizes,
            fresh_s=spend_fresh_s,
            keys=keys.list if keys else None,  # not what the door remembers: a key that is new would not be in it
            users=self.meter.users,
        )
        self.books = Bookkeeper(usage, cloud, clock=clock, sizes=sizes, closed=self.spending.renew)
        self.task = (
            TaskBill(usage, stores.wishes, holder=holder, rate=task_rate(sizes), clock=clock) if billed else None
        )

    async def guard(self, principal: Principal, model: str) -> None:
        """Of the door. Raises StartFailed where a budget forbids what is asked for."""
        key = principal.key
        await self.spending.check(
            Cause(principal.email, principal.key_id),
            await self._catalogue.get(model),
            key_monthly_usd=key.monthly_budget_usd if key else None,
        )
