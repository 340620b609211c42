"""A process that takes its whole tree with it, whoever dies first.

``ProcessTree`` is the handle that the rehearsal holds; ``python -m rehearsal.tree`` is the keeper on the other
side of a socket. The keeper starts one process, the leader, and adopts every orphan below it, whatever session it
moved to. When the leader exits, when it is told to, or when the socket closes because the rehearsal died (even by
SIGKILL), the keeper leaves nothing of the tree alive. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STOP = b"T"
_KILL = b"K"
_START_LIMIT_S = 20.0
_SWEEP_LIMIT_S = 5.0
_SIGNALLED = 128  # and the signal's number: the exit status of who died of one, as shells and containers have it


class ProcessTree:
    """One leader with everything that it starts. Output of all goes to ``log``."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, grace_s: float = 5.0
    ) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._keeper: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-m", "rehearsal.tree", str(grace_s), *command],
                env=dict(env),
                cwd=cwd,
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                # Ctrl-C goes to the terminal's whole group; the rehearsal alone decides what it means.
                start_new_session=True,
            )
        self._leader = 0
        self._reading = threading.Lock()
        self.log = log

    @property
    def leader(self) -> int:
        """The leader's process id. Raises RuntimeError when the keeper cannot start it."""
        with self._reading:
            if not self._leader:
                self._socket.settimeout(_START_LIMIT_S)
                word = self._socket.recv(32)
                if not word:
                    raise RuntimeError(f"{self.log.name}: the process did not start")
                self._leader = int(word)
            return self._leader

    @property
    def exited(self) -> bool:
        """True when the leader and its whole tree are gone."""
        return self._keeper.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to the leader alone."""
        with suppress(ProcessLookupError):
            os.kill(self.leader, number)

    def kill_below_leader(self) -> int:
        """SIGKILL what the leader started, but not the leader itself; returns how many processes that were."""
        try:
            victims = psutil.Process(self.leader).children(recursive=True)
        except psutil.NoSuchProcess:
            return 0
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        return len(victims)

    def stop(self) -> None:
        """SIGTERM to the leader; after the grace, SIGKILL to everything. Does not wait."""
        self._tell(_STOP)

    def kill(self) -> None:
        """SIGKILL to everything at once. Does not wait."""
        self._tell(_KILL)

    def wait(self, timeout_s: float) -> int | None:
        """The leader's exit status once the whole tree is gone; None if it is not within the time."""
        try:
            status = self._keeper.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._socket.close()
        return status

    def _tell(self, word: bytes) -> None:
        with suppress(OSError):  # the keeper is gone: so is the tree
            self._socket.sendall(word)


def main(arguments: Sequence[str]) -> int:
    """The keeper: grace, then the leader's command line."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # The leader dies with its keeper, should somebody kill that one.
    leader = subprocess.Popen(
        arguments[1:],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: _fresh_leader(prctl),
    )
    try:
        orders = socket.socket(fileno=0)
        with suppress(OSError):  # nobody is there to hear it: the next read says so too
            orders.sendall(str(leader.pid).encode())
        _until_over(leader, orders, grace_s=float(arguments[0]))
    finally:
        _sweep()
    status = leader.wait()
    return status if status >= 0 else _SIGNALLED - status


def _fresh_leader(prctl: ctypes._NamedFuncPointer) -> None:
    for restored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(restored, signal.SIG_DFL)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _until_over(leader: subprocess.Popen[bytes], orders: socket.socket, *, grace_s: float) -> None:
    """Returns when the leader exited, or must be killed."""
    exited = os.pidfd_open(leader.pid)
    stopping_until: float | None = None
    watched = [exited, orders.fileno()]
    while True:
        left_s = None if stopping_until is None else max(0.0, stopping_until - time.monotonic())
        readable, _, _ = select.select(watched, [], [], left_s)
        if exited in readable or not readable:
            return
        word = _read(orders)
        if word == _KILL:
            return
        if not word:
            watched.remove(orders.fileno())
        if stopping_until is None:
            stopping_until = time.monotonic() + grace_s
            leader.terminate()


def _read(orders: socket.socket) -> bytes:
    """One word, or nothing when the rehearsal is gone."""
    try:
        return orders.recv(1)
    except ConnectionResetError:  # it died before it read all of what we wrote
        return b""


def _sweep() -> None:
    """Kill until nothing is left below; each kill may hand us orphans that we did not see before."""
    limit = time.monotonic() + _SWEEP_LIMIT_S
    while time.monotonic() < limit:
        alive = [process for process in psutil.Process().children(recursive=True) if _lives(process)]
        if not alive:
            return
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
