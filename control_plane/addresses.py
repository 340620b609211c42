"""Email addresses as the allowlist compares them: plain ASCII, in lower case.

Nothing but ASCII is an address here. Unicode has letters that become another's lower case (the Kelvin sign becomes k),
and an account under such an address would pass for somebody else's.
"""

from __future__ import annotations

import re

MAX_CHARS = 254

HOST = r"(?=[a-z0-9.-]{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"

_ADDRESS = re.compile(rf"[!-)+\-.-?A-~]+@{HOST}")  # printable, without space, *, comma and @
_EVERYBODY = re.compile(rf"\*@{HOST}")


class InvalidAddress(ValueError):
    """No plain email address."""


def fold(email: str) -> str:
    """The address in the form in which it is compared and kept. Raises InvalidAddress."""
    folded = email.lower() if email.isascii() else ""
    if len(folded) > MAX_CHARS or not _ADDRESS.fullmatch(folded):
        raise InvalidAddress("not a plain email address")
    return folded


def fold_entry(entry: str) -> str:
    """The same of an entry of the allowlist, which may also be ``*@domain``. Raises InvalidAddress."""
    folded = entry.lower() if entry.isascii() else ""
    return folded if _EVERYBODY.fullmatch(folded) else fold(entry)


def domain_entry(folded: str) -> str:
    """The entry that admits everybody of the address's domain."""
    return "*@" + folded.rpartition("@")[2]
