"""The bill of the control plane's own task: it grows while the task lives, on the account of who woke it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from control_plane.books import Bill, BillKind, UsageStore
from control_plane.nodes import UNASKED
from control_plane.ports import Clock, WishStore
from control_plane.rates import Rate

EVERY_S = 60.0
"""What a task that dies leaves uncounted, at most."""


class TaskBill:
    """``turn`` is a loop's step. Raises Unavailable: the next one counts what this one did not."""

    def __init__(self, usage: UsageStore, wishes: WishStore, *, holder: str, rate: Rate, clock: Clock) -> None:
        self._usage = usage
        self._wishes = wishes
        self._clock = clock
        self._caused = False
        self._bill = Bill(f"task-{holder}", BillKind.TASK, clock(), clock(), rate.per_hour, rate.at_launch)

    @property
    def bill(self) -> Bill:
        """As far as it has come."""
        return replace(self._bill, ended_at=max(self._clock(), self._bill.ended_at))

    async def turn(self) -> None:
        """Count, then pause."""
        if not self._caused:
            last = max(await self._wishes.list(), key=lambda wish: wish.asked_at, default=None)
            self._bill = replace(self._bill, cause=last.cause if last else UNASKED)
            self._caused = True
        await self.extend()
        await asyncio.sleep(EVERY_S)

    async def extend(self) -> None:
        """Count up to now."""
        self._bill = self.bill
        await self._usage.extend(self._bill)
