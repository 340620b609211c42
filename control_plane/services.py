"""Everything the routes need, built once by the composition root."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.allowlist import Allowlist
from control_plane.api_keys import ApiKeys
from control_plane.books import LimitStore
from control_plane.catalogue import Catalogue
from control_plane.chronicle import Chronicle
from control_plane.effects import Stores
from control_plane.errors import ModelNotFound
from control_plane.event_feed import EventFeed
from control_plane.event_log import EventLog
from control_plane.fleet import Fleet
from control_plane.model import Model
from control_plane.nodes import Cause
from control_plane.policy import Policy
from control_plane.ports import Clock, EventStore, Wish
from control_plane.sessions import Sessions
from control_plane.shapes import Shapes
from control_plane.sign_in import SignIn
from control_plane.spending import Spending
from control_plane.status import Status
from control_plane.task_bill import TaskBill


@dataclass(frozen=True)
class Services:
    """The parts, and the two things that more than one route does with them."""

    clock: Clock
    stores: Stores
    keys: ApiKeys
    allowlist: Allowlist
    sessions: Sessions
    sign_in: SignIn
    catalogue: Catalogue
    fleet: Fleet
    policy: Policy
    spending: Spending
    log: EventLog  # where changes of state are told
    chronicle: Chronicle  # and those of models and nodes put into words
    events: EventStore | None  # where they are read; None: nobody keeps them
    feed: EventFeed | None  # None: nothing can be streamed from here
    shapes: Shapes
    limits: LimitStore | None = None
    task: TaskBill | None = None  # the control plane's own, where it runs on Fargate

    async def statuses(self) -> list[Status]:
        """Every configured model as it stands in the tables. Raises Unavailable."""
        rows = await self.stores.models.list()
        wishes = {wish.model: wish for wish in await self.stores.wishes.list()}
        nodes = await self.stores.nodes.list()
        self.catalogue.refresh(rows)
        now = self.clock()
        return [
            Status(
                model=self.catalogue.models[row.name],
                row=row,
                wish=wishes.get(row.name),
                nodes=[node for node in nodes if node.model == row.name],
                waiters=self.fleet.waiters.get(row.name, 0),
                last_request_at=self.fleet.last_request.get(row.name, 0.0),
                now=now,
                policy=self.policy,
                bills=[self.spending.bill(node) for node in nodes if node.model == row.name],
            )
            for row in sorted(rows, key=lambda row: row.name)
            if row.name in self.catalogue.models
        ]

    async def status(self, name: str) -> Status:
        """Raises ModelNotFound, Unavailable."""
        found = next((status for status in await self.statuses() if status.model.name == name), None)
        if found is None:
            raise ModelNotFound(f"The model `{name}` does not exist.", param="model")
        return found

    async def scale(self, model: Model, desired: int, *, by: str, key: str = "") -> None:
        """Wake that many nodes, or put the model to sleep (0). Somebody asks by hand: old failures are forgiven.

        Raises StartFailed where a budget forbids it.
        """
        now = self.clock()
        if desired == 0:
            await self.stores.wishes.sleep(model.name, by=by, at=now)
            self.chronicle.put_to_sleep(model.name, by=by)
        else:
            await self.spending.check(Cause(by, key), model)
            await self.stores.models.forgive(model.name)
            wish = Wish(model.name, desired, now + self.policy.boot_limit_s, by, now, key=key)
            await self.stores.wishes.ask(wish)
            self.chronicle.woken(model.name, by=by, nodes=desired, how="by hand")
        self.fleet.disturbed.set()

    async def prewarm(self, status: Status, *, by: str, key: str = "") -> None:
        """Start a cold model before the first question, from the budget for that. Raises StartFailed.

        Held as briefly as the start of somebody who went away: without a question it is cancelled.
        """
        if status.word != "cold":
            return
        now, model = self.clock(), status.model
        await self.spending.check(Cause(by, key, speculative=True), model)
        wish = Wish(model.name, 1, now + self.policy.cancel_grace_s, by, now, key=key, speculative=True)
        if await self.stores.wishes.ask(wish):
            self.chronicle.woken(model.name, by=by, how="before the first question")
        self.fleet.disturbed.set()
