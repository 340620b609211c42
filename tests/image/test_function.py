"""The image as Lambda runs it: another entry point, a handler named as the command, and Lambda's runtime API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.infra.functions import ENTRY_POINT
from rehearsal.alb import event
from rehearsal.lambda_service import LambdaService
from tests.image.building import Built
from tests.image.container import Container
from tests.image.ground import Ground

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

HANDLERS = """
import control_plane.app  # the night watch is made of it

def answer(event, context):
    return {"statusCode": 200, "body": event["path"], "left_ms": context.get_remaining_time_in_millis()}

def fail(event, context):
    raise ValueError("no such luck")
"""


@pytest.fixture
def service(bridge: str) -> Iterator[LambdaService]:
    with LambdaService(bridge) as found:
        yield found


@pytest.fixture
def handlers(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    tmp_path.chmod(0o755)  # the container's user is another
    return tmp_path


def function(service: LambdaService, handlers: Path, handler: str) -> Container:
    environment = {"AWS_LAMBDA_RUNTIME_API": service.address, "PYTHONPATH": "/handlers"}
    return Container(environment, entry_point=ENTRY_POINT, command=[handler], mounts={"/handlers": str(handlers)})


def test_it_answers_one_invocation_after_the_other(image: Built, service: LambdaService, handlers: Path) -> None:
    with function(service, handlers, "handlers.answer"):
        for path in ("/v1/models", "/api/cluster"):
            outcome = service.invoke({"path": path})
            assert (outcome.kind, outcome.body["body"]) == ("response", path)
            assert 0 < outcome.body["left_ms"] <= 60_000


def test_a_handler_that_fails_is_reported_and_the_function_lives_on(
    image: Built, service: LambdaService, handlers: Path
) -> None:
    with function(service, handlers, "handlers.fail") as container:
        for _ in range(2):
            outcome = service.invoke({})
            assert (outcome.kind, outcome.body["errorMessage"]) == ("error", "no such luck")
        assert container.running


def test_a_handler_that_is_not_there_is_reported(image: Built, service: LambdaService, handlers: Path) -> None:
    with function(service, handlers, "handlers.missing") as container:
        outcome = service.outcome()
        assert outcome.kind == "init-error"
        assert "missing" in outcome.body["errorMessage"]
        assert container.exit_status() != 0


def test_the_night_watch_refuses_whoever_has_no_key(image: Built, service: LambdaService, ground: Ground) -> None:
    with own_function(service, ground, "control_plane.night.handler"):
        outcome = service.invoke(event("GET", "/v1/models"))
    assert (outcome.kind, outcome.body["statusCode"]) == ("response", 401)
    assert json.loads(outcome.body["body"])["error"]["code"].endswith("_api_key")


def test_the_janitor_looks_and_ends(image: Built, service: LambdaService, ground: Ground) -> None:
    with own_function(service, ground, "control_plane.janitor.handler"):
        outcome = service.invoke({"source": "aws.events"})
    assert outcome.kind == "response"


def own_function(service: LambdaService, ground: Ground, handler: str) -> Container:
    environment = {**ground.function(handler), "AWS_LAMBDA_RUNTIME_API": service.address}
    return Container(environment, entry_point=ENTRY_POINT, command=[handler])
