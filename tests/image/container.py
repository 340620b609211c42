"""One container of the image, through testcontainers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.image.building import TAG

PORT = 8080
START_LIMIT_S = 30.0

# Its reaper is an image to be pulled; every container here is removed by the scope that made it.
testcontainers_config.ryuk_disabled = True


class Container:
    """Runs between entering and leaving, with a read-only file system, as it does on Fargate."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        command: Sequence[str] | None = None,
        entry_point: Sequence[str] | None = None,
        mounts: Mapping[str, str] | None = None,
        host_network: bool = False,
    ) -> None:
        """``command`` instead of the image's own; ``mounts`` are folders of this machine, by where they appear."""
        options: dict[str, Any] = {"read_only": True}
        if entry_point is not None:
            options["entrypoint"] = list(entry_point)
        if host_network:
            options["network_mode"] = "host"
        self._container = DockerContainer(TAG, **options).with_envs(**environment)
        if not host_network:
            self._container.with_exposed_ports(PORT)
        if command is not None:
            self._container.with_command(list(command))
        for inside, here in (mounts or {}).items():
            self._container.with_volume_mapping(here, inside, "ro")

    def __enter__(self) -> Container:
        self._container.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.stop()

    @property
    def url(self) -> str:
        """Where this machine reaches it, by the published port."""
        return f"http://{self._container.get_container_host_ip()}:{self._container.get_exposed_port(PORT)}"

    @property
    def began_at(self) -> float:
        """When its process began, in Unix seconds."""
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        text = wrapped.attrs["State"]["StartedAt"]  # with nanoseconds, which Python does not read
        return datetime.fromisoformat(f"{text[:26].rstrip('Z')}+00:00").timestamp()

    def wait_until_healthy(self, url: str = "", *, every_s: float = 0.05) -> None:
        limit = time.monotonic() + START_LIMIT_S
        while not _healthy(url or self.url):
            if time.monotonic() > limit or not self.running:
                raise AssertionError(f"the container does not answer\n{self.log()}")
            time.sleep(every_s)

    @property
    def running(self) -> bool:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status == "running")

    def run(self, *words: str) -> tuple[int, str]:
        """Another command inside: its exit status, and what it printed on both outputs."""
        status, printed = self._container.exec(list(words))
        return status, printed.decode()

    def stop(self, *, limit_s: int) -> float:
        """SIGTERM, and SIGKILL when the limit is over. How long it took, in seconds."""
        began = time.monotonic()
        self._container.get_wrapped_container().stop(timeout=limit_s)
        return time.monotonic() - began

    def exit_status(self, *, limit_s: float = START_LIMIT_S) -> int:
        """Once it has ended by itself."""
        status: int = self._container.get_wrapped_container().wait(timeout=limit_s)["StatusCode"]
        return status

    def log(self) -> str:
        out, err = self._container.get_logs()
        return (out + err).decode(errors="replace")


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
