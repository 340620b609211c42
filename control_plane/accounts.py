"""Everything of one process that is about money: bills of nodes, the month's spend, the task's own bill, the guard."""

from __future__ import annotations

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


class Accounts:
    """``task`` is None where the process is no task of its own: a function's time is not billed by us."""

    def __init__(
        self,
        usage: UsageStore,
        stores: Stores,
        cloud: Cloud,
        limits: LimitStore | None,
        catalogue: Catalogue,
        *,
        clock: Clock,
        allowance: Allowance,
        sizes: Sizes,
        task: str | None,
    ) -> None:
        self._catalogue = catalogue
        self.limits = limits
        self.books = Bookkeeper(usage, cloud, clock=clock, sizes=sizes)
        self.spending = Spending(usage, stores.nodes, limits, clock=clock, allowance=allowance, sizes=sizes)
        self.task = TaskBill(usage, stores.wishes, holder=task, rate=task_rate(sizes), clock=clock) if task else None

    async def guard(self, principal: Principal, model: str) -> None:
        """Of the door. Raises StartFailed where a budget forbids what is asked for."""
        key = principal.key
        await self.spending.check(
            Cause(principal.email, principal.key_id),
            await self._catalogue.get(model),
            key_monthly_usd=key.monthly_budget_usd if key else None,
        )
