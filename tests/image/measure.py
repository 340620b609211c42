"""``python -m tests.image.measure``: how large the image is, and how soon it answers.

A start is timed from the call that starts the container until ``/healthz`` answers, so it holds what the container
engine itself takes; what of it passed until the process began is told apart. The account that the control plane
speaks to is emulated, and shares the machine's cores with it.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import docker  # type: ignore[import-untyped]

from control_plane.infra.functions import ENTRY_POINT
from rehearsal.alb import event
from rehearsal.lambda_service import LambdaService
from tests.image.building import ROOT, NoBase, build
from tests.image.container import Container
from tests.image.daemon import NoDaemon, docker_host
from tests.image.ground import Ground, bridge_of, ground_at

ROUNDS = 10
TARGET_BEYOND_BASE_MB = 200
TARGET_START_S = 3.0


@dataclass(frozen=True)
class Start:
    """Seconds since the container was asked for."""

    began: float  # its process
    answered: float


def main() -> int:
    """0 when both targets are met, 1 when not, 2 where there is no way to build."""
    try:
        with docker_host(ROOT / ".cache" / "docker") as host:
            os.environ["DOCKER_HOST"] = host
            client = docker.DockerClient(base_url=host, timeout=600)
            try:
                return _measure(client, host)
            finally:
                client.close()
    except (NoDaemon, NoBase) as error:
        sys.stderr.write(f"not measured: {error}\n")
        return 2


def _measure(client: Any, host: str) -> int:
    image = build(client, host)
    beyond = image.beyond_base / 1e6
    _tell(f"image: {image.size / 1e6:.0f} MB, {beyond:.0f} MB beyond its base (target {TARGET_BEYOND_BASE_MB})")
    bridge = bridge_of(client)
    with ground_at(bridge) as ground:
        serving = [_serve(ground) for _ in range(ROUNDS)]
        night = [_night(ground, bridge) for _ in range(ROUNDS)]
    answered = _told("control plane answers", serving)
    _told("night watch answers its first request", night)
    met = answered <= TARGET_START_S and beyond <= TARGET_BEYOND_BASE_MB
    _tell(f"target {TARGET_START_S:.0f} s on {os.cpu_count()} cores: {'met' if met else 'missed'}")
    return int(not met)


def _serve(ground: Ground) -> Start:
    asked = time.time()
    with Container(ground.task()) as container:
        container.wait_until_healthy(every_s=0.01)
        answered = time.time()
        return Start(container.began_at - asked, answered - asked)


def _night(ground: Ground, bridge: str) -> Start:
    handler = "control_plane.night.handler"
    with LambdaService(bridge) as service:
        environment = {**ground.function(handler), "AWS_LAMBDA_RUNTIME_API": service.address}
        asked = time.time()
        with Container(environment, entry_point=ENTRY_POINT, command=[handler]) as container:
            service.invoke(event("GET", "/v1/models"))
            answered = time.time()
            return Start(container.began_at - asked, answered - asked)


def _told(what: str, starts: Sequence[Start]) -> float:
    """The median, in seconds."""
    answered = [start.answered for start in starts]
    began = statistics.median(start.began for start in starts)
    median = statistics.median(answered)
    _tell(
        f"{what}: {median:.2f} s (worst of {len(starts)}: {max(answered):.2f} s; the process begins at {began:.2f} s)"
    )
    return median


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
