"""How quickly Diogenes reacts around a cold start, in the emulated account.

Boot and load take as long as they take; what is ours is the time before them (a request is accepted -> the account
receives the launch) and after them (the engine answers its health check -> the client reads the first event). Both
are seen from outside, on this process's clock, to about 5 ms.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from control_plane.schema import INSTANCES
from gpu_node.protocol import ENGINE_PORT
from rehearsal.desk import Desk, Options
from tests.bench.client import Address, Target, open_stream, status_of
from tests.bench.measure import Values

_MODEL = "cold"
_CONFIG = {"name": _MODEL, "instanceTypes": ["g6.xlarge"]}
_LAUNCH = "autoscaling:LaunchInstances"
_POLL_S = 0.005
_LIMIT_S = 60.0


class TooSlow(RuntimeError):
    """Something did not happen within a minute; the message says what."""


@dataclass
class _Client:
    """One streaming request on a thread of its own; remembers when the first event came."""

    target: Target
    answered_at: float = 0.0
    error: str = ""
    _thread: threading.Thread = field(init=False)

    def ask(self) -> float:
        """Sends the request; returns when."""
        connection = open_stream(self.target)
        asked_at = time.monotonic()
        self._thread = threading.Thread(target=self._read, args=(connection,), daemon=True)
        self._thread.start()
        return asked_at

    def first_event(self) -> float:
        """When it came. Raises TooSlow."""
        self._thread.join(_LIMIT_S)
        if not self.answered_at:
            raise TooSlow(f"no first event: {self.error or 'nothing came'}")
        return self.answered_at

    def _read(self, connection: socket.socket) -> None:
        seen = b""
        with connection:
            connection.settimeout(_LIMIT_S)
            try:
                while piece := connection.recv(65536):
                    seen += piece
                    # Comments that only keep the connection alive are no answer.
                    if not self.answered_at and b"data: {" in seen:
                        self.answered_at = time.monotonic()
                    if b"[DONE]" in seen:
                        return
            except OSError as error:
                self.error = str(error)
                return
        self.error = seen[:300].decode(errors="replace")


def cold_starts(count: int) -> Iterator[Values]:
    """So many cold starts, one after the other. Raises DeskFailure, TooSlow."""
    with Desk(Options(boot_seconds=0.2, load_seconds=0.2, idle_seconds=1, models=[_CONFIG])) as desk:
        for _ in range(count):
            yield _start_cold(desk)


def _start_cold(desk: Desk) -> Values:
    _wait(lambda: not desk.instances(), "the last node's end")
    launches = desk.calls().get(_LAUNCH, 0)
    client = _Client(Target(Address("127.0.0.1", desk.port), key=desk.api_key, model=_MODEL))
    asked_at = client.ask()
    launched_at = _wait(lambda: desk.calls().get(_LAUNCH, 0) > launches, "the launch")
    ready_at = _wait(lambda: _engine_ready(desk), "the engine")
    return {"launch_s": launched_at - asked_at, "first_event_s": client.first_event() - ready_at}


def _wait(condition: Callable[[], bool], what: str) -> float:
    """Returns when the condition first held. Raises TooSlow."""
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TooSlow(f"{what} took longer than {_LIMIT_S:.0f} s")
        time.sleep(_POLL_S)
    return time.monotonic()


def _engine_ready(desk: Desk) -> bool:
    for members in desk.instances().values():
        for member in members:
            table = INSTANCES.full_name(desk.namespace)
            row = desk.account.row(table, {INSTANCES.hash_key: {"S": member.id}})
            if row and row.get("ip") and status_of(Address(row["ip"], ENGINE_PORT), "/health") == 200:
                return True
    return False
