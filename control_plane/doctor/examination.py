"""Checks run side by side, each with its own time limit; one that cannot be made is a warning of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from control_plane.doctor.finding import Finding, warning
from control_plane.doctor.ports import CannotLook

LIMIT_S = 20.0


@dataclass(frozen=True)
class Check:
    """A question under a stable name; its findings begin with that name."""

    name: str
    look: Callable[[], Awaitable[Sequence[Finding]]]


async def examine(checks: Sequence[Check], *, limit_s: float = LIMIT_S) -> list[Finding]:
    """The findings of all checks, in the checks' order."""
    found = await asyncio.gather(*(_examined(check, limit_s) for check in checks))
    return [finding for findings in found for finding in findings]


async def _examined(check: Check, limit_s: float) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(limit_s):
            return await check.look()
    except CannotLook as error:
        return [warning(check.name, f"not checked: {error.why}", error.fix)]
    except TimeoutError:
        return [warning(check.name, f"not checked: no answer within {limit_s:.0f} s", "look again in a minute")]
