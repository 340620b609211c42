"""A real OpenID Connect provider on loopback: a process of node's, between entering and leaving."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from tests.clients.npm import package_missing

HOME = Path(__file__).with_name("provider")
PACKAGE = "oidc-provider"


def provider_missing() -> str:
    """Why it cannot run here; empty where it can."""
    return package_missing(HOME, PACKAGE)


class OidcProvider(AbstractContextManager["OidcProvider"]):
    """``restart`` gives it new keys, as a rotation does."""

    def __init__(self, port: int, *, redirect_uri: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._redirect_uri = redirect_uri
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> OidcProvider:
        self.restart()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def restart(self) -> None:
        """Returns once it listens."""
        self._stop()
        command = ["node", str(HOME / "provider.mjs"), str(self._port), self._redirect_uri]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout
        for line in self._process.stdout:
            if line.strip() == "listening":
                return
        raise AssertionError(f"the provider ended before it listened: {self._process.wait()}")

    def _stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout
            self._process.stdout.close()
