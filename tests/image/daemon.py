"""A Docker daemon to build and run in: the machine's, or one of our own for as long as it is needed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 20.0
_PING_LIMIT_S = 5.0


class NoDaemon(Exception):
    """There is none and none can be started; the message says why."""


@contextmanager
def docker_host(data_root: Path) -> Iterator[str]:
    """What DOCKER_HOST has to say. Raises NoDaemon."""
    named = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if _answers(named):
        yield named
        return
    if os.geteuid() != 0:
        raise NoDaemon(f"no Docker daemon answers at {named}, and only root can start one")
    if not shutil.which("dockerd"):
        raise NoDaemon(f"no Docker daemon answers at {named}, and there is no dockerd to start")
    # Not below data_root: the path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="dockerd-") as place:
        yield from _own(data_root, Path(place))


def _own(data_root: Path, place: Path) -> Iterator[str]:
    host, log = f"unix://{place}/docker.sock", place / "dockerd.log"
    data_root.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = ["dockerd", "--host", host, "--data-root", data_root, "--exec-root", place / "exec"]
    with log.open("wb") as words:
        daemon = subprocess.Popen([*command, "--pidfile", place / "pid"], stdout=words, stderr=words)
    try:
        limit = time.monotonic() + _START_LIMIT_S
        while not _answers(host):
            if daemon.poll() is not None or time.monotonic() > limit:
                last = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise NoDaemon(f"dockerd does not come up: {' '.join(last)}")
            time.sleep(0.1)
        yield host
    finally:
        daemon.terminate()
        try:
            daemon.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        _unmount_below(place)


def _unmount_below(place: Path) -> None:
    """A daemon may leave its network namespace mounted, and what is mounted cannot be deleted."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in mounted if Path(point).is_relative_to(place)), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True, capture_output=True)


def _answers(host: str) -> bool:
    """Asked by hand: docker's own client leaves a socket open when nobody is there."""
    kind, _, place = host.partition("://")
    try:
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as asking:
            asking.settimeout(_PING_LIMIT_S)
            name, _, port = place.rpartition(":")
            asking.connect(place if kind == "unix" else (name, int(port)))
            asking.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in asking.recv(64)
    except (OSError, ValueError):
        return False
