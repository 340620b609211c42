"""Ground that can be taken away from under a node: a network that is cut, a disk that is full. Needs root on Linux."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_CHUNK = 65536


class Bridge:
    """Listens on ``host`` and passes everything on to a port of this machine's loopback."""

    def __init__(self, host: str, port: int) -> None:
        self._port = port
        self._listener = socket.create_server((host, 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.address = f"http://{host}:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Also what is open: the other end of a wire that was cut never says goodbye."""
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                thread = threading.Thread(target=self._carry, args=(ours,))
                self._threads.append(thread)
                thread.start()

    def _carry(self, ours: socket.socket) -> None:
        with ours, socket.create_connection(("127.0.0.1", self._port)) as theirs:
            self._open |= {ours, theirs}
            back = threading.Thread(target=_pump, args=(theirs, ours))
            back.start()
            _pump(ours, theirs)
            back.join()
            self._open -= {ours, theirs}


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@dataclass
class Network:
    """A network namespace with one wire to this machine."""

    name: str
    wire: str  # its end in the namespace
    host: str  # this machine, as seen from there
    bridges: list[Bridge]

    @property
    def prefix(self) -> list[str]:
        """What runs a program there."""
        return ["ip", "netns", "exec", self.name]

    def reach(self, address: str) -> str:
        """An address of this machine's loopback, as seen from there."""
        bridge = Bridge(self.host, urlsplit(address).port or 80)
        self.bridges.append(bridge)
        return bridge.address

    def cut(self) -> None:
        _run(*self.prefix, "ip", "link", "set", self.wire, "down")


@contextmanager
def network() -> Iterator[Network]:
    """Skips the test where namespaces cannot be made."""
    number = os.getpid() % 60000
    name, here, there = f"dio-{number}", f"dio{number}a", f"dio{number}b"
    subnet = f"10.{200 + number // 16384}.{number // 64 % 256}.{number % 64 * 4}"
    stem, last = subnet.rsplit(".", 1)
    host, guest = f"{stem}.{int(last) + 1}", f"{stem}.{int(last) + 2}"
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("no network can be cut here: it takes root and iproute2")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network can be cut here: {made.stderr.strip()}")
    bridges: list[Bridge] = []
    try:
        _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _run("ip", "address", "add", f"{host}/30", "dev", here)
        _run("ip", "link", "set", here, "up")
        inside = ["ip", "netns", "exec", name, "ip"]
        _run(*inside, "address", "add", f"{guest}/30", "dev", there)
        for device in ("lo", there):
            _run(*inside, "link", "set", device, "up")
        yield Network(name, there, host, bridges)
    finally:
        for bridge in bridges:
            bridge.close()
        subprocess.run(["ip", "link", "del", here], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of its own with hardly any room. Skips the test where none can be mounted."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("no disk can be filled here: it takes root")
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no disk can be filled here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
