"""A daemon, the image in it, and an account that containers can reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker  # type: ignore[import-untyped]
import pytest

from tests.image.building import ROOT, Built, NoBase, build
from tests.image.daemon import NoDaemon, docker_host
from tests.image.ground import Ground, bridge_of, ground_at


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    try:
        with docker_host(ROOT / ".cache" / "docker") as found, pytest.MonkeyPatch.context() as patch:
            patch.setenv("DOCKER_HOST", found)  # where testcontainers looks
            yield found
    except NoDaemon as error:
        pytest.skip(f"the image is not tested: {error}")


@pytest.fixture(scope="session")
def client(host: str) -> Iterator[Any]:
    found = docker.DockerClient(base_url=host, timeout=600)
    yield found
    found.close()


@pytest.fixture(scope="session")
def image(client: Any, host: str) -> Built:
    try:
        return build(client, host)
    except NoBase as error:
        pytest.skip(f"the image is not tested: {error}")


@pytest.fixture(scope="session")
def bridge(client: Any) -> str:
    return bridge_of(client)


@pytest.fixture(scope="module")
def ground(bridge: str) -> Iterator[Ground]:
    """Nothing may be denied to what runs on it."""
    with ground_at(bridge) as found:
        yield found
        assert found.account.denied() == []
