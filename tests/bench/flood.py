"""A flood of bad keys at the control plane: what it reads, and what becomes of good traffic meanwhile.

Good traffic is one client that asks who it is, ten times a second, with a key: that reads no other table. It is
watched alone, then while a few connections send nothing but bad keys, as fast as they are turned away: half of them
mistyped, half of a perfect form that was never minted here.
"""

from __future__ import annotations

import http.client
import secrets
import statistics
import threading
import time
from collections.abc import Mapping

from control_plane.api_keys import mint
from rehearsal.desk import Desk, Options
from tests.bench.measure import Values

_CONFIG = {"name": "flood", "instanceTypes": ["g6.xlarge"]}
_CONNECTIONS = 4
_GOOD_EVERY_S = 0.1


def flooded(seconds: float) -> Values:
    """One desk, a calm and a flooded window of so many seconds each. Raises DeskFailure, RuntimeError."""
    with Desk(Options(boot_seconds=0.2, load_seconds=0.2, models=[_CONFIG])) as desk:
        _watch(desk, 2.0)  # the first answers of a process are slower
        reads = _reads(desk)
        calm = _watch(desk, seconds)
        calm_reads = _reads(desk) - reads
        flood = _Flood(desk)
        flood.begin()
        _watch(desk, 3.0)  # until it has noticed
        reads, turned_away = _reads(desk), flood.turned_away
        held = _watch(desk, seconds)
        flood_reads, turned_away = _reads(desk) - reads, flood.turned_away - turned_away
        flood.end()
    return {
        "flood_per_s": turned_away / seconds,
        "flood_reads": float(flood_reads),
        "flood_extra_reads_per_1000": max(0.0, 1000 * (flood_reads - calm_reads) / max(turned_away, 1)),
        "flood_good_median_ms": 1000 * statistics.median(held),
        "flood_calm_median_ms": 1000 * statistics.median(calm),
    }


def _watch(desk: Desk, seconds: float) -> list[float]:
    """How long each good request took. Raises RuntimeError when one was not answered."""
    took = []
    until = time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", desk.port, timeout=10)
    while time.monotonic() < until:
        began = time.monotonic()
        status = _ask(connection, desk.api_key)
        took.append(time.monotonic() - began)
        if status != 200:
            raise RuntimeError(f"good traffic was answered {status}")
        time.sleep(max(0.0, _GOOD_EVERY_S - took[-1]))
    connection.close()
    return took


class _Flood:
    """Bad keys from a few connections until it is ended."""

    def __init__(self, desk: Desk) -> None:
        self.turned_away = 0
        self._port = desk.port
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._pour, daemon=True) for _ in range(_CONNECTIONS)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _pour(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._over.is_set():
            perfect = mint(secrets.token_bytes(32))
            for key in (perfect, perfect[:-1] + ("A" if perfect[-1] != "A" else "B")):
                if _ask(connection, key) == 401:
                    with self._lock:
                        self.turned_away += 1
        connection.close()


def _ask(connection: http.client.HTTPConnection, key: str) -> int:
    connection.request("GET", "/api/session", headers={"Authorization": f"Bearer {key}"})
    reply = connection.getresponse()
    reply.read()
    return reply.status


def _reads(desk: Desk) -> int:
    """Of tables, in the account; the reconciler's own are among them, in both windows alike."""
    calls: Mapping[str, int] = desk.calls()
    return sum(calls.get(f"dynamodb:{operation}", 0) for operation in ("GetItem", "Query", "Scan"))
