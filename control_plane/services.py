"""Everything the routes need, built once by the composition root."""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.allowlist import Allowlist
from control_plane.api_keys import ApiKeys
from control_plane.catalogue import Catalogue
from control_plane.effects import Stores
from control_plane.errors import ModelNotFound
from control_plane.fleet import Fleet
from control_plane.model import Model
from control_plane.policy import Policy
from control_plane.ports import Clock, Wish
from control_plane.sessions import Sessions
from control_plane.sign_in import SignIn
from control_plane.status import Status


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

    async def scale(self, model: Model, desired: int, *, by: str) -> None:
        """Wake that many nodes, or put the model to sleep (0). Somebody asks by hand: old failures are forgiven."""
        now = self.clock()
        if desired == 0:
            await self.stores.wishes.sleep(model.name, by=by, at=now)
        else:
            await self.stores.models.forgive(model.name)
            await self.stores.wishes.ask(Wish(model.name, desired, now + self.policy.boot_limit_s, by, now))
        self.fleet.disturbed.set()
