"""May this deployment read a model's repository? Asked of the hub before a GPU is paid for that could only fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from control_plane.hub import Access, Reading
from control_plane.model import Model
from control_plane.ports import Clock
from gpu_node.protocol import Failure

DEADLINE_S = 3.0
"""What a launch waits for the hub at most; then it goes on without an answer."""

READABLE_S = 3600.0  # who may read a repository now may do so in an hour
REFUSED_S = 30.0  # terms may be accepted at any minute
SILENT_S = 300.0  # a hub that gave no answer is not asked again for so long, for whatever model

log = logging.getLogger(__name__)

AskHub = Callable[[str, str | None], Awaitable[Reading]]
"""Can this repository be read at this revision? Raises nothing for what the hub or the network answers."""


@dataclass(frozen=True)
class _Known:
    failure: Failure | None
    until: float


class Repositories:
    """What the hub said, for a while. A hub that cannot be reached stops no launch."""

    def __init__(self, ask: AskHub, *, clock: Clock, deadline_s: float = DEADLINE_S) -> None:
        self._ask = ask
        self._clock = clock
        self._deadline_s = deadline_s
        self._known: dict[tuple[str, str | None], _Known] = {}
        self._silent_until = float("-inf")

    async def trouble(self, model: Model) -> Failure | None:
        """Why a node of this model could not read its weights; None where it can, or where that is not known."""
        place, now = (model.repository, model.revision), self._clock()
        known = self._known.get(place)
        if known and now < known.until:
            return known.failure
        if now < self._silent_until:
            return None
        reading = await self._asked(model)
        if reading is None or reading.access is Access.UNREACHABLE:
            self._silent_until = self._clock() + SILENT_S
            return None
        failure = _failure(model, reading.access)
        self._known[place] = _Known(failure, self._clock() + (REFUSED_S if failure else READABLE_S))
        return failure

    async def _asked(self, model: Model) -> Reading | None:
        try:
            return await asyncio.wait_for(self._ask(model.repository, model.revision), self._deadline_s)
        except TimeoutError:
            log.warning("the hub does not answer", extra={"model": model.name})
            return None


async def unasked(model: Model) -> Failure | None:
    """For deployments without a hub to ask: there is never any trouble."""
    return None


def _failure(model: Model, access: Access) -> Failure | None:
    what = f"{model.repository} at revision {model.revision}" if model.revision else model.repository
    page = f"https://huggingface.co/{model.repository}"
    if access is Access.GATED:
        return Failure(
            "gated_model",
            f"{what} is gated on Hugging Face, and the configured token (or its lack) gives no access.",
            f"Accept its terms on {page}, set a token that may read it (`pulumi config set --secret hfToken`), and run "
            "`pulumi up`.",
            permanent=True,
        )
    if access is Access.MISSING:
        return Failure(
            "model_not_found_on_hub",
            f"There is no {what} on Hugging Face, or it is private and the configured token does not reach it.",
            "Correct the model's `repository` or `revision` with `pulumi config set`, and run `pulumi up`.",
            permanent=True,
        )
    return None
