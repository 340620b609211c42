"""One task of the control plane as ECS runs it: a process on one port, and time to stop in."""

from __future__ import annotations

import errno
import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import psutil

from control_plane.settings import InvalidSettings, Settings
from rehearsal.ec2 import HOME
from rehearsal.tree import ProcessTree

_PROGRAM = (sys.executable, "-m", "control_plane")
_START_LIMIT_S = 30.0
_KILL_AFTER_S = 5.0  # beyond the time that the control plane gives its streams; ECS gives 10 s
_LOG_LINES = 30


class DeskFailure(Exception):
    """Something did not come up; the message ends with the last lines of its log."""


class Task:
    """The control plane's process, of which there is one at a time."""

    def __init__(
        self, port: int, *, env: Mapping[str, str], log: Path, stop_timeout_s: float, host: str = "127.0.0.1"
    ) -> None:
        self.log = log
        self.exit_code: int | None = None  # of the last process that ``stop`` saw the end of
        self.stop_timeout_s = stop_timeout_s
        self._host = host
        self._port = port
        self._env = {**env, "DIOGENES_HOST": host, "DIOGENES_PORT": str(port)}
        self._tree: ProcessTree | None = None
        self._listening = False  # for as long as it lives, once it does

    def launch(self) -> None:
        """Begin its start; does not wait."""
        self.stop()
        self._listening = False
        self._tree = ProcessTree([*_PROGRAM, "serve"], env=self._env, cwd=HOME, log=self.log)

    def start(self) -> None:
        """Returns once it answers. Raises DeskFailure."""
        self.launch()
        limit = time.monotonic() + _START_LIMIT_S
        while not self.answers():
            if self.exited or time.monotonic() > limit:
                raise DeskFailure(f"the control plane did not start\n{self.last_words()}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Is it this one that listens, and is it healthy?"""
        if self._tree is None:
            return False
        self._listening = self._listening or self._listens(self._tree)
        return self._listening and self._healthy()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send the signal and wait until it is gone; it is killed when its streams' time is over and it still lives."""
        tree, self._tree = self._tree, None
        if tree is None:
            return
        if not tree.exited:
            tree.signal(number)
        limit_s = self.stop_timeout_s + _KILL_AFTER_S
        self.exit_code = tree.wait(limit_s)
        if self.exit_code is None:
            tree.kill()
            self.exit_code = tree.wait(limit_s)

    def kill(self) -> None:
        """SIGKILL, from somebody who tells nobody."""
        if self._tree:
            self._tree.signal(signal.SIGKILL)

    @property
    def exited(self) -> bool:
        """True when it ended without being told to; ``stop`` then buries it."""
        return self._tree is not None and self._tree.exited

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def run(self, *words: str) -> str:
        """What another command of the program prints. Raises DeskFailure."""
        made = subprocess.run(
            [*_PROGRAM, *words], env=self._env, cwd=HOME, capture_output=True, text=True, timeout=_START_LIMIT_S
        )
        if made.returncode:
            raise DeskFailure(f"{' '.join(words[:2])} failed\n{made.stderr.strip()}")
        return made.stdout.strip()

    def _listens(self, tree: ProcessTree) -> bool:
        """Whoever else answers on the port must not be taken for it."""
        with suppress(psutil.Error, RuntimeError, OSError):
            listening = psutil.Process(tree.leader).net_connections("tcp4")
            return any(
                (each.laddr.ip, each.laddr.port) == (self._host, self._port)
                for each in listening
                if each.status == psutil.CONN_LISTEN
            )
        return False

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=2.0)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        return False


def accepted(env: Mapping[str, str]) -> Settings:
    """The control plane's settings. Raises DeskFailure for those that it would refuse."""
    try:
        return Settings.from_env(env)
    except InvalidSettings as error:
        raise DeskFailure(f"the control plane would not start: {error}") from error


def reserve(port: int) -> socket.socket:
    """The port of 127.0.0.1, or any that is free for 0, kept from all but those who listen on it on purpose.

    Raises DeskFailure when somebody already does.
    """
    held = socket.socket()
    try:
        # Bound, but not listening: another socket may then listen there if it has this option too, as servers do.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", port))
    except OSError as error:
        held.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise DeskFailure(f"port {port} {why}; choose another with PORT=") from error
    return held
