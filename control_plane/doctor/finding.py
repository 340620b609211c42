"""What one check found, in one line for a person and one object for a program. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum


class Status(StrEnum):
    """How bad it is. Only a failure makes the command fail."""

    OK = "ok"
    WARNING = "warning"  # it may not do what you want, or it could not be checked
    FAILURE = "failure"  # it does not work


@dataclass(frozen=True)
class Finding:
    """One line. ``check`` is a stable name; where a check looks at several things, it ends in ``:<the thing>``."""

    check: str
    status: Status
    message: str  # what was found, and why it matters
    fix: str | None = None  # what to do: a command, or where to click


def ok(check: str, message: str, fix: str | None = None) -> Finding:
    return Finding(check, Status.OK, message, fix)


def warning(check: str, message: str, fix: str | None = None) -> Finding:
    return Finding(check, Status.WARNING, message, fix)


def failure(check: str, message: str, fix: str) -> Finding:
    return Finding(check, Status.FAILURE, message, fix)


def exit_status(findings: Sequence[Finding]) -> int:
    """1 with a failure, else 0."""
    return int(any(found.status is Status.FAILURE for found in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """A list of ``{"check", "status", "message", "fix"}``; ``fix`` is null where there is nothing to do."""
    return json.dumps([asdict(found) for found in findings], indent=2, ensure_ascii=False)


def as_text(findings: Sequence[Finding]) -> str:
    """One line a finding, what to do below it, and how many there were of each kind."""
    lines = []
    for found in findings:
        lines.append(f"{found.status:<7}  {found.check}: {found.message}")
        if found.fix:
            lines.append(f"         -> {found.fix}")
    counts = {status: sum(found.status is status for found in findings) for status in Status}
    summary = f"{counts[Status.OK]} ok, {_plural(counts, Status.WARNING)}, {_plural(counts, Status.FAILURE)}"
    return "\n".join([*lines, "", summary])


def _plural(counts: dict[Status, int], status: Status) -> str:
    return f"{counts[status]} {status}{'' if counts[status] == 1 else 's'}"
