"""Why a task of the control plane ended, and what to do about it, from what ECS tells of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_plane.ports import Ending

UP = "Run `pulumi up`, then `diogenes doctor`."
MAX_CHARS = 400  # of AWS's words: some repeat themselves at length

_BY_ORDER = ("Scaling activity initiated by",)  # of the service: fewer tasks, or another in its place
_IMAGE = ("CannotPullContainer", "CannotPullImage")
_PREPARED = ("ResourceInitializationError",)
_UNWELL = ("health checks", "unhealthy")


def last_lines(namespace: str) -> str:
    """The command that shows a task's last lines."""
    return f"aws logs tail /{namespace}/control-plane --since 30m"


def ending_of(task: Mapping[str, Any], *, log: str) -> Ending | None:
    """Of one entry of DescribeTasks, or the detail of an event, which has the same; ``log``: see ``last_lines``.

    None for a task that was told to end: by a person, or by its service when it shall have fewer.
    """
    reason = str(task.get("stoppedReason") or "")
    if task.get("stopCode") == "UserInitiated" or reason.startswith(_BY_ORDER):
        return None
    containers = task.get("containers") or ()
    codes = [told["exitCode"] for told in containers if told.get("exitCode") is not None]
    words = [reason, *(str(told.get("reason") or "") for told in containers)]
    told = "; ".join(dict.fromkeys(word.strip().rstrip(".") for word in words if word.strip()))
    why = (told or str(task.get("stopCode") or "no reason was given"))[:MAX_CHARS]
    if codes:
        why += f" (exit code {', '.join(map(str, codes))})"
    return Ending(f"{why}.", _fix(why, codes, log=log))


def _fix(why: str, codes: list[int], *, log: str) -> str:
    if any(word in why for word in _IMAGE):
        return f"The image could not be fetched: `pulumi up` builds it and pushes it again. {_THEN}"
    if any(word in why for word in _PREPARED):
        return f"ECS could not prepare the task (network, log group or a role's permission): {UP} {_THEN}"
    if "OutOfMemory" in why or 137 in codes:
        return (
            f"It was killed, probably for its memory. Its last lines: `{log}`; then correct it and `pulumi up`. {_THEN}"
        )
    if codes or any(word in why for word in _UNWELL):
        return f"Its last lines say why: `{log}`. Correct it, or go back to the commit before, and `pulumi up`. {_THEN}"
    return f"{UP} Its last lines, if there are any: `{log}`. {_THEN}"


_THEN = "The next request then wakes it: nothing else has to be done."
