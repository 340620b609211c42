"""Tells the service manager that the agent's loop turns.

An agent that hangs renews nothing and ends nothing; the manager ends it then, and the end of the agent is the end of
the machine. What it waits is `WatchdogSec` of the unit.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping


class Watchdog:
    """systemd's notification socket; without one (outside of a unit) nothing happens."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __call__(self) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notices:
            notices.setblocking(False)
            with contextlib.suppress(OSError):  # a manager that does not listen is no reason to stop
                notices.sendto(b"WATCHDOG=1", self._address)
