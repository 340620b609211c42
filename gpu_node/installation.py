"""How a machine comes by the engine: from its image, by installing vLLM's packages, or as its makers' container.

Either way it has a ``version`` (what was compiled with one is of no use to another); ``install`` brings it and waits
for it, unless ``give_up`` ends that before its time; ``program`` is the command line that then is the engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

BAKED = Path("/opt/diogenes-engine")
"""Where an image of our own has the engine."""

STAMP = ".installed"
"""In the engine's folder once it is whole: the digest of the list that it was installed from."""

CONTAINER = "diogenes-engine"
"""The name of the engine's container; a machine has one."""

_END_CONTAINER_S = 30.0
_INSIDE = re.compile(r"(HF|VLLM|RUNAI|NCCL)_|AWS_(DEFAULT_)?REGION$|DO_NOT_TRACK$|PYTHONUNBUFFERED$")


class InstalledEngine:
    """vLLM in a virtual environment: the image's, or one that is made now."""

    def __init__(self, home: Path, package: Path, *, write: Callable[[str], None]) -> None:
        """``package``: where the agent's lies, and with it the engine's list and what installs it."""
        self._lock = package / "requirements-engine.txt"
        self._installer = package / "install.sh"
        self._folder = next((each for each in (BAKED, home / "vllm") if self._is_whole(each)), None)
        self._target = home / "vllm"
        self._write = write
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        found = re.search(r"^vllm==(\S+)", self._lock.read_text(), re.MULTILINE)
        return f"vllm {found[1]}" if found else "vllm"

    def install(self) -> int:
        """The exit status of whatever installs it."""
        if self._folder:
            return 0
        self._write("diogenes: installing the engine\n")
        # In the engine's process group: who ends the engine ends its installation.
        self._process = subprocess.Popen([self._installer, self._target])  # noqa: S603
        status = self._process.wait()
        self._folder = self._target
        return status

    def give_up(self) -> None:
        _end(self._process)

    def program(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
        return [str((self._folder or self._target) / "bin" / "vllm"), *arguments]

    def _is_whole(self, folder: Path) -> bool:
        """Whether it was installed from the list that this package has: an image may be older."""
        stamp = folder / STAMP
        expected = hashlib.sha256(self._lock.read_bytes()).hexdigest()
        return stamp.is_file() and stamp.read_text().strip() == expected


class ContainerEngine:
    """vLLM in its makers' image, by Docker, which the machine's image brings."""

    def __init__(self, image: str, home: Path, *, write: Callable[[str], None]) -> None:
        self._image = image
        self._home = home
        self._write = write
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        return self._image

    def install(self) -> int:
        end_container()  # one that outlived its engine would have the name, and the GPUs
        self._write("diogenes: fetching the engine's image\n")
        self._process = subprocess.Popen(["docker", "pull", "--quiet", self._image])  # noqa: S603, S607
        return self._process.wait()

    def give_up(self) -> None:
        _end(self._process)

    def program(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
        return container_command(self._image, arguments, environment, home=self._home, user=(os.getuid(), os.getgid()))


def container_command(
    image: str, arguments: Sequence[str], environment: Mapping[str, str], *, home: Path, user: tuple[int, int]
) -> Sequence[str]:
    """``docker run`` of the engine: its own user, all GPUs, the machine's addresses, and of the disk ``home`` alone.

    Variables are named, not told: a command line is no place for a token.
    """
    kept = [name for name in sorted(environment) if _INSIDE.match(name)]
    return [
        *("docker", "run", "--rm", "--init", "--name", CONTAINER),
        *("--gpus", "all", "--ipc", "host", "--network", "host", "--ulimit", "memlock=-1"),
        *("--user", f"{user[0]}:{user[1]}", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *("--volume", f"{home}:{home}", "--env", f"HOME={home}", "--env", "USER=diogenes"),
        *(word for name in kept for word in ("--env", name)),
        *("--entrypoint", "vllm", image),
        *arguments,
    ]


def end_container() -> None:
    """Whoever ends ``docker run`` by force ends a client; the container is its daemon's, and lives on with the GPUs.

    What is asked of Docker, and what it does not do, fails nothing: the machine goes off next.
    """
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603
            ["docker", "rm", "--force", CONTAINER],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_END_CONTAINER_S,
            check=False,
        )


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process and process.poll() is None:
        process.terminate()
