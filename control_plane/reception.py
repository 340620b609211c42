"""Who may come in, and by which ways: the parts of it, wired for one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from control_plane.allowlist import EFFECTIVE_S, RENEW_S, Allowlist
from control_plane.api_keys import ApiKeys
from control_plane.door import Door
from control_plane.errors import Unavailable
from control_plane.event import EventKind
from control_plane.event_log import EventLog
from control_plane.fresh import Fresh
from control_plane.identity import IdTokens
from control_plane.limits import Limits
from control_plane.people import PeopleAdapters
from control_plane.ports import Clock
from control_plane.sessions import Sessions
from control_plane.sign_in import SignIn
from control_plane.turned_away import TurnedAway

log = logging.getLogger(__name__)


class Reception:
    """Door, sign-in, sessions and allowlist over the same adapters."""

    def __init__(
        self,
        people: PeopleAdapters,
        keys: ApiKeys,
        events: EventLog,
        *,
        clock: Clock,
        entropy: Callable[[int], bytes],
        issuer_again_s: float,
    ) -> None:
        self._keys = keys
        self._log = events
        self._turned_away = TurnedAway(clock=clock)
        entrance = Fresh(people.entrance, clock=clock, limit_s=EFFECTIVE_S, renew_s=RENEW_S)
        id_tokens = IdTokens(people.web, clock=clock, ask_again_s=issuer_again_s)
        self.allowlist = Allowlist(entrance, people.overrides, clock=clock)
        self.sessions = Sessions(people.sessions, entrance, clock=clock, entropy=entropy)
        self.sign_in = SignIn(
            people,
            entrance,
            self.allowlist,
            self.sessions,
            id_tokens,
            clock=clock,
            entropy=entropy,
            turned_away=self._turned_away,
        )
        self.door = Door(
            keys, self.sessions, id_tokens, self.allowlist, entrance, Limits(clock=clock), self._turned_away
        )

    async def flush(self) -> None:
        """What happened at the door: who was turned away, and when keys were last used. Raises Unavailable."""
        self.tell_turned_away()
        await self._keys.flush()

    async def settle(self, limit_s: float, *, last: bool = False) -> None:
        """The same, and events written, where that is soon done; ``last``: there will be no other time."""
        self.tell_turned_away(last=last)
        await asyncio.gather(self._settle_keys(limit_s), self._log.settle(limit_s))

    async def _settle_keys(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._keys.flush()
        except (Unavailable, TimeoutError) as error:
            log.warning("last use of keys not written", extra={"error": str(error)})

    def tell_turned_away(self, *, last: bool = False) -> None:
        """How many were, if it is time: a flood is one event a minute."""
        counts = self._turned_away.take(last=last)
        if counts:
            total = sum(counts.values())
            what = ", ".join(f"{number} {code}" for code, number in counts.items())
            told = f"{total} request{'s' if total > 1 else ''} turned away: {what}."
            self._log.tell(EventKind.SIGN_IN_REFUSED, told, data=counts)
