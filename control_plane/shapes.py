"""The shapes of models, as the hub tells them, kept for a while; else the numbers that the operator gave."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from control_plane.geometry import Geometry, Unread
from control_plane.hub import Access
from control_plane.model import Model
from control_plane.ports import Clock
from control_plane.repositories import DEADLINE_S, REFUSED_S, AskHub

READ_S = 3600.0  # a revision's config.json changes rarely
SILENT_S = 60.0  # a hub that gave no answer is not asked again for so long: somebody types, and waits
MAX_KNOWN = 256  # repositories: whoever asks may name any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Known:
    shape: Geometry | Unread
    until: float


class Shapes:
    """Raises nothing for what the hub answers, or does not."""

    def __init__(self, ask: AskHub | None, *, clock: Clock, deadline_s: float = DEADLINE_S) -> None:
        """``ask`` reads a repository's ``config.json`` and the size of its weights; None: nobody asks the hub."""
        self._ask = ask
        self._clock = clock
        self._deadline_s = deadline_s
        self._known: dict[tuple[str, str | None], _Known] = {}

    async def of(self, model: Model) -> Geometry | Unread:
        """What is known of a model's shape; its configured ``geometry`` where the hub says nothing."""
        told = await self._told(model.repository, model.revision)
        given = model.config.get("geometry")
        return Geometry.of_numbers(given) if given and isinstance(told, Unread) else told

    async def _told(self, repository: str, revision: str | None) -> Geometry | Unread:
        place, now = (repository, revision), self._clock()
        known = self._known.get(place)
        if known is None or now >= known.until:
            shape, keep_s = await self._read(repository, revision)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[place] = _Known(shape, self._clock() + keep_s)
        return known.shape

    async def _read(self, repository: str, revision: str | None) -> tuple[Geometry | Unread, float]:
        """The shape, and for how long it holds."""
        if self._ask is None:
            return Unread("the hub is not asked here", asked=False), READ_S
        try:
            reading = await asyncio.wait_for(self._ask(repository, revision), self._deadline_s)
        except TimeoutError:
            log.warning("the hub does not answer", extra={"repository": repository})
            return Unread("the hub does not answer", asked=True), SILENT_S
        if reading.access is not Access.READ:
            keep_s = SILENT_S if reading.access is Access.UNREACHABLE else REFUSED_S
            return Unread(reading.told, asked=True), keep_s
        found = Geometry.of_config(reading.config, reading.weights_bytes)
        kind = reading.config.get("model_type", "no model_type")
        return found or Unread(f"its family ({kind}) or its quantisation is not known here", asked=True), READ_S
