"""Who is told of what is amiss, as the stack's configuration says it. Pure."""

from __future__ import annotations

from control_plane.addresses import InvalidAddress, fold_entry
from control_plane.configuration import Values, remove
from control_plane.web_address import is_safe

NAMES = ("notificationEmails",)

WEBHOOK = "notificationWebhook"
"""A secret: whoever knows the address may write there."""


def read(values: Values) -> dict[str, tuple[str, ...]]:
    """Of a deployment: the member that is about notices. The webhook is looked at, and not kept."""
    if values.is_set(WEBHOOK) and not is_safe(values.secret(WEBHOOK)):
        values.refuse(f"{WEBHOOK} is not an https URL", f"pulumi config set --secret {WEBHOOK}")
    emails = []
    for place, item in enumerate(values.items(NAMES[0], first="[0]", example="ann@example.org")):
        path = f"{NAMES[0]}[{place}]"
        if not isinstance(item, str) or item.startswith("*") or not _is_address(item):
            values.refuse(f"{path} is {item!r}, which is no address", remove(path))
        elif item.casefold() in emails:
            values.refuse(f"{path} is {item}, which is in the list already", remove(path))
        else:
            emails.append(item.casefold())
    return {"notification_emails": tuple(emails)}


def _is_address(item: str) -> bool:
    try:
        fold_entry(item)
    except InvalidAddress:
        return False
    return True
