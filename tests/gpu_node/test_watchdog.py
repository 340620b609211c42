"""The service manager: it hears that the agent lives, and ends it in time."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gpu_node.watchdog import Watchdog

UNIT = Path(__file__).parents[2] / "gpu_node" / "diogenes-node.service"


@pytest.mark.parametrize("abstract", [False, True])
def test_every_turn_is_told(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path if abstract else path)
        watchdog = Watchdog({"NOTIFY_SOCKET": "@" + path if abstract else path})
        watchdog()
        watchdog()
        assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2


def test_without_a_manager_nothing_is_told(tmp_path: Path) -> None:
    Watchdog({})()
    Watchdog({"NOTIFY_SOCKET": str(tmp_path / "nobody")})()


def test_the_unit_waits_for_it() -> None:
    lines = UNIT.read_text().splitlines()
    assert "NotifyAccess=main" in lines
    (limit,) = (int(line.partition("=")[2]) for line in lines if line.startswith("WatchdogSec="))
    assert limit >= 240  # above what a turn may take: calls that are tried again, an engine that is given time to end
    assert "FailureAction=poweroff" in lines


def test_the_machines_end_takes_the_agent_first() -> None:
    """Units are stopped in the other order: else Docker ends the engine under its streams."""
    unit, _, _ = UNIT.read_text().partition("[Service]")
    (after,) = (line.partition("=")[2].split() for line in unit.splitlines() if line.startswith("After="))
    assert {"network.target", "docker.service"} <= set(after)
