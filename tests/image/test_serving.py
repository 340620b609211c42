"""The image as Fargate runs it: ``serve``, with a read-only file system, against the emulated account."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from rehearsal.stack import OWNER, models_of_stack
from tests.image.building import Built
from tests.image.container import Container
from tests.image.ground import Ground

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

MAX_BEYOND_BASE_MB = 200

# Every module that the control plane loads, and whether its bytecode lies beside it.
_UNCOMPILED = """
import importlib.util, os, sys
import control_plane.cli
files = [module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
ours = [name for name in files if name.endswith(".py") and name.startswith(("/srv/", "/venv/"))]
print(len(ours), [name for name in ours if not os.path.exists(importlib.util.cache_from_source(name))])
"""


@pytest.fixture(scope="module")
def running(image: Built, ground: Ground) -> Iterator[Container]:
    with Container(ground.task()) as container:
        container.wait_until_healthy()
        yield container


@pytest.fixture(scope="module")
def key(running: Container) -> str:
    status, printed = running.run(
        "python", "-m", "control_plane", "key", "create", "--email", OWNER, "--name", "laptop"
    )
    assert status == 0, printed
    return printed.strip()


def ask(container: Container, path: str, key: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(container.url + path, headers=headers, timeout=10, trust_env=False)


def test_it_is_small(image: Built) -> None:
    assert image.beyond_base / 1e6 <= MAX_BEYOND_BASE_MB


def test_it_answers_whoever_has_a_key_made_inside_it(running: Container, key: str) -> None:
    answer = ask(running, "/v1/models", key)
    assert answer.status_code == 200
    assert {entry["id"] for entry in answer.json()["data"]} == {model["name"] for model in models_of_stack()}


def test_it_refuses_whoever_has_none(running: Container) -> None:
    answer = ask(running, "/v1/models")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"].endswith("_api_key")


def test_it_runs_as_nobody_in_particular_and_cannot_write(running: Container) -> None:
    assert running.run("id", "-u") == (0, "10001\n")
    status, printed = running.run("touch", "/srv/anything")
    assert status != 0, printed


def test_it_holds_no_tools(running: Container) -> None:
    for module in ("pip", "pulumi", "moto", "rehearsal", "gpu_node.agent", "control_plane.infra"):
        status, printed = running.run("python", "-c", f"import {module}")
        assert status == 1, module
        assert "ModuleNotFoundError" in printed


def test_nothing_is_compiled_when_it_starts(running: Container) -> None:
    status, printed = running.run("python", "-c", _UNCOMPILED)
    number, _, missing = printed.strip().partition(" ")
    assert (status, missing) == (0, "[]")
    assert int(number) > 100


def test_it_stops_when_it_is_told_to(image: Built, ground: Ground) -> None:
    with Container(ground.task()) as container:
        container.wait_until_healthy()
        assert container.stop(limit_s=20) < 5
        assert container.exit_status() != 137, "it was killed"
        assert "Traceback" not in container.log()


def test_odd_settings_end_it_with_all_of_them_named(image: Built, ground: Ground) -> None:
    with Container({**ground.task(), "DIOGENES_PORT": "many", "DIOGENES_SHORT": "1"}) as container:
        assert container.exit_status() == 2
        assert "DIOGENES_PORT" in container.log()
        assert "DIOGENES_SHORT is not a setting" in container.log()


def test_a_key_cannot_be_made_where_aws_does_not_answer(running: Container) -> None:
    nowhere = "AWS_ENDPOINT_URL=http://127.0.0.1:9"
    command = ("python", "-m", "control_plane", "key", "create", "--email", OWNER, "--name", "laptop")
    status, printed = running.run("env", nowhere, *command)
    assert status == 1
    assert printed.splitlines()[-1].startswith("diogenes: SSM did not answer")
